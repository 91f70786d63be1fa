//! The harness: a host with an orchestrator, a broker and an agent of its own, made of the real
//! programs, and a look at what is left when it is gone. Needs root and the accounts that
//! `tests/run.sh` makes.

mod accounts;
mod host;
mod leftovers;
mod peers;
mod picture;
pub mod procs;
mod programs;
mod wait;

pub use accounts::Slots;
pub use host::{Host, Options, phases};
pub use leftovers::Leftovers;
pub use peers::Peers;
pub use picture::{Area, Colour, Picture};
pub use programs::{AGENT_USER, Copies, programs};
pub use wait::eventually;

/// Every harness error ends its test with a sentence.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;
