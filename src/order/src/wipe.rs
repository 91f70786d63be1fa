//! What became of a job's scratch volume, and what proves it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a scratch volume is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeBackend {
    /// Memory.
    Tmpfs,
    /// A file system of its own on an encrypted block device: names, sizes and times are encrypted too.
    DmCrypt,
    /// An encrypted folder of a file system of its own: contents and names are encrypted.
    Fscrypt,
    /// A file system of its own, readable on the disk.
    Plain,
}

impl VolumeBackend {
    /// All of them, the strongest first.
    pub const ALL: [Self; 4] = [Self::Tmpfs, Self::DmCrypt, Self::Fscrypt, Self::Plain];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tmpfs => "tmpfs",
            Self::DmCrypt => "dm-crypt",
            Self::Fscrypt => "fscrypt",
            Self::Plain => "plain",
        }
    }

    /// From how it is written.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|backend| backend.name() == name)
    }

    /// What a wipe that worked is worth.
    pub fn assurance(self) -> Assurance {
        match self {
            Self::Tmpfs => Assurance::VolatileReleased,
            Self::DmCrypt | Self::Fscrypt => Assurance::CryptographicErase,
            Self::Plain => Assurance::Unlinked,
        }
    }
}

impl fmt::Display for VolumeBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a wipe is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Assurance {
    /// All that was written was encrypted with a key that was in no memory but the kernel's, and the
    /// key is destroyed. Whoever has the disk reads nothing.
    CryptographicErase,
    /// Memory that the kernel took back; it was on no disk.
    VolatileReleased,
    /// Deleted. Whoever has the disk may read it.
    Unlinked,
    /// Not proven.
    Failed,
}

impl Assurance {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::CryptographicErase => "cryptographic-erase",
            Self::VolatileReleased => "volatile-released",
            Self::Unlinked => "unlinked",
            Self::Failed => "failed",
        }
    }
}

/// What was asked of a volume when it was gone: a file of random bytes under a random name, made
/// before the job and looked for after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Canary {
    /// It can't be read any more.
    Gone,
    /// It can.
    Readable,
    /// Who knew it died before the wipe.
    NotChecked,
}

/// The key of an encrypted volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct KeyReport {
    /// What it encrypts with.
    pub cipher: String,
    /// The kernel's public name of it: for fscrypt derived from the key, for dm-crypt the device's.
    /// Empty when who knew it died.
    pub identifier: String,
    /// Host's wall clock, milliseconds since 1970. 0 = not known.
    pub created_unix_ms: u64,
    /// The moment at which the kernel had it no more; 0 = it may still have it.
    pub destroyed_unix_ms: u64,
    /// What the kernel said when fscrypt's key was taken away (`removal_status_flags`): 0 = gone;
    /// 1 = files were still in use. Absent where the key goes with its device or file system.
    pub removal_flags: Option<u32>,
}

/// A search of the raw disk space for what must not be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ScanReport {
    /// How many were read.
    pub bytes: u64,
    /// Secrets that were looked for, beside the canary and its name.
    pub secrets: u32,
    /// Secrets of fewer than eight bytes: they are found in random bytes by chance.
    pub too_short: u32,
    /// How many of all those were there.
    pub found: u32,
}

/// A volume and its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct VolumeReport {
    /// What it was.
    pub backend: VolumeBackend,
    /// Stronger ones that were not taken, each with its reason.
    pub passed_over: Vec<String>,
    /// Its key, where it has one.
    pub key: Option<KeyReport>,
    /// Files and directories that the job left on it.
    pub files: u64,
    /// Bytes that they took.
    pub bytes: u64,
    /// Whether its canary could be read afterwards.
    pub canary: Canary,
    /// The search of its disk space; absent when none was made: the policy wants none, or there is
    /// nothing to prove.
    pub scan: Option<ScanReport>,
}

/// What the wipe did and what it proved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct WipeReport {
    /// Nothing of the job is left on the host; only then the slot is used again.
    pub complete: bool,
    /// What that is worth against somebody who has the disk.
    pub assurance: Assurance,
    /// The volume; absent when none was made, or nobody knows what it was.
    pub volume: Option<VolumeReport>,
    /// Whether the volume's pages could reach swap: `none` (the host has none), `excluded`, `possible`.
    pub swap: String,
    /// From the first step of the volume's end to its last proof, milliseconds.
    pub duration_ms: u64,
    /// What was swept outside the volume, one line per kind, for example `sysv-shm: 2`.
    pub swept: Vec<String>,
    /// What could not be removed, one line each.
    pub leftovers: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        for backend in VolumeBackend::ALL {
            assert_eq!(VolumeBackend::from_name(backend.name()), Some(backend));
            let json = serde_json::to_string(&backend).unwrap();
            assert_eq!(json, format!("\"{backend}\""));
        }
        assert_eq!(VolumeBackend::from_name("auto"), None);
    }

    #[test]
    fn what_can_be_read_on_the_disk_is_never_called_erased() {
        assert_eq!(VolumeBackend::Plain.assurance(), Assurance::Unlinked);
    }
}
