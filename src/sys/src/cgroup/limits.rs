//! Bounds on what all processes of a group use together.

use std::io;

use super::{Disk, Error, Group};

/// A bound, with its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Bytes of memory; above, the kernel kills (`memory.max`).
    Memory(u64),
    /// Bytes of swap (`memory.swap.max`).
    Swap(u64),
    /// Out of memory ends all processes of the group, not one that the kernel picks
    /// (`memory.oom.group`).
    KillTogether(bool),
    /// Processes and threads (`pids.max`).
    Processes(u64),
    /// Microseconds of processor time in each period of so many microseconds (`cpu.max`).
    Cpu {
        /// Time allowed; above the period with more than one processor.
        quota: u64,
        /// The period.
        period: u64,
    },
    /// Share of processor time against other groups, 1 to 10000, usually 100 (`cpu.weight`).
    CpuWeight(u64),
    /// Share of the disks against other groups, 1 to 10000, usually 100 (`io.weight`).
    IoWeight(u64),
    /// Bytes read and bytes written in a second (`io.max`).
    IoBytes {
        /// A whole disk.
        disk: Disk,
        /// Each way.
        per_second: u64,
    },
    /// Groups that can be made below this one (`cgroup.max.descendants`).
    Descendants(u64),
}

impl Limit {
    /// The file that holds it.
    #[must_use]
    pub fn file(self) -> &'static str {
        match self {
            Self::Memory(_) => "memory.max",
            Self::Swap(_) => "memory.swap.max",
            Self::KillTogether(_) => "memory.oom.group",
            Self::Processes(_) => "pids.max",
            Self::Cpu { .. } => "cpu.max",
            Self::CpuWeight(_) => "cpu.weight",
            Self::IoWeight(_) => "io.weight",
            Self::IoBytes { .. } => "io.max",
            Self::Descendants(_) => "cgroup.max.descendants",
        }
    }

    fn value(self) -> String {
        match self {
            Self::Memory(value)
            | Self::Swap(value)
            | Self::Processes(value)
            | Self::CpuWeight(value)
            | Self::Descendants(value) => value.to_string(),
            Self::KillTogether(together) => u8::from(together).to_string(),
            Self::Cpu { quota, period } => format!("{quota} {period}"),
            Self::IoWeight(weight) => format!("default {weight}"),
            Self::IoBytes { disk, per_second } => {
                format!("{disk} rbps={per_second} wbps={per_second}")
            }
        }
    }

    /// Whether the file's text says that the group is bounded so, or tighter.
    fn is_in(self, text: &str) -> bool {
        let most =
            |text: &str, wanted: u64| text.trim().parse().is_ok_and(|own: u64| own <= wanted);
        match self {
            Self::Memory(value)
            | Self::Swap(value)
            | Self::Processes(value)
            | Self::CpuWeight(value)
            | Self::Descendants(value) => most(text, value),
            Self::KillTogether(together) => text.trim() == u8::from(together).to_string(),
            Self::Cpu { quota, period } => {
                let mut parts = text.split_ascii_whitespace().map(str::parse::<u64>);
                // Compared as shares: who wrote it may have chosen another period.
                matches!((parts.next(), parts.next()), (Some(Ok(own)), Some(Ok(each)))
                    if u128::from(own) * u128::from(period) <= u128::from(quota) * u128::from(each))
            }
            Self::IoWeight(weight) => {
                value_of(text, "default").is_some_and(|own| most(own, weight))
            }
            Self::IoBytes { disk, per_second } => {
                let line = value_of(text, &disk.to_string()).unwrap_or_default();
                ["rbps=", "wbps="].into_iter().all(|key| {
                    let found = line
                        .split_ascii_whitespace()
                        .find_map(|part| part.strip_prefix(key));
                    found.is_some_and(|own| most(own, per_second))
                })
            }
        }
    }
}

/// A limit that is not in force.
#[derive(Debug)]
pub struct NotApplied {
    /// Which one.
    pub limit: Limit,
    /// The kernel's reason; none when the controller is not available to this group.
    pub reason: Option<io::Error>,
}

impl Group {
    /// Sets limits, each if its controller is there, and returns those that are not in force.
    /// Whether a job may run without one of them is for the caller's policy.
    #[must_use = "a limit that was not applied does not limit"]
    pub fn apply(&self, limits: &[Limit]) -> Vec<NotApplied> {
        limits
            .iter()
            .filter_map(|limit| self.apply_one(*limit))
            .collect()
    }

    fn apply_one(&self, limit: Limit) -> Option<NotApplied> {
        match self.write(limit.file(), &limit.value()) {
            Ok(()) => None,
            Err(Error::Write { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Some(NotApplied {
                    limit,
                    reason: None,
                })
            }
            Err(Error::Write { source, .. }) => Some(NotApplied {
                limit,
                reason: Some(source),
            }),
            Err(error) => Some(NotApplied {
                limit,
                reason: Some(io::Error::other(error)),
            }),
        }
    }

    /// Those of these limits that are not in force in this group, whoever set them.
    #[must_use]
    pub fn not_in_force(&self, limits: &[Limit]) -> Vec<NotApplied> {
        let missing = |limit: &Limit| match self.read(limit.file()) {
            Ok(text) if limit.is_in(&text) => None,
            Ok(text) => {
                let reason = io::Error::other(format!("{} is {:?}", limit.file(), text.trim()));
                Some(NotApplied {
                    limit: *limit,
                    reason: Some(reason),
                })
            }
            Err(Error::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Some(NotApplied {
                    limit: *limit,
                    reason: None,
                })
            }
            Err(error) => Some(NotApplied {
                limit: *limit,
                reason: Some(io::Error::other(error)),
            }),
        };
        limits.iter().filter_map(missing).collect()
    }

    /// The controllers that this group may hand on.
    ///
    /// # Errors
    ///
    /// [`Error::Read`].
    pub fn controllers(&self) -> Result<Vec<String>, Error> {
        Ok(self
            .read("cgroup.controllers")?
            .split_ascii_whitespace()
            .map(str::to_owned)
            .collect())
    }

    /// Makes these controllers available to the groups below, as far as this group has them.
    ///
    /// # Errors
    ///
    /// [`Error::Read`], and [`Error::Write`] (`ResourceBusy` while this group itself holds processes).
    pub fn delegate(&self, controllers: &[&str]) -> Result<(), Error> {
        let available = self.controllers()?;
        for controller in controllers
            .iter()
            .filter(|name| available.iter().any(|has| has == *name))
        {
            self.write("cgroup.subtree_control", &format!("+{controller}"))?;
        }
        Ok(())
    }
}

/// The value in a file of lines `key value`.
pub(super) fn value_of<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.split_once(' ').filter(|(name, _)| *name == key))
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_the_kernel_reads_them() {
        assert_eq!(
            Limit::Cpu {
                quota: 150_000,
                period: 100_000
            }
            .value(),
            "150000 100000"
        );
        assert_eq!(Limit::KillTogether(true).value(), "1");
        assert_eq!(Limit::Memory(1 << 30).value(), "1073741824");
    }

    #[test]
    fn a_bound_is_in_force_when_the_kernel_s_is_as_tight() {
        let disk = Disk {
            major: 8,
            minor: 16,
        };
        let cases = [
            (Limit::Memory(4096), "4096\n", true),
            (Limit::Memory(4097), "4096\n", true),
            (Limit::Memory(4096), "8192\n", false),
            (Limit::Memory(4096), "max\n", false),
            (Limit::Swap(0), "0\n", true),
            (
                Limit::Cpu {
                    quota: 50_000,
                    period: 100_000,
                },
                "50000 100000\n",
                true,
            ),
            (
                Limit::Cpu {
                    quota: 50_000,
                    period: 100_000,
                },
                "5000 10000\n",
                true,
            ),
            (
                Limit::Cpu {
                    quota: 50_000,
                    period: 100_000,
                },
                "max 100000\n",
                false,
            ),
            (Limit::KillTogether(true), "0\n", false),
            (Limit::IoWeight(100), "default 100\n8:16 50\n", true),
            (
                Limit::IoBytes {
                    disk,
                    per_second: 9,
                },
                "8:1 rbps=9 wbps=9\n8:16 rbps=9 wbps=9 riops=max wiops=max\n",
                true,
            ),
            (
                Limit::IoBytes {
                    disk,
                    per_second: 9,
                },
                "8:16 rbps=9 wbps=max riops=max wiops=max\n",
                false,
            ),
            (
                Limit::IoBytes {
                    disk,
                    per_second: 9,
                },
                "",
                false,
            ),
        ];
        for (limit, text, wanted) in cases {
            assert_eq!(limit.is_in(text), wanted, "{limit:?} in {text:?}");
        }
    }

    #[test]
    fn a_key_is_not_mistaken_for_a_longer_one() {
        let text = "oom_group_kill 7\noom 1\noom_kill 2\n";
        assert_eq!(value_of(text, "oom_kill"), Some("2"));
        assert_eq!(value_of(text, "kill"), None);
    }
}
