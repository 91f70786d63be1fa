//! The real robotd-attendant and robotjob: as users of their own, with real pipes and sockets, a
//! real X server, and the lane read by the real reader.

#![expect(clippy::unwrap_used, reason = "a test that can't go on ends there")]

mod calls;
mod display;
mod lane;
mod live;
mod masks;
mod output;
mod privacy;
mod rig;
mod secrets;
mod stills;
mod viewer;
mod x;
mod xvfb;
