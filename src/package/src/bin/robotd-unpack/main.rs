//! `robotd-unpack`: opens one package in a throw-away process without privileges.
//!
//! The root broker starts it under the account `robotd-unpack` with the archive on descriptor 0,
//! an empty directory on 3, and reads one line of JSON (`package::Report`) from 1. It believes
//! nothing of the result but checks the tree itself.

mod app;
mod arguments;
mod confine;

use std::process::ExitCode;

fn main() -> ExitCode {
    app::run()
}
