//! Files that must be whole or absent, and keys that nobody else may read.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use zeroize::Zeroizing;

use crate::refused::Refused;

/// Keys, tokens and small state; nothing that belongs here is larger.
const MAX_SMALL_FILE: u64 = 1 << 20;

/// Makes a directory that only its owner may enter; one that exists keeps its mode.
pub(crate) fn private_dir(path: &Path) -> Result<(), Refused> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Refused::io("can't make the directory", path, &error))
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}

/// Writes a file of mode 0600 that is complete or absent after a crash.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Refused> {
    let fail = |error: std::io::Error| Refused::io("can't write", path, &error);
    let parent = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .tempfile_in(parent)
        .map_err(fail)?;
    file.write_all(bytes).map_err(fail)?;
    file.as_file().sync_all().map_err(fail)?;
    file.persist(path).map_err(|error| fail(error.error))?;
    sync_dir(parent).map_err(fail)
}

/// Reads a key: a regular file with one name that nobody but its owner can read.
/// `None` when there is no such file.
pub(crate) fn read_private(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, Refused> {
    let fail = |error: std::io::Error| Refused::io("can't read", path, &error);
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits() | nix::fcntl::OFlag::O_CLOEXEC.bits())
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
    };
    let facts = file.metadata().map_err(fail)?;
    let own = nix::unistd::geteuid().as_raw();
    if !facts.is_file() || facts.nlink() != 1 || facts.mode() & 0o077 != 0 || facts.uid() != own {
        return Err(Refused::state(
            "KEY_FILE_UNSAFE",
            format!(
                "{} must be a regular file of this user with mode 0600 and one name; correct it or move it away",
                path.display()
            ),
        ));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MAX_SMALL_FILE)
        .read_to_end(&mut bytes)
        .map_err(fail)?;
    Ok(Some(bytes))
}

/// Removes a file; one that is already gone is fine.
pub(crate) fn remove(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        assert_eq!(read_private(&path).unwrap(), None);
        write_private(&path, b"secret").unwrap();
        assert_eq!(read_private(&path).unwrap().unwrap().as_slice(), b"secret");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(read_private(&path).unwrap_err().code, "KEY_FILE_UNSAFE");
    }

    #[test]
    fn a_key_behind_a_link_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        write_private(&dir.path().join("key"), b"secret").unwrap();
        std::os::unix::fs::symlink("key", dir.path().join("link")).unwrap();
        assert!(read_private(&dir.path().join("link")).is_err());
    }
}
