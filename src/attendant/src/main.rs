//! robotd-attendant, started by robotd-session with their conversation as descriptor 3.

use std::process::ExitCode;

fn main() -> ExitCode {
    attendant::run()
}
