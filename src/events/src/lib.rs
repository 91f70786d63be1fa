//! Security events: what can happen, under which stable number, and how the journal learns of it.
//!
//! | module | holds |
//! |---|---|
//! | `code` | the table: number, name, severity, MESSAGE_ID, text, what to do |
//! | `event` | one event with its fields, and its JSON |
//! | `bound` | how an event is cut to a size, honestly |
//! | `journal` | a sender of journald's native protocol that reports its errors |
//! | `catalog` | the texts for `journalctl -x`, made from the same table |
//!
//! Numbers and MESSAGE_IDs are never changed and never used again for something else.
//! No clock in here: the time of an event comes from the one who saw it.

mod bound;
mod catalog;
mod code;
mod event;
pub mod journal;

pub use catalog::catalog;
pub use code::{Code, Severity};
pub use event::{Entity, Event, VERSION};
