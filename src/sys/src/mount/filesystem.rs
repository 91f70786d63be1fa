//! A file system that is being configured: fsopen(2), fsconfig(2), fsmount(2).

use std::ffi::{CString, c_char, c_int, c_long};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

use super::{Attributes, Error, Tree};

// linux/mount.h; libc has the system calls' numbers only.
const FSOPEN_CLOEXEC: c_int = 1;
const FSMOUNT_CLOEXEC: c_int = 1;
const FSCONFIG_SET_FLAG: c_int = 0;
const FSCONFIG_SET_STRING: c_int = 1;
const FSCONFIG_CMD_CREATE: c_int = 6;

/// A file system on its way to becoming a mount. Options are given one by one, so that a refusal
/// names its option, and one that an old kernel does not know can be left out.
#[derive(Debug)]
pub struct Filesystem {
    kind: String,
    fd: OwnedFd,
}

impl Filesystem {
    /// Begins with a kind of file system, such as `tmpfs`.
    ///
    /// # Errors
    ///
    /// [`Error::Prepare`].
    pub fn open(kind: &str) -> Result<Self, Error> {
        let failed = |source| Error::Prepare {
            kind: kind.to_owned(),
            source,
        };
        let name = c_string(kind).map_err(failed)?;
        // SAFETY: fsopen(2) reads a C string that lives over the call.
        let fd = unsafe { libc::syscall(libc::SYS_fsopen, name.as_ptr(), FSOPEN_CLOEXEC) };
        let fd = own(fd).map_err(failed)?;
        Ok(Self {
            kind: kind.to_owned(),
            fd,
        })
    }

    /// Sets an option with a value.
    ///
    /// # Errors
    ///
    /// [`Error::Option`].
    pub fn set(self, key: &str, value: &str) -> Result<Self, Error> {
        self.configure(FSCONFIG_SET_STRING, key, Some(value))
            .map_err(|source| self.option_error(key, value, source))?;
        Ok(self)
    }

    /// Sets an option without a value, and says whether this kernel knows it.
    ///
    /// # Errors
    ///
    /// [`Error::Option`] for every reason but its being unknown.
    pub fn try_flag(&self, key: &str) -> Result<bool, Error> {
        match self.configure(FSCONFIG_SET_FLAG, key, None) {
            Ok(()) => Ok(true),
            Err(Errno::EINVAL) => Ok(false),
            Err(source) => Err(self.option_error(key, "", source)),
        }
    }

    /// Mounts it, attached to nowhere yet.
    ///
    /// # Errors
    ///
    /// [`Error::Create`].
    pub fn mount(self, attributes: Attributes) -> Result<Tree, Error> {
        let failed = |source| Error::Create {
            kind: self.kind.clone(),
            source,
        };
        self.command(FSCONFIG_CMD_CREATE, std::ptr::null(), std::ptr::null())
            .map_err(failed)?;
        // SAFETY: fsmount(2) takes numbers only.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_fsmount,
                self.fd.as_raw_fd(),
                FSMOUNT_CLOEXEC,
                attributes.bits(),
            )
        };
        own(fd).map(Tree::from_fd).map_err(failed)
    }

    fn configure(&self, command: c_int, key: &str, value: Option<&str>) -> Result<(), Errno> {
        let key = c_string(key)?;
        let value = value.map(c_string).transpose()?;
        let value = value
            .as_ref()
            .map_or(std::ptr::null(), |value| value.as_ptr());
        self.command(command, key.as_ptr(), value)
    }

    /// `key` and `value` are null or C strings that live over the call.
    fn command(
        &self,
        command: c_int,
        key: *const c_char,
        value: *const c_char,
    ) -> Result<(), Errno> {
        // SAFETY: fsconfig(2) reads key and value as C strings where the command uses them; the
        // callers pass null only for commands that do not.
        let outcome = unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.fd.as_raw_fd(),
                command,
                key,
                value,
                0,
            )
        };
        Errno::result(outcome).map(drop)
    }

    fn option_error(&self, key: &str, value: &str, source: Errno) -> Error {
        Error::Option {
            kind: self.kind.clone(),
            key: key.to_owned(),
            value: value.to_owned(),
            source,
        }
    }
}

/// Owns the descriptor that a system call returned.
pub(super) fn own(fd: c_long) -> Result<OwnedFd, Errno> {
    let fd = Errno::result(fd)?;
    // SAFETY: the callers pass what fsopen(2), fsmount(2) or open_tree(2) returned: on success a
    // new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as c_int) })
}

fn c_string(text: &str) -> Result<CString, Errno> {
    CString::new(text).map_err(|_| Errno::EINVAL)
}
