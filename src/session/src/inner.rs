//! What monitor, leader and init say to each other, over pairs that they inherit.

use order::SandboxSummary;
use privsep::Refusal;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::os::fd::{BorrowedFd, OwnedFd};
use sys::fdpass::Seqpacket;

/// The leader to the monitor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FromLeader {
    /// The session is open. The pidfd of init comes along.
    Opened {
        /// logind's id; empty without logind.
        session_id: String,
        /// pid of init on the host.
        init: i32,
    },
    /// It could not be opened; whatever was opened is closed again.
    Refused(Refusal),
    /// init ended and the session is closed; the leader exits now.
    Closed {
        /// What PAM said while closing, empty when nothing was wrong.
        problem: String,
    },
}

/// init to the monitor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FromInit {
    /// The job's root stands and its socket listens; the socket comes along.
    Ready(SandboxSummary),
    /// The sockets of one address family through which the job's network leads out, sent along.
    Listening,
    /// Where the kernel tells of packets that the job's network refuses, sent along.
    PacketLog,
    /// The display answers; the directory of its socket comes along, opened O_PATH.
    DisplayReady {
        /// Its number.
        number: u32,
    },
    /// The bot runs.
    Started,
    /// The bot ended.
    Exited {
        /// Its exit code.
        code: Option<i32>,
        /// Or the signal that killed it.
        signal: Option<i32>,
        /// Processes that it left.
        left: u32,
    },
    /// A step failed.
    Refused(Refusal),
}

/// The monitor to init.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ToInit {
    /// Start the display. Answer: [`FromInit::DisplayReady`].
    StartDisplay,
    /// Start the bot. Answer: [`FromInit::Started`], later [`FromInit::Exited`].
    Run,
    /// Ask the bot to stop: SIGTERM to its process group.
    Terminate,
}

/// Sends without waiting; all these conversations are a few short packets.
pub(crate) fn say<T: Serialize>(
    to: &Seqpacket,
    message: &T,
    fds: &[BorrowedFd<'_>],
) -> Result<(), Refusal> {
    let packet =
        privsep::encode(message).map_err(|error| crate::refusal("INTERNAL_MESSAGE", &error))?;
    to.try_send(&packet, fds)
        .map_err(|error| crate::refusal("INTERNAL_MESSAGE", &error))
}

/// What one read brought.
pub(crate) enum Heard<T> {
    /// A message with its descriptors.
    Message(T, Vec<OwnedFd>),
    /// Nothing now.
    Nothing,
    /// The other end is gone, or talks nonsense, which counts as gone.
    Gone,
}

/// Reads one packet if there is one.
pub(crate) fn hear<T: DeserializeOwned>(from: &Seqpacket) -> Heard<T> {
    let mut buffer = vec![0; privsep::MAX_PACKET];
    match from.try_recv(&mut buffer) {
        Ok(Some(received)) => match privsep::decode(&buffer[..received.len]) {
            Ok(message) => Heard::Message(message, received.fds),
            Err(_) => Heard::Gone,
        },
        Err(sys::fdpass::Error::WouldBlock) => Heard::Nothing,
        Ok(None) | Err(_) => Heard::Gone,
    }
}
