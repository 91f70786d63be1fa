//! robotctl: what an administrator does on one host.
//!
//! Everything goes through robotd's control socket, but slots, which belong to the broker, and
//! the order key of an enrolment, which root pins itself: robotd could not be trusted with either.

mod ask;
mod enroll;
mod line;
mod outcome;
mod remains;
mod show;
mod slots;
mod trust;
mod validate;

use std::process::ExitCode;

use agent::exit;
use clap::Parser as _;

use line::{Line, SlotVerb, TrustVerb, Verb};

fn main() -> ExitCode {
    let line = match Line::try_parse() {
        Ok(line) => line,
        Err(error) => return usage(&error),
    };
    let outcome = match &line.verb {
        Verb::Enroll { token, trust_dir } => enroll::enroll(&line.control, token, trust_dir),
        Verb::Status => ask::status(&line.control),
        Verb::Jobs => ask::jobs(&line.control),
        Verb::Drain { wait } => ask::drain(&line.control, *wait),
        Verb::Resume => ask::resume(&line.control),
        Verb::Validate { file } => validate::validate(file),
        Verb::Remains { admin } => remains::list(admin),
        Verb::Trust {
            admin,
            verb: TrustVerb::List,
        } => trust::list(admin),
        Verb::Trust {
            admin,
            verb: TrustVerb::Apply { file },
        } => trust::apply(admin, file),
        Verb::Slot {
            admin,
            verb: SlotVerb::List,
        } => slots::list(admin),
        Verb::Slot {
            admin,
            verb: SlotVerb::Recover { account },
        } => slots::recover(admin, account),
        Verb::Slot {
            admin,
            verb: SlotVerb::ReleaseTenant { account },
        } => slots::release_tenant(admin, account),
    };
    outcome::print(outcome, line.json)
}

/// Help and version were asked for; everything else is a mistake.
fn usage(error: &clap::Error) -> ExitCode {
    // Whoever closed our output does not want to read it.
    let _ = error.print();
    ExitCode::from(if error.use_stderr() {
        exit::USAGE
    } else {
        exit::OK
    })
}
