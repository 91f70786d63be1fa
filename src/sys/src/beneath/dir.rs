//! An open folder.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, RenameFlags, ResolveFlag, open, openat2, renameat2};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{Mode, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fsync, unlinkat};

use super::{Entries, Error, Facts, Kind};

/// How often a lookup is tried again when the tree changes under it (`EAGAIN`, openat2(2)).
const LOOKUPS: usize = 64;

/// Whether a lookup may step into other mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mounts {
    /// Never: a bind mount of something precious must not be walked into.
    Stay,
    /// Allowed, for trees that we mounted ourselves.
    Cross,
}

/// An open folder, below which names are looked up.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    mounts: Mounts,
}

impl Dir {
    /// Opens a folder by its path, which must be trusted up to its last part; that part may not
    /// be a symbolic link.
    ///
    /// # Errors
    ///
    /// [`Error::OpenRoot`].
    pub fn open_root(path: &Path, mounts: Mounts) -> Result<Self, Error> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match open(path, flags, Mode::empty()) {
            Ok(fd) => Ok(Self { fd, mounts }),
            Err(source) => Err(Error::OpenRoot {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Takes over an open folder, such as one that was received.
    ///
    /// # Errors
    ///
    /// [`Error::NotAFolder`].
    pub fn from_fd(fd: OwnedFd, mounts: Mounts) -> Result<Self, Error> {
        let facts = fstat(&fd).map_err(|source| Error::Examine {
            name: PathBuf::from("."),
            source,
        })?;
        if Facts::new(&facts).kind == Kind::Folder {
            Ok(Self { fd, mounts })
        } else {
            Err(Error::NotAFolder)
        }
    }

    /// A folder below this one.
    ///
    /// # Errors
    ///
    /// [`Error::Open`].
    pub fn open_dir(&self, name: impl AsRef<Path>) -> Result<Self, Error> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let fd = self
            .look_up(name.as_ref(), flags, Mode::empty())
            .map_err(open_error(name.as_ref()))?;
        Ok(Self {
            fd,
            mounts: self.mounts,
        })
    }

    /// A regular file below this one, for reading.
    ///
    /// It is examined before it is opened, since opening a device or a pipe has effects; should
    /// it be swapped between the two, what was opened is closed and refused.
    ///
    /// # Errors
    ///
    /// [`Error::Open`] and [`Error::NotAFile`].
    pub fn open_file(&self, name: impl AsRef<Path>) -> Result<File, Error> {
        let name = name.as_ref();
        require(Kind::File, &self.open_path(name)?, name)?;
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let file = self
            .look_up(name, flags, Mode::empty())
            .map_err(open_error(name))?;
        require(Kind::File, &file, name)?;
        Ok(file.into())
    }

    /// Whatever has that name, without opening it (`O_PATH`): to be examined, passed, mounted.
    /// A symbolic link in the last place is an error like on the way.
    ///
    /// # Errors
    ///
    /// [`Error::Open`].
    pub fn open_path(&self, name: impl AsRef<Path>) -> Result<OwnedFd, Error> {
        self.look_up(name.as_ref(), OFlag::O_PATH, Mode::empty())
            .map_err(open_error(name.as_ref()))
    }

    /// A new, empty file with these access bits less the umask, for writing.
    ///
    /// # Errors
    ///
    /// [`Error::Create`].
    pub fn create_file(&self, name: impl AsRef<Path>, mode: u32) -> Result<File, Error> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        let made = self.look_up(name.as_ref(), flags, Mode::from_bits_truncate(mode));
        made.map(File::from).map_err(|source| Error::Create {
            name: name.as_ref().to_owned(),
            source,
        })
    }

    /// A new folder in this one with these access bits less the umask, opened.
    ///
    /// # Errors
    ///
    /// [`Error::BadName`], [`Error::Create`] and [`Error::Open`].
    pub fn create_dir(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<Self, Error> {
        let name = plain(name.as_ref())?;
        mkdirat(&self.fd, name, Mode::from_bits_truncate(mode)).map_err(|source| {
            Error::Create {
                name: name.into(),
                source,
            }
        })?;
        self.open_dir(name)
    }

    /// The names in this folder.
    ///
    /// # Errors
    ///
    /// [`Error::List`].
    pub fn entries(&self) -> Result<Entries, Error> {
        // Opened anew, so that two listings do not share a position.
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let fd = self
            .look_up(Path::new("."), flags, Mode::empty())
            .map_err(|source| Error::List { source })?;
        let stream = nix::dir::Dir::from_fd(fd).map_err(|source| Error::List { source })?;
        Ok(Entries::new(stream.into_iter()))
    }

    /// Facts about what has that name in this folder; of a symbolic link, about the link.
    ///
    /// # Errors
    ///
    /// [`Error::BadName`] and [`Error::Examine`].
    pub fn facts(&self, name: impl AsRef<OsStr>) -> Result<Facts, Error> {
        let name = plain(name.as_ref())?;
        let facts = fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW);
        facts
            .map(|facts| Facts::new(&facts))
            .map_err(|source| Error::Examine {
                name: name.into(),
                source,
            })
    }

    /// Facts about this folder.
    ///
    /// # Errors
    ///
    /// [`Error::Examine`].
    pub fn own_facts(&self) -> Result<Facts, Error> {
        let facts = fstat(&self.fd).map_err(|source| Error::Examine {
            name: PathBuf::from("."),
            source,
        })?;
        Ok(Facts::new(&facts))
    }

    /// Removes a name that is not a folder; a symbolic link itself, never what it leads to.
    ///
    /// # Errors
    ///
    /// [`Error::BadName`] and [`Error::Remove`].
    pub fn unlink(&self, name: impl AsRef<OsStr>) -> Result<(), Error> {
        self.remove(name.as_ref(), UnlinkatFlags::NoRemoveDir)
    }

    /// Removes an empty folder.
    ///
    /// # Errors
    ///
    /// [`Error::BadName`] and [`Error::Remove`] (`EBUSY` when it is a mount point).
    pub fn remove_dir(&self, name: impl AsRef<OsStr>) -> Result<(), Error> {
        self.remove(name.as_ref(), UnlinkatFlags::RemoveDir)
    }

    fn remove(&self, name: &OsStr, flags: UnlinkatFlags) -> Result<(), Error> {
        let name = plain(name)?;
        unlinkat(&self.fd, name, flags).map_err(|source| Error::Remove {
            name: name.into(),
            source,
        })
    }

    /// Gives what has that name here another name in `to`, which must be on the same mount;
    /// what has the new name already is not replaced.
    ///
    /// # Errors
    ///
    /// [`Error::BadName`] and [`Error::Rename`].
    pub fn rename_new(
        &self,
        from: impl AsRef<OsStr>,
        to: &Self,
        name: impl AsRef<OsStr>,
    ) -> Result<(), Error> {
        self.rename_with(
            from.as_ref(),
            to,
            name.as_ref(),
            RenameFlags::RENAME_NOREPLACE,
        )
    }

    /// Gives what has that name here another name in `to`; what has the new name is replaced in
    /// the same moment.
    ///
    /// # Errors
    ///
    /// [`Error::BadName`] and [`Error::Rename`].
    pub fn rename_over(
        &self,
        from: impl AsRef<OsStr>,
        to: &Self,
        name: impl AsRef<OsStr>,
    ) -> Result<(), Error> {
        self.rename_with(from.as_ref(), to, name.as_ref(), RenameFlags::empty())
    }

    fn rename_with(
        &self,
        from: &OsStr,
        to: &Self,
        name: &OsStr,
        flags: RenameFlags,
    ) -> Result<(), Error> {
        let (from, name) = (plain(from)?, plain(name)?);
        renameat2(&self.fd, from, &to.fd, name, flags).map_err(|source| Error::Rename {
            from: from.into(),
            to: name.into(),
            source,
        })
    }

    /// Changes owner and group of this folder.
    ///
    /// # Errors
    ///
    /// [`Error::Change`].
    pub fn set_owner(&self, uid: Uid, gid: Gid) -> Result<(), Error> {
        fchown(&self.fd, Some(uid), Some(gid)).map_err(change_error("the owner"))
    }

    /// Sets the access bits of this folder, whatever the umask is.
    ///
    /// # Errors
    ///
    /// [`Error::Change`].
    pub fn set_mode(&self, mode: u32) -> Result<(), Error> {
        fchmod(&self.fd, Mode::from_bits_truncate(mode)).map_err(change_error("the access bits"))
    }

    /// Takes the immutable and append-only marks off this folder (chattr(1)); see
    /// [`Dir::clear_protection_of`].
    ///
    /// # Errors
    ///
    /// [`Error::Change`].
    pub fn clear_protection(&self) -> Result<bool, Error> {
        let taken = take_marks(self.fd.as_fd()).map_err(change_error("the protection"))?;
        Ok(taken != 0)
    }

    /// Takes the immutable and append-only marks off an open file, and says whether it had any.
    /// File systems that know no such marks have none.
    ///
    /// # Errors
    ///
    /// [`Error::Change`]; `EPERM` without `CAP_LINUX_IMMUTABLE`.
    pub fn clear_protection_of(file: &File) -> Result<bool, Error> {
        Self::take_marks_of(file).map(|taken| taken != 0)
    }

    /// As [`Dir::clear_protection_of`]: which marks they were.
    pub(super) fn take_marks_of(file: &File) -> Result<libc::c_int, Error> {
        take_marks(file.as_fd()).map_err(change_error("the protection"))
    }

    /// Puts back what was taken.
    pub(super) fn put_marks_on(file: &File, marks: libc::c_int) -> Result<(), Error> {
        let put = get_marks(file.as_fd()).and_then(|now| set_marks(file.as_fd(), now | marks));
        put.map_err(change_error("the protection"))
    }

    /// Detaches the mount on that name in this folder; what is mounted there is not touched.
    /// Needs /proc.
    ///
    /// # Errors
    ///
    /// [`Error::BadName`] and [`Error::Detach`] (`EINVAL` when nothing is mounted there).
    pub fn detach_mount(&self, name: impl AsRef<OsStr>) -> Result<(), Error> {
        let name = plain(name.as_ref())?;
        let path = proc_path(self.fd.as_fd()).join(name);
        umount2(&path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).map_err(|source| {
            Error::Detach {
                name: name.into(),
                source,
            }
        })
    }

    /// Connects to a stream socket below this folder. That it is a socket is checked on what is
    /// connected to, so a swapped link leads nowhere. Needs /proc.
    ///
    /// # Errors
    ///
    /// [`Error::Open`], [`Error::NotASocket`] and [`Error::Connect`].
    pub fn connect_stream(&self, name: impl AsRef<Path>) -> Result<UnixStream, Error> {
        let name = name.as_ref();
        let found = self.open_path(name)?;
        require(Kind::Socket, &found, name)?;
        UnixStream::connect(proc_path(found.as_fd())).map_err(|source| Error::Connect {
            name: name.to_owned(),
            source,
        })
    }

    /// Waits until the names in this folder are on the disk.
    ///
    /// # Errors
    ///
    /// [`Error::Change`].
    pub fn sync(&self) -> Result<(), Error> {
        fsync(&self.fd).map_err(change_error("the content"))
    }

    fn look_up(&self, name: &Path, flags: OFlag, mode: Mode) -> Result<OwnedFd, Errno> {
        let mut resolve = ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        if self.mounts == Mounts::Stay {
            resolve |= ResolveFlag::RESOLVE_NO_XDEV;
        }
        // No O_NOFOLLOW: together with O_PATH it would hand out a link in the last place, which
        // RESOLVE_NO_SYMLINKS refuses.
        let safe = OFlag::O_CLOEXEC;
        let how = OpenHow::new()
            .flags(flags | safe)
            .mode(mode)
            .resolve(resolve);
        for _ in 1..LOOKUPS {
            match openat2(&self.fd, name, how) {
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                outcome => return outcome,
            }
        }
        openat2(&self.fd, name, how)
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn require(kind: Kind, fd: &OwnedFd, name: &Path) -> Result<(), Error> {
    let facts = fstat(fd).map_err(|source| Error::Examine {
        name: name.to_owned(),
        source,
    })?;
    match kind {
        kind if Facts::new(&facts).kind == kind => Ok(()),
        Kind::Socket => Err(Error::NotASocket {
            name: name.to_owned(),
        }),
        _ => Err(Error::NotAFile {
            name: name.to_owned(),
        }),
    }
}

fn open_error(name: &Path) -> impl FnOnce(Errno) -> Error {
    move |source| Error::Open {
        name: name.to_owned(),
        source,
    }
}

fn change_error(what: &'static str) -> impl FnOnce(Errno) -> Error {
    move |source| Error::Change {
        what,
        name: PathBuf::from("."),
        source,
    }
}

/// A name that stays in its folder: one part, not a special one.
fn plain(name: &OsStr) -> Result<&OsStr, Error> {
    let bytes = name.as_bytes();
    let special = matches!(bytes, b"" | b"." | b"..");
    if special || bytes.iter().any(|byte| matches!(byte, b'/' | 0)) {
        return Err(Error::BadName {
            name: name.to_owned(),
        });
    }
    Ok(name)
}

fn proc_path(fd: BorrowedFd<'_>) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

/// `FS_IMMUTABLE_FL` and `FS_APPEND_FL` of linux/fs.h.
const PROTECTION: libc::c_int = 0x10 | 0x20;

/// Takes the protection off and says what it was; 0 also where there are no such marks.
fn take_marks(fd: BorrowedFd<'_>) -> Result<libc::c_int, Errno> {
    match get_marks(fd) {
        Err(Errno::ENOTTY | Errno::EOPNOTSUPP | Errno::EINVAL) => Ok(0),
        Err(source) => Err(source),
        Ok(marks) if marks & PROTECTION == 0 => Ok(0),
        Ok(marks) => set_marks(fd, marks & !PROTECTION).map(|()| marks & PROTECTION),
    }
}

fn get_marks(fd: BorrowedFd<'_>) -> Result<libc::c_int, Errno> {
    let mut marks: libc::c_int = 0;
    // SAFETY: FS_IOC_GETFLAGS writes an int, whatever its number says of a long
    // (ioctl_iflags(2)).
    let got = unsafe { libc::ioctl(fd.as_raw_fd(), libc::FS_IOC_GETFLAGS, &raw mut marks) };
    Errno::result(got).map(|_| marks)
}

fn set_marks(fd: BorrowedFd<'_>, marks: libc::c_int) -> Result<(), Errno> {
    // SAFETY: FS_IOC_SETFLAGS reads an int that lives over the call.
    let set = unsafe { libc::ioctl(fd.as_raw_fd(), libc::FS_IOC_SETFLAGS, &raw const marks) };
    Errno::result(set).map(drop)
}
