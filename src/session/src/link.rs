//! The session's connection to the broker, which may be restarted under it.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use order::{AttemptRef, PhaseAt};
use privsep::Refusal;
use privsep::session::{FromSession, ToSession};
use sys::fdpass::Seqpacket;

use crate::inner::{Heard, hear, say};

/// How long to wait before the broker is looked for again: it has no way to call us.
const RETRY: Duration = Duration::from_millis(500);

/// The connection, when there is one.
pub(crate) struct Link {
    path: PathBuf,
    attempt: AttemptRef,
    socket: Option<Seqpacket>,
    retry_at: Duration,
}

impl Link {
    /// Connects for the first time and says which attempt this is.
    pub(crate) fn open(path: &Path, attempt: AttemptRef) -> Result<Self, Refusal> {
        let socket = Seqpacket::connect(path)
            .map_err(|error| crate::refusal("BROKER_UNREACHABLE", &error))?;
        say(
            &socket,
            &FromSession::Hello {
                attempt,
                timeline: None,
            },
            &[],
        )?;
        Ok(Self {
            path: path.to_owned(),
            attempt,
            socket: Some(socket),
            retry_at: Duration::ZERO,
        })
    }

    /// The socket to wait on.
    pub(crate) fn socket(&self) -> Option<&Seqpacket> {
        self.socket.as_ref()
    }

    /// When to try again, while it is not connected.
    pub(crate) fn retry_at(&self) -> Option<Duration> {
        self.socket.is_none().then_some(self.retry_at)
    }

    /// Tells the broker. What does not reach it is told again after [`Link::reconnect`].
    pub(crate) fn tell(&mut self, message: &FromSession) {
        let sent = self.socket.as_ref().map(|socket| say(socket, message, &[]));
        if matches!(sent, Some(Err(_))) {
            self.lose();
        }
    }

    /// Reads one message if there is one.
    pub(crate) fn hear(&mut self) -> Option<(ToSession, Vec<OwnedFd>)> {
        match hear(self.socket.as_ref()?) {
            Heard::Message(message, fds) => Some((message, fds)),
            Heard::Nothing => None,
            Heard::Gone => {
                self.lose();
                None
            }
        }
    }

    /// Connects again when it is time. `true` when it just did: the broker then knows the
    /// timeline, and pending requests are to be repeated.
    pub(crate) fn reconnect(&mut self, timeline: &[PhaseAt]) -> bool {
        if self.retry_at().is_none_or(|at| sys::clock::boottime() < at) {
            return false;
        }
        match Seqpacket::connect(&self.path) {
            Ok(socket) => {
                self.socket = Some(socket);
                let timeline = Some(timeline.to_vec());
                self.tell(&FromSession::Hello {
                    attempt: self.attempt,
                    timeline,
                });
                self.socket.is_some()
            }
            Err(_) => {
                self.lose();
                false
            }
        }
    }

    fn lose(&mut self) {
        self.socket = None;
        self.retry_at = sys::clock::boottime() + RETRY;
    }
}
