//! Opening and making single names beneath a directory descriptor.
//!
//! Nothing here takes a path of more than one component and nothing follows a link, so no step
//! can leave the tree, whatever happens to it meanwhile.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::Result;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};

/// What a directory entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Link,
    Special,
}

impl Kind {
    pub(crate) fn of(stat: &FileStat) -> Self {
        match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFREG => Self::File,
            SFlag::S_IFDIR => Self::Directory,
            SFlag::S_IFLNK => Self::Link,
            _ => Self::Special,
        }
    }
}

/// Looks at a name without opening it: opening a device can have effects of its own.
pub(crate) fn kind(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Kind> {
    Ok(Kind::of(&fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)?))
}

pub(crate) fn open_directory(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
    open(
        dir,
        name,
        OFlag::O_RDONLY | OFlag::O_DIRECTORY,
        Mode::empty(),
    )
}

/// Opens a regular file for reading; `O_NONBLOCK` so that a pipe put there meanwhile can't block.
pub(crate) fn open_file(dir: BorrowedFd<'_>, name: &[u8]) -> Result<(File, FileStat)> {
    let fd = open(
        dir,
        name,
        OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY,
        Mode::empty(),
    )?;
    let stat = fstat(&fd)?;
    match Kind::of(&stat) {
        Kind::File => Ok((File::from(fd), stat)),
        _ => Err(Errno::EINVAL),
    }
}

fn open(dir: BorrowedFd<'_>, name: &[u8], flags: OFlag, mode: Mode) -> Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
        .mode(mode)
        .resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::RESOLVE_NO_MAGICLINKS
                | ResolveFlag::RESOLVE_NO_XDEV,
        );
    loop {
        // EAGAIN: the kernel could not prove "beneath" against a rename elsewhere at that moment.
        match openat2(dir, name, how) {
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            outcome => return outcome,
        }
    }
}

/// Gives every name in the directory, in the order of the file system, until `each` breaks off.
pub(crate) fn each_name<E>(
    dir: BorrowedFd<'_>,
    mut each: impl FnMut(&[u8]) -> std::result::Result<(), E>,
) -> Result<std::result::Result<(), E>> {
    // A new open file: the position of `dir` itself stays where its owner left it.
    let mut listing = Dir::from_fd(open_directory(dir, b".")?)?;
    for entry in listing.iter() {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if let Err(stop) = each(name.to_bytes()) {
            return Ok(Err(stop));
        }
    }
    Ok(Ok(()))
}

/// Makes a file that did not exist. Nobody else can open it until its mode is set at the end.
#[cfg(feature = "archive")]
pub(crate) fn create_file(dir: BorrowedFd<'_>, name: &[u8]) -> Result<File> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
    open(dir, name, flags, Mode::S_IRUSR | Mode::S_IWUSR).map(File::from)
}

/// Makes a directory that did not exist, of mode 0755 whatever the umask, and opens it.
#[cfg(feature = "archive")]
pub(crate) fn create_directory(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
    nix::sys::stat::mkdirat(dir, name, Mode::S_IRWXU)?;
    let made = open_directory(dir, name)?;
    set_mode(&made, 0o755)?;
    Ok(made)
}

pub(crate) fn set_mode(fd: impl AsFd, mode: u32) -> Result<()> {
    nix::sys::stat::fchmod(fd, Mode::from_bits_truncate(mode))
}
