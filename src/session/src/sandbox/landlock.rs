//! Landlock: a second lock on the job's files, which holds where a mount would not.
//!
//! Best effort up to what the kernel has; what was reached stands in the result. The rules name the
//! job's own root, so that a process which got at another tree would reach nothing in it.

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, CompatLevel, Compatible as _, LandlockStatus,
    RestrictionStatus, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, Scope,
    path_beneath_rules,
};

/// The newest version whose rights are used here. A later one is taken up when it has been tried.
const NEWEST: ABI = ABI::V7;

/// Programs lie here, and what the bot brings or makes.
const EXECUTABLE: [&str; 13] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/opt",
    "/etc",
    "/work",
    "/tmp",
    "/var/tmp",
    "/run/robot/bin",
];

/// Enforces it on this process and what it starts; returns the version reached, 0 for none.
/// `writable` are the volume's parts.
pub(super) fn enforce(writable: &[String], proc_writable: bool) -> Result<u32, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let devices = AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev;
    let own = AccessFs::from_all(NEWEST) & !(AccessFs::Execute | AccessFs::MakeChar) & !block();
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .scope(Scope::AbstractUnixSocket | Scope::Signal)?
        .create()?
        // All that is shown may be read: what must not be read is not shown.
        .add_rules(path_beneath_rules(["/"], read))?
        .add_rules(path_beneath_rules(EXECUTABLE, AccessFs::Execute))?
        .add_rules(path_beneath_rules(["/dev"], devices))?
        .add_rules(path_beneath_rules(writable, own))?;
    if let Some(home) = writable.first() {
        ruleset = ruleset.add_rules(path_beneath_rules([home], AccessFs::Execute))?;
    }
    if proc_writable {
        // The maps of a user namespace are written below /proc/self.
        let maps = AccessFs::WriteFile | AccessFs::Truncate;
        ruleset = ruleset.add_rules(path_beneath_rules(["/proc"], maps))?;
    }
    Ok(reached(&ruleset.restrict_self()?))
}

fn block() -> BitFlags<AccessFs> {
    AccessFs::MakeBlock.into()
}

fn reached(status: &RestrictionStatus) -> u32 {
    match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => effective_abi.min(NEWEST) as u32,
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => 0,
    }
}
