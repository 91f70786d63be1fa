//! Reading a file that decides what root does.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, fstat};
use nix::unistd::Uid;

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The path is relative, or has `.` or `..` in it.
    #[error("{} is not an absolute path without dots; write it out", path.display())]
    Path {
        /// The path.
        path: PathBuf,
    },
    /// It or a folder on the way could not be opened.
    #[error("can't open {}", path.display())]
    Open {
        /// The part of the path that could not be opened.
        path: PathBuf,
        /// The kernel's reason.
        source: Errno,
    },
    /// A symbolic link has that name.
    #[error("{} is a symbolic link; name the file that it leads to instead", path.display())]
    Link {
        /// The part of the path that is a link.
        path: PathBuf,
    },
    /// Something other than a regular file has that name.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// Its path.
        path: PathBuf,
    },
    /// Someone else owns it and could change it.
    #[error("{} is owned by uid {found} and not by uid {expected}: chown {expected} {}", path.display(), path.display())]
    Owner {
        /// The part of the path with the wrong owner.
        path: PathBuf,
        /// Its owner.
        found: Uid,
        /// Who should own it.
        expected: Uid,
    },
    /// Others may write it.
    #[error("{} can be written by others (mode {mode:04o}): chmod go-w {}", path.display(), path.display())]
    Writable {
        /// The part of the path that others may write.
        path: PathBuf,
        /// Its access bits.
        mode: u32,
    },
    /// It is longer than any such file should be.
    #[error("{} is longer than {max} bytes", path.display())]
    TooLong {
        /// Its path.
        path: PathBuf,
        /// The bound.
        max: u64,
    },
    /// It could not be read.
    #[error("can't read {}", path.display())]
    Read {
        /// Its path.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
}

/// Reads a file that nobody but root and `owner` can have changed: a regular file that `owner`
/// owns, not writable by group or others, and the same for every folder up to `/`, which root or
/// `owner` must own. No symbolic link is followed. At most `max` bytes.
///
/// The checks are made on what is held open, so nothing can be swapped between check and use.
///
/// # Errors
///
/// A [`TrustError`], which says what to do.
pub fn read_trusted(path: &Path, owner: Uid, max: u64) -> Result<Vec<u8>, TrustError> {
    let file = open_trusted(path, owner)?;
    let failed = |source| TrustError::Read {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    file.take(max.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > max {
        return Err(TrustError::TooLong {
            path: path.to_owned(),
            max,
        });
    }
    Ok(bytes)
}

fn open_trusted(path: &Path, owner: Uid) -> Result<File, TrustError> {
    let names = names(path)?;
    let (last, folders) = names.split_last().ok_or_else(|| TrustError::NotAFile {
        path: path.to_owned(),
    })?;
    let mut walked = PathBuf::from("/");
    let mut folder =
        open("/", folder_flags(), Mode::empty()).map_err(|source| TrustError::Open {
            path: walked.clone(),
            source,
        })?;
    check_folder(&folder, &walked, owner)?;
    for name in folders {
        walked.push(name);
        folder = step(folder.as_fd(), Path::new(name), folder_flags(), &walked)?;
        check_folder(&folder, &walked, owner)?;
    }
    walked.push(last);
    // Non-blocking: a pipe with that name must not hold the caller up.
    let flags = OFlag::O_RDONLY
        | OFlag::O_NOFOLLOW
        | OFlag::O_CLOEXEC
        | OFlag::O_NONBLOCK
        | OFlag::O_NOCTTY;
    let file = step(folder.as_fd(), Path::new(last), flags, &walked)?;
    check_file(&file, &walked, owner)?;
    Ok(file.into())
}

fn folder_flags() -> OFlag {
    OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC
}

fn names(path: &Path) -> Result<Vec<&std::ffi::OsStr>, TrustError> {
    let refused = || TrustError::Path {
        path: path.to_owned(),
    };
    let mut parts = path.components();
    if parts.next() != Some(Component::RootDir) {
        return Err(refused());
    }
    parts
        .map(|part| {
            if let Component::Normal(name) = part {
                Ok(name)
            } else {
                Err(refused())
            }
        })
        .collect()
}

fn step(
    folder: BorrowedFd<'_>,
    name: &Path,
    flags: OFlag,
    walked: &Path,
) -> Result<OwnedFd, TrustError> {
    openat(folder, name, flags, Mode::empty()).map_err(|source| {
        let path = walked.to_owned();
        // O_DIRECTORY says ENOTDIR of a link that O_NOFOLLOW did not follow.
        match source {
            Errno::ELOOP => TrustError::Link { path },
            Errno::ENOTDIR if walked.is_symlink() => TrustError::Link { path },
            source => TrustError::Open { path, source },
        }
    })
}

fn facts_of(fd: &OwnedFd, path: &Path) -> Result<FileStat, TrustError> {
    fstat(fd).map_err(|source| TrustError::Open {
        path: path.to_owned(),
        source,
    })
}

fn check_folder(fd: &OwnedFd, path: &Path, owner: Uid) -> Result<(), TrustError> {
    let facts = facts_of(fd, path)?;
    let expected = if facts.st_uid == 0 {
        Uid::from_raw(0)
    } else {
        owner
    };
    check_access(&facts, path, expected)
}

fn check_file(fd: &OwnedFd, path: &Path, owner: Uid) -> Result<(), TrustError> {
    let facts = facts_of(fd, path)?;
    if facts.st_mode & libc::S_IFMT != libc::S_IFREG {
        return Err(TrustError::NotAFile {
            path: path.to_owned(),
        });
    }
    check_access(&facts, path, owner)
}

fn check_access(facts: &FileStat, path: &Path, expected: Uid) -> Result<(), TrustError> {
    let found = Uid::from_raw(facts.st_uid);
    if found != expected {
        return Err(TrustError::Owner {
            path: path.to_owned(),
            found,
            expected,
        });
    }
    // Also in a sticky folder: whoever may make names there may make ours before we do.
    if facts.st_mode & 0o022 != 0 {
        return Err(TrustError::Writable {
            path: path.to_owned(),
            mode: facts.st_mode & 0o7777,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    const ROOT: Uid = Uid::from_raw(0);

    /// Not below /tmp, which others may write.
    fn folder() -> tempfile::TempDir {
        tempfile::Builder::new()
            .prefix("robotd-test-")
            .tempdir_in("/var/lib")
            .unwrap()
    }

    fn file(folder: &tempfile::TempDir, mode: u32) -> PathBuf {
        let path = folder.path().join("policy.toml");
        fs::write(&path, "a = 1").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_file_that_only_root_can_write_is_read() {
        let folder = folder();
        assert_eq!(
            read_trusted(&file(&folder, 0o644), ROOT, 100).unwrap(),
            b"a = 1"
        );
    }

    #[test]
    fn a_file_or_folder_that_others_can_write_is_refused_with_its_remedy() {
        let folder = folder();
        let error = read_trusted(&file(&folder, 0o664), ROOT, 100).unwrap_err();
        assert!(error.to_string().contains("chmod go-w"), "{error}");
        let path = file(&folder, 0o600);
        fs::set_permissions(folder.path(), Permissions::from_mode(0o1777)).unwrap();
        let error = read_trusted(&path, ROOT, 100).unwrap_err();
        assert!(matches!(error, TrustError::Writable { path, .. } if path == folder.path()));
    }

    #[test]
    fn a_file_or_folder_of_another_user_is_refused() {
        let folder = folder();
        let path = file(&folder, 0o600);
        chown(&path, Some(12345), None).unwrap();
        assert!(matches!(
            read_trusted(&path, ROOT, 100),
            Err(TrustError::Owner { .. })
        ));
        assert_eq!(
            read_trusted(&path, Uid::from_raw(12345), 100).unwrap(),
            b"a = 1"
        );
        chown(folder.path(), Some(54321), None).unwrap();
        let error = read_trusted(&path, Uid::from_raw(12345), 100).unwrap_err();
        assert!(matches!(error, TrustError::Owner { path, .. } if path == folder.path()));
    }

    #[test]
    fn links_are_refused_in_every_place() {
        let folder = folder();
        let path = file(&folder, 0o600);
        let link = folder.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(matches!(
            read_trusted(&link, ROOT, 100),
            Err(TrustError::Link { .. })
        ));
        let to_folder = folder.path().join("to-folder");
        symlink(folder.path(), &to_folder).unwrap();
        let error = read_trusted(&to_folder.join("policy.toml"), ROOT, 100).unwrap_err();
        assert!(matches!(error, TrustError::Link { path } if path == to_folder));
    }

    #[test]
    fn what_is_not_a_file_is_refused_without_waiting() {
        let folder = folder();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        assert!(matches!(
            read_trusted(&pipe, ROOT, 100),
            Err(TrustError::NotAFile { .. })
        ));
        assert!(matches!(
            read_trusted(folder.path(), ROOT, 100),
            Err(TrustError::NotAFile { .. })
        ));
        assert!(matches!(
            read_trusted(Path::new("/"), ROOT, 100),
            Err(TrustError::NotAFile { .. })
        ));
    }

    #[test]
    fn paths_with_dots_and_long_files_are_refused() {
        for path in ["etc/passwd", "/etc/../etc/passwd", ""] {
            assert!(
                matches!(
                    read_trusted(Path::new(path), ROOT, 1),
                    Err(TrustError::Path { .. })
                ),
                "{path}"
            );
        }
        let folder = folder();
        let path = file(&folder, 0o600);
        assert!(matches!(
            read_trusted(&path, ROOT, 4),
            Err(TrustError::TooLong { max: 4, .. })
        ));
        assert!(read_trusted(&path, ROOT, 5).is_ok());
    }
}
