//! Files of an attempt: pictures and artifacts, each under the digest of its content.
//!
//! They lie in `blobs/` of the spool directory, readable for robotd, which removes them when
//! they are delivered. The name appears when the content is complete and on disk.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

use order::Sha256Hex;
use rustix::fs::{AtFlags, Dir, Mode, OFlags, fsync, mkdirat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

const FOLDER: &str = "blobs";
const UNFINISHED: &str = "new-";

/// A step on a blob that failed.
#[derive(Debug, thiserror::Error)]
#[error("can't {operation} {name} in the attempt's spool directory")]
pub(crate) struct BlobError {
    operation: &'static str,
    name: String,
    source: io::Error,
}

impl BlobError {
    /// Whether there is no room, which may change.
    pub(crate) fn is_full(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }
}

fn failed<E: Into<io::Error>>(operation: &'static str, name: &str) -> impl FnOnce(E) -> BlobError {
    move |source| BlobError {
        operation,
        name: name.to_owned(),
        source: source.into(),
    }
}

/// The blobs of one attempt.
#[derive(Debug)]
pub(crate) struct Blobs {
    folder: OwnedFd,
    next: u64,
}

impl Blobs {
    /// Opens or makes the folder. What a lost attendant left unfinished is removed.
    ///
    /// # Errors
    ///
    /// [`BlobError`].
    pub(crate) fn open(spool: &OwnedFd) -> Result<Self, BlobError> {
        match mkdirat(spool, FOLDER, Mode::from_bits_truncate(0o770)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(source) => return Err(failed("make", FOLDER)(source)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = openat(spool, FOLDER, flags, Mode::empty()).map_err(failed("open", FOLDER))?;
        let blobs = Self { folder, next: 0 };
        for name in blobs
            .names()?
            .iter()
            .filter(|name| name.starts_with(UNFINISHED))
        {
            unlinkat(&blobs.folder, name, AtFlags::empty()).map_err(failed("remove", name))?;
        }
        Ok(blobs)
    }

    /// Begins one.
    ///
    /// # Errors
    ///
    /// [`BlobError`].
    pub(crate) fn begin(&mut self) -> Result<NewBlob, BlobError> {
        let name = format!("{UNFINISHED}{}", self.next);
        self.next += 1;
        // robotd's group may write here too: whatever lies under this name is not followed.
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.folder, &name, flags, Mode::from_bits_truncate(0o640))
            .map_err(failed("make", &name))?;
        let folder = self.folder.try_clone().map_err(failed("open", FOLDER))?;
        Ok(NewBlob {
            folder,
            file: file.into(),
            name,
            digest: Sha256::new(),
            bytes: 0,
            kept: false,
        })
    }

    /// A blob of bytes in memory.
    ///
    /// # Errors
    ///
    /// [`BlobError`].
    pub(crate) fn keep(&mut self, bytes: &[u8]) -> Result<Kept, BlobError> {
        let mut blob = self.begin()?;
        blob.write(bytes)?;
        blob.keep()
    }

    /// Bytes that wait here for delivery.
    ///
    /// # Errors
    ///
    /// [`BlobError`].
    pub(crate) fn waiting(&self) -> Result<u64, BlobError> {
        let sizes = self.names()?.into_iter().filter_map(|name| {
            // Delivered and removed meanwhile: it waits no more.
            let facts = statat(&self.folder, &name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
            u64::try_from(facts.st_size).ok()
        });
        Ok(sizes.sum())
    }

    fn names(&self) -> Result<Vec<String>, BlobError> {
        let entries = Dir::read_from(&self.folder).map_err(failed("list", FOLDER))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed("list", FOLDER))?;
            // Names that are no UTF-8 are not ours.
            if let Ok(name) = entry.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }
}

/// A blob that is complete and on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Digest of its content, and its name.
    pub(crate) sha256: Sha256Hex,
    /// Its size.
    pub(crate) bytes: u64,
}

/// A blob that is being written. Dropped before it is kept, it is removed.
#[derive(Debug)]
pub(crate) struct NewBlob {
    folder: OwnedFd,
    file: File,
    name: String,
    digest: Sha256,
    bytes: u64,
    kept: bool,
}

impl NewBlob {
    /// Adds bytes.
    ///
    /// # Errors
    ///
    /// [`BlobError`].
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.file
            .write_all(bytes)
            .map_err(failed("write", &self.name))?;
        self.digest.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// So many bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Complete: to the disk, then its name.
    ///
    /// # Errors
    ///
    /// [`BlobError`].
    pub(crate) fn keep(mut self) -> Result<Kept, BlobError> {
        self.file.sync_data().map_err(failed("sync", &self.name))?;
        let sha256 = Sha256Hex(self.digest.finalize_reset().into());
        let name = sha256.to_string();
        // One that is there has the same content.
        renameat(&self.folder, &self.name, &self.folder, &name).map_err(failed("name", &name))?;
        self.kept = true;
        fsync(self.folder.as_fd()).map_err(failed("sync", FOLDER))?;
        Ok(Kept {
            sha256,
            bytes: self.bytes,
        })
    }
}

impl Drop for NewBlob {
    fn drop(&mut self) {
        if !self.kept {
            // The next attendant removes what this can't.
            let _ = unlinkat(&self.folder, &self.name, AtFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn spool() -> (tempfile::TempDir, OwnedFd) {
        let folder = tempfile::tempdir().unwrap();
        let fd = File::open(folder.path()).unwrap().into();
        (folder, fd)
    }

    #[test]
    fn a_blob_lies_under_its_digest_and_others_have_no_access() {
        let (folder, fd) = spool();
        let mut blobs = Blobs::open(&fd).unwrap();
        let kept = blobs.keep(b"picture").unwrap();
        let path = folder.path().join("blobs").join(kept.sha256.to_string());
        assert_eq!(std::fs::read(&path).unwrap(), b"picture");
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o7137,
            0
        );
        assert_eq!((kept.bytes, blobs.waiting().unwrap()), (7, 7));
        assert_eq!(blobs.keep(b"picture").unwrap(), kept);
    }

    #[test]
    fn an_unfinished_blob_leaves_nothing_and_a_lost_one_is_removed() {
        let (folder, fd) = spool();
        let mut blobs = Blobs::open(&fd).unwrap();
        blobs.begin().unwrap().write(b"half").unwrap();
        assert_eq!(blobs.waiting().unwrap(), 0);
        std::fs::write(folder.path().join("blobs/new-0"), b"lost").unwrap();
        assert_eq!(Blobs::open(&fd).unwrap().waiting().unwrap(), 0);
    }

    #[test]
    fn a_link_in_the_way_is_not_followed() {
        let (folder, fd) = spool();
        let mut blobs = Blobs::open(&fd).unwrap();
        symlink("/dev/null", folder.path().join("blobs/new-0")).unwrap();
        assert!(blobs.begin().is_err());
        let (other, other_fd) = spool();
        symlink(folder.path(), other.path().join("blobs")).unwrap();
        assert!(Blobs::open(&other_fd).is_err());
    }
}
