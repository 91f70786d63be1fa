//! Screenshots and artifacts: files of an attempt's spool named by their digest. The attendant
//! writes them; what lies there may be anything.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::libc::{O_CLOEXEC, O_NOFOLLOW, O_NONBLOCK};
use tracing::warn;

use super::lane::Lane;
use crate::ids::Sha256Hex;

const FOLDER: &str = "blobs";

/// More files than that are no job's; the rest waits until these are gone.
const MAX_LISTED: usize = 1024;

/// One file to deliver.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    /// Its name, checked by whoever receives its bytes.
    pub(crate) sha256: Sha256Hex,
    path: PathBuf,
}

impl Lane {
    /// What lies there now, and whether that was all.
    pub(crate) async fn blobs(&self) -> Vec<Blob> {
        let folder = self.folder().join(FOLDER);
        tokio::task::spawn_blocking(move || list(&folder))
            .await
            .unwrap_or_default()
    }
}

fn list(folder: &Path) -> Vec<Blob> {
    // No folder, no blobs: it is made with the first one.
    let Ok(items) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let named = items.filter_map(Result::ok).filter_map(|item| {
        // Everything else is being written, or nothing of ours.
        let sha256 = item.file_name().to_str()?.parse().ok()?;
        Some(Blob {
            sha256,
            path: item.path(),
        })
    });
    named.take(MAX_LISTED).collect()
}

impl Blob {
    /// Opens it: a plain file with one name, or an error. Blocks on the disk.
    pub(crate) fn open(&self) -> io::Result<(File, u64)> {
        let flags = O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK;
        let file = fs::OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(&self.path)?;
        let facts = file.metadata()?;
        if !facts.is_file() || facts.nlink() != 1 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "not a plain file with one name",
            ));
        }
        Ok((file, facts.len()))
    }

    /// Removes it. A name that stays is delivered again, which the receiver answers at once.
    pub(crate) fn remove(&self) {
        if let Err(reason) = fs::remove_file(&self.path) {
            warn!(path = %self.path.display(), %reason, "a delivered file can't be removed");
        }
    }

    /// Where it is, for the log.
    pub(crate) fn path(&self) -> std::path::Display<'_> {
        self.path.display()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_are_digests_are_blobs_and_only_plain_files_open() {
        let folder = tempfile::tempdir().unwrap();
        let name = |digit: &str| folder.path().join(digit.repeat(64));
        fs::write(name("a"), b"x").unwrap();
        fs::write(folder.path().join(".new"), b"x").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", name("b")).unwrap();
        fs::hard_link(name("a"), folder.path().join("second")).unwrap();
        fs::write(name("c"), b"yz").unwrap();
        let mut blobs = list(folder.path());
        blobs.sort_by_key(|blob| blob.sha256);
        let sizes: Vec<_> = blobs
            .iter()
            .map(|blob| blob.open().ok().map(|(_, size)| size))
            .collect();
        assert_eq!(
            sizes,
            [None, None, Some(2)],
            "two names, a link, a plain file"
        );
    }
}
