//! The places that robotd needs, and that nobody else uses them.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::config::Config;

#[derive(Debug, thiserror::Error)]
pub(super) enum FolderError {
    #[error("can't make or use {}: {source}; it must belong to the user that robotd runs as", path.display())]
    Unusable { path: PathBuf, source: io::Error },
    #[error("another robotd uses {}; end it first, or give this one a state-dir of its own", path.display())]
    InUse { path: PathBuf },
}

/// Makes what is missing. The lock is held as long as the file is open.
pub(super) fn prepare(config: &Config) -> Result<File, FolderError> {
    for (folder, mode) in [
        (config.state_dir.clone(), 0o750),
        (config.jobs_dir(), 0o700),
        (config.lanes_dir(), 0o700),
        (config.tmp_dir(), 0o700),
        (config.spool_dir(), 0o750),
        (config.runtime_dir.clone(), 0o755),
    ] {
        make(&folder, mode).map_err(|source| FolderError::Unusable {
            path: folder,
            source,
        })?;
    }
    let lock = lock(&config.state_dir.join("lock"))?;
    sweep(&config.tmp_dir());
    Ok(lock)
}

fn make(folder: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // The umask may have taken bits off.
        Ok(()) => fs::set_permissions(folder, fs::Permissions::from_mode(mode)),
        Err(error) => Err(error),
    }
}

fn lock(path: &Path) -> Result<File, FolderError> {
    let unusable = |source| FolderError::Unusable {
        path: path.to_owned(),
        source,
    };
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(FolderError::InUse {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(unusable(source)),
    }
}

/// Packages on their way have no name; what has one was left by an older version or a person.
fn sweep(tmp: &Path) {
    for item in fs::read_dir(tmp)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
    {
        let _ = fs::remove_file(item.path());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_robotd_never_share_a_state_directory() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            state_dir: folder.path().join("state"),
            runtime_dir: folder.path().join("run"),
            ..Config::default()
        };
        let first = prepare(&config).unwrap();
        assert!(matches!(prepare(&config), Err(FolderError::InUse { .. })));
        drop(first);
        assert!(prepare(&config).is_ok());
    }
}
