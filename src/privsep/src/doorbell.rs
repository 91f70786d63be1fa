//! robotd and one attendant, over `attendant.sock` of the attempt: who rings when there is
//! something to read in the spool. robotd connects again after its own restart.

use serde::{Deserialize, Serialize};

/// What robotd says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToAttendant {
    /// First message: ring from now on. Answer: [`FromAttendant::Written`] with the state as of now.
    Subscribe,
    /// Take a picture on request.
    Screenshot,
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
    /// The bot asks for a secret; answered through the broker.
    SecretWanted {
        /// Which.
        name: String,
    },
}
