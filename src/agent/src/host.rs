//! What robotd says of its host: facts once, load with every heartbeat.

use std::path::PathBuf;
use std::sync::Mutex;

use sysinfo::System;

/// Does not change while robotd runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Name.
    pub(crate) hostname: String,
    /// Distribution and its version.
    pub(crate) os_release: String,
    /// Kernel's version.
    pub(crate) kernel: String,
    /// Processor's architecture.
    pub(crate) arch: String,
    /// Processors.
    pub(crate) cpu_count: u32,
    /// Memory.
    pub(crate) memory_bytes: u64,
}

/// Now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Load {
    /// Of all processors, 0 to 1, since the last look.
    pub(crate) cpu_fraction: f32,
    /// Memory that can be had without swapping.
    pub(crate) memory_available: u64,
    /// Space in the state directory.
    pub(crate) disk_available: u64,
}

/// Looks at the host.
pub(crate) struct Host {
    /// None where /proc can't be read: then nothing is known of load.
    system: Mutex<Option<System>>,
    state_dir: PathBuf,
}

impl Host {
    /// `state_dir` is whose disk counts.
    pub(crate) fn new(state_dir: PathBuf) -> Self {
        let mut system = System::new().ok();
        if let Some(system) = &mut system {
            system.refresh_cpu_usage();
            system.refresh_memory();
        }
        Self {
            system: Mutex::new(system),
            state_dir,
        }
    }

    /// What a person would put on its label.
    pub(crate) fn facts(&self) -> Facts {
        let system = self
            .system
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        Facts {
            hostname: System::host_name().unwrap_or_default(),
            os_release: System::long_os_version().unwrap_or_default(),
            kernel: System::kernel_version().unwrap_or_default(),
            arch: std::env::consts::ARCH.to_owned(),
            cpu_count: system.as_ref().map_or(0, |system| {
                u32::try_from(system.cpus().len()).unwrap_or(u32::MAX)
            }),
            memory_bytes: system.as_ref().map_or(0, System::total_memory),
        }
    }

    /// A few small files of /proc: some hundred microseconds.
    pub(crate) fn load(&self) -> Load {
        let mut system = self
            .system
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(system) = system.as_mut() {
            system.refresh_cpu_usage();
            system.refresh_memory();
        }
        let disk = nix::sys::statvfs::statvfs(&self.state_dir);
        Load {
            cpu_fraction: system.as_ref().map_or(0.0, |system| {
                (system.global_cpu_usage() / 100.0).clamp(0.0, 1.0)
            }),
            memory_available: system.as_ref().map_or(0, System::available_memory),
            disk_available: disk.map_or(0, |disk| {
                disk.blocks_available().saturating_mul(disk.fragment_size())
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fact_of_this_host_is_known() {
        let host = Host::new("/".into());
        let facts = host.facts();
        assert!(facts.cpu_count > 0 && facts.memory_bytes > 0);
        assert!(
            ![facts.hostname, facts.os_release, facts.kernel, facts.arch].contains(&String::new())
        );
        let load = host.load();
        assert!(load.memory_available > 0 && load.disk_available > 0);
    }
}
