//! Removing a tree that a hostile user built, and may still change.
//!
//! Folders that are not empty are moved up, into folders of our own at the top, and emptied there: depth
//! costs neither descriptors nor stack nor path length, and nothing is remembered of what was
//! seen. Nothing is followed: no link, no mount, no `..`.
//!
//! * `entry`: one name, whatever it turns out to be; `look`: what it is, in one call
//! * `flatten`: the tree, through the `buckets`; `dig`: in place, where nothing can be moved
//!   (full disk, quota, fscrypt without its key, another subvolume)
//! * `guard`: when to give up against somebody who goes on making files
//! * `apart`: all of it in a process that has nothing else, for trees of strangers

mod apart;
mod buckets;
mod confine;
mod count;
mod dig;
mod entry;
mod flatten;
mod guard;
mod look;

use std::path::Path;

use nix::errno::Errno;

use super::{Dir, Error, Mounts};
use entry::{Taken, Work};

pub use apart::remove_tree_apart;
pub use confine::confine_to;
pub use count::Removed;

/// Removes what is at `path`, whose parent must be trusted. What is mounted below is detached, never
/// entered. A tree that is not there is no error.
///
/// It is given up when a round brings nothing, or when more comes than goes.
///
/// # Errors
///
/// [`Error::Left`] with what could not be removed; others when the tree can't be worked on at all.
pub fn remove_tree(path: &Path) -> Result<Removed, Error> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::BadName {
            name: path.as_os_str().to_owned(),
        });
    };
    let parent = Dir::open_root(parent, Mounts::Stay)?;
    let mut work = Work::new();
    match work.take(&parent, name, 0)? {
        Taken::Gone => Ok(work.removed),
        Taken::Folder => {
            work.empty(&parent.open_dir(name)?)?;
            work.finish(&parent, name)
        }
    }
}

/// Removes everything in the folder `top`, not itself.
fn empty(top: &Dir) -> Result<Removed, Error> {
    let mut work = Work::new();
    work.empty(top)?;
    Ok(work.removed)
}

/// The kernel's reason, of the errors that are looked at here.
fn reason(error: &Error) -> Option<Errno> {
    match error {
        Error::Open { source, .. }
        | Error::Remove { source, .. }
        | Error::Rename { source, .. }
        | Error::Create { source, .. }
        | Error::Examine { source, .. } => Some(*source),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
