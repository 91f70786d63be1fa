//! Replacing a file so that every reader, and every crash, sees the old or the new one.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;

use crate::beneath::{self, Dir};

/// A file that could not be replaced; the old one is still there.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The new file could not be made.
    #[error("can't create a file to replace {}", name.display())]
    Create {
        /// The file to be replaced.
        name: OsString,
        /// What went wrong.
        source: beneath::Error,
    },
    /// The new file could not be written to the disk.
    #[error("can't write {len} bytes for {}", name.display())]
    Write {
        /// The file to be replaced.
        name: OsString,
        /// How many bytes.
        len: usize,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The new file could not take the name of the old one, or that could not be written to
    /// the disk: after the latter a crash may bring the old one back.
    #[error("can't put the new {} in the place of the old one", name.display())]
    Replace {
        /// The file to be replaced.
        name: OsString,
        /// What went wrong.
        source: beneath::Error,
    },
}

/// Distinguishes the temporary names of one process.
static TURN: AtomicU32 = AtomicU32::new(0);

/// How many temporary names are tried: others can only be leftovers of crashes with our pid.
const TRIES: usize = 100;

/// Replaces the file `name` in `folder` by one with these bytes and access bits (whatever the
/// umask is). On return it is on the disk under its name.
///
/// # Errors
///
/// A [`WriteError`].
pub fn write_atomic(folder: &Dir, name: &OsStr, bytes: &[u8], mode: u32) -> Result<(), WriteError> {
    let (temporary, file) = create(folder, name).map_err(|source| WriteError::Create {
        name: name.to_owned(),
        source,
    })?;
    let written = fill(file, bytes, mode)
        .map_err(|source| WriteError::Write {
            name: name.to_owned(),
            len: bytes.len(),
            source,
        })
        .and_then(|()| {
            let moved = folder.rename_over(&temporary, folder, name);
            moved.map_err(|source| WriteError::Replace {
                name: name.to_owned(),
                source,
            })
        });
    if let Err(error) = written {
        // The first error is the one that matters; a leftover is only litter.
        let _ = folder.unlink(&temporary);
        return Err(error);
    }
    folder.sync().map_err(|source| WriteError::Replace {
        name: name.to_owned(),
        source,
    })
}

fn create(folder: &Dir, name: &OsStr) -> Result<(OsString, File), beneath::Error> {
    let mut left = TRIES;
    loop {
        let turn = TURN.fetch_add(1, Ordering::Relaxed);
        let mut temporary = OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}-{turn}", std::process::id()));
        left -= 1;
        match folder.create_file(&temporary, 0o600) {
            Err(beneath::Error::Create {
                source: Errno::EEXIST,
                ..
            }) if left > 0 => {}
            outcome => return outcome.map(|file| (temporary, file)),
        }
    }
}

fn fill(mut file: File, bytes: &[u8], mode: u32) -> io::Result<()> {
    file.write_all(bytes)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    // Before the rename: else after a crash the name could stand for an empty file.
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::beneath::Mounts;

    #[test]
    fn a_file_is_replaced_with_its_access_bits_and_no_litter() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open_root(folder.path(), Mounts::Stay).unwrap();
        write_atomic(&dir, "state".as_ref(), b"old", 0o644).unwrap();
        write_atomic(&dir, "state".as_ref(), b"new", 0o640).unwrap();
        let path = folder.path().join("state");
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_name_that_leaves_the_folder_is_refused_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open_root(folder.path(), Mounts::Stay).unwrap();
        assert!(write_atomic(&dir, "../state".as_ref(), b"x", 0o600).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_can_not_be_replaced_leaves_no_litter() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("state")).unwrap();
        let dir = Dir::open_root(folder.path(), Mounts::Stay).unwrap();
        assert!(matches!(
            write_atomic(&dir, "state".as_ref(), b"x", 0o600),
            Err(WriteError::Replace { .. })
        ));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_leftover_of_a_crash_does_not_stop_the_next_writer() {
        let folder = tempfile::tempdir().unwrap();
        let next = TURN.load(Ordering::Relaxed);
        for turn in next..next + 20 {
            fs::write(
                folder
                    .path()
                    .join(format!(".state.{}-{turn}", std::process::id())),
                "",
            )
            .unwrap();
        }
        let dir = Dir::open_root(folder.path(), Mounts::Stay).unwrap();
        write_atomic(&dir, "state".as_ref(), b"x", 0o600).unwrap();
        assert_eq!(fs::read(folder.path().join("state")).unwrap(), b"x");
    }
}
