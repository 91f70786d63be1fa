//! The way to the journal: journald's native protocol over its datagram socket.
//!
//! The bot can write to the journal too. What it can't write are the fields with a leading
//! underscore, which journald adds itself: `_UID=0` or robotd's uid with one of our MESSAGE_IDs
//! is ours, anything else is forged.

mod encode;

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::event::Event;

/// journald's socket.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// Largest JSON form that is sent; an event beyond it is cut ([`Event::bounded`]). The whole
/// datagram then stays far below the kernel's limit and needs no descriptor passing.
pub const MAX_EVENT: usize = 8 * 1024;

/// How long a full journal may hold up the one who reports.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where an event went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Into the journal.
    Journal,
    /// To standard error, one line of JSON: no journald runs here.
    StandardError,
}

/// The journal is there and did not take the event; it went to standard error.
#[derive(Debug, thiserror::Error)]
#[error("the journal at {} did not take event {code}; it was written to standard error", path.display())]
pub struct SendError {
    /// journald's socket.
    pub path: PathBuf,
    /// Which event.
    pub code: u32,
    /// The kernel's reason.
    pub source: io::Error,
}

/// Sends events to the journal of this host.
#[derive(Clone, Debug)]
pub struct Sender {
    identifier: String,
    path: PathBuf,
}

impl Sender {
    /// A sender under this SYSLOG_IDENTIFIER, the program's name.
    #[must_use]
    pub fn new(identifier: &str) -> Self {
        Self::to_socket(identifier, Path::new(SOCKET))
    }

    /// A sender to another socket than journald's own.
    #[must_use]
    pub fn to_socket(identifier: &str, path: &Path) -> Self {
        Self {
            identifier: identifier.to_owned(),
            path: path.to_owned(),
        }
    }

    /// Whether somebody listens there.
    #[must_use]
    pub fn available(&self) -> bool {
        UnixDatagram::unbound()
            .and_then(|socket| socket.connect(&self.path))
            .is_ok()
    }

    /// Sends one event. It is never lost silently: what the journal does not take goes to
    /// standard error as one line of JSON.
    ///
    /// # Errors
    ///
    /// [`SendError`] when journald is there and refused, or was full for a second.
    pub fn send(&self, event: &Event) -> Result<Sent, SendError> {
        let event = event.bounded(MAX_EVENT);
        match self.datagram(&encode::fields(&self.identifier, &event)) {
            Ok(()) => Ok(Sent::Journal),
            Err(source) => {
                write_line(&event);
                if matches!(
                    source.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) {
                    return Ok(Sent::StandardError);
                }
                Err(SendError {
                    path: self.path.clone(),
                    code: event.code,
                    source,
                })
            }
        }
    }

    /// A socket of its own for every event: they are rare, and journald may have been restarted.
    fn datagram(&self, bytes: &[u8]) -> io::Result<()> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.send_to(bytes, &self.path).map(drop)
    }
}

fn write_line(event: &Event) {
    let mut line = event.to_json();
    line.push('\n');
    // Nothing is left to report it to when standard error is gone as well.
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;

    fn listening() -> (tempfile::TempDir, UnixDatagram, Sender) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let socket = UnixDatagram::bind(&path).unwrap();
        let sender = Sender::to_socket("robotd-test", &path);
        (folder, socket, sender)
    }

    #[test]
    fn an_event_arrives_as_one_datagram_with_its_fields() {
        let (_folder, socket, sender) = listening();
        assert!(sender.available());
        let event = Event::new(Code::Wiped, 5)
            .of_attempt("j", "j.1")
            .with("files", 3);
        assert_eq!(sender.send(&event).unwrap(), Sent::Journal);
        let mut buffer = vec![0; 65_536];
        let length = socket.recv(&mut buffer).unwrap();
        let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
        for line in [
            "MESSAGE=the job was wiped (?): 3 files, ? bytes, nothing left".to_owned(),
            format!("MESSAGE_ID={:032x}", Code::Wiped.message_id()),
            "PRIORITY=6".to_owned(),
            "SYSLOG_IDENTIFIER=robotd-test".to_owned(),
            "EVENT_CODE=100301".to_owned(),
            "EVENT_NAME=Wiped".to_owned(),
            "JOB_ID=j".to_owned(),
            "OPERATION_KEY=j.1".to_owned(),
            format!("ROBOTD_EVENT={}", event.to_json()),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }

    #[test]
    fn an_oversize_event_arrives_cut() {
        let (_folder, socket, sender) = listening();
        let event = Event::new(Code::OrderRefused, 5).with("reason", "x".repeat(1 << 20));
        assert_eq!(sender.send(&event).unwrap(), Sent::Journal);
        let mut buffer = vec![0; 65_536];
        assert!(socket.recv(&mut buffer).unwrap() < 3 * MAX_EVENT);
    }

    #[test]
    fn without_a_journal_the_event_goes_to_standard_error() {
        let folder = tempfile::tempdir().unwrap();
        let sender = Sender::to_socket("robotd-test", &folder.path().join("absent"));
        assert!(!sender.available());
        assert_eq!(
            sender.send(&Event::new(Code::Wiped, 5)).unwrap(),
            Sent::StandardError
        );
    }

    #[test]
    fn a_journal_that_is_there_and_takes_nothing_is_an_error() {
        let (_folder, _never_read, sender) = listening();
        let event = Event::new(Code::Wiped, 5);
        let refused = (0..100_000)
            .find_map(|_| sender.send(&event).err())
            .unwrap();
        assert_eq!(
            (refused.code, refused.source.kind()),
            (100_301, io::ErrorKind::WouldBlock)
        );
    }

    #[test]
    fn nobody_listens_on_the_socket_of_a_dead_journal() {
        let (_folder, socket, sender) = listening();
        drop(socket);
        assert!(!sender.available());
        assert_eq!(
            sender.send(&Event::new(Code::Wiped, 5)).unwrap(),
            Sent::StandardError
        );
    }
}
