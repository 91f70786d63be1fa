//! robotd-attendant: everything that faces one bot. Its output, its screen, its calls and its
//! secrets come in here, and what is kept of them goes to the attempt's spool, masked.
//!
//! It has a user of its own per slot and no rights. The bot is its enemy: whatever comes from
//! it is bounded and waited for only as long as we choose. One thread does all but the talking to
//! the bot's X server, which has one to itself.
//!
//! ```text
//!   stdout, stderr ─► output (mask ─► lines ─► lane) ─┐
//!   job.sock ───────► bot ─► calls ───────────────────┼─► spool ─► doorbell ─► robotd
//!   X server ───────► display ─► shots ─► blobs ──────┘               ▲
//!                     └───────► live view ──────────────────────────┘
//!   descriptor 3 ◄──► session                          app: the loop
//! ```

mod error;
mod harden;
mod session;

mod mask;
mod output;

mod artifacts;
mod blobs;
mod kept;

mod bot;
mod doorbell;
mod secrets;

mod display;
mod privacy;
mod shots;
mod vnc;

mod app;

pub use app::run;

pub(crate) use error::explain;
