//! robotd, the unprivileged side of a host's agent.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Talks to the orchestrator, keeps licenses and hands jobs to robotd-broker. It runs without
/// privileges and never starts a program itself. Ask it with robotctl.
#[derive(Parser)]
#[command(name = "robotd", version)]
struct Line {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = agent::config::DEFAULT_PATH)]
    config: PathBuf,
}

fn main() -> ExitCode {
    agent::run(&Line::parse().config)
}
