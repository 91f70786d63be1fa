//! What a bot may ask, as it stands in BOT_API.md.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use privsep::Refusal;
use serde::Deserialize;
use serde_json::Value;
use wire::v1::AlertLevel;
use zeroize::{Zeroize, Zeroizing};

use crate::privacy::MOST_SECONDS;

/// Largest name of anything in a request.
const MAX_NAME: usize = 255;

/// Most tags of an error, and the longest of their keys and values.
const MAX_TAGS: usize = 64;
const MAX_TAG: usize = 1024;

/// One call of the bot.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "call", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Request {
    Log {
        #[serde(default)]
        level: Level,
        message: String,
    },
    Alert {
        #[serde(default)]
        level: Severity,
        title: String,
        #[serde(default)]
        message: String,
    },
    Error {
        #[serde(default)]
        kind: String,
        message: String,
        #[serde(default)]
        stack: String,
        #[serde(default)]
        tags: BTreeMap<String, String>,
    },
    Artifact {
        name: String,
    },
    Credential {
        name: String,
    },
    Param {
        name: String,
    },
    Params {},
    Screenshot {},
    Privacy {
        on: bool,
        #[serde(default)]
        seconds: Option<u32>,
    },
}

/// syslog's severities that a program has a use for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Level {
    Debug,
    #[default]
    Info,
    Notice,
    #[serde(alias = "warn")]
    Warning,
    Error,
    Critical,
}

impl Level {
    pub(crate) fn severity(self) -> u32 {
        match self {
            Self::Critical => 2,
            Self::Error => 3,
            Self::Warning => 4,
            Self::Notice => 5,
            Self::Info => 6,
            Self::Debug => 7,
        }
    }
}

/// How urgent an alert is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Severity {
    #[default]
    Info,
    #[serde(alias = "warning")]
    Warn,
    Error,
}

impl Severity {
    pub(crate) fn level(self) -> AlertLevel {
        match self {
            Self::Info => AlertLevel::Info,
            Self::Warn => AlertLevel::Warn,
            Self::Error => AlertLevel::Error,
        }
    }
}

impl Request {
    /// One line without its newline.
    pub(crate) fn parse(line: &[u8]) -> Result<Self, Refusal> {
        let request: Self = serde_json::from_slice(line).map_err(|error| {
            Refusal::new(
                "REQUEST_MALFORMED",
                format!("not a request of the bot's API: {error}"),
            )
        })?;
        request.check()?;
        Ok(request)
    }

    fn check(&self) -> Result<(), Refusal> {
        let refuse = |detail: String| Err(Refusal::new("REQUEST_OUT_OF_RANGE", detail));
        match self {
            Self::Credential { name } | Self::Param { name } if name.len() > MAX_NAME => refuse(
                format!("a name has at most {MAX_NAME} bytes, not {}", name.len()),
            ),
            Self::Error { tags, .. } if tags.len() > MAX_TAGS => refuse(format!(
                "an error has at most {MAX_TAGS} tags, not {}",
                tags.len()
            )),
            Self::Error { tags, .. }
                if tags
                    .iter()
                    .any(|(key, value)| key.len().max(value.len()) > MAX_TAG) =>
            {
                refuse(format!(
                    "a tag's name and value have at most {MAX_TAG} bytes each"
                ))
            }
            Self::Privacy {
                on: false,
                seconds: Some(_),
            } => refuse("privacy that ends has no seconds".to_owned()),
            Self::Privacy {
                seconds: Some(seconds),
                ..
            } if !(1..=MOST_SECONDS).contains(seconds) => refuse(format!(
                "privacy lasts 1 to {MOST_SECONDS} seconds, not {seconds}"
            )),
            _ => Ok(()),
        }
    }
}

/// The line that answers a call.
pub(crate) fn answer(outcome: Result<Value, Refusal>) -> Vec<u8> {
    let value = match outcome {
        Ok(Value::Object(mut fields)) => {
            fields.insert("ok".to_owned(), Value::Bool(true));
            Value::Object(fields)
        }
        Ok(_) => serde_json::json!({ "ok": true }),
        Err(refusal) => {
            serde_json::json!({ "ok": false, "code": refusal.code, "detail": refusal.detail })
        }
    };
    let mut line = value.to_string().into_bytes();
    line.push(b'\n');
    line
}

/// The line that hands out a secret, of which no other copy is made.
pub(super) fn answer_secret(secret: &[u8]) -> Zeroizing<Vec<u8>> {
    // Large enough for every escape: a buffer that grew would leave copies behind.
    let mut line = Zeroizing::new(Vec::with_capacity(6 * secret.len() + 64));
    let (name, text) = match std::str::from_utf8(secret) {
        Ok(text) => ("value", Cow::Borrowed(text)),
        Err(_) => ("value_base64", Cow::Owned(STANDARD.encode(secret))),
    };
    line.extend_from_slice(b"{\"ok\":true,\"");
    line.extend_from_slice(name.as_bytes());
    line.extend_from_slice(b"\":");
    // Writing a string to memory can't fail.
    let _ = serde_json::to_writer(&mut *line, &text);
    if let Cow::Owned(mut copy) = text {
        copy.zeroize();
    }
    line.extend_from_slice(b"}\n");
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_call_of_the_documentation_is_understood() {
        for line in [
            r#"{"call":"log","message":"hello"}"#,
            r#"{"call":"log","level":"warn","message":"hello"}"#,
            r#"{"call":"alert","level":"error","title":"t","message":"m"}"#,
            r#"{"call":"error","kind":"ValueError","message":"m","stack":"s","tags":{"a":"b"}}"#,
            r#"{"call":"artifact","name":"out/report.pdf"}"#,
            r#"{"call":"credential","name":"erp"}"#,
            r#"{"call":"param","name":"month"}"#,
            r#"{"call":"params"}"#,
            r#"{"call":"screenshot"}"#,
            r#"{"call":"privacy","on":true}"#,
            r#"{"call":"privacy","on":true,"seconds":3600}"#,
            r#"{"call":"privacy","on":false}"#,
        ] {
            assert!(Request::parse(line.as_bytes()).is_ok(), "{line}");
        }
    }

    #[test]
    fn what_is_not_a_call_is_refused_with_a_code() {
        let code = |line: &str| Request::parse(line.as_bytes()).unwrap_err().code;
        for line in [
            "",
            "{}",
            "[]",
            r#"{"call":"exec"}"#,
            r#"{"call":"log"}"#,
            r#"{"call":"log","message":"m","x":1}"#,
        ] {
            assert_eq!(code(line), "REQUEST_MALFORMED", "{line}");
        }
        for line in [
            r#"{"call":"privacy","on":true,"seconds":0}"#,
            r#"{"call":"privacy","on":true,"seconds":3601}"#,
            r#"{"call":"privacy","on":false,"seconds":5}"#,
        ] {
            assert_eq!(code(line), "REQUEST_OUT_OF_RANGE", "{line}");
        }
        let name = "n".repeat(256);
        assert_eq!(
            code(&format!(r#"{{"call":"param","name":"{name}"}}"#)),
            "REQUEST_OUT_OF_RANGE"
        );
        let tags: Vec<String> = (0..65).map(|number| format!(r#""{number}":"x""#)).collect();
        let many = format!(
            r#"{{"call":"error","message":"m","tags":{{{}}}}}"#,
            tags.join(",")
        );
        assert_eq!(code(&many), "REQUEST_OUT_OF_RANGE");
    }

    #[test]
    fn an_answer_is_one_line() {
        let refusal = Refusal::new("CODE", "two\nlines");
        for line in [
            answer(Ok(Value::Null)),
            answer(Ok(serde_json::json!({"value": "a\nb"}))),
            answer(Err(refusal)),
        ] {
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            assert_eq!(line.last(), Some(&b'\n'));
        }
    }

    #[test]
    fn a_secret_is_handed_out_as_text_or_as_base64() {
        assert_eq!(
            answer_secret(b"p\"w\n").as_slice(),
            b"{\"ok\":true,\"value\":\"p\\\"w\\n\"}\n"
        );
        assert_eq!(
            answer_secret(b"\xff\xfe").as_slice(),
            b"{\"ok\":true,\"value_base64\":\"//4=\"}\n"
        );
    }

    proptest! {
        #[test]
        fn garbage_never_panics(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Request::parse(&line);
        }
    }
}
