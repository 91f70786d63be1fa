//! Live views of running jobs, in memory only.
//!
//! ```text
//!  agent ── StreamScreen ──► check ──► screen (the newest state, one per watched attempt) ──► seat ──► person
//!           ◄─ taken, or taken and a whole picture is wanted          a slow one skips to the newest
//! ```
//!
//! Nothing is decoded here: a screen knows for each tile in which picture of the agent it lies.
//! Who may look on, and which agent is asked for what, is the core's business.

mod change;
mod check;
mod picture;
mod screen;
mod seat;

pub(crate) use change::{Change, masked};
pub(crate) use check::{MAX_CHUNK, check, check_encoded, most_bytes, too_large};
pub(crate) use screen::{Screen, Standing, Taken};
pub(crate) use seat::{Seat, Watcher};

#[cfg(test)]
pub(crate) use picture::tests::outside;

/// Edge of a tile, in pixels.
pub(crate) const TILE: u32 = 64;
