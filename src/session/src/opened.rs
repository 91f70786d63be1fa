//! The proof that logind opened a session for this process. That PAM said so is none.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use privsep::Refusal;
use privsep::session::{Account, Spec};

/// Id, runtime directory, scope and login uid, all of this account.
pub(crate) fn prove(spec: &Spec, id: Option<&str>, directory: Option<&str>) -> Result<(), Refusal> {
    let account = &spec.account;
    let expected = format!("/run/user/{}", account.uid);
    let (Some(id), Some(directory)) = (id, directory) else {
        let what = format!(
            "logind opened no session for {} (XDG_SESSION_ID {id:?}, XDG_RUNTIME_DIR {directory:?})",
            account.name
        );
        return Err(missing(spec, &what));
    };
    let place = sys::cgroup::path_of(nix::unistd::getpid())
        .map_err(|error| crate::refusal("SESSION_NOT_OPENED", &error))?;
    let checked = runtime_directory(Path::new(directory), Path::new(&expected), account)
        .and_then(|()| scope(&place, id, account.uid))
        .and_then(|()| login(crate::account::login_uid(), account.uid));
    checked.map_err(|what| missing(spec, &what))
}

fn missing(spec: &Spec, what: &str) -> Refusal {
    let look = format!(
        "look at `journalctl -u systemd-logind` and at pam_systemd and pam_loginuid in /etc/pam.d/{}",
        spec.pam_service
    );
    Refusal::new("SESSION_NOT_OPENED", format!("{what}; {look}"))
}

fn runtime_directory(given: &Path, expected: &Path, account: &Account) -> Result<(), String> {
    let facts =
        fs::symlink_metadata(given).map_err(|error| format!("{}: {error}", given.display()))?;
    let mode = facts.permissions().mode() & 0o7777;
    if given == expected && facts.is_dir() && facts.uid() == account.uid && mode == 0o700 {
        return Ok(());
    }
    Err(format!(
        "the runtime directory {} is not {}'s own (uid {}, mode {mode:o})",
        given.display(),
        account.name,
        facts.uid()
    ))
}

/// What is killed at the end is this account's slice: the job has to be in it.
fn scope(place: &Path, id: &str, uid: u32) -> Result<(), String> {
    let expected = format!("user.slice/user-{uid}.slice/session-{id}.scope");
    if place.ends_with(&expected) {
        return Ok(());
    }
    Err(format!(
        "the session's process is in {}, not in {expected}",
        place.display()
    ))
}

/// A kernel without audit has none.
fn login(found: Option<u32>, uid: u32) -> Result<(), String> {
    match found {
        Some(found) if found != uid => Err(format!("the login uid is {found}, not {uid}")),
        None if Path::new("/proc/self/loginuid").exists() => {
            Err("the login uid is not set".to_owned())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_of_somebody_else_is_none() {
        let place = |id| format!("/user.slice/user-60600.slice/session-{id}.scope");
        assert_eq!(scope(Path::new(&place("c1")), "c1", 60600), Ok(()));
        assert!(scope(Path::new(&place("c2")), "c1", 60600).is_err());
        assert!(scope(Path::new(&place("c1")), "c1", 60601).is_err());
        assert!(scope(Path::new("/robotd.slice/x.service"), "c1", 60600).is_err());
        assert!(login(Some(1000), 60600).is_err());
        assert_eq!(login(Some(60600), 60600), Ok(()));
    }

    #[test]
    fn a_runtime_directory_that_others_can_enter_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let account = Account {
            name: "robot01".into(),
            uid: nix::unistd::getuid().as_raw(),
            gid: 0,
            home: "/".into(),
        };
        let place = folder.path();
        let set = |mode| fs::set_permissions(place, fs::Permissions::from_mode(mode)).unwrap();
        set(0o700);
        assert_eq!(runtime_directory(place, place, &account), Ok(()));
        set(0o755);
        assert!(runtime_directory(place, place, &account).is_err());
        set(0o700);
        assert!(runtime_directory(place, Path::new("/run/user/1"), &account).is_err());
    }
}
