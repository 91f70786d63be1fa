//! The order: all that decides what runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::envelope::KeyId;
use crate::ids::{AgentId, AttemptRef, LeaseId, Sha256Hex};
use crate::limits::Limits;

/// A signed start. Every field is covered by the signature; an unknown field refuses the order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Order {
    /// Version of this document: 1.
    pub v: u32,
    /// The attempt that this starts.
    pub attempt: AttemptRef,
    /// The one host that may carry it out.
    pub agent: AgentId,
    /// The broker's one-time challenge from the accept, base64 of 32 bytes.
    pub challenge: String,
    /// Start of validity, milliseconds since 1970 by the orchestrator's clock.
    pub not_before_unix_ms: u64,
    /// End of validity for starting, same clock.
    pub not_after_unix_ms: u64,
    /// The package's digest over its exact bytes.
    pub package: Sha256Hex,
    /// Publisher whose signature the package must carry; absent = unsigned, which policy must allow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publisher: Option<KeyId>,
    /// Entry point inside the package, relative.
    pub entry: String,
    /// Arguments after the entry point.
    pub args: Vec<String>,
    /// Environment of the bot, on top of the session's; names that load code are refused.
    pub env: BTreeMap<String, String>,
    /// Parameters as JSON, handed over as a file.
    pub params: BTreeMap<String, serde_json::Value>,
    /// Account wished for; absent = the account of the reserved slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Absent = no display.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display: Option<Display>,
    /// When to take pictures.
    pub screenshots: Screenshots,
    /// Times and sizes.
    pub limits: Limits,
    /// Names of the secrets that the bot may ask for.
    pub secrets: Vec<String>,
    /// Named profiles of the broker's policy.
    pub profiles: Profiles,
    /// The license lease under which the job runs.
    pub lease: Lease,
    /// However often the lease is renewed, the job ends this long after its start, in milliseconds.
    pub hard_end_ms: u64,
    /// Who the work belongs to.
    pub tenant: String,
    /// Who asked for it.
    pub requester: String,
    /// Who approved it; absent = nobody had to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approver: Option<String>,
    /// The class of the data it touches.
    pub data_class: String,
}

/// Size of the private display, in pixels, 24 bits deep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Display {
    /// 320 to 7680.
    pub width: u32,
    /// 200 to 4320.
    pub height: u32,
}

/// When to take pictures of the display.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Screenshots {
    /// One when the display is ready.
    pub on_start: bool,
    /// One when the bot fails, before anything is killed.
    pub on_failure: bool,
    /// One each so many milliseconds (at least 200); absent = none at an interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_ms: Option<u64>,
}

/// Profile names; what each grants stands in the broker's policy and nowhere else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profiles {
    /// Sandbox profile, `script` by default.
    pub sandbox: String,
    /// Network profile, `host` or `none` as the policy names them.
    pub network: String,
}

/// The license lease as granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Lease {
    /// Its id.
    pub id: LeaseId,
    /// Grows with every new holder.
    pub fence: u64,
    /// The pool that it is a license of.
    pub pool: String,
    /// Length, counted from `ticks-ns`.
    pub ttl_ms: u64,
    /// The host's CLOCK_BOOTTIME when it sent the request that this lease answers.
    pub ticks_ns: u64,
}
