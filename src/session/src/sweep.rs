//! What an account can leave outside its scratch volume, found and removed by account, and the
//! proof that nothing of it is there any more.
//!
//! What a bot itself can reach is its volume: no path of the host is writable in its root, its IPC
//! objects are those of its own namespace. What is looked for here was made for it by somebody
//! with rights on the host: the kernel's core dump program, PAM modules, cron, at, a mail system, a user
//! manager. Those write in the places below and, as root, where an account's name or number is in
//! the name. A walk over whole file systems would take minutes on each job and prove nothing more.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use privsep::session::{Account, Backend, Swept};
use sys::beneath::{Removed, remove_tree_apart};

/// Folders in which something can belong to an account: those that everyone can write, and spools
/// that programs with rights of their own write for users. Each is looked through one level deep.
const SHARED: [&str; 21] = [
    "/tmp",
    "/var/tmp",
    // Displays started outside of a job; the job's own are on its volume.
    "/tmp/.X11-unix",
    "/tmp/.ICE-unix",
    "/tmp/.XIM-unix",
    "/tmp/.font-unix",
    "/dev/shm",
    "/run/lock",
    "/run/screen",
    "/var/mail",
    "/var/spool/mail",
    "/var/spool/cron/crontabs",
    "/var/spool/cron/atjobs",
    "/var/spool/cron/atspool",
    "/var/spool/at",
    "/var/spool/at/spool",
    "/var/spool/cups",
    "/var/spool/cups/tmp",
    // The kernel runs the program of core_pattern on the host, whatever namespace the dead one was in.
    "/var/lib/systemd/coredump",
    "/var/crash",
    "/var/spool/abrt",
];

/// Files that are named after an account and belong to root; `NAME` and `UID` stand for its own.
const NAMED: [(&str, &str); 7] = [
    ("cron", "/var/spool/cron/crontabs/NAME"),
    ("cron", "/var/spool/cron/NAME"),
    ("linger", "/var/lib/systemd/linger/NAME"),
    ("mail", "/var/mail/NAME"),
    ("mail", "/var/spool/mail/NAME"),
    ("sudo-ticket", "/run/sudo/ts/NAME"),
    ("sudo-ticket", "/run/sudo/ts/UID"),
];

/// Where dumps are kept that root owns; whose they are stands in their names.
const DUMPS: [&str; 2] = ["/var/lib/systemd/coredump", "/var/crash"];

/// One tree, on a disk that is slow.
const TREE: Duration = Duration::from_secs(600);

/// Removes and proves. `beat` shows that this program lives.
pub(crate) fn account(account: &Account, backend: Backend, beat: &mut dyn FnMut()) -> Swept {
    let mut swept = Swept::default();
    interprocess(account, &mut swept);
    keys(account, &mut swept);
    for directory in SHARED {
        owned_files(Path::new(directory), account.uid, &mut swept, beat);
    }
    for (kind, pattern) in NAMED {
        named_file(kind, Path::new(&of(account, pattern)), &mut swept);
    }
    for directory in DUMPS {
        dumps(Path::new(directory), account.uid, &mut swept);
    }
    prove(account, backend, &mut swept);
    swept
}

fn of(account: &Account, pattern: &str) -> String {
    pattern
        .replace("NAME", &account.name)
        .replace("UID", &account.uid.to_string())
}

fn interprocess(account: &Account, swept: &mut Swept) {
    match sys::ipc::remove(account.uid.into()) {
        Ok(removed) => {
            let kinds = [
                ("sysv-shm", removed.segments),
                ("sysv-sem", removed.semaphores),
                ("sysv-msg", removed.queues),
                ("shm-file", removed.shared_files),
                ("posix-queue", removed.posix_queues),
            ];
            let found = kinds.into_iter().filter(|(_, count)| *count > 0);
            swept
                .swept
                .extend(found.map(|(kind, count)| format!("{kind}: {count}")));
        }
        Err(error) => swept.leftovers.push(crate::text(&error)),
    }
}

/// Keys of a user outlive all of its processes and would be readable for the next job.
fn keys(account: &Account, swept: &mut Swept) {
    let (uid, gid) = (account.uid.into(), account.gid.into());
    let left = sys::keyring::clear(uid, gid).and_then(|()| sys::keyring::count(uid, gid));
    match left {
        Ok(0) => {}
        Ok(count) => swept
            .leftovers
            .push(format!("{count} keys of {} are left", account.name)),
        Err(error) => swept.leftovers.push(crate::text(&error)),
    }
}

/// Whether it is of this account is asked of the very thing that is then removed by name: in these
/// folders only its owner, of whom no process is left, and root can put something else there.
fn owned_files(directory: &Path, uid: u32, swept: &mut Swept, beat: &mut dyn FnMut()) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    let (mut count, mut removed) = (0, Removed::default());
    for path in entries.flatten().map(|entry| entry.path()) {
        if !fs::symlink_metadata(&path).is_ok_and(|facts| facts.uid() == uid) {
            continue;
        }
        match remove_tree_apart(&path, TREE, beat) {
            Ok(tree) => {
                count += 1;
                removed.add(&tree);
            }
            Err(error) => {
                swept
                    .leftovers
                    .push(format!("{}: {}", path.display(), crate::text(&error)));
            }
        }
    }
    if count > 0 {
        let line = format!("{}: {count} ({removed})", directory.display());
        swept.swept.push(line);
    }
}

fn dumps(directory: &Path, uid: u32, swept: &mut Swept) {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries {
        if dumped_by(&entry.file_name().to_string_lossy(), uid) {
            named_file("dump", &entry.path(), swept);
        }
    }
}

/// systemd-coredump(8) writes `core.NAME.UID.BOOT.PID.TIME`, without a dot in the name; apport
/// `PATH.UID.crash`.
fn dumped_by(name: &str, uid: u32) -> bool {
    let uid = uid.to_string();
    let mut parts = name.split('.');
    let systemd = parts.next() == Some("core") && parts.nth(1) == Some(uid.as_str());
    let apport = name.strip_suffix(".crash");
    systemd || apport.is_some_and(|rest| rest.rsplit('.').next() == Some(uid.as_str()))
}

fn named_file(kind: &str, path: &Path, swept: &mut Swept) {
    match fs::remove_file(path) {
        Ok(()) => swept.swept.push(format!("{kind}: 1")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => swept.leftovers.push(format!("{}: {error}", path.display())),
    }
}

/// What was removed and is there again: something that is not the job makes it.
fn come_back(uid: u32, swept: &mut Swept) {
    for directory in SHARED {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let owned = fs::symlink_metadata(&path).is_ok_and(|facts| facts.uid() == uid);
            let name = path.display().to_string();
            if owned && !swept.leftovers.iter().any(|told| told.starts_with(&name)) {
                swept.leftovers.push(format!("{name} is there again"));
            }
        }
    }
}

/// The criterion for using the account again.
fn prove(account: &Account, backend: Backend, swept: &mut Swept) {
    match sys::account::processes_of_uid(account.uid.into()) {
        Ok(left) if left.is_empty() => {}
        Ok(left) => swept.leftovers.push(format!(
            "{} processes of {} are left",
            left.len(),
            account.name
        )),
        Err(error) => swept.leftovers.push(crate::text(&error)),
    }
    come_back(account.uid, swept);
    if backend == Backend::Logind {
        let runtime = format!("/run/user/{}", account.uid);
        if Path::new(&runtime).exists() {
            swept.leftovers.push(format!("{runtime} is still there"));
        }
        if let Some(place) = crate::group::has_settings(account.uid) {
            let place = place.display();
            swept
                .leftovers
                .push(format!("{place} would limit the next job"));
        }
        if crate::group::slice(account.uid).is_some() {
            swept.leftovers.push(format!(
                "the cgroup of user-{}.slice is still there",
                account.uid
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_of_this_account_is_told_from_those_of_others() {
        let own = [
            "core.python3.1001.8c1f.47.17.zst",
            "_usr_bin_python3.11.1001.crash",
        ];
        assert!(own.iter().all(|name| dumped_by(name, 1001)));
        for other in [
            "core.python3.10010.8c1f.47.17.zst",
            // A process of that number.
            "core.python3.1000.8c1f.1001.17.zst",
            "core.1001",
            "_usr_bin_x.01001.crash",
            "_usr_bin_x.1001.crash.bak",
        ] {
            assert!(!dumped_by(other, 1001), "{other}");
        }
    }
}
