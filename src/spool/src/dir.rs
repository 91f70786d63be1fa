//! A lane's directory, always by file descriptor.
//!
//! The one who writes it may be less trusted than the one who reads it, so a name found here proves
//! nothing: it may be a link, a pipe, another user's file, or be gone at the next look.

use std::fs::{File, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, RenameFlags, open, openat, renameat2};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::dir_error::DirError;
use crate::limits::MAX_DIR_ENTRIES;
use crate::name::SegmentName;

/// Owner writes, the directory's group (the reader) reads.
const FILE_MODE: u32 = 0o640;

/// Disk or quota is full.
pub(crate) fn no_space(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

/// An open lane directory. Clones share the descriptor.
#[derive(Clone, Debug)]
pub struct LaneDir {
    fd: Arc<OwnedFd>,
    path: PathBuf,
}

impl LaneDir {
    /// Opens `path`, whose last component must be a directory and no link. Who may write the
    /// directories above it is the caller's business.
    pub fn open(path: &Path) -> Result<Self, DirError> {
        let fd = open(path, Self::flags(), Mode::empty()).map_err(|errno| DirError::OpenDir {
            path: path.to_owned(),
            source: errno.into(),
        })?;
        Ok(Self {
            fd: Arc::new(fd),
            path: path.to_owned(),
        })
    }

    /// Takes a directory that was opened elsewhere, with `O_PATH` too; `path` is for messages only.
    pub fn from_fd(fd: &OwnedFd, path: &Path) -> Result<Self, DirError> {
        let fd =
            openat(fd, ".", Self::flags(), Mode::empty()).map_err(|errno| DirError::OpenDir {
                path: path.to_owned(),
                source: errno.into(),
            })?;
        Ok(Self {
            fd: Arc::new(fd),
            path: path.to_owned(),
        })
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file_path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The segments by number, so by age.
    pub(crate) fn segments(&self) -> Result<Vec<SegmentName>, DirError> {
        let list = |errno: Errno| DirError::List {
            path: self.path.clone(),
            source: errno.into(),
        };
        let mut dir = Dir::openat(&self.fd, ".", Self::flags(), Mode::empty()).map_err(list)?;
        let mut names = Vec::new();
        for (count, entry) in dir.iter().enumerate() {
            if count >= MAX_DIR_ENTRIES {
                return Err(DirError::TooManyEntries {
                    path: self.path.clone(),
                });
            }
            let entry = entry.map_err(list)?;
            names.extend(entry.file_name().to_str().ok().and_then(SegmentName::parse));
        }
        names.sort_unstable_by_key(|name| (name.number, name.first_seq, *name.epoch.as_bytes()));
        Ok(names)
    }

    /// Bytes of a file, 0 when it is gone.
    pub(crate) fn size(&self, name: &str) -> Result<u64, DirError> {
        match fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(u64::try_from(stat.st_size).unwrap_or(0)),
            Err(Errno::ENOENT) => Ok(0),
            Err(errno) => Err(DirError::Stat {
                path: self.file_path(name),
                source: errno.into(),
            }),
        }
    }

    /// Opens for reading what must be a plain file with one name.
    pub(crate) fn open_regular(&self, name: &str) -> Result<File, DirError> {
        // Without O_NONBLOCK a pipe, or a lease that the file's owner holds, would stop us here.
        let flags = OFlag::O_RDONLY
            | OFlag::O_NOFOLLOW
            | OFlag::O_NONBLOCK
            | OFlag::O_NOCTTY
            | OFlag::O_CLOEXEC;
        let file = openat(&self.fd, name, flags, Mode::empty())
            .map(File::from)
            .map_err(|errno| DirError::Open {
                path: self.file_path(name),
                source: errno.into(),
            })?;
        let found = file.metadata().map_err(|source| DirError::Stat {
            path: self.file_path(name),
            source,
        })?;
        if !found.is_file() {
            return Err(DirError::NotRegular {
                path: self.file_path(name),
            });
        }
        if found.nlink() != 1 {
            return Err(DirError::Linked {
                path: self.file_path(name),
                links: found.nlink(),
            });
        }
        Ok(file)
    }

    /// Makes a file that appears under its name only when it is whole and synced.
    pub(crate) fn publish(
        &self,
        name: &str,
        temporary: &str,
        contents: &[u8],
    ) -> Result<File, DirError> {
        // Left by a writer that was killed here. There is only one writer at a time.
        self.unlink(temporary)?;
        let made = self.fill_new(name, temporary, contents).and_then(|file| {
            renameat2(
                &self.fd,
                temporary,
                &self.fd,
                name,
                RenameFlags::RENAME_NOREPLACE,
            )
            .map_err(|errno| DirError::Rename {
                path: self.file_path(name),
                source: errno.into(),
            })?;
            Ok(file)
        });
        if made.is_err() {
            // The first error says more than one from here would; publish() starts with the same.
            let _ = self.unlink(temporary);
        }
        let file = made?;
        nix::unistd::fsync(&self.fd).map_err(|errno| DirError::SyncDir {
            path: self.path.clone(),
            source: errno.into(),
        })?;
        Ok(file)
    }

    fn fill_new(&self, name: &str, temporary: &str, contents: &[u8]) -> Result<File, DirError> {
        let create = |source| DirError::Create {
            path: self.file_path(name),
            source,
        };
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_truncate(FILE_MODE);
        let mut file = openat(&self.fd, temporary, flags, mode)
            .map(File::from)
            .map_err(|errno| create(errno.into()))?;
        // The umask must not keep the reader out.
        file.set_permissions(Permissions::from_mode(FILE_MODE))
            .map_err(create)?;
        file.write_all(contents).map_err(create)?;
        file.sync_all().map_err(|source| DirError::SyncNew {
            path: self.file_path(name),
            source,
        })?;
        Ok(file)
    }

    /// Removes a name; that it was gone already is fine.
    pub(crate) fn unlink(&self, name: &str) -> Result<(), DirError> {
        match unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(DirError::Unlink {
                path: self.file_path(name),
                source: errno.into(),
            }),
        }
    }

    /// Makes this process the lane's writer until the returned file is closed.
    pub(crate) fn lock(&self) -> Result<File, DirError> {
        // An open file of its own: the lock would be shared with every clone of `fd`.
        let own = openat(self.fd.as_fd(), ".", Self::flags(), Mode::empty())
            .map(File::from)
            .map_err(|errno| DirError::OpenDir {
                path: self.path.clone(),
                source: errno.into(),
            })?;
        match own.try_lock() {
            Ok(()) => Ok(own),
            Err(TryLockError::WouldBlock) => Err(DirError::Busy {
                path: self.path.clone(),
            }),
            Err(TryLockError::Error(source)) => Err(DirError::Lock {
                path: self.path.clone(),
                source,
            }),
        }
    }

    fn flags() -> OFlag {
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC
    }
}
