//! Screenshots and artifacts: files of an attempt's spool named by their digest. The attendant
//! writes them; what lies there may be anything, so every name is looked up below an open folder.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sys::beneath::{Dir, Mounts};
use tracing::warn;

use super::lane::Lane;
use crate::ids::Sha256Hex;

const FOLDER: &str = "blobs";

/// Files that are delivered before the folder is looked at again.
const MAX_LISTED: usize = 1024;

/// Names that are looked at: an attendant that makes more is none of ours.
const MAX_NAMES: usize = 65_536;

/// One file to deliver.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    /// Its name, checked by whoever receives its bytes.
    pub(crate) sha256: Sha256Hex,
    /// The attempt's spool.
    spool: PathBuf,
}

/// Why a file is not touched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlobError {
    /// It is no plain file, or not below the spool.
    #[error(transparent)]
    Lookup(#[from] sys::beneath::Error),
    /// It can't be examined.
    #[error("can't examine it: {0}")]
    Examine(std::io::Error),
    /// It may be another's file.
    #[error("it has {0} names, a file of the attendant has one")]
    Linked(u64),
}

impl Lane {
    /// What lies there now, but those that were settled and can't be removed.
    pub(crate) async fn blobs(&self) -> Vec<Blob> {
        let lane = self.clone();
        tokio::task::spawn_blocking(move || list(lane.folder(), |name| lane.is_stuck(name)))
            .await
            .unwrap_or_default()
    }

    /// Removes what is delivered or given up. What can't be removed is not delivered again.
    pub(crate) async fn remove_blob(&self, blob: Blob) {
        let sha256 = blob.sha256;
        let removed = tokio::task::spawn_blocking(move || blob.remove()).await;
        if let Ok(Err(reason)) = removed {
            warn!(spool = %self.folder().display(), %sha256, %reason, "a settled file can't be removed; the broker removes it");
            self.stuck(sha256);
        }
    }
}

fn list(spool: &Path, skip: impl Fn(&Sha256Hex) -> bool) -> Vec<Blob> {
    // No folder, no blobs: it is made with the first one.
    let Ok(entries) = folder(spool).and_then(|folder| folder.entries()) else {
        return Vec::new();
    };
    let named = entries
        .take(MAX_NAMES)
        .filter_map(Result::ok)
        // Everything else is being written, or nothing of ours.
        .filter_map(|entry| entry.name.to_str()?.parse().ok())
        .filter(|sha256| !skip(sha256));
    let blob = |sha256| Blob {
        sha256,
        spool: spool.to_owned(),
    };
    named.take(MAX_LISTED).map(blob).collect()
}

fn folder(spool: &Path) -> Result<Dir, sys::beneath::Error> {
    Dir::open_root(spool, Mounts::Stay)?.open_dir(FOLDER)
}

impl Blob {
    /// Opens it: a plain file with one name, or an error. Blocks on the disk.
    pub(crate) fn open(&self) -> Result<(File, u64), BlobError> {
        let file = folder(&self.spool)?.open_file(self.sha256.to_string())?;
        let facts = file.metadata().map_err(BlobError::Examine)?;
        if facts.nlink() != 1 {
            return Err(BlobError::Linked(facts.nlink()));
        }
        Ok((file, facts.len()))
    }

    fn remove(&self) -> Result<(), sys::beneath::Error> {
        folder(&self.spool)?.unlink(self.sha256.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_names_that_are_digests_are_blobs_and_only_plain_files_open() {
        let spool = tempfile::tempdir().unwrap();
        let blobs = spool.path().join(FOLDER);
        fs::create_dir(&blobs).unwrap();
        let name = |digit: &str| blobs.join(digit.repeat(64));
        fs::write(name("a"), b"x").unwrap();
        fs::write(blobs.join(".new"), b"x").unwrap();
        symlink("/etc/passwd", name("b")).unwrap();
        fs::hard_link(name("a"), blobs.join("second")).unwrap();
        fs::write(name("c"), b"yz").unwrap();
        let mut found = list(spool.path(), |_| false);
        found.sort_by_key(|blob| blob.sha256);
        let sizes: Vec<_> = found
            .iter()
            .map(|blob| blob.open().ok().map(|(_, size)| size))
            .collect();
        assert_eq!(
            sizes,
            [None, None, Some(2)],
            "two names, a link, a plain file"
        );
        assert_eq!(list(spool.path(), |_| true).len(), 0);
    }

    #[test]
    fn a_link_in_place_of_the_folder_is_not_followed() {
        let (spool, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let name = "a".repeat(64);
        fs::write(outside.path().join(&name), b"x").unwrap();
        symlink(outside.path(), spool.path().join(FOLDER)).unwrap();
        assert!(list(spool.path(), |_| false).is_empty());
        let blob = Blob {
            sha256: name.parse().unwrap(),
            spool: spool.path().to_owned(),
        };
        assert!(blob.open().is_err() && blob.remove().is_err());
        assert!(outside.path().join(&name).exists());
    }
}
