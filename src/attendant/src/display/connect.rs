//! Reaching the display's socket, which lies in a directory that the bot can write.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use sys::clock::boottime;

use super::wire::DisplayError;

/// Between two tries while the server's backlog is full.
const AGAIN: Duration = Duration::from_millis(20);

/// Connects to `X<number>` in this directory.
///
/// The name may be swapped at any moment for a link to a socket that the bot may not reach and
/// we may. So it is opened once, without following it, and what was opened is connected to.
pub(super) fn reach(
    folder: &OwnedFd,
    number: u32,
    deadline: Duration,
) -> Result<OwnedFd, DisplayError> {
    reach_name(folder, &format!("X{number}"), number, deadline)
}

/// Connects to the VNC server of this display in the same way.
pub(crate) fn reach_vnc(folder: &OwnedFd, number: u32) -> Result<OwnedFd, DisplayError> {
    let deadline = boottime() + super::PATIENCE;
    reach_name(folder, &format!("vnc{number}"), number, deadline)
}

fn reach_name(
    folder: &OwnedFd,
    name: &str,
    number: u32,
    deadline: Duration,
) -> Result<OwnedFd, DisplayError> {
    let failed = |source: io::Error| DisplayError::Connect { number, source };
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let name = openat(folder, name, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
    let facts = fstat(&name).map_err(|errno| failed(errno.into()))?;
    if FileType::from_raw_mode(facts.st_mode) != FileType::Socket {
        return Err(DisplayError::NotASocket(number));
    }
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}", name.as_raw_fd()))?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    loop {
        match connect(&socket, &address) {
            Ok(()) => return Ok(socket),
            // The backlog is full: a server that accepts nobody must not hold us.
            Err(Errno::AGAIN) if boottime() < deadline => std::thread::sleep(AGAIN),
            Err(Errno::AGAIN) => return Err(DisplayError::TimedOut),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn soon() -> Duration {
        boottime() + Duration::from_millis(100)
    }

    #[test]
    fn a_link_to_another_socket_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let fd: OwnedFd = File::open(folder.path()).unwrap().into();
        let _other = UnixListener::bind(folder.path().join("other")).unwrap();
        symlink("other", folder.path().join("X0")).unwrap();
        assert!(matches!(
            reach(&fd, 0, soon()),
            Err(DisplayError::NotASocket(0))
        ));
        std::fs::rename(folder.path().join("other"), folder.path().join("X1")).unwrap();
        assert!(reach(&fd, 1, soon()).is_ok());
        assert!(matches!(
            reach(&fd, 2, soon()),
            Err(DisplayError::Connect { number: 2, .. })
        ));
    }

    #[test]
    fn a_server_that_accepts_nobody_holds_us_until_the_deadline_only() {
        let folder = tempfile::tempdir().unwrap();
        let fd: OwnedFd = File::open(folder.path()).unwrap().into();
        let _full = UnixListener::bind(folder.path().join("X0")).unwrap();
        let mut connections = Vec::new();
        let refused = loop {
            match reach(&fd, 0, soon()) {
                Ok(connection) => connections.push(connection),
                Err(error) => break error,
            }
            assert!(connections.len() < 10_000, "the backlog has no end");
        };
        assert!(matches!(refused, DisplayError::TimedOut));
    }
}
