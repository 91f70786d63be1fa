//! Licenses: how long a lease holds for sure, and when to ask for more.
//!
//! ```text
//!  asked ──grant──► held ──0.5 TTL──► due ──0.875 TTL──► urgent ──end − margin──► over
//!    │                ▲                │                    │
//!    └─denied         └────────────────┴── grant that names a request of ours
//! ```
//!
//! A lease counts from the moment that its request was made, on CLOCK_BOOTTIME: counting from
//! receipt gives two holders even with perfect clocks. A grant that names no open request of ours
//! extends nothing: an old one can't answer a new wait.

mod lease;
mod terms;

#[cfg(test)]
mod properties;

pub(crate) use lease::{Extension, Lease, Pressure};
pub(crate) use terms::SavedLease;
