//! Identifiers of this process and this boot; those that cross a boundary come from `order`.

use std::io;

use uuid::Uuid;

pub(crate) use order::{AgentId, AttemptRef, JobId, LeaseId, Sha256Hex};

/// Where the kernel names the current boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Tells restart, reboot and clone apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Incarnation {
    /// Random per process start.
    pub(crate) instance: String,
    /// Per boot: ticks of CLOCK_BOOTTIME mean nothing beyond it.
    pub(crate) boot: String,
}

impl Incarnation {
    /// This process, in this boot.
    pub(crate) fn of_this_process() -> io::Result<Self> {
        Ok(Self {
            instance: Uuid::new_v4().to_string(),
            boot: std::fs::read_to_string(BOOT_ID)?.trim().to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_processes_of_one_boot_differ_in_the_instance_only() {
        let one = Incarnation::of_this_process().unwrap();
        let other = Incarnation::of_this_process().unwrap();
        assert_eq!(one.boot, other.boot);
        assert_ne!(one.instance, other.instance);
    }
}
