//! Whether an account may have a session: what PAM does not check is checked here.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use privsep::Refusal;
use privsep::session::{Account, Backend};

const SHADOW: &str = "/etc/shadow";
const DAY: u64 = 86_400;

/// Who closes a host to log-ins makes one of these (pam_nologin(8), systemd-user-sessions.service).
/// As root's, our PAM stack would say so with a code that means anything.
const CLOSED: [&str; 2] = ["/run/nologin", "/etc/nologin"];

/// One file per account whose user manager outlives its sessions (loginctl enable-linger).
const LINGERING: &str = "/var/lib/systemd/linger";

/// Refuses an account that is locked, expired or lingers, and a host that is closed. pam_unix opens sessions
/// for locked accounts; `*` is the password of a pool account and no lock.
pub(crate) fn check(account: &Account, backend: Backend) -> Result<(), Refusal> {
    open_for_logins(&CLOSED.map(Path::new))?;
    let shadow =
        fs::read_to_string(SHADOW).map_err(|error| crate::refusal("ACCOUNT_UNKNOWN", &error))?;
    let today = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs() / DAY);
    check_shadow(&shadow, &account.name, today)?;
    if backend == Backend::Logind {
        does_not_linger(Path::new(LINGERING), account)?;
        outside_of_sessions()?;
    }
    Ok(())
}

fn open_for_logins(marks: &[&Path]) -> Result<(), Refusal> {
    match marks.iter().find(|mark| mark.exists()) {
        None => Ok(()),
        Some(mark) => {
            let detail = format!(
                "{} is there: this host takes no log-ins now (it starts, stops, or an administrator closed it)",
                mark.display()
            );
            Err(Refusal::new("HOST_CLOSED", detail))
        }
    }
}

/// What it left running would survive every job.
fn does_not_linger(folder: &Path, account: &Account) -> Result<(), Refusal> {
    if !folder.join(&account.name).exists() {
        return Ok(());
    }
    let detail = format!(
        "account {name} lingers: its services would outlive the job; `loginctl disable-linger {name}`",
        name = account.name
    );
    Err(Refusal::new("ACCOUNT_LINGERS", detail))
}

/// logind opens no second session for a process that is in one (SESSION_BUSY) and PAM says that all
/// is well: the job would run in somebody's session.
fn outside_of_sessions() -> Result<(), Refusal> {
    let place = sys::cgroup::path_of(nix::unistd::getpid())
        .map_err(|error| crate::refusal("STARTED_IN_SESSION", &error))?;
    no_session(&place, login_uid())
}

fn no_session(place: &Path, login_uid: Option<u32>) -> Result<(), Refusal> {
    let found = if place.starts_with("/user.slice") {
        format!("this process is in {}", place.display())
    } else if let Some(uid) = login_uid {
        format!("this process belongs to a log-in of uid {uid}")
    } else {
        return Ok(());
    };
    let detail = format!("{found}; start robotd-broker as a service, not from a log-in");
    Err(Refusal::new("STARTED_IN_SESSION", detail))
}

/// The audit login uid of this process; none while it is not set, or in a kernel without audit.
pub(crate) fn login_uid() -> Option<u32> {
    let text = fs::read_to_string("/proc/self/loginuid").ok()?;
    text.trim().parse().ok().filter(|uid| *uid != u32::MAX)
}

/// An account that is not in the file comes from elsewhere (SSSD): PAM's account step decides.
fn check_shadow(shadow: &str, name: &str, today: u64) -> Result<(), Refusal> {
    let line = shadow
        .lines()
        .find(|line| line.split(':').next() == Some(name));
    let Some(line) = line else { return Ok(()) };
    let fields: Vec<&str> = line.split(':').collect();
    let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    // `!*` is what useradd(8) gives an account without a password; only `!` before a hash, or
    // alone, is a lock (passwd -l).
    if fields
        .get(1)
        .is_some_and(|password| password.starts_with('!') && *password != "!*")
    {
        let detail = format!("account {name} is locked; unlock it with `usermod -p '*' {name}`");
        return Err(Refusal::new("ACCOUNT_LOCKED", detail));
    }
    if number(7).is_some_and(|expires| expires <= today) {
        return Err(Refusal::new(
            "ACCOUNT_EXPIRED",
            format!("account {name} has expired (chage -E)"),
        ));
    }
    if let (Some(changed), Some(max)) = (number(2), number(4))
        && (changed == 0 || changed + max < today)
    {
        return Err(Refusal::new(
            "ACCOUNT_AGED",
            format!("the password of account {name} has expired (chage -M -1)"),
        ));
    }
    Ok(())
}

/// A process of the account that is there before the job is not the job's.
pub(crate) fn nobody_there(account: &Account) -> Result<(), Refusal> {
    let found = sys::account::processes_of_uid(account.uid.into());
    let found = found.map_err(|error| crate::refusal("ACCOUNT_UNKNOWN", &error))?;
    match found.as_slice() {
        [] => Ok(()),
        [first, ..] => {
            let detail = format!(
                "account {} has {} processes already (pid {first}); bot accounts are for jobs only",
                account.name,
                found.len()
            );
            Err(Refusal::new("ACCOUNT_IN_USE", detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(password: &str, changed: &str, max: &str, expires: &str) -> String {
        let shadow =
            format!("root:*:1:0:99999:7:::\nrobot01:{password}:{changed}:0:{max}:7::{expires}:\n");
        check_shadow(&shadow, "robot01", 20_000)
            .map_or_else(|refusal| refusal.code, |()| "ok".into())
    }

    #[test]
    fn locked_expired_and_aged_accounts_are_told_apart() {
        assert_eq!(code("*", "19000", "99999", ""), "ok");
        assert_eq!(code("!*", "19000", "99999", ""), "ok");
        assert_eq!(code("!", "19000", "99999", ""), "ACCOUNT_LOCKED");
        assert_eq!(code("!$y$x", "19000", "99999", ""), "ACCOUNT_LOCKED");
        assert_eq!(code("*", "19000", "99999", "20000"), "ACCOUNT_EXPIRED");
        assert_eq!(code("*", "19000", "99999", "20001"), "ok");
        assert_eq!(code("*", "0", "99999", ""), "ACCOUNT_AGED");
        assert_eq!(code("*", "19000", "90", ""), "ACCOUNT_AGED");
        assert_eq!(code("*", "", "", ""), "ok");
    }

    #[test]
    fn a_session_inside_of_somebodys_log_in_is_refused() {
        let service = Path::new("/robotd.slice/robotd-session@x.service");
        assert_eq!(no_session(service, None), Ok(()));
        let code = |outcome: Result<(), Refusal>| outcome.unwrap_err().code;
        assert_eq!(code(no_session(service, Some(1000))), "STARTED_IN_SESSION");
        let session = Path::new("/user.slice/user-1000.slice/session-3.scope");
        assert_eq!(code(no_session(session, None)), "STARTED_IN_SESSION");
    }

    #[test]
    fn a_host_that_is_closed_and_an_account_that_lingers_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("nologin");
        let account = Account {
            name: "robot01".into(),
            uid: 60600,
            gid: 60600,
            home: "/".into(),
        };
        assert_eq!(open_for_logins(&[&mark]), Ok(()));
        assert_eq!(does_not_linger(folder.path(), &account), Ok(()));
        fs::write(&mark, "").unwrap();
        fs::write(folder.path().join("robot01"), "").unwrap();
        let code = |outcome: Result<(), Refusal>| outcome.unwrap_err().code;
        assert_eq!(code(open_for_logins(&[&mark])), "HOST_CLOSED");
        assert_eq!(
            code(does_not_linger(folder.path(), &account)),
            "ACCOUNT_LINGERS"
        );
    }

    #[test]
    fn an_account_that_is_not_local_is_left_to_pam() {
        assert_eq!(check_shadow("root:*:::::::\n", "EXAMPLE\\robot", 1), Ok(()));
    }
}
