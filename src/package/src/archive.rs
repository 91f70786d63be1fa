//! Opening an archive: one zstd frame, in it one ustar stream that the manifest fully determines.
//!
//! The manifest stands first. From it the opener computes each header block that must follow and
//! compares bytes; a header that differs is looked at only to say what is wrong with it. So there
//! is no size, name or type field of an attacker's to misread: extended headers, sparse maps,
//! links and second opinions about sizes have nowhere to stand.

mod error;
mod frame;
mod refusal;
mod tree;
mod unpack;
pub(crate) mod ustar;

pub use error::UnpackError;
pub use unpack::{Unpacked, check, unpack};
