//! robotjob: what a bot's shell script, or its author, uses instead of the API's JSON.
//!
//! It runs inside the sandbox as the bot and knows nothing that the bot does not know.

mod arguments;
mod commands;
mod connection;
mod failure;

use std::process::ExitCode;

use arguments::{Command, HELP};
use failure::Failure;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("robotjob: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run() -> Result<(), Failure> {
    match arguments::parse(std::env::args_os().skip(1).collect())? {
        Command::Help => commands::print(HELP.as_bytes()),
        command => commands::execute(command),
    }
}
