//! The administrators' socket: every command but `serve` goes through it.
//!
//! `admin.sock` in the data directory, mode 0600; besides, the peer's uid must be
//! root's or the server's own. One request per connection.

mod answer;
mod looking;
mod protocol;
mod server;

pub(crate) use protocol::{Client, Frame, Request};
pub(crate) use server::serve;
