//! Bounds on what all processes of a group use together.

use std::io;

use super::{Error, Group};

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

    /// How many processes of this group and those below the kernel has killed for want of
    /// memory; none without the memory controller.
    ///
    /// # Errors
    ///
    /// [`Error::Read`].
    pub fn killed_for_memory(&self) -> Result<Option<u64>, Error> {
        match self.read("memory.events") {
            Ok(text) => Ok(value_of(&text, "oom_kill").and_then(|value| value.parse().ok())),
            Err(Error::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
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
    fn a_key_is_not_mistaken_for_a_longer_one() {
        let text = "oom_group_kill 7\noom 1\noom_kill 2\n";
        assert_eq!(value_of(text, "oom_kill"), Some("2"));
        assert_eq!(value_of(text, "kill"), None);
    }
}
