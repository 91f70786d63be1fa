//! Claims about lanes, shown with real files.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something unexpected happens"
)]

mod concurrent;
mod damage;
mod full_disk;
mod hostile;
mod kit;
mod lane;
mod model;
mod quota;
mod torn_tail;
