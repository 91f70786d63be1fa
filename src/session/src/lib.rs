//! robotd-session: one job on this host, from its scratch volume to the proof that nothing of it
//! is left. Root, single-threaded, one process per job; started by the broker.
//!
//! ```text
//! monitor (stays in its unit)  ─► attendant      a user of its own: output, screen, the bot's calls
//!    │ volume, pipes, kill, wipe, report
//!    └─► leader (the PAM and logind session) ─► init (pid 1 of the job) ─► Xvfb, openbox, bot
//! ```
//!
//! In reading order:
//!
//! * `run`, `open` and `close`: the story of a job, as one straight function each; `report`: its end
//! * `monitor`: the one place that waits; what to do about whoever speaks or dies meanwhile
//! * `volume`, `attendant`, `egress`, `given`, `leader`, `init`, `sandbox`, `collect`: what a job is made of;
//!   `account` and `opened`: whether it may have a session, and whether it got one
//! * `limits`: what its processes may use together, and what they used
//! * `probe`: what the host can do, for the broker
//! * `sweep`, `teardown`: what is left outside the volume, and the end of a job whose monitor died

mod account;
mod attendant;
mod collect;
mod egress;
mod given;
mod inner;
mod link;
mod volume;

mod init;
mod leader;
mod opened;
mod sandbox;

mod group;
mod limits;
mod log_ins;
mod probe;
mod sweep;
mod teardown;

mod monitor;

mod close;
mod open;
mod report;
mod run;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use order::AttemptRef;
use privsep::Refusal;
use privsep::explain as text;

const USAGE: &str = "\
robotd-session - runs one job; started by robotd-broker, as root

usage: robotd-session --attempt JOB.N [--socket PATH]
       robotd-session --teardown ACCOUNT [--socket PATH]
       robotd-session --volumes STORE
       robotd-session --probe [--socket PATH]

  --attempt JOB.N      the attempt that the broker awaits
  --teardown ACCOUNT   clean a slot whose session died
  --volumes STORE      say which kinds of scratch volume work on this host, and why others do
                       not; STORE is policy.toml's volume.store
  --probe              find out what this host can do, by trying
  --socket PATH        the broker's socket for sessions
                       (default /run/robotd-broker/session.sock)
";

const SOCKET: &str = "/run/robotd-broker/session.sock";

/// sysexits(3): the command line was wrong.
const EX_USAGE: u8 = 64;
/// sysexits(3): the broker could not be talked to.
const EX_UNAVAILABLE: u8 = 69;

enum Task {
    Attempt(AttemptRef),
    Teardown(String),
    Volumes(PathBuf),
    Probe,
}

/// Runs with these arguments.
pub fn main(args: impl Iterator<Item = String>) -> ExitCode {
    let Some((task, socket)) = parse(args) else {
        eprint!("{USAGE}");
        return ExitCode::from(EX_USAGE);
    };
    let outcome = match task {
        Task::Attempt(attempt) => run::run(attempt, &socket),
        Task::Teardown(account) => teardown::run(&account, &socket),
        Task::Volumes(store) => {
            print!("{}", volumes(&store));
            Ok(())
        }
        Task::Probe => probe::run(&socket),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => {
            eprintln!("robotd-session: {refusal}");
            ExitCode::from(EX_UNAVAILABLE)
        }
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Option<(Task, PathBuf)> {
    let (mut task, mut socket) = (None, PathBuf::from(SOCKET));
    while let Some(name) = args.next() {
        if name == "--probe" && task.is_none() {
            task = Some(Task::Probe);
            continue;
        }
        let value = args.next()?;
        match name.as_str() {
            "--attempt" if task.is_none() => task = Some(Task::Attempt(value.parse().ok()?)),
            "--teardown" if task.is_none() => task = Some(Task::Teardown(value)),
            "--volumes" if task.is_none() => task = Some(Task::Volumes(value.into())),
            "--socket" => socket = value.into(),
            _ => return None,
        }
    }
    Some((task?, socket))
}

/// One line for each kind.
fn volumes(store: &Path) -> String {
    let line = |ability: volume::Ability| match ability.works {
        Ok(()) => format!("{:9} works\n", ability.backend.name()),
        Err(why) => format!("{:9} does not work: {why}\n", ability.backend.name()),
    };
    volume::abilities(store).into_iter().map(line).collect()
}

/// A refusal under this code, for an error of a step.
fn refusal(code: &str, error: &dyn std::error::Error) -> Refusal {
    Refusal::new(code, text(error))
}
