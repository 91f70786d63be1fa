//! Questions to robotd.

use std::path::Path;
use std::time::Duration;

use agent::control::{self, Ask, Reply};
use serde_json::json;

use crate::outcome::{Good, Outcome, unexpected};
use crate::show;

/// robotd answers within a minute, whatever it was asked.
pub(crate) const PATIENCE: Option<Duration> = Some(Duration::from_secs(90));

pub(crate) fn status(socket: &Path) -> Outcome {
    match control::ask(socket, &Ask::Status, PATIENCE)? {
        Reply::Status { status } => Ok(Good {
            text: show::status(&status),
            json: json!(status),
        }),
        other => Err(unexpected(other)),
    }
}

pub(crate) fn jobs(socket: &Path) -> Outcome {
    match control::ask(socket, &Ask::Jobs, PATIENCE)? {
        Reply::Jobs { jobs } => Ok(Good {
            text: show::jobs(&jobs),
            json: json!(jobs),
        }),
        other => Err(unexpected(other)),
    }
}

pub(crate) fn drain(socket: &Path, wait: bool) -> Outcome {
    let patience = if wait { None } else { PATIENCE };
    let text = if wait {
        "Drained: no job is held."
    } else {
        "No new jobs are taken; what runs is finished. `robotctl jobs` shows what is left."
    };
    done(control::ask(socket, &Ask::Drain { wait }, patience)?, text)
}

pub(crate) fn resume(socket: &Path) -> Outcome {
    done(
        control::ask(socket, &Ask::Resume, PATIENCE)?,
        "Jobs are taken again.",
    )
}

fn done(reply: Reply, text: &str) -> Outcome {
    match reply {
        Reply::Done => Ok(Good {
            text: text.to_owned(),
            json: json!({"done": true}),
        }),
        other => Err(unexpected(other)),
    }
}
