//! Reading an archive from front to end.

use std::io::Read;
use std::os::fd::BorrowedFd;

use super::UnpackError;
use super::frame::Frame;
use super::refusal::{Place, explain};
use super::tree::Target;
use super::ustar::{self, BLOCK, Foreign};
use crate::digest::{Digest, Running};
use crate::limits::Limits;
use crate::manifest::{FileEntry, MAX_MANIFEST_BYTES, Manifest, ManifestError};
use crate::path::shown;
use crate::signature::{MAX_SIGNATURE_BYTES, Signature, SignatureError};
use crate::{FILES_NAME, MANIFEST_NAME, SIGNATURE_NAME};

/// An archive that was read to its end and is in every byte what its manifest says.
#[derive(Debug)]
pub struct Unpacked {
    /// Its manifest.
    pub manifest: Manifest,
    /// Digest of the bytes of the manifest.
    pub manifest_digest: Digest,
    /// Its signature, well-formed; whose it is and whether it verifies is not checked here.
    pub signature: Option<Signature>,
}

/// Writes the package into the empty directory `dir`: `manifest.json`, `manifest.sig` when signed,
/// and `files/`. Reads `archive` to its end. Nothing is synced to disk.
///
/// # Errors
/// On the first thing that is not canonical, over a limit or not as listed. What was written until
/// then stays in `dir`; the caller, who owns it, wipes it.
pub fn unpack(
    archive: impl Read,
    dir: BorrowedFd<'_>,
    limits: &Limits,
) -> Result<Unpacked, UnpackError> {
    read(archive, Target::empty_directory(dir)?, limits)
}

/// As [`unpack`], writing nothing.
///
/// # Errors
/// As [`unpack`].
pub fn check(archive: impl Read, limits: &Limits) -> Result<Unpacked, UnpackError> {
    read(archive, Target::Nowhere, limits)
}

fn read(archive: impl Read, target: Target<'_>, limits: &Limits) -> Result<Unpacked, UnpackError> {
    let mut reader = Reader {
        frame: Frame::open(archive, limits)?,
        target,
        entry: 0,
        block: None,
    };
    let bytes = reader.manifest()?;
    let manifest = Manifest::parse(&bytes)?;
    limits.admit(&manifest)?;
    reader.write_small(MANIFEST_NAME, &bytes)?;
    let signature = reader.signature()?;
    for done in 0..manifest.files().len() {
        reader.file(&manifest, done)?;
    }
    reader.end(&manifest)?;
    Ok(Unpacked {
        manifest,
        manifest_digest: Digest::of(&bytes),
        signature,
    })
}

struct Reader<'a, R> {
    frame: Frame<R>,
    target: Target<'a>,
    /// Number of the entry being read, from 1.
    entry: u64,
    /// A block that was looked at and belongs to the next entry.
    block: Option<[u8; BLOCK]>,
}

impl<R: Read> Reader<'_, R> {
    fn block(&mut self) -> Result<[u8; BLOCK], UnpackError> {
        if let Some(block) = self.block.take() {
            return Ok(block);
        }
        let mut block = [0; BLOCK];
        self.frame.fill(&mut block)?;
        Ok(block)
    }

    /// The only entry whose size is taken from its header: nothing is known before it.
    fn manifest(&mut self) -> Result<Vec<u8>, UnpackError> {
        self.entry = 1;
        let block = self.block()?;
        let place = Place {
            entry: 1,
            manifest: None,
            done: 0,
        };
        match sized_like(&block, MANIFEST_NAME) {
            None => Err(explain(&block, &place)),
            Some(size) if size > MAX_MANIFEST_BYTES => {
                Err(ManifestError::TooLong { bytes: size }.into())
            }
            Some(size) => self.small(size, &place),
        }
    }

    fn signature(&mut self) -> Result<Option<Signature>, UnpackError> {
        let block = self.block()?;
        let Some(size) = sized_like(&block, SIGNATURE_NAME) else {
            self.block = Some(block);
            return Ok(None);
        };
        self.entry += 1;
        if size > MAX_SIGNATURE_BYTES {
            return Err(SignatureError::Malformed.into());
        }
        let place = Place {
            entry: self.entry,
            manifest: None,
            done: 0,
        };
        let bytes = self.small(size, &place)?;
        let signature = Signature::parse(&bytes)?;
        self.write_small(SIGNATURE_NAME, &bytes)?;
        Ok(Some(signature))
    }

    fn small(&mut self, size: u64, place: &Place<'_>) -> Result<Vec<u8>, UnpackError> {
        let mut bytes = vec![0; size as usize];
        self.frame.fill(&mut bytes)?;
        self.padding(size, place)?;
        Ok(bytes)
    }

    fn write_small(&mut self, name: &str, bytes: &[u8]) -> Result<(), UnpackError> {
        let mut output = self.target.create(name, 0o644)?;
        output.write(bytes)?;
        output.finish()
    }

    fn file(&mut self, manifest: &Manifest, done: usize) -> Result<(), UnpackError> {
        self.entry += 1;
        let listed = &manifest.files()[done];
        let place = Place {
            entry: self.entry,
            manifest: Some(manifest),
            done,
        };
        let name = format!("{FILES_NAME}/{}", listed.path);
        let headers = ustar::headers(&name, listed.size, listed.mode());
        let (extended, plain) = headers.split_at(headers.len() - BLOCK);
        for (at, expected) in extended.chunks_exact(BLOCK).chain([plain]).enumerate() {
            let block = self.block()?;
            if block == *expected {
                continue;
            }
            // Behind the first block of an extended header stands its record, which is no header.
            let in_record = at > 0 && at < extended.len() / BLOCK;
            return Err(match in_record {
                true => place.not_canonical(name.as_bytes(), "the long name before it"),
                false => explain(&block, &place),
            });
        }
        self.contents(&name, listed)?;
        self.padding(listed.size, &place)
    }

    fn contents(&mut self, name: &str, listed: &FileEntry) -> Result<(), UnpackError> {
        let mut output = self.target.create(name, listed.mode())?;
        let mut running = Running::default();
        let mut left = listed.size;
        while left > 0 {
            let part = self
                .frame
                .some(usize::try_from(left).unwrap_or(usize::MAX))?;
            if part.is_empty() {
                return Err(UnpackError::Truncated);
            }
            running.add(part);
            output.write(part)?;
            left -= part.len() as u64;
        }
        match running.finish().0 == listed.sha256 {
            true => output.finish(),
            false => {
                let path = shown(listed.path.as_str().as_bytes());
                Err(UnpackError::Differs {
                    path,
                    what: "contents",
                })
            }
        }
    }

    fn padding(&mut self, size: u64, place: &Place<'_>) -> Result<(), UnpackError> {
        let mut rest = [0; BLOCK];
        let rest = &mut rest[..ustar::padding(size)];
        self.frame.fill(rest)?;
        match rest.iter().all(|byte| *byte == 0) {
            true => Ok(()),
            false => {
                Err(place.not_canonical(b"", "bytes between its contents and the next header"))
            }
        }
    }

    fn end(mut self, manifest: &Manifest) -> Result<(), UnpackError> {
        let done = manifest.files().len();
        let place = Place {
            entry: self.entry + 1,
            manifest: Some(manifest),
            done,
        };
        let (first, last) = ustar::END.split_at(BLOCK);
        let block = self.block()?;
        if block != *first {
            return Err(explain(&block, &place));
        }
        if self.block()? != *last {
            return Err(UnpackError::TrailingBytes { of: "tar stream" });
        }
        self.frame.finish()
    }
}

/// The size in a header that is canonical for `name` with whatever size.
fn sized_like(block: &[u8; BLOCK], name: &str) -> Option<u64> {
    let size = Foreign(block)
        .size()
        .filter(|size| *size <= ustar::MAX_SIZE)?;
    (ustar::headers(name, size, 0o644) == block).then_some(size)
}
