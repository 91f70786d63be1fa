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
    /// Name of the secret that is the account's password: the session is then opened with it.
    /// Not one of `secrets`: the bot can't ask for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_secret: Option<String>,
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

/// The private display.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Display {
    /// What draws it.
    pub kind: DisplayKind,
    /// Pixels, 320 to 7680.
    pub width: u32,
    /// Pixels, 200 to 4320.
    pub height: u32,
    /// Bits per pixel that count: 16 or 24.
    pub depth: u32,
}

/// What draws a display.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DisplayKind {
    /// X in memory; the screen keeps its size.
    Xvfb,
    /// TigerVNC's X server: the bot may resize the screen (RANDR), and who operates the host may
    /// look on over a unix socket.
    Xvnc,
}

impl DisplayKind {
    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Xvfb => "xvfb",
            Self::Xvnc => "xvnc",
        }
    }
}

/// When to take pictures of the display, and what they must not show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Screenshots {
    /// One when the display is ready.
    pub on_start: bool,
    /// One when the bot fails, before anything is killed.
    pub on_failure: bool,
    /// One each so many milliseconds (at least 200); absent = none at an interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_ms: Option<u64>,
    /// Whether somebody may look on while the job runs.
    pub live_view: bool,
    /// File format of the pictures.
    pub format: PictureFormat,
    /// What is painted over in every picture and in the live view.
    pub masks: Masks,
    /// After a secret was handed out nothing is captured until the bot says `privacy off`, for so
    /// many milliseconds at most; 0 = capture goes on. At most an hour.
    pub secret_pause_ms: u64,
}

impl Default for Screenshots {
    /// None at all.
    fn default() -> Self {
        Self {
            on_start: false,
            on_failure: false,
            every_ms: None,
            live_view: false,
            format: PictureFormat::Png,
            masks: Masks::default(),
            secret_pause_ms: 0,
        }
    }
}

/// File format of pictures. Both are lossless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PictureFormat {
    /// For every tool.
    Png,
    /// About a third smaller, for about half as much time again.
    Webp,
}

/// Areas that no picture shows. At most [`Masks::MOST`] of each kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Masks {
    /// Fixed places of the screen.
    pub areas: Vec<Area>,
    /// Windows, wherever they are, with their frames.
    pub windows: Vec<WindowMask>,
}

impl Masks {
    /// Most masks of a kind.
    pub const MOST: usize = 32;
    /// Longest class or title, in bytes.
    pub const LONGEST: usize = 128;

    /// Nothing is masked.
    pub fn is_empty(&self) -> bool {
        self.areas.is_empty() && self.windows.is_empty()
    }
}

/// A rectangle of the screen, in pixels from its upper left corner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Area {
    /// From the left.
    pub x: u32,
    /// From the top.
    pub y: u32,
    /// At least 1.
    pub width: u32,
    /// At least 1.
    pub height: u32,
}

/// Windows by what they say of themselves. All that is given must fit; at least one is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowMask {
    /// Either part of WM_CLASS, exactly, whatever its case.
    pub class: Option<String>,
    /// A part of the title (_NET_WM_NAME, else WM_NAME), whatever its case.
    pub title: Option<String>,
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
