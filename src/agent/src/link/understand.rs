//! What a message of the orchestrator means.

use std::collections::VecDeque;

use order::AttemptRef;
use privsep::Refusal;
use wire::v1;
use wire::v1::connect_response::Body as Heard;

use super::failure::Failure;
use super::open::revocation;
use super::read::{self, Unreadable};
use crate::exchange::Command;

/// Messages of ours and the attempts that they were about, for a refusal that names one.
pub(super) type Said = VecDeque<(u64, AttemptRef)>;

/// What to do with it.
pub(super) enum Meaning {
    /// It goes to the jobs.
    Command(Command),
    /// It is heard, and that is all.
    Nothing,
    /// A command that can't be carried out.
    Refuse { command: String, code: &'static str },
    /// The session is over.
    Revoked(Failure),
}

/// Reads one message; `said` is what it may be about.
pub(super) fn understand(body: Heard, said: &Said) -> Result<Meaning, Unreadable> {
    Ok(Meaning::Command(match body {
        Heard::JobOffer(wire) => Command::Offer(read::offer(&wire)?),
        Heard::JobStart(wire) => {
            let (attempt, order) = read::start(&wire)?;
            Command::Start { attempt, order }
        }
        Heard::JobStop(wire) => {
            let (attempt, mode, reason) = read::stop(&wire)?;
            Command::Stop {
                attempt,
                mode,
                reason,
            }
        }
        Heard::LeaseReply(wire) => Command::Lease(read::lease_answer(&wire)?),
        Heard::LeaseReady(wire) => Command::LeaseReady {
            job: wire.job_id.parse().map_err(|_| Unreadable("job_id"))?,
        },
        Heard::HeartbeatReply(wire) if wire.grants.is_empty() && wire.denials.is_empty() => {
            return Ok(Meaning::Nothing);
        }
        Heard::HeartbeatReply(wire) => Command::Renewed {
            grants: wire
                .grants
                .iter()
                .filter_map(|grant| read::grant(grant).ok())
                .collect(),
            denials: wire.denials.iter().map(read::denial).collect(),
        },
        Heard::Command(wire) => return Ok(command(wire)),
        Heard::Drain(wire) => Command::Drain {
            resume: wire.resume,
            finish_within: read::length(wire.finish_within.as_ref()).ok(),
        },
        Heard::KeySet(wire) => Command::KeySet(read::key_set(&wire)?),
        Heard::SessionRevoked(wire) => return Ok(Meaning::Revoked(revocation(&wire))),
        Heard::Refusal(wire) => refusal(&wire, said),
        Heard::Welcome(_) => return Err(Unreadable("a second welcome")),
    }))
}

fn refusal(wire: &v1::Refusal, said: &Said) -> Command {
    let about = said.iter().find(|(seq, _)| *seq == wire.message_seq);
    Command::Refused {
        attempt: about.map(|(_, attempt)| *attempt),
        refusal: Refusal::new(&read::text(&wire.reason), read::text(&wire.detail)),
    }
}

/// Pictures a second that may be asked for.
const PER_SECOND: std::ops::RangeInclusive<u32> = 1..=10;

fn command(wire: v1::Command) -> Meaning {
    use v1::command::Body;
    let command = wire.command_id;
    let refuse = |command, code| Meaning::Refuse { command, code };
    match wire.body {
        Some(Body::TakeScreenshot(picture)) => match read::attempt(picture.job.as_ref()) {
            Ok(attempt) => Meaning::Command(Command::Screenshot { command, attempt }),
            Err(_) => refuse(command, "JOB_INVALID"),
        },
        Some(Body::WatchScreen(watch)) => match read::attempt(watch.job.as_ref()) {
            Ok(_) if !PER_SECOND.contains(&watch.most_per_second) => {
                refuse(command, "RATE_INVALID")
            }
            Ok(attempt) => Meaning::Command(Command::Watch {
                command,
                attempt,
                most_per_second: watch.most_per_second,
            }),
            Err(_) => refuse(command, "JOB_INVALID"),
        },
        None => refuse(command, "COMMAND_UNKNOWN"),
    }
}
