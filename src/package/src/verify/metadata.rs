//! The top of an unpacked package: the manifest and the signature beside the files.

use std::io::Read;
use std::os::fd::BorrowedFd;

use super::VerifyError;
use super::walk::Walk;
use crate::beneath;
use crate::digest::Digest;
use crate::manifest::{MAX_MANIFEST_BYTES, Manifest};
use crate::path::shown;
use crate::signature::{MAX_SIGNATURE_BYTES, PublicKey, Signature, SignatureError, verify_any};
use crate::{FILES_NAME, MANIFEST_NAME, SIGNATURE_NAME};

/// A package on disk whose tree is what its manifest says. Who says so is still to be checked.
#[derive(Debug)]
pub struct Found {
    pub(super) manifest: Manifest,
    bytes: Vec<u8>,
    signature: Option<Signature>,
}

impl Found {
    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Digest of the bytes of the manifest.
    pub fn manifest_digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// The signature, if the package has one. Not yet checked.
    pub fn signature(&self) -> Option<&Signature> {
        self.signature.as_ref()
    }

    /// The trusted publisher who signed the package.
    ///
    /// # Errors
    /// When there is no signature, none of `trusted` made it, or it does not verify.
    pub fn signed_by<'a>(&self, trusted: &'a [PublicKey]) -> Result<&'a PublicKey, SignatureError> {
        verify_any(&self.bytes, self.signature.as_ref(), trusted)
    }
}

pub(super) fn only_known_names(dir: BorrowedFd<'_>) -> Result<(), VerifyError> {
    let known = [MANIFEST_NAME, SIGNATURE_NAME, FILES_NAME];
    let listed = beneath::each_name(dir, |name| {
        match known.iter().any(|known| known.as_bytes() == name) {
            true => Ok(()),
            false => Err(VerifyError::Extra { path: shown(name) }),
        }
    });
    listed.map_err(|errno| io("list", ".", errno))?
}

pub(super) fn read(dir: BorrowedFd<'_>, walk: &mut Walk) -> Result<Found, VerifyError> {
    let bytes = small_file(dir, walk, MANIFEST_NAME, MAX_MANIFEST_BYTES)?;
    let bytes = bytes.ok_or_else(|| VerifyError::Missing {
        path: MANIFEST_NAME.into(),
    })?;
    let manifest = Manifest::parse(&bytes)?;
    let signature = small_file(dir, walk, SIGNATURE_NAME, MAX_SIGNATURE_BYTES)?;
    let signature = signature
        .map(|bytes| Signature::parse(&bytes))
        .transpose()?;
    Ok(Found {
        manifest,
        bytes,
        signature,
    })
}

/// Reads one byte more than allowed, so that the parser sees that it is too long and says so.
fn small_file(
    dir: BorrowedFd<'_>,
    walk: &mut Walk,
    name: &str,
    limit: u64,
) -> Result<Option<Vec<u8>>, VerifyError> {
    let (file, _) = match walk.open_file(dir, name, name, 0o644) {
        Err(VerifyError::Missing { .. }) => return Ok(None),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    match file.take(limit + 1).read_to_end(&mut bytes) {
        Ok(_) => Ok(Some(bytes)),
        Err(source) => Err(VerifyError::Io {
            action: "read",
            path: name.into(),
            source,
        }),
    }
}

pub(super) fn io(action: &'static str, path: &str, errno: nix::errno::Errno) -> VerifyError {
    VerifyError::Io {
        action,
        path: shown(path.as_bytes()),
        source: errno.into(),
    }
}
