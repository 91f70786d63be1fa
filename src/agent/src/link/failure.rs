//! What an error of the link means: try again, or not so soon.

use std::error::Error as StdError;
use std::time::Duration;

use prost::Message as _;
use rustls::AlertDescription;
use tonic::{Code, Status};

/// Where our reasons in `google.rpc.ErrorInfo` belong to.
const DOMAIN: &str = "link.robotagent";

/// Why a call or a session ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// The network or the server is away: try again, with a pause that grows.
    #[error("{0}")]
    Network(String),
    /// The server wants to be left alone for a while.
    #[error("the orchestrator is busy; it asks to wait {0:?}")]
    Later(Duration),
    /// The server does not accept this host's certificate.
    #[error("certificate refused: {0}")]
    CertificateRefused(&'static str),
    /// This host does not accept the server's certificate.
    #[error("the orchestrator's certificate is refused: {0}")]
    ServerRefused(String),
    /// The server does not show the root that the token names.
    #[error(
        "the orchestrator does not show the root certificate that the token names: another server answers there, or the token is of another orchestrator"
    )]
    PinMismatch,
    /// The server knows who we are and does not want us.
    #[error("identity refused: {reason}: {detail}")]
    IdentityRefused {
        /// Stable.
        reason: String,
        /// For people.
        detail: String,
    },
    /// Another session of the same identity took over.
    #[error("another process uses this host's identity: {0}")]
    Superseded(String),
    /// The server refused a call for good.
    #[error("{reason}: {detail}")]
    Refused {
        /// Stable.
        reason: String,
        /// For people.
        detail: String,
    },
}

impl Failure {
    /// From the answer to a call.
    pub(super) fn of_status(status: &Status) -> Self {
        if let Some(failure) = walk(status) {
            return failure;
        }
        let (reason, detail) = reason_of(status);
        match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => {
                Self::IdentityRefused { reason, detail }
            }
            Code::Aborted if reason == "SESSION_SUPERSEDED" => Self::Superseded(detail),
            Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss
            | Code::Unknown
            | Code::Internal => retry_delay(status)
                .map_or_else(|| Self::Network(describe(&reason, &detail)), Self::Later),
            // Without a delay it would never help to ask again.
            Code::ResourceExhausted => match retry_delay(status) {
                Some(delay) => Self::Later(delay),
                None => Self::Refused { reason, detail },
            },
            _ => Self::Refused { reason, detail },
        }
    }

    /// From a failed connect.
    pub(super) fn of_connect(error: &(dyn StdError + 'static)) -> Self {
        walk(error).unwrap_or_else(|| Self::Network(chain(error)))
    }

    /// Whether trying again soon is of use.
    pub(super) fn passes(&self) -> bool {
        matches!(self, Self::Network(_) | Self::Later(_))
    }

    /// Stable, for robotctl and for jobs.
    pub(crate) fn code(&self) -> String {
        match self {
            Self::Network(_) => "LINK_UNREACHABLE".into(),
            Self::Later(_) => "ORCHESTRATOR_BUSY".into(),
            Self::CertificateRefused(_) => "CERTIFICATE_REFUSED".into(),
            Self::ServerRefused(_) => "SERVER_CERTIFICATE_REFUSED".into(),
            Self::PinMismatch => "ROOT_PIN_MISMATCH".into(),
            Self::Superseded(_) => "SESSION_SUPERSEDED".into(),
            Self::IdentityRefused { reason, .. } | Self::Refused { reason, .. } => reason.clone(),
        }
    }
}

fn describe(reason: &str, detail: &str) -> String {
    format!("{reason}: {detail}")
}

/// A TLS 1.3 client learns of its rejected certificate after its own handshake is done: the first
/// call then fails with "transport error", and the alert stands in the sources.
fn walk(error: &(dyn StdError + 'static)) -> Option<Failure> {
    let mut next = Some(error);
    while let Some(error) = next {
        let tls = error.downcast_ref::<rustls::Error>().or_else(|| {
            // io::Error hides what it wraps from `source()`.
            error
                .downcast_ref::<std::io::Error>()?
                .get_ref()?
                .downcast_ref::<rustls::Error>()
        });
        if let Some(failure) = tls.and_then(of_tls) {
            return Some(failure);
        }
        next = error.source();
    }
    None
}

fn of_tls(error: &rustls::Error) -> Option<Failure> {
    match error {
        rustls::Error::AlertReceived(alert) => refused(*alert).map(Failure::CertificateRefused),
        rustls::Error::InvalidCertificate(
            rustls::CertificateError::ApplicationVerificationFailure,
        ) => Some(Failure::PinMismatch),
        rustls::Error::InvalidCertificate(reason) => {
            Some(Failure::ServerRefused(reason.to_string()))
        }
        _ => None,
    }
}

/// Alerts that say no to our certificate; others are accidents.
fn refused(alert: AlertDescription) -> Option<&'static str> {
    Some(match alert {
        AlertDescription::CertificateRevoked => "it was revoked; enrol this host again",
        AlertDescription::CertificateExpired => "it has expired; enrol this host again",
        AlertDescription::UnknownCA => {
            "the orchestrator does not know who issued it; enrol this host again"
        }
        AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => {
            "the orchestrator does not accept it; enrol this host again"
        }
        AlertDescription::UnsupportedCertificate => {
            "the orchestrator can't use it; enrol this host again"
        }
        AlertDescription::CertificateRequired => "the orchestrator wants one; enrol this host",
        AlertDescription::AccessDenied => "the orchestrator denies access to its holder",
        _ => return None,
    })
}

fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let more = source.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = source.source();
    }
    text
}

/// `google.rpc.Status` in `grpc-status-details-bin`, as far as it concerns us.
#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<prost_types::Duration>,
}

fn detail<T: prost::Message + Default>(status: &Status, kind: &str) -> Option<T> {
    let details = RpcStatus::decode(status.details()).ok()?.details;
    let any = details
        .iter()
        .find(|any| any.type_url.rsplit('/').next() == Some(kind))?;
    T::decode(any.value.as_slice()).ok()
}

fn retry_delay(status: &Status) -> Option<Duration> {
    let delay = detail::<RetryInfo>(status, "google.rpc.RetryInfo")?.retry_delay?;
    Duration::try_from(delay).ok()
}

/// The stable reason: from the details, or from a message of the form `REASON: text`.
fn reason_of(status: &Status) -> (String, String) {
    let named =
        detail::<ErrorInfo>(status, "google.rpc.ErrorInfo").filter(|info| info.domain == DOMAIN);
    if let Some(info) = named {
        return (info.reason, status.message().to_owned());
    }
    let stable = |word: &str| {
        !word.is_empty()
            && word
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
    };
    match status.message().split_once(':') {
        Some((reason, text)) if stable(reason) => (reason.to_owned(), text.trim().to_owned()),
        _ => (format!("{:?}", status.code()).to_uppercase(), chain(status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::io::Error);

    fn alert(alert: AlertDescription) -> Failure {
        let inner = std::io::Error::other(rustls::Error::AlertReceived(alert));
        Failure::of_connect(&Outer(inner))
    }

    #[test]
    fn a_refused_certificate_is_found_below_a_transport_error() {
        for refused in [
            AlertDescription::CertificateRevoked,
            AlertDescription::UnknownCA,
            AlertDescription::CertificateExpired,
        ] {
            assert!(
                matches!(alert(refused), Failure::CertificateRefused(_)),
                "{refused:?}"
            );
        }
        assert!(matches!(
            alert(AlertDescription::InternalError),
            Failure::Network(_)
        ));
        assert!(matches!(
            Failure::of_connect(&Outer(std::io::Error::other("reset"))),
            Failure::Network(_)
        ));
    }

    #[test]
    fn the_status_code_decides_on_trying_again_and_the_reason_on_what_it_is() {
        let of = |code, text: &str| Failure::of_status(&Status::new(code, text));
        assert!(of(Code::Unavailable, "restart").passes());
        assert!(
            matches!(of(Code::Aborted, "SESSION_SUPERSEDED: newer"), Failure::Superseded(text) if text == "newer")
        );
        assert!(
            matches!(of(Code::Unauthenticated, "TOKEN_BOUND: used"), Failure::IdentityRefused { reason, .. } if reason == "TOKEN_BOUND")
        );
        assert!(!of(Code::ResourceExhausted, "FULL: no").passes());
        assert_eq!(
            of(Code::InvalidArgument, "CSR_INVALID: x").code(),
            "CSR_INVALID"
        );
        assert_eq!(
            of(Code::InvalidArgument, "no: such thing").code(),
            "INVALIDARGUMENT"
        );
    }

    #[test]
    fn details_of_the_status_win_over_its_text() {
        let any = |kind: &str, value| prost_types::Any {
            type_url: format!("type.googleapis.com/{kind}"),
            value,
        };
        let info = ErrorInfo {
            reason: "QUOTA".into(),
            domain: DOMAIN.into(),
        };
        let retry = RetryInfo {
            retry_delay: Some(prost_types::Duration {
                seconds: 7,
                nanos: 0,
            }),
        };
        let details = RpcStatus {
            details: vec![
                any("google.rpc.ErrorInfo", info.encode_to_vec()),
                any("google.rpc.RetryInfo", retry.encode_to_vec()),
            ],
        };
        let status = |code| Status::with_details(code, "OTHER: x", details.encode_to_vec().into());
        assert_eq!(
            Failure::of_status(&status(Code::ResourceExhausted)),
            Failure::Later(Duration::from_secs(7))
        );
        assert_eq!(
            Failure::of_status(&status(Code::InvalidArgument)).code(),
            "QUOTA"
        );
    }
}
