//! What a job could have left on this machine, looked at from outside the product.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use order::AttemptRef;

/// Everything that is there now and belongs to one of some accounts.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Leftovers(pub Vec<String>);

impl Leftovers {
    /// Looks for processes, files, IPC objects, keys, cron and at entries, mounts and cgroups.
    ///
    /// # Panics
    /// When /proc can't be read.
    pub fn of(accounts: &[String]) -> Self {
        let mut found = Vec::new();
        for name in accounts {
            let account = sys::account::by_name(name)
                .expect("a look-up")
                .expect("the account");
            let uid = account.uid;
            let processes = sys::account::processes_of_uid(uid).expect("processes");
            found.extend(processes.iter().map(|pid| format!("{name}: process {pid}")));
            let objects = sys::ipc::count(uid).expect("IPC objects");
            if !objects.is_empty() {
                found.push(format!("{name}: {objects:?}"));
            }
            let keys = sys::keyring::count(uid, account.gid).expect("keys");
            if keys > 0 {
                found.push(format!("{name}: {keys} keys"));
            }
            for directory in [
                "/tmp",
                "/var/tmp",
                "/dev/shm",
                "/var/spool/cron/crontabs",
                "/var/spool/cron/atjobs",
                "/run/lock",
            ] {
                found.extend(owned(Path::new(directory), uid.as_raw()));
            }
        }
        found.extend(mounts());
        Self(found)
    }
}

fn owned(directory: &Path, uid: u32) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let owned = entries.filter(|entry| entry.metadata().is_ok_and(|facts| facts.uid() == uid));
    owned
        .map(|entry| format!("file {}", entry.path().display()))
        .collect()
}

/// A volume on the host itself would be a breach; each job's lies in its own namespace.
fn mounts() -> Vec<String> {
    let mounts = sys::mount::own_mounts().expect("mounts");
    let ours = mounts.iter().filter(|mount| {
        let source = mount.source.to_string_lossy();
        let attempt = source.strip_prefix("robotd-").map(str::parse::<AttemptRef>);
        matches!(attempt, Some(Ok(_)))
    });
    ours.map(|mount| format!("mount {}", mount.mount_point.display()))
        .collect()
}
