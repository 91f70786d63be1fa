//! Why the privileged side said no.

use serde::{Deserialize, Serialize};

/// A refusal with a code that is stable and a sentence for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{detail} ({code})")]
pub struct Refusal {
    /// UPPER_SNAKE_CASE, documented in README.md's table of codes.
    pub code: String,
    /// What failed, on what, what to do.
    pub detail: String,
}

impl Refusal {
    /// A refusal from its two parts.
    pub fn new(code: &str, detail: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            detail: detail.into(),
        }
    }
}

/// An error with all its causes on one line: Display of our errors never repeats a source.
pub fn explain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(&format!(": {error}"));
        cause = error.source();
    }
    line
}
