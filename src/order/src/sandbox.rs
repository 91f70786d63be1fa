//! Sandbox profiles: what each grants a job, in one table.
//!
//! A profile says what a class of programs can't do without; everything else is the same for all and
//! stands in `session/src/sandbox`. Measured on Debian 12 with Python, Tk, Chromium and LibreOffice.

use serde::{Deserialize, Serialize};

/// A sandbox profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SandboxProfile {
    /// Scripts and plain programs, with or without a display.
    Script,
    /// Browsers and what else makes code while it runs, or a sandbox of its own.
    Browser,
    /// LibreOffice and its like on a display.
    Office,
    /// Programs that work under none of the others; each thing that it goes without is named.
    Legacy,
}

/// What a profile grants.
#[derive(Clone, Copy, Debug)]
pub struct Grants {
    /// Which profile.
    pub profile: SandboxProfile,
    /// What it is for.
    pub purpose: &'static str,
    /// Own user namespaces with pid and network namespaces in them, and `chroot` there: without
    /// them Chromium has "No usable sandbox!".
    pub user_namespaces: bool,
    /// Memory that was written may be executed: compilers at run time (V8, Java, .NET) need it.
    pub new_code: bool,
    /// A writable /proc: the maps of a user namespace are written there.
    pub proc_writable: bool,
    /// ptrace(2) and its like on own processes: debuggers.
    pub trace: bool,
    /// The policy may name parts to go without.
    pub opt_outs: bool,
    /// Fewest processes and threads that it works with.
    pub least_pids: u64,
}

/// Every profile.
pub const PROFILES: [Grants; 4] = [
    Grants {
        profile: SandboxProfile::Script,
        purpose: "Python, Tk, shells, compiled programs",
        user_namespaces: false,
        new_code: false,
        proc_writable: false,
        trace: false,
        opt_outs: false,
        least_pids: 16,
    },
    Grants {
        profile: SandboxProfile::Browser,
        purpose: "Chromium with its own sandbox; Node, Java, .NET",
        user_namespaces: true,
        new_code: true,
        proc_writable: true,
        trace: false,
        opt_outs: false,
        least_pids: 512,
    },
    Grants {
        profile: SandboxProfile::Office,
        purpose: "LibreOffice on a display",
        user_namespaces: false,
        new_code: false,
        proc_writable: false,
        trace: false,
        opt_outs: false,
        least_pids: 128,
    },
    Grants {
        profile: SandboxProfile::Legacy,
        purpose: "as script, without what `sandbox.legacy.without` names",
        user_namespaces: false,
        new_code: false,
        proc_writable: false,
        trace: false,
        opt_outs: true,
        least_pids: 16,
    },
];

impl SandboxProfile {
    /// As orders and policies write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Script => "script",
            Self::Browser => "browser",
            Self::Office => "office",
            Self::Legacy => "legacy",
        }
    }

    /// The profile of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let found = PROFILES.iter().find(|row| row.profile.name() == name);
        found.map(|row| row.profile)
    }

    /// Its row of the table.
    #[must_use]
    pub fn grants(self) -> &'static Grants {
        let row = PROFILES.iter().find(|row| row.profile == self);
        // Every variant has a row; a test says so.
        row.unwrap_or(&PROFILES[0])
    }
}

/// A part of the sandbox that a policy can have `legacy` go without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SandboxPart {
    /// All filtering of system calls.
    Seccomp,
    /// The Landlock rules.
    Landlock,
    /// The refusal to execute memory that was written.
    Mdwe,
    /// The refusal of user namespaces.
    NoUserNamespaces,
    /// The refusal to trace own processes.
    NoTrace,
}

impl SandboxPart {
    /// Every part.
    pub const ALL: [Self; 5] = [
        Self::Seccomp,
        Self::Landlock,
        Self::Mdwe,
        Self::NoUserNamespaces,
        Self::NoTrace,
    ];

    /// As policies and results write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Seccomp => "seccomp",
            Self::Landlock => "landlock",
            Self::Mdwe => "mdwe",
            Self::NoUserNamespaces => "no-user-namespaces",
            Self::NoTrace => "no-trace",
        }
    }
}

/// Under which guarantees a job ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SandboxSummary {
    /// The profile.
    pub profile: SandboxProfile,
    /// Version of Landlock that was enforced, at most what both the kernel and this program know;
    /// 0 = none.
    pub landlock: u32,
    /// System calls were filtered.
    pub seccomp: bool,
    /// What kept written memory from being executed.
    pub mdwe: Mdwe,
    /// Parts that the policy had it go without.
    pub without: Vec<SandboxPart>,
}

/// What keeps written memory from being executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mdwe {
    /// Nothing: the profile allows it.
    Off,
    /// The filter of system calls, where the kernel can't (before Linux 6.3).
    Seccomp,
    /// The kernel (`PR_SET_MDWE`).
    Kernel,
}

/// The table as the documentation shows it, in Markdown.
#[must_use]
pub fn profile_table() -> String {
    let yes = |granted: bool| if granted { "yes" } else { "no" };
    let head = "| profile | for | user namespaces | executes what it wrote | writes /proc | traces its own processes | least `pids` |\n\
                |---|---|---|---|---|---|---|\n";
    let rows = PROFILES.iter().map(|row| {
        let by_policy = |granted| {
            if row.opt_outs {
                "by policy"
            } else {
                yes(granted)
            }
        };
        format!(
            "| `{}` | {} | {} | {} | {} | {} | {} |\n",
            row.profile.name(),
            row.purpose,
            by_policy(row.user_namespaces),
            by_policy(row.new_code),
            by_policy(row.proc_writable),
            by_policy(row.trace),
            row.least_pids,
        )
    });
    head.to_owned() + &rows.collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_has_one_row_and_is_found_by_its_name() {
        for row in &PROFILES {
            let profile = row.profile;
            assert_eq!(SandboxProfile::from_name(profile.name()), Some(profile));
            assert_eq!(profile.grants().profile, profile);
        }
        assert_eq!(SandboxProfile::from_name("root"), None);
    }

    #[test]
    fn only_legacy_can_go_without_parts_and_grants_nothing_by_itself() {
        for row in PROFILES.iter().filter(|row| row.opt_outs) {
            assert_eq!(row.profile, SandboxProfile::Legacy);
            assert!(!row.user_namespaces && !row.new_code && !row.proc_writable && !row.trace);
        }
    }

    #[test]
    fn who_makes_user_namespaces_can_write_their_maps() {
        for row in &PROFILES {
            assert!(!row.user_namespaces || row.proc_writable, "{row:?}");
        }
    }

    #[test]
    fn the_documentation_shows_this_table() {
        for (name, text) in [
            ("README.md", include_str!("../../../README.md")),
            ("ARCHITECTURE.md", include_str!("../../../ARCHITECTURE.md")),
        ] {
            assert!(
                text.contains(&profile_table()),
                "{name} shows another table than:\n{}",
                profile_table()
            );
        }
    }
}
