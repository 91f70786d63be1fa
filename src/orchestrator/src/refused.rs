//! One refusal, with a stable code, for every way in: command line, link, HTTP.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What kind of refusal it is; decides the gRPC status and whether to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// The request itself is wrong; sending it again is of no use.
    Invalid,
    /// What it names does not exist.
    NotFound,
    /// The caller may not do this.
    Denied,
    /// It does not fit the present state.
    State,
    /// The session that it was sent under is over.
    Aborted,
    /// The caller did not prove who it is.
    Unproven,
    /// A limit was reached.
    Exhausted,
    /// The server can't do it now; try again.
    Unavailable,
}

/// A refusal. `code` is UPPER_SNAKE_CASE and stable; `text` is for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refused {
    pub(crate) kind: Kind,
    pub(crate) code: String,
    pub(crate) text: String,
}

impl Refused {
    pub(crate) fn new(kind: Kind, code: &str, text: impl Into<String>) -> Self {
        Self {
            kind,
            code: code.to_owned(),
            text: text.into(),
        }
    }

    pub(crate) fn invalid(code: &str, text: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, code, text)
    }

    pub(crate) fn not_found(code: &str, text: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, code, text)
    }

    pub(crate) fn denied(code: &str, text: impl Into<String>) -> Self {
        Self::new(Kind::Denied, code, text)
    }

    pub(crate) fn state(code: &str, text: impl Into<String>) -> Self {
        Self::new(Kind::State, code, text)
    }

    pub(crate) fn unavailable(code: &str, text: impl Into<String>) -> Self {
        Self::new(Kind::Unavailable, code, text)
    }

    /// A file operation that failed; a full disk gets a code of its own.
    pub(crate) fn io(what: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        let full = matches!(
            error.kind(),
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
        );
        let code = if full { "DISK_FULL" } else { "IO_FAILED" };
        Self::unavailable(code, format!("{what} {}: {error}", path.display()))
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.code, self.text)
    }
}

impl std::error::Error for Refused {}

/// `CODE: text` in the status message is the stable form; agents split at the first colon.
impl From<Refused> for tonic::Status {
    fn from(refused: Refused) -> Self {
        let code = refused.grpc_code();
        Self::new(code, refused.to_string())
    }
}

impl Refused {
    /// The gRPC code, which decides whether an agent tries again.
    pub(crate) fn grpc_code(&self) -> tonic::Code {
        match self.kind {
            Kind::Invalid => tonic::Code::InvalidArgument,
            Kind::NotFound => tonic::Code::NotFound,
            Kind::Denied => tonic::Code::PermissionDenied,
            Kind::State => tonic::Code::FailedPrecondition,
            Kind::Aborted => tonic::Code::Aborted,
            Kind::Unproven => tonic::Code::Unauthenticated,
            Kind::Exhausted => tonic::Code::ResourceExhausted,
            Kind::Unavailable => tonic::Code::Unavailable,
        }
    }
}
