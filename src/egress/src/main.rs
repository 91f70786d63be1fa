//! robotd-egress, started by robotd-session with their conversation as descriptor 3.

use std::process::ExitCode;

fn main() -> ExitCode {
    egress::run()
}
