//! The real robotd-attendant and robotjob: as users of their own, with real pipes and sockets, a
//! real X server, and the lane read by the real reader.

#![expect(clippy::unwrap_used, reason = "a test that can't go on ends there")]

mod calls;
mod display;
mod lane;
mod output;
mod rig;
mod secrets;
