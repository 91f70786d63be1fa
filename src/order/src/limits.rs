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
    /// The bot is stopped when it did nothing for so long; 0 = as long as the host allows.
    pub idle_ms: u64,
    /// Size of the scratch volume: all that the bot can write.
    pub volume_bytes: u64,
    /// Files, directories and links on the volume.
    pub volume_files: u64,
    /// Output that is kept; what goes beyond is counted in a gap.
    pub log_bytes: u64,
    /// All artifacts together.
    pub artifact_bytes: u64,
    /// Memory of all processes of the job, with what they write to volumes that are memory. Above
    /// it the kernel ends the job. Swap is never used.
    pub memory_bytes: u64,
    /// Processes and threads of the job.
    pub processes: u64,
    /// Processor time in percent of one processor; 0 = as much as the host allows.
    pub cpu_percent: u64,
    /// Share of processor time against other jobs where it is short; 100 is usual.
    pub cpu_weight: u64,
    /// Share of the disks against other jobs where they are busy; 100 is usual.
    pub io_weight: u64,
    /// Bytes read and bytes written in a second, for each disk; 0 = as many as the host allows.
    pub io_bytes_per_second: u64,
    /// Open files of each process.
    pub open_files: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            session_ms: 120_000,
            run_ms: 3_600_000,
            stop_grace_ms: 10_000,
            idle_ms: 0,
            volume_bytes: 512 << 20,
            volume_files: Limits::files_of(512 << 20),
            log_bytes: 1 << 30,
            artifact_bytes: 256 << 20,
            // A browser with some tabs, or an office program with a large document, beside a volume
            // of the usual size that is memory too.
            memory_bytes: 2 << 30,
            // Chromium dies silently with 64 and runs with 512.
            processes: 1024,
            cpu_percent: 0,
            cpu_weight: 100,
            io_weight: 100,
            io_bytes_per_second: 0,
            // A browser with many tabs; the usual soft limit of 1024 is too low for it.
            open_files: 8192,
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
pub const LIMITS: [LimitRange; 15] = [
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
    LimitRange {
        name: "idle-ms",
        min: 0,
        max: 7 * DAY_MS,
    },
    // Home, tmp, shm, run and the entry's files need some space to exist at all.
    LimitRange {
        name: "volume-bytes",
        min: 4 << 20,
        max: 1 << 40,
    },
    // What a job has before its bot made any, and a profile of a desktop program.
    LimitRange {
        name: "volume-files",
        min: 1_000,
        max: 1 << 26,
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
    // The account's user manager, the session's leader and init take a third of it.
    LimitRange {
        name: "memory-bytes",
        min: 64 << 20,
        max: 1 << 42,
    },
    // The same, with a display: about twenty.
    LimitRange {
        name: "processes",
        min: 32,
        max: 1 << 20,
    },
    LimitRange {
        name: "cpu-percent",
        min: 0,
        max: 100_000,
    },
    // As the kernel counts them (cpu.weight, io.weight).
    LimitRange {
        name: "cpu-weight",
        min: 1,
        max: 10_000,
    },
    LimitRange {
        name: "io-weight",
        min: 1,
        max: 10_000,
    },
    LimitRange {
        name: "io-bytes-per-second",
        min: 0,
        max: 1 << 40,
    },
    // A display and a desktop bus take some forty each.
    LimitRange {
        name: "open-files",
        min: 64,
        max: 1 << 20,
    },
];

/// Limits of which 0 says that the order does not ask for any, each with the least that it can ask
/// for: the host's own then holds.
const OPEN: [(&str, u64); 3] = [
    ("idle-ms", 1_000),
    // A hundredth of a processor starts nothing in the time that opening has.
    ("cpu-percent", 5),
    ("io-bytes-per-second", 64 << 10),
];

impl Limits {
    /// Files on a volume of so many bytes, as ext4 counts by default (one per 16 KiB), with a floor
    /// that holds a browser's profile.
    #[must_use]
    pub const fn files_of(volume_bytes: u64) -> u64 {
        const BYTES_PER_FILE: u64 = 16 * 1024;
        const LEAST: u64 = 20_000;
        let files = volume_bytes / BYTES_PER_FILE;
        if files > LEAST { files } else { LEAST }
    }

    /// The values in the order of [`LIMITS`].
    pub fn values(&self) -> [u64; 15] {
        [
            self.session_ms,
            self.run_ms,
            self.stop_grace_ms,
            self.idle_ms,
            self.volume_bytes,
            self.volume_files,
            self.log_bytes,
            self.artifact_bytes,
            self.memory_bytes,
            self.processes,
            self.cpu_percent,
            self.cpu_weight,
            self.io_weight,
            self.io_bytes_per_second,
            self.open_files,
        ]
    }

    /// The first limit that is out of its range, with its value.
    pub fn out_of_range(&self) -> Option<(LimitRange, u64)> {
        let pairs = LIMITS.into_iter().zip(self.values());
        pairs
            .into_iter()
            .map(|(range, value)| (range.or_none(value), value))
            .find(|(range, value)| !(range.min..=range.max).contains(value))
    }
}

impl LimitRange {
    /// The range of a value that asks for something, where 0 asks for nothing.
    fn or_none(self, value: u64) -> Self {
        let least = OPEN.iter().find(|(name, _)| *name == self.name);
        match least {
            Some((_, min)) if value > 0 => Self { min: *min, ..self },
            _ => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_defaults_are_in_range_and_let_a_browser_run() {
        let limits = Limits::default();
        assert_eq!(limits.out_of_range().map(|(range, _)| range.name), None);
        assert!(limits.processes >= 512 && limits.open_files >= 4096);
        assert!(limits.memory_bytes > limits.volume_bytes + (1 << 30));
    }

    #[test]
    fn what_asks_for_nothing_is_taken_and_what_asks_for_next_to_nothing_is_not() {
        let mut limits = Limits {
            idle_ms: 0,
            cpu_percent: 0,
            io_bytes_per_second: 0,
            ..Limits::default()
        };
        assert!(limits.out_of_range().is_none());
        limits.cpu_percent = 1;
        let (range, value) = limits.out_of_range().unwrap();
        assert_eq!((range.name, range.min, value), ("cpu-percent", 5, 1));
    }

    proptest! {
        #[test]
        fn a_value_is_refused_exactly_when_its_own_range_does(at in 0_usize..15, value in any::<u64>()) {
            let mut values = serde_json::to_value(Limits::default()).unwrap();
            values[LIMITS[at].name] = value.into();
            let limits: Limits = serde_json::from_value(values).unwrap();
            let range = LIMITS[at].or_none(value);
            let fits = (range.min..=range.max).contains(&value);
            prop_assert_eq!(limits.values()[at], value, "{} stands elsewhere", range.name);
            prop_assert_eq!(limits.out_of_range().map(|(range, _)| range.name), (!fits).then_some(range.name));
        }
    }
}
