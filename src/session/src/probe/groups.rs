//! What a job's cgroup can hold it to.

use std::fs;
use std::path::{Path, PathBuf};

use order::{AttemptRef, JobId};
use privsep::abilities::Ability;

use crate::group;

const CONTROLLERS: [(Ability, &str); 4] = [
    (Ability::CgroupMemory, "memory"),
    (Ability::CgroupPids, "pids"),
    (Ability::CgroupCpu, "cpu"),
    (Ability::CgroupIo, "io"),
];

pub(super) fn find() -> Vec<(Ability, u32)> {
    let Ok(mount) = sys::cgroup::unified_mount() else {
        return vec![];
    };
    if Path::new("/run/systemd/system").is_dir() {
        // A job's group is its account's slice: systemd hands a controller down to it when a limit
        // that needs it is set, if the root has it.
        let kill = mount.join("user.slice/cgroup.kill").exists();
        return abilities(&controllers(&mount), kill);
    }
    own_group().unwrap_or_default()
}

/// A group as a job would have it, made and removed again.
fn own_group() -> Option<Vec<(Ability, u32)>> {
    let probe = AttemptRef {
        job: JobId::new(),
        number: 1,
    };
    let group = group::make(&probe).ok()??;
    let path: PathBuf = group.path().to_owned();
    let found = abilities(&controllers(&path), path.join("cgroup.kill").exists());
    // One that stays is empty and is found by its name at the next teardown.
    let _ = group.remove();
    Some(found)
}

fn controllers(folder: &Path) -> Vec<String> {
    let text = fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

fn abilities(controllers: &[String], kill: bool) -> Vec<(Ability, u32)> {
    let has = |name: &str| controllers.iter().any(|own| own == name);
    let found = CONTROLLERS.map(|(ability, name)| (ability, u32::from(has(name))));
    let kill = (Ability::CgroupKill, u32::from(kill));
    found.into_iter().chain([kill]).collect()
}
