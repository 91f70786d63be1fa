//! Times and sizes of a job, each with its range.

use serde::{Deserialize, Serialize};

/// What one job may use. Units are in the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// From the start of the OS session to its display and the bot's program.
    pub session_ms: u64,
    /// From RUNNING to the soft stop.
    pub run_ms: u64,
    /// From SIGTERM to the kill of everything.
    pub stop_grace_ms: u64,
    /// Size of the scratch volume: all that the bot can write.
    pub volume_bytes: u64,
    /// Output that is kept; what goes beyond is counted in a gap.
    pub log_bytes: u64,
    /// All artifacts together.
    pub artifact_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            session_ms: 120_000,
            run_ms: 3_600_000,
            stop_grace_ms: 10_000,
            volume_bytes: 512 << 20,
            log_bytes: 1 << 30,
            artifact_bytes: 256 << 20,
        }
    }
}

/// The range of one limit, both ends included.
#[derive(Clone, Copy, Debug)]
pub struct LimitRange {
    /// The field's name.
    pub name: &'static str,
    /// Smallest accepted value.
    pub min: u64,
    /// Largest accepted value.
    pub max: u64,
}

const DAY_MS: u64 = 24 * 3_600_000;

/// Every limit with its range. A policy may lower the upper ends, never raise them.
pub const LIMITS: [LimitRange; 6] = [
    // A PAM stack took twelve seconds on a host under load; a display one.
    LimitRange {
        name: "session-ms",
        min: 5_000,
        max: 3_600_000,
    },
    LimitRange {
        name: "run-ms",
        min: 1_000,
        max: 7 * DAY_MS,
    },
    LimitRange {
        name: "stop-grace-ms",
        min: 0,
        max: 600_000,
    },
    // Home, tmp, shm, run and the entry's files need some space to exist at all.
    LimitRange {
        name: "volume-bytes",
        min: 4 << 20,
        max: 1 << 40,
    },
    LimitRange {
        name: "log-bytes",
        min: 64 << 10,
        max: 1 << 40,
    },
    LimitRange {
        name: "artifact-bytes",
        min: 0,
        max: 1 << 40,
    },
];

impl Limits {
    /// The values in the order of [`LIMITS`].
    pub fn values(&self) -> [u64; 6] {
        [
            self.session_ms,
            self.run_ms,
            self.stop_grace_ms,
            self.volume_bytes,
            self.log_bytes,
            self.artifact_bytes,
        ]
    }

    /// The first limit that is out of its range, with its value.
    pub fn out_of_range(&self) -> Option<(LimitRange, u64)> {
        let pairs = LIMITS.into_iter().zip(self.values());
        pairs
            .into_iter()
            .find(|(range, value)| !(range.min..=range.max).contains(value))
    }
}
