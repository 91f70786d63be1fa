//! What a command brought, printed for a person or a program.

use std::io::{self, Write as _};
use std::process::ExitCode;

use agent::control::{AskError, Reply};
use agent::exit;
use serde_json::{Value, json};

/// Something worth printing.
#[derive(Debug)]
pub(crate) struct Good {
    /// For a person; without the last newline.
    pub(crate) text: String,
    /// For a program.
    pub(crate) json: Value,
}

/// Why not.
#[derive(Debug)]
pub(crate) struct Bad {
    /// Stable, UPPER_SNAKE_CASE.
    pub(crate) code: String,
    /// What failed, on what, what to do.
    pub(crate) detail: String,
    /// Of sysexits.h.
    pub(crate) exit: u8,
}

pub(crate) type Outcome = Result<Good, Bad>;

impl Bad {
    pub(crate) fn new(code: &str, detail: impl Into<String>, exit: u8) -> Self {
        Self {
            code: code.to_owned(),
            detail: detail.into(),
            exit,
        }
    }

    /// From robotd or the broker.
    pub(crate) fn refused(code: String, detail: String) -> Self {
        let exit = exit_of(&code);
        Self { code, detail, exit }
    }
}

impl From<AskError> for Bad {
    fn from(error: AskError) -> Self {
        match &error {
            AskError::Connect { source, path }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Self::new(
                    "NOT_PERMITTED",
                    format!(
                        "{} may be asked by root and by members of the group robotd only",
                        path.display()
                    ),
                    exit::NO_PERMISSION,
                )
            }
            AskError::Connect { .. } => {
                Self::new("ROBOTD_UNREACHABLE", error.to_string(), exit::UNAVAILABLE)
            }
            AskError::Broken(_) => Self::new("ROBOTD_SILENT", error.to_string(), exit::TEMPORARY),
            AskError::Unreadable(_) => {
                Self::new("VERSIONS_DIFFER", error.to_string(), exit::SOFTWARE)
            }
        }
    }
}

/// A reply that does not belong to its question.
pub(crate) fn unexpected(reply: Reply) -> Bad {
    match reply {
        Reply::Refused { code, detail } => Bad::refused(code, detail),
        _ => Bad::new(
            "VERSIONS_DIFFER",
            "robotd answered another question; robotctl and robotd must be of one version",
            exit::SOFTWARE,
        ),
    }
}

/// Who has to act.
fn exit_of(code: &str) -> u8 {
    match code {
        "NOT_ROOT" | "NOT_PERMITTED" => exit::NO_PERMISSION,
        code if code.starts_with("TOKEN_") => exit::DATA,
        "ROOT_PIN_MISMATCH"
        | "SERVER_CERTIFICATE_REFUSED"
        | "IDENTITY_INVALID"
        | "ENROLMENT_ANSWER_INVALID" => exit::DATA,
        "BROKER_UNREACHABLE" | "LINK_UNREACHABLE" | "ORCHESTRATOR_BUSY" => exit::UNAVAILABLE,
        "STOPPING" | "TIMED_OUT" | "JOBS_HELD" => exit::TEMPORARY,
        "IDENTITY_UNWRITABLE" => exit::CANNOT_CREATE,
        "ASK_MALFORMED" => exit::SOFTWARE,
        _ => exit::DATA,
    }
}

/// Prints it; the exit code.
pub(crate) fn print(outcome: Outcome, as_json: bool) -> ExitCode {
    let (text, code) = match outcome {
        Ok(good) if as_json => (good.json.to_string(), exit::OK),
        Ok(good) => (good.text, exit::OK),
        Err(bad) if as_json => (
            json!({"error": {"code": bad.code, "detail": bad.detail}}).to_string(),
            bad.exit,
        ),
        Err(bad) => {
            eprintln!("robotctl: {} ({})", bad.detail, bad.code);
            return ExitCode::from(bad.exit);
        }
    };
    // Whoever closed our output does not want to read it.
    let _ = writeln!(io::stdout().lock(), "{text}");
    ExitCode::from(code)
}
