//! The contract between the processes of one host: plain types and a codec, no I/O.
//!
//! Six conversations, each over a SOCK_SEQPACKET socket, one message per packet:
//!
//! | module | between | socket |
//! |---|---|---|
//! | [`broker`] | robotd (asks) and robotd-broker | `broker.sock` |
//! | [`session`] | robotd-session (asks) and robotd-broker | `session.sock` |
//! | [`attendant`] | robotd-session and its attendant | an inherited pair |
//! | [`egress`] | robotd-session and the egress of its job | an inherited pair |
//! | [`doorbell`] | robotd (asks) and an attendant | `attendant.sock` of the attempt |
//! | [`admin`] | robotctl (asks) and robotd-broker | `admin.sock` |
//!
//! [`abilities`] are what a host can do, as three of them say it.
//!
//! What crosses towards root is ids, digests, numbers, names that the policy
//! knows and file descriptors; never a path. Larger documents travel in sealed memfds.

pub mod abilities;
pub mod admin;
pub mod attendant;
pub mod broker;
mod codec;
pub mod doorbell;
pub mod egress;
mod refusal;
pub mod session;
pub mod volume;

pub use codec::{DecodeError, MAX_PACKET, decode, decode_document, encode, encode_document};
pub use refusal::{Refusal, explain};

/// Version of all conversations. Both ends come from one package; a mismatch means an upgrade
/// in which one of them was not restarted.
pub const VERSION: u32 = 1;
