//! The events that the orchestrator raises, and an event as it is stored.
//!
//! Numbers and names are those of the catalogue (crate `events`); events of agents
//! arrive with theirs and are stored as they came.

use ::events::{Code, Severity};
use order::{AgentId, JobId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) const LICENSE_TAKEN: Code = Code::LicenseTakeAvailableRobotOk;
pub(crate) const LICENSE_TAKE_FAILED: Code = Code::LicenseTakeAvailableRobotError;
pub(crate) const LICENSE_RELEASED: Code = Code::LicenseRobotReleaseOk;
pub(crate) const LICENSE_RELEASE_FAILED: Code = Code::LicenseRobotReleaseError;
pub(crate) const LICENSE_EXPIRED: Code = Code::LicenseRobotTimeoutRelease;
pub(crate) const LICENSE_POOL_SET: Code = Code::LicenseSet;

pub(crate) const TOKEN_CREATED: Code = Code::TokenCreated;
pub(crate) const TOKEN_REFUSED: Code = Code::TokenRefused;
pub(crate) const ENROLMENT_REFUSED: Code = Code::AgentEnrolmentRefused;
pub(crate) const MESSAGE_MALFORMED: Code = Code::MessageMalformed;
pub(crate) const AGENT_ENROLLED: Code = Code::AgentEnrolled;
pub(crate) const ORDER_KEYS_INSTALLED: Code = Code::OrderKeysInstalled;
pub(crate) const AGENT_REVOKED: Code = Code::AgentRevoked;
pub(crate) const CERTIFICATE_RENEWED: Code = Code::AgentCertificateRenewed;
pub(crate) const CONNECTION_REFUSED: Code = Code::ConnectionRefused;
pub(crate) const AGENT_ONLINE: Code = Code::AgentLinkOpened;
pub(crate) const AGENT_OFFLINE: Code = Code::AgentLinkLost;
pub(crate) const SESSION_SUPERSEDED: Code = Code::ConnectionRefused;
pub(crate) const LANE_REVERTED: Code = Code::AgentReverted;
pub(crate) const FRAME_REJECTED: Code = Code::RecordRefused;

pub(crate) const JOB_SUBMITTED: Code = Code::JobSubmitted;
pub(crate) const JOB_STARTED: Code = Code::JobStarted;
pub(crate) const JOB_ENDED: Code = Code::JobEnded;
pub(crate) const OFFER_REJECTED: Code = Code::JobReoffered;
pub(crate) const JOB_STOP_REQUESTED: Code = Code::JobStopRequested;
pub(crate) const RESULT_SIGNATURE_INVALID: Code = Code::ResultSignatureInvalid;
pub(crate) const OUTPUT_INCOMPLETE: Code = Code::OutputLost;
pub(crate) const OUTPUT_DIGEST_MISMATCH: Code = Code::RecordRefused;
pub(crate) const ATTEMPT_LOST: Code = Code::SessionLost;

pub(crate) const SECRET_SET: Code = Code::SecretSet;
pub(crate) const SECRET_READ: Code = Code::SecretRead;
pub(crate) const SECRET_REFUSED: Code = Code::SecretRefused;
pub(crate) const PACKAGE_PUSHED: Code = Code::PackagePushed;
pub(crate) const PACKAGE_REFUSED: Code = Code::PackagePushRefused;
pub(crate) const REQUEST_REFUSED: Code = Code::RequestRefused;
pub(crate) const WATCH_BEGAN: Code = Code::ScreenWatchBegan;
pub(crate) const WATCH_ENDED: Code = Code::ScreenWatchEnded;
pub(crate) const COMMAND_REFUSED: Code = Code::CommandRefused;

/// One event, as it is stored and listed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) at_unix_ms: u64,
    pub(crate) code: u32,
    pub(crate) name: String,
    pub(crate) severity: String,
    /// `orchestrator`, or `agent:NAME`.
    pub(crate) source: String,
    pub(crate) agent: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) job_id: Option<String>,
    pub(crate) text: String,
    /// What it is about: a license, a certificate, a file.
    pub(crate) entity: Option<String>,
    pub(crate) data: Value,
}

/// A severity as it is stored and shown.
pub(crate) fn severity_name(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "critical",
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Notice => "notice",
        Severity::Info => "info",
    }
}

impl Event {
    /// An event of the orchestrator itself.
    pub(crate) fn own(code: Code, at_unix_ms: u64, text: impl Into<String>) -> Self {
        Self {
            at_unix_ms,
            code: code as u32,
            name: code.name().to_owned(),
            severity: severity_name(code.severity()).to_owned(),
            source: "orchestrator".to_owned(),
            agent: None,
            user: None,
            job_id: None,
            text: text.into(),
            entity: None,
            data: Value::Null,
        }
    }

    pub(crate) fn agent(mut self, agent: AgentId) -> Self {
        self.agent = Some(agent.to_string());
        self
    }

    pub(crate) fn job(mut self, job: JobId) -> Self {
        self.job_id = Some(job.to_string());
        self
    }

    pub(crate) fn user(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }

    pub(crate) fn entity(mut self, entity: impl ToString) -> Self {
        self.entity = Some(entity.to_string());
        self
    }

    pub(crate) fn data(mut self, data: Value) -> Self {
        self.data = data;
        self
    }
}
