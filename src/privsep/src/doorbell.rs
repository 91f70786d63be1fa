//! robotd and one attendant, over `attendant.sock` of the attempt: who rings when there is
//! something to read in the spool. robotd connects again after its own restart.

use serde::{Deserialize, Serialize};

/// Largest encoded picture of the live view: a whole one of the largest screen, of noise.
pub const MAX_SCREEN: usize = 64 << 20;

/// What robotd says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToAttendant {
    /// First message: ring from now on. Answer: [`FromAttendant::Written`] with the state as of now.
    Subscribe,
    /// Take a picture on request.
    Screenshot,
    /// Somebody looks on: send [`FromAttendant::Screen`] from now on, a whole picture first, then
    /// what changes. Said again, it asks for a whole picture anew.
    Watch {
        /// Most pictures a second, 1 to 10.
        most_per_second: u32,
    },
    /// The last [`FromAttendant::Screen`] is passed on: the next may come. Until then none does; what
    /// changes meanwhile comes together.
    Shown,
    /// Nobody looks on any more.
    Unwatch,
}

/// What an attendant says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromAttendant {
    /// The lane has records up to this one. Rung once per write while robotd reads on, coalesced
    /// while the socket is full.
    Written {
        /// 16 bytes.
        epoch: [u8; 16],
        /// Last record written.
        last_seq: u64,
        /// No record will follow.
        ended: bool,
    },
    /// The screen as of now, for who looks on: a `ScreenFrame` of the link's contract, encoded, of at most
    /// [`MAX_SCREEN`] bytes, in a sealed memfd sent along.
    Screen,
    /// The bot asks for a secret; answered through the broker.
    SecretWanted {
        /// Which.
        name: String,
    },
}
