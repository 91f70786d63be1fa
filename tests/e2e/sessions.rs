//! How a session is opened: with a password from the vault, within its time.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use tests::{Host, Options, phases};

const QUICK: &str = "import os\nprint('ran as', os.getuid(), flush=True)\n";

/// Gives an account of this test a password, and takes it away at the end.
struct Password<'a>(&'a str);

impl<'a> Password<'a> {
    fn set(account: &'a str, password: &str) -> Self {
        let mut chpasswd = Command::new("chpasswd")
            .stdin(Stdio::piped())
            .spawn()
            .expect("chpasswd");
        let line = format!("{account}:{password}\n");
        let stdin = chpasswd.stdin.as_mut().expect("a pipe");
        stdin.write_all(line.as_bytes()).expect("a line");
        assert!(chpasswd.wait().expect("its end").success());
        Self(account)
    }
}

impl Drop for Password<'_> {
    fn drop(&mut self) {
        let _ = Command::new("usermod").args(["-p", "*", self.0]).status();
    }
}

fn set_secret(host: &Host, value: &str) {
    crate::secrets::set_secret(host, "door", value);
}

#[test]
fn a_password_from_the_vault_opens_the_session_and_is_nowhere_afterwards() {
    const WORD: &str = "correct-horse-7f3a";
    let host = Host::start(&Options::default());
    let account = host.slots.accounts().remove(0);
    let _password = Password::set(&account, WORD);
    set_secret(&host, WORD);
    let package = host.push_python("quick", QUICK);
    let report = host.run_job(&package, &["--account-secret", "door"]);
    assert_eq!(
        report["outcome"],
        "SUCCEEDED",
        "{report:#}{}",
        host.all_logs()
    );
    host.event(100_205, |event| event["data"]["secret"] == "door");
    assert!(!host.all_logs().contains(WORD), "the password is in a log");
    let found = Command::new("grep")
        .args(["-rlF", WORD])
        .arg(host.dir.join("agent"))
        .arg(host.dir.join("broker"))
        .output()
        .expect("grep");
    assert!(
        found.stdout.is_empty(),
        "{}",
        String::from_utf8_lossy(&found.stdout)
    );
    host.assert_nothing_left();
}

#[test]
fn a_wrong_password_refuses_the_session_and_a_bot_never_gets_the_right_one() {
    let host = Host::start(&Options::default());
    let account = host.slots.accounts().remove(0);
    let _password = Password::set(&account, "right");
    set_secret(&host, "wrong");
    let package = host.push_python("quick", QUICK);
    let report = host.run_job(&package, &["--account-secret", "door"]);
    assert_eq!(
        (report["outcome"].as_str(), report["code"].as_str()),
        (Some("NOT_STARTED"), Some("PASSWORD_REFUSED")),
        "{report:#}"
    );
    assert!(
        !phases(&report).contains(&"SESSION_OPEN".to_owned()),
        "{report:#}"
    );
    set_secret(&host, "right");
    let asks = "import subprocess,sys\nsys.exit(subprocess.run(['robotjob','credential','door']).returncode)\n";
    let curious = host.push_python("curious", asks);
    let report = host.run_job(&curious, &["--account-secret", "door"]);
    assert_eq!(report["outcome"], "FAILED", "{report:#}");
    let job = report["job_id"].as_str().expect("an id");
    let said = String::from_utf8_lossy(&host.stream(job, "stderr")).into_owned();
    assert!(said.contains("SECRET_NOT_GRANTED"), "{said}");
    host.assert_nothing_left();
}

/// A PAM stack of its own for one test, removed at its end.
struct Stack(&'static str);

impl Drop for Stack {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0);
    }
}

#[test]
fn a_session_that_does_not_open_in_time_ends_the_job_and_leaves_nothing() {
    const FILE: &str = "/etc/pam.d/robotd-e2e-slow";
    fs::write(
        FILE,
        "account required pam_permit.so\nsession required pam_exec.so /bin/sleep 600\n",
    )
    .expect("a PAM service");
    let _stack = Stack(FILE);
    let mut host = Host::start(&Options::default());
    let policy = fs::read_to_string(host.policy_file()).expect("a policy");
    let slow = policy.replace("\"robotd-e2e\"", "\"robotd-e2e-slow\"");
    assert_ne!(slow, policy);
    fs::write(host.policy_file(), slow).expect("a policy");
    host.kill_broker();
    host.start_broker();
    let package = host.push_python("quick", QUICK);
    let report = host.run_job(&package, &["--session-timeout", "5s"]);
    assert_eq!(
        (report["outcome"].as_str(), report["code"].as_str()),
        (Some("TIMED_OUT"), Some("SESSION_LIMIT")),
        "{report:#}"
    );
    assert_eq!(report["wipe"]["complete"], true, "{report:#}");
    host.assert_nothing_left();
}
