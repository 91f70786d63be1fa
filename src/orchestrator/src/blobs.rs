//! Content-addressed files: packages, artifacts, screenshots.
//!
//! `blobs/sha256/ab/abcd...` is complete and has that digest, or it is absent.
//! What is still arriving lies in `blobs/partial/` under the digest that it
//! will have, and is resumed at its length.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use order::Sha256Hex;
use sha2::{Digest as _, Sha256};

use crate::durable;
use crate::refused::Refused;

/// Read at a time while hashing.
const CHUNK: usize = 128 << 10;
/// Uploads that rested for this long are not resumed any more.
const ABANDONED: std::time::Duration = std::time::Duration::from_secs(7 * 86_400);

/// The folder of all blobs.
#[derive(Clone, Debug)]
pub(crate) struct Blobs {
    root: PathBuf,
}

impl Blobs {
    pub(crate) fn open(data_dir: &Path) -> Result<Self, Refused> {
        let root = data_dir.join("blobs");
        durable::private_dir(&root.join("sha256"))?;
        durable::private_dir(&root.join("partial"))?;
        let blobs = Self { root };
        blobs.forget_abandoned();
        Ok(blobs)
    }

    /// Removes uploads that nobody has gone on with for days.
    fn forget_abandoned(&self) {
        let entries = std::fs::read_dir(self.root.join("partial"));
        for entry in entries.into_iter().flatten().flatten() {
            let touched = entry.metadata().and_then(|facts| facts.modified());
            let age = touched.ok().and_then(|touched| touched.elapsed().ok());
            if age.is_some_and(|age| age > ABANDONED)
                && let Err(error) = durable::remove(&entry.path())
            {
                tracing::warn!(path = %entry.path().display(), %error, "an abandoned upload stays");
            }
        }
    }

    /// Drops what has arrived of a blob.
    pub(crate) fn discard(&self, digest: &str) {
        let Ok(digest) = digest.parse() else {
            return;
        };
        let path = self.partial(digest);
        if let Err(error) = durable::remove(&path) {
            tracing::warn!(path = %path.display(), %error, "an upload could not be dropped");
        }
    }

    /// Where the complete blob is or will be.
    pub(crate) fn path(&self, digest: Sha256Hex) -> PathBuf {
        let hex = digest.to_string();
        self.root.join("sha256").join(&hex[..2]).join(hex)
    }

    fn partial(&self, digest: Sha256Hex) -> PathBuf {
        self.root.join("partial").join(digest.to_string())
    }

    /// Size of the complete blob, `None` when it is not complete.
    pub(crate) fn size(&self, digest: Sha256Hex) -> Option<u64> {
        let facts = std::fs::metadata(self.path(digest)).ok()?;
        facts.is_file().then_some(facts.len())
    }

    /// Bytes that are here of a blob that is still arriving.
    pub(crate) fn arrived(&self, digest: Sha256Hex) -> u64 {
        std::fs::metadata(self.partial(digest)).map_or(0, |facts| facts.len())
    }

    /// Opens a complete blob for reading.
    pub(crate) fn read(&self, digest: Sha256Hex) -> Result<File, Refused> {
        let path = self.path(digest);
        File::open(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Refused::not_found("BLOB_UNKNOWN", format!("no content with digest {digest}"))
            }
            _ => Refused::io("can't open", &path, &error),
        })
    }

    /// Goes on with a blob at `offset`, which must be within what has arrived; what lies
    /// beyond it is dropped. `owner` keeps two uploads of the same content apart: the second
    /// is refused while the first holds the file's lock.
    pub(crate) fn resume(&self, digest: Sha256Hex, offset: u64) -> Result<Arriving, Refused> {
        let path = self.partial(digest);
        let fail = |error: std::io::Error| Refused::io("can't write", &path, &error);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(fail)?;
        if file.try_lock().is_err() {
            return Err(Refused::unavailable(
                "UPLOAD_IN_PROGRESS",
                format!("{digest} is being uploaded by another stream; ask again where to resume"),
            ));
        }
        let length = file.metadata().map_err(fail)?.len();
        if offset > length {
            return Err(Refused::state(
                "OFFSET_BEYOND_COMMITTED",
                format!("{digest} has {length} bytes here, it can't go on at {offset}"),
            ));
        }
        file.set_len(offset).map_err(fail)?;
        let mut arriving = Arriving {
            blobs: self.clone(),
            digest,
            file,
            length: offset,
        };
        arriving.file.seek(SeekFrom::Start(offset)).map_err(fail)?;
        Ok(arriving)
    }
}

/// A blob that is still arriving; what was written stays when it is dropped.
#[derive(Debug)]
pub(crate) struct Arriving {
    blobs: Blobs,
    digest: Sha256Hex,
    file: File,
    length: u64,
}

impl Arriving {
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        self.file
            .write_all(bytes)
            .map_err(|error| Refused::io("can't write", &self.path(), &error))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn path(&self) -> PathBuf {
        self.blobs.partial(self.digest)
    }

    /// Checks the digest, makes the content durable and gives it its name. A wrong digest
    /// removes what arrived: no byte of it can be trusted.
    pub(crate) fn finish(mut self) -> Result<(), Refused> {
        let path = self.path();
        let fail = |error: std::io::Error| Refused::io("can't finish", &path, &error);
        if self.hash().map_err(fail)? != self.digest {
            durable::remove(&path).map_err(fail)?;
            return Err(Refused::invalid(
                "DIGEST_MISMATCH",
                format!("the content does not have the digest {}", self.digest),
            ));
        }
        self.file.sync_all().map_err(fail)?;
        let target = self.blobs.path(self.digest);
        let parent = target.parent().unwrap_or(Path::new("."));
        durable::private_dir(parent)?;
        std::fs::rename(&path, &target).map_err(fail)?;
        durable::sync_dir(parent).map_err(fail)
    }

    fn hash(&mut self) -> std::io::Result<Sha256Hex> {
        self.file.seek(SeekFrom::Start(0))?;
        let mut hash = Sha256::new();
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = self.file.read(&mut chunk)?;
            if read == 0 {
                return Ok(Sha256Hex(hash.finalize().into()));
            }
            hash.update(&chunk[..read]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blobs() -> (tempfile::TempDir, Blobs) {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        (dir, blobs)
    }

    #[test]
    fn an_upload_in_two_pieces_is_resumed_where_it_broke_off() {
        let (_dir, blobs) = blobs();
        let digest = Sha256Hex(Sha256::digest(b"hello world").into());
        let mut first = blobs.resume(digest, 0).unwrap();
        first.write(b"hello ").unwrap();
        drop(first);
        assert_eq!((blobs.size(digest), blobs.arrived(digest)), (None, 6));
        let mut second = blobs.resume(digest, 6).unwrap();
        second.write(b"world").unwrap();
        second.finish().unwrap();
        assert_eq!((blobs.size(digest), blobs.arrived(digest)), (Some(11), 0));
    }

    #[test]
    fn content_with_another_digest_is_never_visible() {
        let (_dir, blobs) = blobs();
        let digest = Sha256Hex([7; 32]);
        let mut arriving = blobs.resume(digest, 0).unwrap();
        arriving.write(b"something else").unwrap();
        assert_eq!(arriving.finish().unwrap_err().code, "DIGEST_MISMATCH");
        assert_eq!((blobs.size(digest), blobs.arrived(digest)), (None, 0));
    }

    #[test]
    fn two_uploads_of_one_content_do_not_mix() {
        let (_dir, blobs) = blobs();
        let digest = Sha256Hex([7; 32]);
        let _first = blobs.resume(digest, 0).unwrap();
        assert_eq!(
            blobs.resume(digest, 0).unwrap_err().code,
            "UPLOAD_IN_PROGRESS"
        );
    }

    #[test]
    fn a_hole_is_refused() {
        let (_dir, blobs) = blobs();
        let refused = blobs.resume(Sha256Hex([7; 32]), 1).unwrap_err();
        assert_eq!(refused.code, "OFFSET_BEYOND_COMMITTED");
    }
}
