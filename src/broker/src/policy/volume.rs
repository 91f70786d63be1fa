//! `[volume]`: what jobs write to, and what is done with it afterwards.

use std::path::PathBuf;

use order::VolumeBackend;
use privsep::volume::Rules;
use serde::Deserialize;

use super::PolicyError;
use super::check::{is_plain, refuse};

/// What jobs write to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct VolumePolicy {
    /// Of which kind.
    pub(crate) backend: BackendPolicy,
    /// Whether `auto` may end with a volume that is readable on the disk after its job.
    pub(crate) allow_plain: bool,
    /// Where images of volumes on the disk lie.
    pub(crate) store: PathBuf,
    /// Largest volume that `auto` puts into memory.
    pub(crate) memory_mib: u64,
    /// What the file system of the store keeps free.
    pub(crate) reserve_mib: u64,
    /// Whether the raw disk space is searched after each job.
    pub(crate) deep_scan: DeepScan,
}

impl Default for VolumePolicy {
    fn default() -> Self {
        Self {
            backend: BackendPolicy::Auto,
            allow_plain: false,
            store: "/var/lib/robotd-volumes".into(),
            memory_mib: 1024,
            reserve_mib: 1024,
            deep_scan: DeepScan::Never,
        }
    }
}

/// `volume.backend`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum BackendPolicy {
    /// The strongest that works on this host and fits the job.
    Auto,
    /// Memory.
    Tmpfs,
    /// An encrypted block device.
    DmCrypt,
    /// An encrypted folder.
    Fscrypt,
    /// Readable on the disk.
    Plain,
}

/// `volume.deep-scan`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DeepScan {
    /// The canary is asked for, the disk space is not read.
    Never,
    /// All of it is read after each job.
    Always,
}

impl VolumePolicy {
    /// As a session is told.
    pub(crate) fn rules(&self) -> Rules {
        let backend = match self.backend {
            BackendPolicy::Auto => None,
            BackendPolicy::Tmpfs => Some(VolumeBackend::Tmpfs),
            BackendPolicy::DmCrypt => Some(VolumeBackend::DmCrypt),
            BackendPolicy::Fscrypt => Some(VolumeBackend::Fscrypt),
            BackendPolicy::Plain => Some(VolumeBackend::Plain),
        };
        Rules {
            backend,
            allow_plain: self.allow_plain,
            store: self.store.display().to_string(),
            memory_bytes: self.memory_mib << 20,
            reserve_bytes: self.reserve_mib << 20,
            deep_scan: self.deep_scan == DeepScan::Always,
        }
    }

    pub(super) fn check(&self) -> Result<(), PolicyError> {
        for (key, value) in [
            ("memory-mib", self.memory_mib),
            ("reserve-mib", self.reserve_mib),
        ] {
            if value > 1 << 24 {
                let reason = format!("{value} is out of range, write 0 to {}", 1 << 24);
                return Err(refuse(format!("volume.{key}"), reason));
            }
        }
        if !is_plain(&self.store) {
            let path = self.store.display();
            let reason = format!("{path} is not an absolute path without \"..\"");
            return Err(refuse("volume.store", reason));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Policy;
    use super::*;

    #[test]
    fn by_default_nothing_readable_stays_on_a_disk() {
        let rules = Policy::parse("").unwrap().volume.rules();
        assert_eq!((rules.backend, rules.allow_plain), (None, false));
    }

    #[test]
    fn each_kind_can_be_named() {
        for backend in VolumeBackend::ALL {
            let policy = Policy::parse(&format!("[volume]\nbackend = \"{backend}\""));
            assert_eq!(policy.unwrap().volume.rules().backend, Some(backend));
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for text in [
            "store = \"volumes\"",
            "memory-mib = 99999999",
            "deep-scan = true",
        ] {
            assert!(
                Policy::parse(&format!("[volume]\n{text}")).is_err(),
                "{text}"
            );
        }
    }
}
