//! `/etc/robotd/robotd.toml`: what an administrator decides for this host.
//!
//! The shipped file, `packaging/robotd.toml`, is the documentation. A value that can't be used
//! is refused here with the rule it breaks; one that can, but is hardly meant, is told by
//! [`Config::check`] with its remedy.

mod check;
mod defaults;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

pub use check::Finding;

/// Where the file is unless `--config` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/robotd/robotd.toml";

/// Larger files are a mistake, not a configuration.
const MAX_BYTES: u64 = 64 * 1024;

/// All of the file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Config {
    /// Everything durable that is robotd's: identity, jobs, lanes, spool, tmp.
    pub state_dir: PathBuf,
    /// Sockets: `control.sock` and one folder per running attempt.
    pub runtime_dir: PathBuf,
    /// The broker's socket.
    pub broker_socket: PathBuf,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub log_level: LogLevel,
    /// What an orchestrator may choose hosts by. Sent as they are.
    pub labels: BTreeMap<String, String>,
    /// When offers are taken.
    pub admission: Admission,
    /// The link to the orchestrator.
    pub link: Link,
}

/// When offers are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Admission {
    /// Jobs at once; the broker's slots are the ceiling. Absent = all slots.
    pub max_jobs: Option<u32>,
    /// Space that must stay free in the state directory after a package was fetched, MiB.
    pub min_free_mib: u64,
    /// Output that waits for the orchestrator; beyond 90 % no offer is taken, MiB.
    pub spool_mib: u64,
}

/// The link to the orchestrator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Link {
    /// TCP connect and TLS handshake together, seconds.
    pub connect_timeout_s: u64,
    /// Longest pause between two tries to connect, seconds.
    pub backoff_max_s: u64,
}

/// How much the log says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// Failures that need a person.
    Error,
    /// And what was given up or tried again.
    Warn,
    /// And what a job did, a few lines each.
    Info,
    /// And each decision.
    Debug,
    /// And each message.
    Trace,
}

impl LogLevel {
    /// As `tracing` spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Why a file is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It can't be read.
    #[error("can't read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is too large to be meant.
    #[error("{} has {bytes} bytes, a configuration has at most {MAX_BYTES}", path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// It is not TOML of the known keys.
    #[error("{0}")]
    Syntax(#[from] toml::de::Error),
    /// A value that can't be used.
    #[error("{key}: {rule}")]
    Range {
        /// Which key.
        key: &'static str,
        /// The rule that it breaks.
        rule: String,
    },
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let read = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        let bytes = std::fs::metadata(path).map_err(read)?.len();
        if bytes > MAX_BYTES {
            return Err(Error::TooLarge {
                path: path.to_owned(),
                bytes,
            });
        }
        Self::parse(&std::fs::read_to_string(path).map_err(read)?)
    }

    /// Parses and checks a text.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let config: Self = toml::from_str(text)?;
        check::ranges(&config)?;
        Ok(config)
    }

    /// What parses but can hardly be meant on this host, each with its remedy.
    #[must_use]
    pub fn check(&self) -> Vec<Finding> {
        check::findings(self)
    }

    /// Key, certificates and what goes with them.
    #[must_use]
    pub fn identity_dir(&self) -> PathBuf {
        self.state_dir.join("identity")
    }

    /// One file per attempt that is not yet forgotten.
    #[must_use]
    pub fn jobs_dir(&self) -> PathBuf {
        self.state_dir.join("jobs")
    }

    /// robotd's own lanes: `job` and `audit`.
    #[must_use]
    pub fn lanes_dir(&self) -> PathBuf {
        self.state_dir.join("lanes")
    }

    /// One folder per attempt, made by the broker and written by its attendant.
    #[must_use]
    pub fn spool_dir(&self) -> PathBuf {
        self.state_dir.join("spool")
    }

    /// Packages on their way to the broker.
    #[must_use]
    pub fn tmp_dir(&self) -> PathBuf {
        self.state_dir.join("tmp")
    }

    /// robotctl's socket.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.runtime_dir.join("control.sock")
    }

    /// The socket of one attempt's attendant.
    #[must_use]
    pub fn attendant_socket(&self, attempt: &order::AttemptRef) -> PathBuf {
        self.runtime_dir
            .join("jobs")
            .join(attempt.to_string())
            .join("attendant.sock")
    }
}

impl Link {
    /// TCP connect and TLS handshake together.
    #[must_use]
    pub fn connect_timeout(&self) -> Duration {
        Duration::from_secs(self.connect_timeout_s)
    }

    /// Longest pause between two tries.
    #[must_use]
    pub fn backoff_max(&self) -> Duration {
        Duration::from_secs(self.backoff_max_s)
    }
}

#[cfg(test)]
mod tests;
