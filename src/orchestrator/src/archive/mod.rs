//! The output of jobs, frame by frame as it came, in append-only files.
//!
//! ```text
//!  link ─► queue ─► [check · append] × many ─► fdatasync per file ─► one commit in the core ─► acks
//! ```
//!
//! One thread owns all files. Whatever waits in the queue shares one sync and one
//! commit. A frame is acknowledged only after both; a crash between them leaves bytes
//! beyond the length that the store knows, and the next start cuts them off.

mod accept;
mod decode;
mod file;
mod read;
mod thread;

pub(crate) use read::{Reader, Totals, totals};
pub(crate) use thread::{Archive, start};

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
