//! Making a package out of a folder, a zip archive, or a package that exists already.
//!
//! ```text
//! folder ─┐
//! zip ────┴► members ─► labels ─► inventory (hash) ─► sign ─► write ─┐
//! package ───────────────────────────────────────────────► copy ────┴► check as an opener would
//! ```
//!
//! The same contents give the same bytes. What leaves here was read back with the opener's own
//! eyes, so no package is made that a host then refuses.

mod error;
mod folder;
mod labels;
mod source;
mod write;
mod zip;

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

pub use error::PackError;
pub use labels::Labels;

use crate::archive::{Unpacked, check};
use crate::digest::{Digest, Running};
use crate::limits::Limits;
use crate::manifest::Manifest;
use crate::signature::{KeyId, Signature};
use crate::signing::PrivateKey;
use source::Kind;

/// How to pack.
#[derive(Debug)]
pub struct Packing<'a> {
    /// What the caller says about the package.
    pub labels: Labels,
    /// The publisher's key; without it the package stays unsigned.
    pub key: Option<&'a PrivateKey>,
    /// Bounds on the source and on the package.
    pub limits: Limits,
    /// Folder for the unnamed temporary file that holds the package.
    pub staging: PathBuf,
}

impl Default for Packing<'_> {
    fn default() -> Self {
        let (labels, limits) = (Labels::default(), Limits::default());
        Self {
            labels,
            key: None,
            limits,
            staging: std::env::temp_dir(),
        }
    }
}

/// A finished package.
#[derive(Debug)]
pub struct Packed {
    /// The archive: a temporary file without a name, positioned at its start.
    pub archive: File,
    /// Length of the archive in bytes.
    pub size: u64,
    /// SHA-256 of the archive, the package's name everywhere.
    pub sha256: Digest,
    /// Its manifest.
    pub manifest: Manifest,
    /// The key that signed it, as the signature file says.
    pub signed_by: Option<KeyId>,
}

/// Packs `source`: a folder, a zip archive, or a package, which is checked and passed on byte for
/// byte.
///
/// # Errors
/// When the source can't be read, holds anything but plain files, changes meanwhile, breaks a rule
/// or a limit, or is a package that contradicts `packing`.
pub fn pack(source: &Path, packing: &Packing<'_>) -> Result<Packed, PackError> {
    let archive = match source::open(source)? {
        Kind::Folder(dir) => make(
            &mut folder::Folder::open(source, dir, packing.limits)?,
            source,
            packing,
        )?,
        Kind::Zip(file) => make(
            &mut zip::Zip::open(source, file, packing.limits)?,
            source,
            packing,
        )?,
        Kind::Package(file) => return pass_on(source, file, packing),
    };
    read_back(archive, packing)
}

fn make(
    source: &mut dyn source::Source,
    path: &Path,
    packing: &Packing<'_>,
) -> Result<File, PackError> {
    let labels = labels::complete(source, path, &packing.labels)?;
    let files = source::inventory(source, &packing.limits)?;
    let manifest = Manifest::new(labels.with_files(files))?;
    let bytes = manifest.encode()?;
    let signature = packing.key.map(|key| key.sign(&bytes));
    let staged = staged(packing)?;
    write::archive(source, &manifest, &bytes, signature.as_ref(), staged)
}

/// An unsigned or foreign package isn't signed here: its digest, by which it is known, would change.
fn pass_on(path: &Path, file: File, packing: &Packing<'_>) -> Result<Packed, PackError> {
    let mut staged = staged(packing)?;
    let limit = packing.limits.max_packed_bytes;
    let copied =
        io::copy(&mut file.take(limit.saturating_add(1)), &mut staged).map_err(|source| {
            PackError::Read {
                path: path.display().to_string(),
                source,
            }
        })?;
    if copied > limit {
        return Err(PackError::SourceTooLarge {
            path: path.to_owned(),
            limit,
        });
    }
    let packed = read_back(staged, packing)?;
    labels::agree(&packing.labels, &packed.manifest)?;
    match packing.key.map(|key| key.public().key_id()) {
        Some(key_id) if packed.signed_by.as_ref() != Some(&key_id) => {
            Err(PackError::SignedOtherwise {
                path: path.to_owned(),
                key_id,
            })
        }
        _ => Ok(packed),
    }
}

fn staged(packing: &Packing<'_>) -> Result<File, PackError> {
    tempfile::tempfile_in(&packing.staging).map_err(|source| PackError::Staging {
        folder: packing.staging.clone(),
        source,
    })
}

fn read_back(mut archive: File, packing: &Packing<'_>) -> Result<Packed, PackError> {
    let staging = |source| PackError::Staging {
        folder: packing.staging.clone(),
        source,
    };
    archive.rewind().map_err(staging)?;
    let mut counted = Counted {
        inner: &archive,
        running: Running::default(),
    };
    let Unpacked {
        manifest,
        signature,
        ..
    } = check(&mut counted, &packing.limits)?;
    let (sha256, size) = counted.running.finish();
    archive.rewind().map_err(staging)?;
    let signed_by = signature.as_ref().map(Signature::key_id).cloned();
    Ok(Packed {
        archive,
        size,
        sha256,
        manifest,
        signed_by,
    })
}

/// Hashes what the check reads, which is all of it.
struct Counted<'a> {
    inner: &'a File,
    running: Running,
}

impl Read for Counted<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(out)?;
        self.running.add(&out[..count]);
        Ok(count)
    }
}
