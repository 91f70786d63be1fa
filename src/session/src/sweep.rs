//! What an account can leave outside its scratch volume, found and removed by account, and the
//! proof that nothing of it is there any more.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use privsep::session::{Account, Backend, Swept};

/// Directories that everyone can write, and spools that programs with rights of their own write
/// for users. The job itself sees none of them; a service of the host might act for it.
const SHARED: [&str; 5] = [
    "/tmp",
    "/var/tmp",
    "/var/mail",
    "/var/spool/cron/atjobs",
    "/run/lock",
];

/// Files that are named after an account.
const NAMED: [(&str, &str); 2] = [
    ("cron", "/var/spool/cron/crontabs"),
    ("linger", "/var/lib/systemd/linger"),
];

/// Removes and proves.
pub(crate) fn account(account: &Account, backend: Backend) -> Swept {
    let mut swept = Swept::default();
    interprocess(account, &mut swept);
    keys(account, &mut swept);
    for directory in SHARED {
        owned_files(Path::new(directory), account.uid, &mut swept);
    }
    for (kind, directory) in NAMED {
        named_file(kind, &Path::new(directory).join(&account.name), &mut swept);
    }
    prove(account, backend, &mut swept);
    swept
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

fn owned_files(directory: &Path, uid: u32, swept: &mut Swept) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    let mut count = 0;
    for path in entries.flatten().map(|entry| entry.path()) {
        let owned = fs::symlink_metadata(&path).is_ok_and(|facts| facts.uid() == uid);
        if !owned {
            continue;
        }
        match sys::beneath::remove_tree(&path) {
            Ok(()) => count += 1,
            Err(error) => {
                swept
                    .leftovers
                    .push(format!("{}: {}", path.display(), crate::text(&error)))
            }
        }
    }
    if count > 0 {
        swept
            .swept
            .push(format!("{}: {count}", directory.display()));
    }
}

fn named_file(kind: &str, path: &PathBuf, swept: &mut Swept) {
    match fs::remove_file(path) {
        Ok(()) => swept.swept.push(format!("{kind}: 1")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => swept.leftovers.push(format!("{}: {error}", path.display())),
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
    if backend == Backend::Logind {
        let runtime = format!("/run/user/{}", account.uid);
        if Path::new(&runtime).exists() {
            swept.leftovers.push(format!("{runtime} is still there"));
        }
        if crate::group::slice(account.uid).is_some() {
            swept.leftovers.push(format!(
                "the cgroup of user-{}.slice is still there",
                account.uid
            ));
        }
    }
}
