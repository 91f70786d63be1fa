//! `robot-orchestrator`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    orchestrator::run()
}
