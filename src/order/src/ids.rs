//! Identifiers that cross a trust boundary, parsed once.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new id: time-ordered (UUIDv7), so that lists sort by age.
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(out)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::try_parse(text).map(Self)
            }
        }
    };
}

uuid_id!(
    /// A job, as the orchestrator numbered it.
    JobId
);
uuid_id!(
    /// An enrolled agent: the last part of its SPIFFE id.
    AgentId
);
uuid_id!(
    /// A license lease.
    LeaseId
);

/// The id of nobody: stands in results of a host that was never enrolled.
pub const NIL: Uuid = Uuid::nil();

/// The n-th try of a job, from 1. An attempt never runs twice.
pub type Attempt = u32;

/// One attempt of one job: the name of everything that it leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptRef {
    /// The job.
    pub job: JobId,
    /// Which try, from 1.
    pub number: Attempt,
}

impl fmt::Display for AttemptRef {
    /// `JOB.N`: the form used for directories, units and sockets.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.job, self.number)
    }
}

/// Why a text is not an attempt's name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("an attempt is written JOB.N with a UUID and a number from 1, got {0:?}")]
pub struct NotAnAttempt(String);

impl FromStr for AttemptRef {
    type Err = NotAnAttempt;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || NotAnAttempt(text.chars().take(64).collect());
        let (job, number) = text.rsplit_once('.').ok_or_else(refuse)?;
        let parsed = Self {
            job: job.parse().map_err(|_| refuse())?,
            number: number.parse().map_err(|_| refuse())?,
        };
        // One spelling only: names become paths.
        if parsed.number == 0 || parsed.to_string() != text {
            return Err(refuse());
        }
        Ok(parsed)
    }
}

/// A SHA-256 digest, 64 lower-case hex digits in JSON and in paths.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256Hex(pub [u8; 32]);

impl fmt::Display for Sha256Hex {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256Hex {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// Why a text is not a SHA-256.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a SHA-256 is written as 64 lower-case hex digits")]
pub struct NotASha256;

impl FromStr for Sha256Hex {
    type Err = NotASha256;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(NotASha256);
        }
        let nibble = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(NotASha256),
        };
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Sha256Hex {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        if out.is_human_readable() {
            out.collect_str(self)
        } else {
            self.0.serialize(out)
        }
    }
}

impl<'de> Deserialize<'de> for Sha256Hex {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        if input.is_human_readable() {
            let text = String::deserialize(input)?;
            text.parse().map_err(serde::de::Error::custom)
        } else {
            <[u8; 32]>::deserialize(input).map(Self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_has_one_spelling() {
        let attempt = AttemptRef {
            job: JobId::new(),
            number: 3,
        };
        assert_eq!(attempt.to_string().parse(), Ok(attempt));
        let job = attempt.job.to_string();
        for wrong in [
            format!("{job}.0"),
            format!("{job}.03"),
            format!("{job}.+3"),
            format!("{}.3", job.to_uppercase()),
            format!("{{{job}}}.3"),
            format!("../{job}.3"),
            job,
        ] {
            assert!(wrong.parse::<AttemptRef>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_digest_is_lower_case_hex() {
        let digest = Sha256Hex([0xab; 32]);
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!(
            digest
                .to_string()
                .to_uppercase()
                .parse::<Sha256Hex>()
                .is_err()
        );
        assert!("ab".parse::<Sha256Hex>().is_err());
    }
}
