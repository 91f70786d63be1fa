//! Checking an unpacked tree against its manifest, as root and without trusting who wrote it.
//!
//! The opener of archives has no privileges and is assumed to be taken over by the archive that
//! it opened. So the tree it leaves is walked by descriptor, every listed file must be there with
//! its size and digest, and nothing else may be there at all.
//!
//! The order that makes a tree trustworthy: the opener's process is gone (a descriptor that it
//! holds could still write) ─► [`adopt`] changes owner and mode of each file and only then hashes
//! it ─► the caller checks the publisher ([`Found::signed_by`]) ─► the tree moves into the store.

mod error;
mod metadata;
mod walk;

use std::os::fd::BorrowedFd;

pub use error::VerifyError;
pub use metadata::Found;

use crate::FILES_NAME;
use crate::limits::Limits;
use crate::manifest::Manifest;

/// Who is to own an adopted tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Checks that `dir` holds exactly the files of the manifest, with their modes and contents.
///
/// `dir` is the directory `files` of an unpacked package.
///
/// # Errors
/// The first difference found, or what the operating system refused.
pub fn tree(dir: BorrowedFd<'_>, manifest: &Manifest) -> Result<(), VerifyError> {
    walk::Walk::new(None).directory(dir, manifest.files(), 0)
}

/// Checks a whole unpacked package: manifest, signature file and tree, and nothing besides.
///
/// # Errors
/// When the manifest or signature is malformed or above the limits, or the tree differs.
pub fn package(dir: BorrowedFd<'_>, limits: &Limits) -> Result<Found, VerifyError> {
    whole(dir, limits, None)
}

/// As [`package`], but first takes each file and directory over: owner, then mode 0644 or 0755.
/// The directory `dir` itself is left to the caller.
///
/// # Errors
/// As [`package`]; the tree may then be partly taken over, and is to be wiped.
pub fn adopt(dir: BorrowedFd<'_>, limits: &Limits, owner: Owner) -> Result<Found, VerifyError> {
    whole(dir, limits, Some(owner))
}

fn whole(dir: BorrowedFd<'_>, limits: &Limits, owner: Option<Owner>) -> Result<Found, VerifyError> {
    metadata::only_known_names(dir)?;
    let mut walk = walk::Walk::new(owner);
    let found = metadata::read(dir, &mut walk)?;
    limits.admit(&found.manifest)?;
    let files = walk.open_directory(dir, FILES_NAME, FILES_NAME)?;
    walk.directory(std::os::fd::AsFd::as_fd(&files), found.manifest.files(), 0)?;
    Ok(found)
}

#[cfg(all(test, feature = "archive"))]
mod tests;
