//! What an attendant after this one has to know: artifacts and pictures that are in the lane,
//! and whether the bot wants to be alone.
//!
//! A small file in the spool directory, replaced as a whole. Nothing of it is secret: names of
//! artifacts are masked before they get here.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use order::ArtifactTotal;
use rustix::fs::{Mode, OFlags, fsync, openat, renameat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

const NAME: &str = "kept.json";
const NEW: &str = "kept.new";

/// More than 128 artifacts with the longest names need.
const MAX_BYTES: u64 = 256 * 1024;

/// The file can't be read or written.
#[derive(Debug, thiserror::Error)]
#[error("can't {operation} {NAME} in the attempt's spool directory")]
pub(crate) struct KeptError {
    operation: &'static str,
    source: io::Error,
}

fn failed<E: Into<io::Error>>(operation: &'static str) -> impl FnOnce(E) -> KeptError {
    move |source| KeptError {
        operation,
        source: source.into(),
    }
}

/// What is kept of an attempt besides its log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Kept {
    /// Artifacts in the lane.
    pub(crate) artifacts: Vec<ArtifactTotal>,
    /// Number of the last picture; some numbers may be missing after a crash, none comes twice.
    pub(crate) screenshots: u32,
    /// Until when the bot wants no pictures, milliseconds of the boot clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) private_until_ms: Option<u64>,
}

impl Kept {
    /// What an attendant before this one kept; nothing when there is no file.
    pub(crate) fn load(spool: &OwnedFd) -> Result<Self, KeptError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(spool, NAME, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(Self::default()),
            Err(source) => return Err(failed("open")(source)),
        };
        let mut text = Vec::new();
        file.take(MAX_BYTES)
            .read_to_end(&mut text)
            .map_err(failed("read"))?;
        serde_json::from_slice(&text).map_err(failed("understand"))
    }

    pub(crate) fn store(&self, spool: &OwnedFd) -> Result<(), KeptError> {
        let text = serde_json::to_vec(self).map_err(failed("write"))?;
        match rustix::fs::unlinkat(spool, NEW, rustix::fs::AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(source) => return Err(failed("write")(source)),
        }
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_bits_truncate(0o640);
        let mut file = File::from(openat(spool, NEW, flags, mode).map_err(failed("make"))?);
        file.write_all(&text).map_err(failed("write"))?;
        file.sync_data().map_err(failed("sync"))?;
        renameat(spool, NEW, spool, NAME).map_err(failed("name"))?;
        fsync(spool.as_fd()).map_err(failed("sync"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_there_for_the_next_attendant() {
        let folder = tempfile::tempdir().unwrap();
        let spool: OwnedFd = File::open(folder.path()).unwrap().into();
        assert_eq!(Kept::load(&spool).unwrap(), Kept::default());
        let artifact = ArtifactTotal {
            name: "out.csv".into(),
            sha256: order::Sha256Hex([1; 32]),
            bytes: 5,
        };
        let kept = Kept {
            artifacts: vec![artifact],
            screenshots: 3,
            private_until_ms: Some(5),
        };
        kept.store(&spool).unwrap();
        kept.store(&spool).unwrap();
        assert_eq!(Kept::load(&spool).unwrap(), kept);
        std::fs::write(folder.path().join(NAME), b"{").unwrap();
        assert!(Kept::load(&spool).is_err());
    }
}
