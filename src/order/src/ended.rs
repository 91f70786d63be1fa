//! Who or what ended an attempt, and what it had used by then.

use serde::{Deserialize, Serialize};

/// Who or what ended an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ender {
    /// The bot itself: it exited, or died of its own fault.
    Bot,
    /// A limit of its order.
    Limit,
    /// Somebody who told the job to stop.
    Operator,
    /// The end of its license lease.
    Lease,
    /// This host: it stops, or something of ours or of it failed.
    Host,
    /// The kernel, for want of memory on the whole host.
    Kernel,
}

impl Ender {
    /// As it stands in results.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bot => "bot",
            Self::Limit => "limit",
            Self::Operator => "operator",
            Self::Lease => "lease",
            Self::Host => "host",
            Self::Kernel => "kernel",
        }
    }
}

/// Who ended an attempt, by which limit, and how that is said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct EndedBy {
    /// Who.
    pub who: Ender,
    /// The limit as the order names it, when it was one.
    pub limit: Option<String>,
    /// One sentence.
    pub detail: String,
}

/// Codes of ends that a limit brought about, each with the limit's name in the order.
const BY_LIMIT: [(&str, &str); 6] = [
    ("SESSION_LIMIT", "session-ms"),
    ("RUN_LIMIT", "run-ms"),
    ("IDLE_LIMIT", "idle-ms"),
    ("HARD_END", "hard-end-ms"),
    ("LIMIT_MEMORY", "memory-bytes"),
    ("LIMIT_FILE_SIZE", "volume-bytes"),
];

impl EndedBy {
    /// By the stable code of an end and its sentence. An empty code is the bot's own end.
    #[must_use]
    pub fn of(code: &str, detail: &str, exit_code: Option<i32>, signal: Option<i32>) -> Self {
        let limit = BY_LIMIT.iter().find(|(own, _)| *own == code);
        let who = match code {
            _ if limit.is_some() => Ender::Limit,
            "" => Ender::Bot,
            "STOPPED" => Ender::Operator,
            "LEASE_ENDED" => Ender::Lease,
            "HOST_MEMORY" => Ender::Kernel,
            _ => Ender::Host,
        };
        let own = || match (exit_code, signal) {
            (Some(code), _) => format!("the bot exited with {code}"),
            (None, Some(signal)) => format!("the bot died of signal {signal}"),
            (None, None) => "the bot ended".to_owned(),
        };
        Self {
            who,
            limit: limit.map(|(_, name)| (*name).to_owned()),
            detail: match detail {
                "" => own(),
                said => said.to_owned(),
            },
        }
    }
}

/// What all processes of a job used together, as far as its host can tell. What it can't is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Usage {
    /// Processor time, milliseconds.
    pub cpu_ms: Option<u64>,
    /// For how long the quota held it back, milliseconds.
    pub cpu_held_back_ms: Option<u64>,
    /// Most memory at once, bytes.
    pub memory_peak_bytes: Option<u64>,
    /// Processes that the kernel killed for want of memory.
    pub memory_kills: Option<u64>,
    /// Most processes and threads at once.
    pub processes_peak: Option<u64>,
    /// New processes and threads that it asked for and did not get.
    pub processes_refused: Option<u64>,
    /// Bytes read from disks.
    pub io_read_bytes: Option<u64>,
    /// Bytes written to disks.
    pub io_written_bytes: Option<u64>,
}

/// A limit that was not in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Unenforced {
    /// Its name in the order.
    pub limit: String,
    /// Why.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::LIMITS;

    #[test]
    fn every_end_has_somebody_who_brought_it_about() {
        let who = |code| EndedBy::of(code, "", None, Some(9)).who;
        assert_eq!(who(""), Ender::Bot);
        assert_eq!(who("LIMIT_MEMORY"), Ender::Limit);
        assert_eq!(who("STOPPED"), Ender::Operator);
        assert_eq!(who("LEASE_ENDED"), Ender::Lease);
        assert_eq!(who("HOST_MEMORY"), Ender::Kernel);
        for code in ["HOST_STOPPING", "SESSION_LOST", "SOMETHING_NEW"] {
            assert_eq!(who(code), Ender::Host, "{code}");
        }
    }

    #[test]
    fn a_limit_is_named_as_in_the_order() {
        for (code, name) in BY_LIMIT {
            let named = EndedBy::of(code, "", None, None).limit;
            assert_eq!(named.as_deref(), Some(name));
            assert!(
                name == "hard-end-ms" || LIMITS.iter().any(|limit| limit.name == name),
                "{name}"
            );
        }
    }

    #[test]
    fn a_bot_s_own_end_is_said_with_its_code_or_signal() {
        let said = |code, signal| EndedBy::of("", "", code, signal).detail;
        assert_eq!(said(Some(3), None), "the bot exited with 3");
        assert_eq!(said(None, Some(11)), "the bot died of signal 11");
    }
}
