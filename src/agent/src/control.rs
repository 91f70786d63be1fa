//! robotctl and robotd: one line of JSON each way over `control.sock`.
//!
//! Root may ask for everything; members of the group robotd may look.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use order::AgentId;
use serde::{Deserialize, Serialize};

use crate::token::Token;

/// Longest line; a token and a list of a thousand jobs fit.
pub const MAX_LINE: usize = 256 * 1024;

/// What robotctl asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ask {
    /// How robotd is.
    Status,
    /// What it holds.
    Jobs,
    /// Take no more offers. Root.
    Drain {
        /// Answer when nothing is held any more.
        wait: bool,
    },
    /// Take offers again. Root.
    Resume,
    /// Use a token. Root.
    Enroll {
        /// As it was made.
        token: Box<Token>,
    },
}

impl Ask {
    /// Whether it only looks.
    #[must_use]
    pub fn only_looks(&self) -> bool {
        matches!(self, Self::Status | Self::Jobs)
    }
}

/// What robotd answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Reply {
    /// To [`Ask::Status`].
    Status {
        /// All of it.
        status: Box<Status>,
    },
    /// To [`Ask::Jobs`].
    Jobs {
        /// By age.
        jobs: Vec<JobLine>,
    },
    /// Done.
    Done,
    /// To [`Ask::Enroll`].
    Enrolled {
        /// Who this host is now.
        agent_id: AgentId,
    },
    /// No.
    Refused {
        /// Stable, UPPER_SNAKE_CASE.
        code: String,
        /// What failed, on what, what to do.
        detail: String,
    },
}

impl Reply {
    /// A refusal.
    #[must_use]
    pub fn refused(code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Refused {
            code: code.into(),
            detail: detail.into(),
        }
    }
}

/// How robotd is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Status {
    /// Of robotd.
    pub version: String,
    /// `ready`, `busy`, `draining`, `unhealthy`.
    pub state: String,
    /// Why no offers are taken: UPPER_SNAKE_CASE.
    pub blockers: Vec<String>,
    /// Jobs that may run at once.
    pub slots: u32,
    /// How many more may start now.
    pub free_slots: u32,
    /// Attempts that are not forgotten yet.
    pub jobs: u32,
    /// The link.
    pub link: LinkStatus,
    /// Output that waits.
    pub spool_used_bytes: u64,
    /// As much may wait.
    pub spool_limit_bytes: u64,
    /// What the host can do, by name; empty while it is not known.
    #[serde(default)]
    pub abilities: Vec<String>,
    /// What the policy requires and the host can't do: every offer is refused (HOST_NOT_ABLE).
    #[serde(default)]
    pub missing_abilities: Vec<String>,
}

/// Where the link stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LinkStatus {
    /// `not-enrolled`, `connecting`, `online`, `refused`.
    pub state: LinkState,
    /// Why it is not online; empty when it is.
    pub reason: String,
    /// Enrolled as.
    pub agent_id: Option<String>,
    /// Where the orchestrator is.
    pub url: Option<String>,
    /// End of the certificate, milliseconds since 1970.
    pub certificate_until_unix_ms: Option<u64>,
    /// Session, 0 without.
    pub session_epoch: u64,
}

/// In one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkState {
    /// `robotctl enroll` has not been run.
    #[default]
    NotEnrolled,
    /// Trying.
    Connecting,
    /// In a session.
    Online,
    /// The certificate or the identity is refused.
    Refused,
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct JobLine {
    /// `JOB.N`.
    pub attempt: String,
    /// Its last step.
    pub phase: String,
    /// Its license.
    pub lease: Option<String>,
    /// The license's fence.
    pub fence: Option<u64>,
}

/// Why robotd can't be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("can't reach robotd at {}: {source}; is it running?", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The conversation broke.
    #[error("robotd gave no answer: {0}")]
    Broken(#[from] io::Error),
    /// Another version.
    #[error(
        "robotd's answer can't be read ({0}); robotctl and robotd must be of one version, restart robotd after an upgrade"
    )]
    Unreadable(#[from] serde_json::Error),
}

/// Asks and waits for the answer, `patience` long or for ever.
///
/// # Errors
///
/// See [`AskError`].
pub fn ask(socket: &Path, ask: &Ask, patience: Option<Duration>) -> Result<Reply, AskError> {
    let connect = |source| AskError::Connect {
        path: socket.to_owned(),
        source,
    };
    let mut stream = UnixStream::connect(socket).map_err(connect)?;
    stream.set_read_timeout(patience)?;
    let mut line = serde_json::to_vec(ask)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = Vec::new();
    BufReader::new(stream.take(MAX_LINE as u64)).read_until(b'\n', &mut answer)?;
    if answer.is_empty() {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(serde_json::from_slice(&answer)?)
}
