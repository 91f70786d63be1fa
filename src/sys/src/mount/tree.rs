//! A mount in hand: detached, or a copy of one that others see.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::Error;
use super::filesystem::own;

/// What a mount forbids to those who use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes {
    /// Nothing can be written.
    pub read_only: bool,
    /// Set-user-id bits and file capabilities have no effect.
    pub no_suid: bool,
    /// Device nodes can't be opened.
    pub no_dev: bool,
    /// Nothing can be executed.
    pub no_exec: bool,
    /// Symbolic links are not followed (Linux 5.10).
    pub no_symlinks: bool,
}

impl Attributes {
    /// For what a job may only read.
    pub const READ_ONLY: Self = Self {
        read_only: true,
        no_suid: true,
        no_dev: true,
        no_exec: false,
        no_symlinks: false,
    };

    /// For what a job may write and execute.
    pub const WRITABLE: Self = Self {
        read_only: false,
        ..Self::READ_ONLY
    };

    /// For what a job may write but not execute.
    pub const WRITABLE_NO_EXEC: Self = Self {
        no_exec: true,
        ..Self::WRITABLE
    };

    pub(super) fn bits(self) -> u64 {
        self.table()
            .iter()
            .filter(|(set, ..)| *set)
            .fold(0, |bits, (_, bit, _)| bits | bit)
    }

    fn names(self) -> String {
        let table = self.table();
        let names: Vec<&str> = table
            .iter()
            .filter(|(set, ..)| *set)
            .map(|(.., name)| *name)
            .collect();
        names.join(",")
    }

    fn table(self) -> [(bool, u64, &'static str); 5] {
        [
            (self.read_only, libc::MOUNT_ATTR_RDONLY, "ro"),
            (self.no_suid, libc::MOUNT_ATTR_NOSUID, "nosuid"),
            (self.no_dev, libc::MOUNT_ATTR_NODEV, "nodev"),
            (self.no_exec, libc::MOUNT_ATTR_NOEXEC, "noexec"),
            (
                self.no_symlinks,
                libc::MOUNT_ATTR_NOSYMFOLLOW,
                "nosymfollow",
            ),
        ]
    }
}

/// How far an operation reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// This one mount.
    One,
    /// It and all mounts below it.
    Recursive,
}

impl Reach {
    fn flag(self) -> i32 {
        match self {
            Self::One => 0,
            Self::Recursive => libc::AT_RECURSIVE,
        }
    }
}

/// A mount that can be attached. Dropped without being attached it is gone; kept after that, it
/// is in use like by an open file, and [`super::unmount`] says so.
#[derive(Debug)]
pub struct Tree {
    fd: OwnedFd,
}

impl Tree {
    pub(super) fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// A copy of what is seen at `path`, a folder or a file, to be attached elsewhere. A symbolic
    /// link in the last place is not followed.
    ///
    /// # Errors
    ///
    /// [`Error::Clone`].
    pub fn copy_of(path: &Path, reach: Reach) -> Result<Self, Error> {
        let failed = |source| Error::Clone {
            path: path.to_owned(),
            source,
        };
        let name = c_path(path).map_err(failed)?;
        open_tree(
            libc::AT_FDCWD,
            &name,
            libc::AT_SYMLINK_NOFOLLOW | reach.flag(),
        )
        .map_err(failed)
    }

    /// A copy of what an open descriptor (`O_PATH` will do) stands for.
    ///
    /// # Errors
    ///
    /// [`Error::Clone`].
    pub fn copy_of_fd(fd: BorrowedFd<'_>, reach: Reach) -> Result<Self, Error> {
        open_tree(fd.as_raw_fd(), c"", libc::AT_EMPTY_PATH | reach.flag()).map_err(|source| {
            Error::Clone {
                path: proc_path(fd),
                source,
            }
        })
    }

    /// Forbids what `attributes` names; what it does not name stays as it is.
    ///
    /// # Errors
    ///
    /// [`Error::Attributes`].
    pub fn set_attributes(&self, attributes: Attributes, reach: Reach) -> Result<(), Error> {
        set_on(
            self.fd.as_raw_fd(),
            c"",
            libc::AT_EMPTY_PATH | reach.flag(),
            attributes,
        )
        .map_err(|source| attributes_error(Path::new("(detached)"), attributes, source))
    }

    /// Attaches it at `path`, whose last part may not be a symbolic link.
    ///
    /// # Errors
    ///
    /// [`Error::Attach`].
    pub fn attach(&self, path: &Path) -> Result<(), Error> {
        let failed = |source| Error::Attach {
            path: path.to_owned(),
            source,
        };
        let name = c_path(path).map_err(failed)?;
        self.move_to(libc::AT_FDCWD, &name, 0).map_err(failed)
    }

    /// Attaches it onto what an open descriptor (`O_PATH` will do) stands for: no path is looked
    /// up, so nobody can change where it leads.
    ///
    /// # Errors
    ///
    /// [`Error::Attach`].
    pub fn attach_onto(&self, target: BorrowedFd<'_>) -> Result<(), Error> {
        self.move_to(target.as_raw_fd(), c"", libc::MOVE_MOUNT_T_EMPTY_PATH)
            .map_err(|source| Error::Attach {
                path: proc_path(target),
                source,
            })
    }

    fn move_to(&self, folder: RawFd, name: &CStr, flags: u32) -> Result<(), Errno> {
        let flags = flags | libc::MOVE_MOUNT_F_EMPTY_PATH;
        // SAFETY: move_mount(2) reads two C strings, both alive over the call.
        let outcome = unsafe {
            libc::syscall(
                libc::SYS_move_mount,
                self.fd.as_raw_fd(),
                c"".as_ptr(),
                folder,
                name.as_ptr(),
                flags,
            )
        };
        Errno::result(outcome).map(drop)
    }
}

impl AsFd for Tree {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Shows what is at `source` at `target` as well, restricted by `attributes` before anyone can
/// see it there. With [`Reach::Recursive`] the mounts below `source` come along, as restricted.
///
/// # Errors
///
/// [`Error::Clone`], [`Error::Attributes`] and [`Error::Attach`].
pub fn bind(
    source: &Path,
    target: &Path,
    attributes: Attributes,
    reach: Reach,
) -> Result<(), Error> {
    let tree = Tree::copy_of(source, reach)?;
    tree.set_attributes(attributes, reach)?;
    tree.attach(target)
}

/// Restricts a mount that is attached already.
///
/// # Errors
///
/// [`Error::Attributes`]; `EINVAL` when `path` is no mount point.
pub fn set_attributes(path: &Path, attributes: Attributes, reach: Reach) -> Result<(), Error> {
    let failed = |source| attributes_error(path, attributes, source);
    let name = c_path(path).map_err(failed)?;
    set_on(
        libc::AT_FDCWD,
        &name,
        libc::AT_SYMLINK_NOFOLLOW | reach.flag(),
        attributes,
    )
    .map_err(failed)
}

fn open_tree(folder: RawFd, name: &CStr, flags: i32) -> Result<Tree, Errno> {
    let flags = flags.unsigned_abs() | libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: open_tree(2) reads one C string that lives over the call.
    own(unsafe { libc::syscall(libc::SYS_open_tree, folder, name.as_ptr(), flags) })
        .map(Tree::from_fd)
}

fn set_on(folder: RawFd, name: &CStr, flags: i32, attributes: Attributes) -> Result<(), Errno> {
    let wanted = libc::mount_attr {
        attr_set: attributes.bits(),
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    let size = size_of::<libc::mount_attr>();
    // SAFETY: mount_setattr(2) reads one C string and `size` bytes of `wanted`, both alive over
    // the call.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            folder,
            name.as_ptr(),
            flags,
            &raw const wanted,
            size,
        )
    };
    Errno::result(outcome).map(drop)
}

fn attributes_error(path: &Path, attributes: Attributes, source: Errno) -> Error {
    Error::Attributes {
        path: path.to_owned(),
        wanted: attributes.names(),
        source,
    }
}

fn c_path(path: &Path) -> Result<CString, Errno> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)
}

fn proc_path(fd: BorrowedFd<'_>) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}
