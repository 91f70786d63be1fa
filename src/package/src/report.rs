//! The one line that `robotd-unpack` leaves for the broker.
//!
//! The writer runs with no privileges and has just read a hostile archive, so the reader believes
//! nothing of it: an `ok` only means that checking the tree is worth while.

use serde::{Deserialize, Serialize};

use crate::code::Code;

/// Longest line, newline included; the broker reads no more than this.
pub const MAX_REPORT_BYTES: usize = 4096;
/// Longest detail, in bytes before JSON escaping.
const MAX_DETAIL: usize = 512;

/// How unpacking went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The whole tree was written.
    Done {
        /// Number of files.
        files: u64,
        /// Their bytes together.
        bytes: u64,
    },
    /// The package was refused; the directory may hold a part of it.
    Refused {
        /// The stable code.
        code: Code,
        /// A sentence for the operator, from an untrusted process.
        detail: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    ok: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    files: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl Report {
    /// A refusal, its detail cut to what a report may carry.
    pub fn refused(code: Code, detail: &str) -> Self {
        Self::Refused {
            code,
            detail: plain(detail),
        }
    }

    /// One line of JSON with its newline.
    ///
    /// # Errors
    /// When a detail set by hand makes the line too long.
    pub fn encode(&self) -> Result<Vec<u8>, ReportError> {
        let mut line = serde_json::to_vec(&self.raw()).map_err(|_| ReportError)?;
        line.push(b'\n');
        match line.len() > MAX_REPORT_BYTES {
            true => Err(ReportError),
            false => Ok(line),
        }
    }

    fn raw(&self) -> Raw {
        match self.clone() {
            Self::Done { files, bytes } => Raw {
                ok: true,
                files: Some(files),
                bytes: Some(bytes),
                code: None,
                detail: None,
            },
            Self::Refused { code, detail } => Raw {
                ok: false,
                files: None,
                bytes: None,
                code: Some(code.as_str().to_owned()),
                detail: Some(detail),
            },
        }
    }

    /// Reads exactly one line; the detail comes back without control characters.
    ///
    /// # Errors
    /// On anything else, also when the line is cut.
    pub fn parse(line: &[u8]) -> Result<Self, ReportError> {
        let line = line
            .strip_suffix(b"\n")
            .filter(|line| line.len() < MAX_REPORT_BYTES);
        let line = line.filter(|line| !line.contains(&b'\n'));
        let raw: Raw = serde_json::from_slice(line.ok_or(ReportError)?).map_err(|_| ReportError)?;
        match raw {
            Raw {
                ok: true,
                files: Some(files),
                bytes: Some(bytes),
                code: None,
                detail: None,
            } => Ok(Self::Done { files, bytes }),
            Raw {
                ok: false,
                files: None,
                bytes: None,
                code: Some(code),
                detail: Some(detail),
            } => {
                let code = Code::from_text(&code).ok_or(ReportError)?;
                Ok(Self::refused(code, &detail))
            }
            _ => Err(ReportError),
        }
    }
}

fn plain(detail: &str) -> String {
    let end = detail.floor_char_boundary(MAX_DETAIL);
    detail[..end]
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// Not a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the unpacking process left no valid report; see why it died in the journal")]
pub struct ReportError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_outcomes_survive_their_line() {
        let done = Report::Done {
            files: 3,
            bytes: 70,
        };
        assert_eq!(
            done.encode().expect("encodes"),
            b"{\"ok\":true,\"files\":3,\"bytes\":70}\n"
        );
        let refused = Report::refused(Code::Bomb, "too \"dense\"");
        for report in [done, refused] {
            assert_eq!(
                Report::parse(&report.encode().expect("encodes")),
                Ok(report)
            );
        }
    }

    #[test]
    fn a_detail_is_cut_and_carries_no_control_characters() {
        let report = Report::refused(Code::Io, &"\u{1b}я\n".repeat(4000));
        assert!(report.encode().expect("encodes").len() <= MAX_REPORT_BYTES);
        let Report::Refused { detail, .. } = report else {
            panic!("refused")
        };
        assert!(!detail.chars().any(char::is_control));
    }

    #[test]
    fn other_lines_are_no_report() {
        let long = format!(
            "{{\"ok\":false,\"code\":\"PACKAGE_IO\",\"detail\":\"{}\"}}\n",
            "x".repeat(5000)
        );
        let lines = [
            "",
            "\n",
            "{}\n",
            "{\"ok\":true}\n",
            "{\"ok\":true,\"files\":1,\"bytes\":2}",
            "{\"ok\":true,\"files\":1,\"bytes\":2}\n\n\n{}\n",
            "{\"ok\":true,\n\"files\":1,\"bytes\":2}\n",
            "{\"ok\":true,\"files\":1,\"bytes\":2,\"code\":\"PACKAGE_IO\"}\n",
            "{\"ok\":false,\"code\":\"NO_SUCH\",\"detail\":\"\"}\n",
            "{\"ok\":true,\"files\":1,\"bytes\":2,\"more\":0}\n",
            &long,
        ];
        for line in lines {
            assert_eq!(Report::parse(line.as_bytes()), Err(ReportError), "{line}");
        }
    }
}
