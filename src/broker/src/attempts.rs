//! Where each attempt stands, and which request is allowed there.
//!
//! ```text
//! Reserved ─► AwaitsPackage ─► TakingIn ─► Launching ─► Running ─► Ended
//!     │             │              │           │           │
//!     └ cancelled   └──────────────┴───────────┴───────────┴─► TearingDown ─► Ended
//! ```

use std::time::Duration;

use order::{Challenge, KeyId, LicenseTimes, Order, Phase, PhaseAt, Sha256Hex, Signed};
use privsep::broker::{HeldState, Request, StopMode};
use privsep::session::{Report, Sandbox};
use privsep::{Refusal, broker};
use serde::{Deserialize, Serialize};

use crate::policy::Network;
use crate::record::SessionProcess;
use crate::store::Ready;

/// A reservation that nobody starts is given up after this long.
pub(crate) const RESERVATION: Duration = Duration::from_secs(15 * 60);

/// One attempt that the broker knows.
pub(crate) struct Attempt {
    pub(crate) account: String,
    pub(crate) stage: Stage,
    /// What it runs or is to run; absent when its record does not say.
    pub(crate) package: Option<Sha256Hex>,
    pub(crate) timeline: Vec<PhaseAt>,
    /// What was started; absent before the start and after a restart of the broker.
    pub(crate) started: Option<Started>,
    /// For the result, also after a restart of the broker.
    pub(crate) bound: Option<Bound>,
    /// The session waits for its account's password.
    pub(crate) wants_password: bool,
}

/// What binds a started attempt until its result is signed. Kept on the disk with its slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Bound {
    pub(crate) order_sha256: Sha256Hex,
    /// The key that signed it.
    pub(crate) order_key: KeyId,
    /// What it runs; the store keeps it until the end.
    pub(crate) package: Sha256Hex,
    /// The moment that the newest extension of the lease counts from: an older one comes too late.
    pub(crate) renewed_ticks_ns: u64,
    pub(crate) license: LicenseTimes,
    pub(crate) tenant: String,
    /// Names that the bot may ask for.
    pub(crate) secrets: Vec<String>,
    /// The account's password, which the session may ask for.
    pub(crate) account_secret: Option<String>,
    /// CLOCK_BOOTTIME, nanoseconds.
    pub(crate) hard_end_ns: u64,
    /// CLOCK_BOOTTIME, nanoseconds; at most the hard end.
    pub(crate) lease_until_ns: u64,
    /// Somebody was logged in while it ran, and the policy marks that.
    pub(crate) people: bool,
    /// What its volume is, once the session has said so.
    pub(crate) volume: Option<order::VolumeBackend>,
    /// A stop that the session could not be told yet.
    pub(crate) stop: Option<StopMode>,
}

impl Bound {
    fn grants(&self, name: &str) -> bool {
        self.account_secret.as_deref() == Some(name) || self.secrets.iter().any(|own| own == name)
    }
}

/// A verified, permitted and committed order, until its session has it.
pub(crate) struct Started {
    pub(crate) order: Order,
    pub(crate) network: Network,
    pub(crate) sandbox: Sandbox,
}

/// Where it stands.
pub(crate) enum Stage {
    /// A slot is set aside since this CLOCK_BOOTTIME.
    Reserved {
        challenge: Challenge,
        since: Duration,
    },
    /// Committed; robotd fetches the package.
    AwaitsPackage,
    /// A thread copies, opens and checks the package.
    TakingIn,
    /// The session was started and has not called yet.
    Launching {
        ready: Option<Ready>,
        deadline: Duration,
    },
    /// The session runs, connected or not.
    Running { process: SessionProcess },
    /// The session is gone without a report; its slot is being cleaned, at most until this
    /// CLOCK_BOOTTIME. Boxed: rare and large.
    TearingDown {
        report: Box<Report>,
        deadline: Duration,
    },
    /// It is over, but its result is not on the disk: tried again at this CLOCK_BOOTTIME.
    Unrecorded {
        report: Box<Report>,
        retry_at: Duration,
    },
    /// The signed result waits for its delivery.
    Ended { result: Signed },
}

/// What the table says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permit {
    /// Carry it out.
    Go,
    /// It was carried out before: the same answer, no effect.
    Repeat,
    /// No, with this code.
    Refuse(&'static str),
}

impl Stage {
    /// Started and not over.
    pub(crate) fn is_alive(&self) -> bool {
        matches!(
            self,
            Self::AwaitsPackage | Self::TakingIn | Self::Launching { .. } | Self::Running { .. }
        )
    }

    /// THE table: requests × stages. What is not in it is refused.
    pub(crate) fn permit(&self, request: &Request) -> Permit {
        use Permit::{Go, Refuse, Repeat};
        match (request, self) {
            (Request::Cancel { .. }, Self::Reserved { .. }) => Go,
            (Request::Cancel { .. }, _) => Refuse("ATTEMPT_STARTED"),
            (Request::Start { .. }, Self::Reserved { .. }) => Go,
            (Request::Start { .. }, Self::AwaitsPackage) => Repeat,
            (Request::Start { .. }, _) => Refuse("ATTEMPT_STARTED"),
            (Request::Package { .. } | Request::PackageFailed { .. }, Self::AwaitsPackage) => Go,
            (Request::Package { .. } | Request::PackageFailed { .. }, _) => {
                Refuse("PACKAGE_NOT_AWAITED")
            }
            (Request::Renew { .. }, Self::Reserved { .. }) => Refuse("ATTEMPT_NOT_STARTED"),
            (
                Request::Renew { .. },
                Self::TearingDown { .. } | Self::Unrecorded { .. } | Self::Ended { .. },
            ) => Repeat,
            (Request::Renew { .. }, _) => Go,
            (Request::Stop { .. }, Self::Reserved { .. }) => Refuse("ATTEMPT_NOT_STARTED"),
            (
                Request::Stop { .. },
                Self::TearingDown { .. } | Self::Unrecorded { .. } | Self::Ended { .. },
            ) => Repeat,
            (Request::Stop { .. }, _) => Go,
            (Request::Secret { .. } | Request::SecretFailed { .. }, Self::Running { .. }) => Go,
            (Request::Secret { .. } | Request::SecretFailed { .. }, _) => {
                Refuse("ATTEMPT_NOT_RUNNING")
            }
            (Request::Forget { .. }, Self::Ended { .. }) => Go,
            (Request::Forget { .. }, _) => Refuse("ATTEMPT_NOT_ENDED"),
            (Request::Reserve { .. }, Self::Reserved { .. }) => Repeat,
            (Request::Reserve { .. }, _) => Refuse("ATTEMPT_STARTED"),
            (Request::Hello { .. } | Request::Sync | Request::KeySet { .. }, _) => {
                Refuse("NOT_ABOUT_AN_ATTEMPT")
            }
        }
    }
}

impl Attempt {
    pub(crate) fn held(&self) -> HeldState {
        match &self.stage {
            Stage::Reserved { .. } => HeldState::Reserved,
            Stage::AwaitsPackage => HeldState::AwaitsPackage,
            Stage::TakingIn
            | Stage::Launching { .. }
            | Stage::Running { .. }
            | Stage::TearingDown { .. }
            | Stage::Unrecorded { .. } => HeldState::Running(
                self.timeline
                    .last()
                    .map_or(Phase::Started, |last| last.phase),
            ),
            Stage::Ended { .. } => HeldState::Ended,
        }
    }

    /// Whether the order grants this secret.
    pub(crate) fn grants_secret(&self, name: &str) -> Result<(), Refusal> {
        let granted = self.bound.as_ref().is_some_and(|bound| bound.grants(name));
        if granted {
            return Ok(());
        }
        Err(Refusal::new(
            "SECRET_NOT_GRANTED",
            format!("secret {name:?} is not in the order of this job"),
        ))
    }
}

/// The attempt that a request is about.
pub(crate) fn subject(request: &Request) -> Option<order::AttemptRef> {
    use broker::Request as R;
    match request {
        R::Hello { .. } | R::Sync | R::KeySet { .. } => None,
        R::Reserve { attempt, .. }
        | R::Cancel { attempt }
        | R::Start { attempt, .. }
        | R::Package { attempt }
        | R::PackageFailed { attempt, .. }
        | R::Renew { attempt, .. }
        | R::Stop { attempt, .. }
        | R::Secret { attempt, .. }
        | R::SecretFailed { attempt, .. }
        | R::Forget { attempt } => Some(*attempt),
    }
}
