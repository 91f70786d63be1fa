//! The key of one lane.

use std::fmt;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::dir::LaneDir;
use crate::dir_error::DirError;

const FILE: &str = "lane.key";
const TEMPORARY: &str = "key.new";
const KEY_BYTES: usize = 32;

/// What went wrong with a lane's key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The kernel gave no random bytes.
    #[error("the kernel gave no random bytes for a lane key")]
    Random(#[source] getrandom::Error),
    /// Making, opening or removing the key file.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// Reading the key file.
    #[error("can't read the lane key {path}")]
    Read {
        /// The key file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Not a key.
    #[error(
        "the lane key {path} has {bytes} bytes instead of {KEY_BYTES}: its lane can't be read any more"
    )]
    Size {
        /// The key file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// Everybody may read or write it.
    #[error(
        "the lane key {path} has mode {mode:04o}: others than owner and group must have no access"
    )]
    Mode {
        /// The key file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
}

/// Seals the segments of one lane directory.
///
/// What it is good for: a segment that is copied, backed up or left on a disk without its key file
/// shows nothing, and no changed or half-written byte passes for a record. What it is not: as long
/// as the key is stored on the same disk, removing it erases nothing for certain, since a disk may
/// keep old copies of both. Only a key that never was on disk would make that an erasure.
pub struct LaneKey(Zeroizing<[u8; KEY_BYTES]>);

impl LaneKey {
    /// A new key from the kernel's random numbers.
    pub fn generate() -> Result<Self, KeyError> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(key.as_mut()).map_err(KeyError::Random)?;
        Ok(Self(key))
    }

    /// A key that was kept or handed over elsewhere.
    pub fn from_bytes(bytes: &[u8; KEY_BYTES]) -> Self {
        Self(Zeroizing::new(*bytes))
    }

    /// Writes the key into the lane's directory, readable for owner and group, synced. It never
    /// replaces one that is there: what that one sealed would be lost.
    pub fn store(&self, dir: &LaneDir) -> Result<(), KeyError> {
        dir.publish(FILE, TEMPORARY, self.0.as_ref())?;
        Ok(())
    }

    /// Reads the key that [`LaneKey::store`] wrote.
    pub fn load(dir: &LaneDir) -> Result<Self, KeyError> {
        let path = || dir.file_path(FILE);
        let file = dir.open_regular(FILE)?;
        let found = file.metadata().map_err(|source| KeyError::Read {
            path: path(),
            source,
        })?;
        if found.size() != KEY_BYTES as u64 {
            return Err(KeyError::Size {
                path: path(),
                bytes: found.size(),
            });
        }
        if found.mode() & 0o007 != 0 {
            return Err(KeyError::Mode {
                path: path(),
                mode: found.mode() & 0o7777,
            });
        }
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        file.read_exact_at(key.as_mut(), 0)
            .map_err(|source| KeyError::Read {
                path: path(),
                source,
            })?;
        Ok(Self(key))
    }

    /// Removes the key file. See the type for what that does not prove.
    pub fn remove(dir: &LaneDir) -> Result<(), KeyError> {
        Ok(dir.unlink(FILE)?)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_ref()
    }
}

impl fmt::Debug for LaneKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LaneKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn lane() -> (tempfile::TempDir, LaneDir) {
        let place = tempfile::tempdir().unwrap();
        let dir = LaneDir::open(place.path()).unwrap();
        (place, dir)
    }

    #[test]
    fn a_stored_key_loads_as_the_same_and_is_closed_to_others() {
        let (place, dir) = lane();
        let key = LaneKey::generate().unwrap();
        key.store(&dir).unwrap();
        assert_eq!(LaneKey::load(&dir).unwrap().bytes(), key.bytes());
        let mode = fs::metadata(place.path().join(FILE)).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o640);
        LaneKey::remove(&dir).unwrap();
        assert!(matches!(LaneKey::load(&dir), Err(KeyError::Dir(error)) if error.is_gone()));
    }

    #[test]
    fn a_key_that_is_there_is_never_replaced() {
        let (place, dir) = lane();
        let first = LaneKey::generate().unwrap();
        first.store(&dir).unwrap();
        let second = LaneKey::generate().unwrap().store(&dir);
        assert!(matches!(
            second,
            Err(KeyError::Dir(DirError::Rename { .. }))
        ));
        assert_eq!(LaneKey::load(&dir).unwrap().bytes(), first.bytes());
        assert!(!place.path().join(TEMPORARY).exists());
    }

    #[test]
    fn a_key_file_of_the_wrong_kind_size_or_mode_is_refused() {
        let (place, dir) = lane();
        let file = place.path().join(FILE);
        let other = place.path().join("other");
        fs::write(&other, [7; 32]).unwrap();
        fs::set_permissions(&other, fs::Permissions::from_mode(0o640)).unwrap();

        symlink(&other, &file).unwrap();
        assert!(matches!(
            LaneKey::load(&dir),
            Err(KeyError::Dir(DirError::Open { .. }))
        ));
        fs::remove_file(&file).unwrap();

        fs::hard_link(&other, &file).unwrap();
        assert!(matches!(
            LaneKey::load(&dir),
            Err(KeyError::Dir(DirError::Linked { .. }))
        ));
        fs::remove_file(&other).unwrap();
        assert!(LaneKey::load(&dir).is_ok());

        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            LaneKey::load(&dir),
            Err(KeyError::Mode { mode: 0o644, .. })
        ));
        fs::write(&file, [7; 33]).unwrap();
        assert!(matches!(
            LaneKey::load(&dir),
            Err(KeyError::Size { bytes: 33, .. })
        ));
    }

    #[test]
    fn a_key_does_not_show_in_debug_output() {
        assert_eq!(
            format!("{:?}", LaneKey::from_bytes(&[0x41; 32])),
            "LaneKey(..)"
        );
    }
}
