//! The spool: records that wait on disk until the orchestrator holds them durable.
//!
//! A *lane* is a directory with one numbering at a time (an *epoch*). Its [`Writer`] appends
//! *frames*, batches of records encoded exactly as they go on the wire, to *segment* files; a
//! [`Reader`], perhaps in another process and of another account, opens the frames, and removes
//! whole segments once they are acknowledged. This crate knows nothing of what is in a batch.
//!
//! ```text
//!   batch ── Writer ──► NUMBER-FIRST-EPOCH.seg ──► Reader ──► frame
//!              │         │ header │ frame │ ... │ end mark │      │
//!           recover      └ sealed with the lane's key ┘      acknowledge: unlink
//! ```
//!
//! What holds:
//! * A record is lost only with the power, and only when it was not synced; or by damage, and then
//!   its reader says which numbers are missing. Numbers have no holes otherwise.
//! * A failed sync ends the writer for good: the kernel reports it once and forgets the data.
//! * Nothing that lies in the directory can crash a reader, or make it loop or grow.

// Numbers.
mod epoch;
mod limits;
mod seq;

// What is on disk.
mod dir;
mod dir_error;
mod frame;
mod key;
mod name;
mod seal;
mod segment;
mod walk;

// Writing.
mod active;
mod batch;
mod recover;
mod write_error;
mod writer;

// Reading.
mod reader;
mod survey;

pub use batch::{Batch, BatchError};
pub use dir::LaneDir;
pub use dir_error::DirError;
pub use epoch::Epoch;
pub use frame::{Codec, Frame, FrameHeader};
pub use key::{KeyError, LaneKey};
pub use limits::{Limits, LimitsError, MAX_PAYLOAD_BYTES, MAX_RAW_BYTES, MAX_RECORDS};
pub use reader::{Next, ReadError, Reader, Removed};
pub use recover::{Found, RecoverError};
pub use segment::SegmentError;
pub use seq::{Seq, SeqRange};
pub use survey::{EpochOnDisk, discard, survey};
pub use walk::Corruption;
pub use write_error::WriteError;
pub use writer::{Durability, Writer};
