//! What a host can do, as a probe found by trying, and what a policy requires of it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! abilities {
    ($($variant:ident = $name:literal, $text:literal;)*) => {
        /// Something that not every kernel or host can do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Ability {
            $(#[doc = $text] $variant,)*
        }

        impl Ability {
            /// Every ability.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// As policies and statuses write it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it is.
            pub fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

abilities! {
    CgroupCpu = "cgroup-cpu", "The cpu controller of cgroup v2 reaches a job's group.";
    CgroupIo = "cgroup-io", "The io controller of cgroup v2 reaches a job's group.";
    CgroupKill = "cgroup-kill", "A group is killed at once (cgroup.kill, Linux 5.14).";
    CgroupMemory = "cgroup-memory", "The memory controller of cgroup v2 reaches a job's group.";
    CgroupPids = "cgroup-pids", "The pids controller of cgroup v2 reaches a job's group.";
    CryptoErase = "crypto-erase", "Some volume is erased by destroying its key (fscrypt or dm-crypt).";
    DmCrypt = "dm-crypt", "Encrypted block devices.";
    Fscrypt = "fscrypt", "Encrypted folders.";
    Landlock = "landlock", "Landlock, with the version of its ABI.";
    Mdwe = "mdwe", "The kernel refuses to execute memory that was written (PR_SET_MDWE, Linux 6.3).";
    MemfdSecret = "memfd-secret", "Memory that the kernel itself does not map (memfd_secret).";
    Nft = "nft", "Rules of nftables in a network namespace.";
    NoSwap = "noswap", "A job's memory can't reach swap: there is none, or tmpfs keeps out of it (Linux 6.4).";
    Overlayfs = "overlayfs", "Overlays, which every job needs.";
    Seccomp = "seccomp", "Filters of system calls.";
    UserNamespaces = "user-namespaces", "User namespaces, which profile browser needs.";
}

impl FromStr for Ability {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|ability| ability.name() == name);
        found.copied().ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|ability| ability.name()).collect();
            format!(
                "{name:?} is no ability of a host; known are {}",
                known.join(", ")
            )
        })
    }
}

/// What a host can do: each ability with its level, at least 1. Those that stand are sorted and
/// stand once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abilities {
    found: Vec<(Ability, u32)>,
}

impl Abilities {
    /// From what was found; level 0 means that it is not there.
    pub fn new(found: impl IntoIterator<Item = (Ability, u32)>) -> Self {
        let mut found: Vec<_> = found.into_iter().filter(|(_, level)| *level > 0).collect();
        found.sort_unstable();
        found.dedup_by_key(|(ability, _)| *ability);
        Self { found }
    }

    /// Its level; 0 = not there.
    pub fn level(&self, ability: Ability) -> u32 {
        let own = self.found.iter().find(|(own, _)| *own == ability);
        own.map_or(0, |(_, level)| *level)
    }

    /// As people read it: `landlock=7`, the others by name.
    pub fn names(&self) -> Vec<String> {
        let name = |(ability, level): &(Ability, u32)| match ability {
            Ability::Landlock => format!("{}={level}", ability.name()),
            _ => ability.name().to_owned(),
        };
        self.found.iter().map(name).collect()
    }

    /// Names of what is not there, the same way.
    pub fn missing_names(&self) -> Vec<String> {
        let missing = Ability::ALL
            .iter()
            .filter(|ability| self.level(**ability) == 0);
        missing.map(|ability| ability.name().to_owned()).collect()
    }
}

/// An ability that must be there, at this level or a higher one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// Which.
    pub ability: Ability,
    /// At least 1.
    pub at_least: u32,
}

impl Requirement {
    /// Whether these abilities are enough.
    pub fn is_met(&self, abilities: &Abilities) -> bool {
        abilities.level(self.ability) >= self.at_least
    }
}

impl FromStr for Requirement {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((name, level)) = text.split_once(">=") else {
            let ability = text.parse()?;
            return Ok(Self {
                ability,
                at_least: 1,
            });
        };
        let ability = name.parse()?;
        if ability != Ability::Landlock {
            return Err(format!(
                "{text:?}: only landlock has versions; write {name:?}"
            ));
        }
        match level.parse() {
            Ok(at_least) if (1..=64).contains(&at_least) => Ok(Self { ability, at_least }),
            _ => Err(format!(
                "{text:?}: {level:?} is no version of Landlock, write 1 to 64"
            )),
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at_least {
            1 => out.write_str(self.ability.name()),
            level => write!(out, "{}>={level}", self.ability.name()),
        }
    }
}

impl<'de> Deserialize<'de> for Requirement {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_are_met_by_the_level_and_by_nothing_less() {
        let host = Abilities::new([
            (Ability::Landlock, 2),
            (Ability::Seccomp, 1),
            (Ability::NoSwap, 0),
        ]);
        let met = |text: &str| {
            let requirement: Requirement = text.parse().unwrap();
            requirement.is_met(&host)
        };
        assert!(met("landlock") && met("landlock>=2") && met("seccomp"));
        assert!(!met("landlock>=3") && !met("noswap") && !met("fscrypt"));
        assert_eq!(host.names(), ["landlock=2", "seccomp"]);
    }

    #[test]
    fn names_that_no_host_can_have_are_refused() {
        for wrong in [
            "",
            "landlok",
            "landlock>=",
            "landlock>=0",
            "landlock>=x",
            "seccomp>=2",
        ] {
            assert!(wrong.parse::<Requirement>().is_err(), "{wrong}");
        }
        for ability in Ability::ALL {
            assert_eq!(ability.name().parse(), Ok(*ability));
        }
    }
}
