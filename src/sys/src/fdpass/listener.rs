//! The name that others connect to.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::socket::{Backlog, SockFlag, UnixAddr, accept4, bind, connect, listen};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmod, fchmodat, lstat};
use nix::unistd::unlink;

use super::{Error, Seqpacket, address_of, new_socket, own};
use crate::poll::{self, Watch};

/// Connections that may wait to be accepted; the peers are a handful of our own programs.
const BACKLOG: i32 = 64;

/// A listening socket with a name in a folder that only its owner can write.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    path: PathBuf,
}

impl Listener {
    /// Listens on `path`, whose access bits become `mode` (such as `0o660`).
    ///
    /// A socket that a dead program left there is replaced.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`], [`Error::NotASocket`], [`Error::PathTooLong`] and [`Error::Bind`].
    pub fn bind(path: &Path, mode: u32) -> Result<Self, Error> {
        let address = address_of(path)?;
        remove_stale(path, &address)?;
        let fd = new_socket(SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
        take_name(&fd, path, &address, Mode::from_bits_truncate(mode)).map_err(|source| {
            Error::Bind {
                path: path.to_owned(),
                source,
            }
        })?;
        Ok(Self {
            fd,
            path: path.to_owned(),
        })
    }

    /// Accepts one connection and waits for it.
    ///
    /// # Errors
    ///
    /// [`Error::Accept`] (`EMFILE` when the process has no descriptor left) and [`Error::Wait`].
    pub fn accept(&self) -> Result<Seqpacket, Error> {
        loop {
            if let Some(connection) = self.try_accept()? {
                return Ok(connection);
            }
            poll::wait(&mut [Watch::readable(self)], None)?;
        }
    }

    /// Accepts one connection if one waits.
    ///
    /// # Errors
    ///
    /// [`Error::Accept`].
    pub fn try_accept(&self) -> Result<Option<Seqpacket>, Error> {
        loop {
            return match accept4(self.fd.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
                Ok(fd) => Ok(Some(Seqpacket { fd: own(fd) })),
                Err(Errno::EAGAIN) => Ok(None),
                // Aborted: the peer went away while it waited. The next one may still be there.
                Err(Errno::EINTR | Errno::ECONNABORTED) => continue,
                Err(source) => Err(Error::Accept {
                    path: self.path.clone(),
                    source,
                }),
            };
        }
    }

    /// The path that it listens on. Dropping the listener leaves the name there.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn take_name(fd: &OwnedFd, path: &Path, address: &UnixAddr, mode: Mode) -> Result<(), Errno> {
    // bind(2) makes the name with the socket's own access bits less the umask: never wider than
    // `mode`, not even for the moment until the umask's part is put back.
    fchmod(fd, mode)?;
    bind(fd.as_raw_fd(), address)?;
    fchmodat(AT_FDCWD, path, mode, FchmodatFlags::FollowSymlink)?;
    listen(fd, Backlog::new(BACKLOG)?)
}

fn remove_stale(path: &Path, address: &UnixAddr) -> Result<(), Error> {
    let facts = match lstat(path) {
        Err(Errno::ENOENT) => return Ok(()),
        Err(source) => {
            return Err(Error::Bind {
                path: path.to_owned(),
                source,
            });
        }
        Ok(facts) => facts,
    };
    if facts.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFSOCK.bits() {
        return Err(Error::NotASocket {
            path: path.to_owned(),
        });
    }
    let probe = new_socket(SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
    match connect(probe.as_raw_fd(), address) {
        Err(Errno::ECONNREFUSED) => {}
        // EAGAIN: its backlog is full. EPROTOTYPE: a live socket of another type.
        Ok(()) | Err(Errno::EAGAIN | Errno::EPROTOTYPE) => {
            return Err(Error::InUse {
                path: path.to_owned(),
            });
        }
        Err(source) => {
            return Err(Error::Bind {
                path: path.to_owned(),
                source,
            });
        }
    }
    unlink(path).map_err(|source| Error::Bind {
        path: path.to_owned(),
        source,
    })
}
