//! What the bot asks for, and what it gets.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use privsep::Refusal;
use serde_json::{Value, json};
use sys::clock::boottime;
use wire::v1::{Alert, BotError, record::Body};

use super::Attendant;
use super::replies::Reply;
use super::turn::unix_nano;
use crate::artifacts::Giver;
use crate::bot::{Call, Request};
use crate::mask::mask;
use crate::output::log_lines;
use crate::shots::Shot;

/// Whether a call is answered now.
type Answer = Option<Result<Value, Refusal>>;

/// It is done.
const DONE: Answer = Some(Ok(Value::Null));

/// It is answered when what it waits for has come.
const LATER: Answer = None;

impl Attendant {
    /// All calls that are complete. While there is no room in the spool they wait, as output does.
    pub(super) fn answer_calls(&mut self) {
        while !self.is_closed_to_the_bot()
            && let Some((connection, call)) = self.bot.next_call()
        {
            self.heard = boottime();
            if let Some(answer) = self.call(connection, call) {
                self.replies.push(Reply::Bot(connection, answer));
            }
        }
    }

    fn call(&mut self, connection: u64, Call { request, file }: Call) -> Answer {
        let request = match request {
            Ok(request) => request,
            Err(refusal) => return Some(Err(refusal)),
        };
        match request {
            Request::Log { level, message } => self.log(level.severity(), message.as_bytes()),
            Request::Alert {
                level,
                title,
                message,
            } => {
                let [title, message] = [title, message].map(|text| self.masked(&text).into());
                self.record(Body::Alert(Alert {
                    level: level.level().into(),
                    title,
                    message,
                }))
            }
            Request::Error {
                kind,
                message,
                stack,
                tags,
            } => {
                let [kind, message, stack_trace] =
                    [kind, message, stack].map(|text| self.masked(&text).into());
                let tags: HashMap<String, String> = tags
                    .iter()
                    .map(|(key, value)| (self.masked_text(key), self.masked_text(value)))
                    .collect();
                self.record(Body::Error(BotError {
                    kind,
                    message,
                    stack_trace,
                    tags,
                }))
            }
            Request::Artifact { name } => self.artifact(connection, &name, file),
            Request::Credential { name } => self.credential(connection, &name),
            Request::Param { name } => self.param(&name),
            Request::Params {} => Some(Ok(json!({ "params": self.params }))),
            Request::Screenshot {} => self.screenshot(connection),
            Request::Privacy { on, seconds } => Some(self.set_privacy(on, seconds)),
        }
    }

    fn log(&mut self, severity: u32, message: &[u8]) -> Answer {
        if !self.quota.take_if_it_fits(message.len() as u64 + 1) {
            return quota_used_up();
        }
        let lines = log_lines(&self.needles, severity, message);
        self.push_all(lines.into_iter().map(Body::Log).collect());
        DONE
    }

    fn record(&mut self, body: Body) -> Answer {
        let bytes = match &body {
            Body::Alert(alert) => alert.title.len() + alert.message.len(),
            Body::Error(error) => error.kind.len() + error.message.len() + error.stack_trace.len(),
            _ => 0,
        };
        if !self.quota.take_if_it_fits(bytes as u64) {
            return quota_used_up();
        }
        self.lane.push(unix_nano(), body);
        DONE
    }

    fn artifact(&mut self, connection: u64, name: &str, file: Option<OwnedFd>) -> Answer {
        let Some(file) = file else {
            let detail = "send the file's descriptor with the call (SCM_RIGHTS)";
            return Some(Err(Refusal::new("DESCRIPTOR_MISSING", detail)));
        };
        match self
            .artifacts
            .offer(Giver::Bot(connection), self.masked(name), file)
        {
            Ok(()) => LATER,
            Err(refusal) => Some(Err(refusal)),
        }
    }

    fn credential(&mut self, connection: u64, name: &str) -> Answer {
        match self.secrets.ask(name, connection, boottime()) {
            Ok(first) => {
                if first {
                    self.doorbell.want(name);
                }
                LATER
            }
            Err(refusal) => Some(Err(refusal)),
        }
    }

    fn param(&self, name: &str) -> Answer {
        let unknown = || {
            Refusal::new(
                "PARAM_UNKNOWN",
                format!("the job has no parameter {name:?}"),
            )
        };
        Some(
            self.params
                .get(name)
                .map(|value| json!({ "value": value }))
                .ok_or_else(unknown),
        )
    }

    fn screenshot(&mut self, connection: u64) -> Answer {
        if self.shots.ask(Shot::Bot(connection)) {
            return LATER;
        }
        let detail = "the job has no display, or too many pictures are being taken";
        Some(Err(Refusal::new("NO_SCREENSHOT", detail)))
    }

    fn masked(&self, text: &str) -> Vec<u8> {
        mask(&self.needles, text.as_bytes()).0
    }

    fn masked_text(&self, text: &str) -> String {
        // A mask can cut a character of more than one byte in two.
        String::from_utf8_lossy(&self.masked(text)).into_owned()
    }
}

fn quota_used_up() -> Answer {
    let detail = "the job's output has reached its limit; what comes beyond it is not kept";
    Some(Err(Refusal::new("LOG_QUOTA_USED_UP", detail)))
}
