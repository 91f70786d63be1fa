//! The result of a job, as the broker signs it.

use serde::{Deserialize, Serialize};

use crate::ended::{EndedBy, Unenforced, Usage};
use crate::ids::{AgentId, AttemptRef, LeaseId, Sha256Hex};
use crate::outcome::{Outcome, Phase};
use crate::sandbox::SandboxSummary;
use crate::wipe::WipeReport;

/// What became of one attempt. Signed by the broker, so that robotd can't invent it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct JobResult {
    /// Version of this document: 1.
    pub v: u32,
    /// Which attempt.
    pub attempt: AttemptRef,
    /// On which host.
    pub agent: AgentId,
    /// SHA-256 of the order that it ran under; absent when none was accepted.
    pub order_sha256: Option<Sha256Hex>,
    /// The package that the order named, by the digest over its exact bytes; absent like the order's.
    pub package: Option<Sha256Hex>,
    /// How it ended.
    pub outcome: Outcome,
    /// Stable code of what went wrong, empty when nothing did.
    pub code: String,
    /// One sentence for a person, empty when there is nothing to say.
    pub detail: String,
    /// Who or what ended it.
    pub ended_by: EndedBy,
    /// The bot's exit code; absent when it died by a signal or never ran.
    pub exit_code: Option<i32>,
    /// The signal that killed the bot.
    pub signal: Option<i32>,
    /// The steps that the privileged side took, in order.
    pub timeline: Vec<PhaseAt>,
    /// The license lease that it ran under.
    pub license: Option<LicenseTimes>,
    /// The secrets that the bot got, by the time of the first answer; the account's password is none
    /// of them. Empty also when the session died and nobody knows: its code then says so.
    pub secrets: Vec<SecretUse>,
    /// The OS session; absent when none was opened.
    pub session: Option<SessionSummary>,
    /// What was delivered on each stream.
    pub log: LogTotals,
    /// What the bot handed back.
    pub artifacts: Vec<ArtifactTotal>,
    /// Number of screenshots taken.
    pub screenshots: u32,
    /// Lane of the attempt: 16 bytes in hex. Empty when it has none.
    pub lane_epoch: String,
    /// The last record of that lane: the orchestrator knows when it has all.
    pub lane_last_seq: u64,
    /// Processes that had to be killed after the bot's own end.
    pub processes_killed: u32,
    /// What went over the job's egress; absent when its network profile has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<crate::NetworkUse>,
    /// What the wipe did and found; absent when there was no volume.
    pub wipe: Option<WipeReport>,
    /// What the job used; absent when it was never started or nobody could count.
    pub usage: Option<Usage>,
    /// Limits of the order that this host could not enforce.
    pub not_enforced: Vec<Unenforced>,
    /// Under which guarantees it ran; absent when its sandbox never stood, or nobody was left to tell.
    pub sandbox: Option<SandboxSummary>,
    /// What somebody who reads this should know: `PEOPLE_LOGGED_IN` when a person was logged in on the
    /// host meanwhile and its policy marks that; `LIMIT_PROCESSES` when the job asked for more processes
    /// than it may have, with how often.
    pub remarks: Vec<String>,
}

/// When a step was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PhaseAt {
    /// The step.
    pub phase: Phase,
    /// Host's wall clock, milliseconds since 1970; for people.
    pub at_unix_ms: u64,
}

/// Under which license the job ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LicenseTimes {
    /// The lease.
    pub lease: LeaseId,
    /// Its fence.
    pub fence: u64,
    /// Its pool.
    pub pool: String,
    /// When it was asked for, from which moment it counts. Host's wall clock, milliseconds since 1970.
    pub from_unix_ms: u64,
    /// When it ends by the last renewal that this host accepted. Same clock.
    pub until_unix_ms: u64,
}

/// A secret that the bot was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SecretUse {
    /// Its name.
    pub name: String,
    /// When it was given first. Host's wall clock, milliseconds since 1970.
    pub given_at_unix_ms: u64,
}

/// The OS session of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SessionSummary {
    /// logind's id; empty where PAM runs without logind.
    pub id: String,
    /// `logind` or `pam`.
    pub backend: String,
    /// Account.
    pub account: String,
    /// Its uid.
    pub uid: u32,
    /// Size of the display as `WIDTHxHEIGHT`, or `none`.
    pub display: String,
    /// Proven gone: no session, process, runtime directory, IPC or key of it is left.
    pub closed: bool,
}

/// Both streams of a bot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LogTotals {
    /// Standard output.
    pub stdout: StreamTotals,
    /// Standard error.
    pub stderr: StreamTotals,
}

/// What was delivered of one stream, after masking.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StreamTotals {
    /// Lines, an unterminated last one counted.
    pub lines: u64,
    /// Bytes, newlines included.
    pub bytes: u64,
    /// Over those bytes, 64 hex digits; empty when the attendant was lost and nobody knows.
    pub sha256: String,
}

/// A file that the bot handed back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ArtifactTotal {
    /// Relative path, with bytes that are not UTF-8 replaced.
    pub name: String,
    /// Digest of its content.
    pub sha256: Sha256Hex,
    /// Size.
    pub bytes: u64,
}
