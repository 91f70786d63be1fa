//! Signs of life. A program that stands still (SIGSTOP, a driver that hangs) enforces no deadline and
//! answers nobody; the service manager kills it then (`WatchdogSec=`).

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// What the service manager is told, when there is one that asks.
#[derive(Debug)]
pub struct Pulse {
    manager: Option<UnixDatagram>,
    every: Duration,
    next: Duration,
}

impl Pulse {
    /// As sd_watchdog_enabled(3) finds it. Three beats fit the time, so that one can be late.
    #[must_use]
    pub fn of_this_program() -> Self {
        let micros = std::env::var("WATCHDOG_USEC")
            .ok()
            .and_then(|text| text.parse().ok());
        let every = Duration::from_micros(micros.unwrap_or(0) / 3);
        Self {
            manager: (!every.is_zero()).then(manager).flatten(),
            every,
            next: Duration::ZERO,
        }
    }

    /// When the next beat is due (CLOCK_BOOTTIME).
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        self.manager.as_ref().map(|_| self.next)
    }

    /// Beats if it is due.
    pub fn beat(&mut self) {
        if crate::clock::boottime() >= self.next {
            self.beat_now();
        }
    }

    /// Beats: before a step that takes its time.
    pub fn beat_now(&mut self) {
        if let Some(manager) = &self.manager {
            self.next = crate::clock::boottime() + self.every;
            // One that is lost is followed by another.
            let _ = manager.send(b"WATCHDOG=1");
        }
    }
}

fn manager() -> Option<UnixDatagram> {
    let path = std::env::var_os("NOTIFY_SOCKET")?;
    let address = match path.as_encoded_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let socket = UnixDatagram::unbound().ok()?;
    socket.connect_addr(&address.ok()?).ok()?;
    // A manager that does not read must not hold the one it watches.
    socket.set_nonblocking(true).ok()?;
    Some(socket)
}
