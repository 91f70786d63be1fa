//! Working in a folder that a hostile user can change at any moment.
//!
//! A [`Dir`] is an open folder. Every name is looked up below it by openat2(2): no `..` out of
//! it, no symbolic link, no magic link of /proc, and no step into another mount. What is found
//! is held open, and is then worked on by descriptor; a path is never looked up twice.

mod dir;
mod entries;
mod error;
mod facts;
mod remove;

pub use dir::{Dir, Mounts};
pub use entries::{Entries, Entry};
pub use error::Error;
pub use facts::{Facts, Kind};
pub use remove::{Removed, confine_to, remove_tree, remove_tree_apart};

#[cfg(test)]
mod tests;
