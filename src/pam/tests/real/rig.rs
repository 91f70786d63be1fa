//! What the tests make on the host, and take away again.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Set in the process that a test starts for itself.
const CHILD: &str = "ROBOTD_TEST_CHILD";

static TURN: AtomicU32 = AtomicU32::new(0);

/// Runs `work` in a process that runs nothing else; `test` is the full name of the calling test.
pub(crate) fn alone(test: &str, work: impl FnOnce()) {
    if std::env::var_os(CHILD).is_some() {
        return work();
    }
    let program = std::env::current_exe().unwrap();
    let arguments = ["--exact", test, "--nocapture", "--test-threads=1"];
    let output = Command::new(program)
        .args(arguments)
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn unique() -> String {
    format!(
        "{}-{}",
        std::process::id(),
        TURN.fetch_add(1, Ordering::Relaxed)
    )
}

/// Rules in /etc/pam.d.
pub(crate) struct Service {
    pub(crate) name: String,
}

impl Service {
    pub(crate) fn new(rules: &str) -> Self {
        let name = format!("robotd-test-{}", unique());
        fs::write(format!("/etc/pam.d/{name}"), rules).unwrap();
        Self { name }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = fs::remove_file(format!("/etc/pam.d/{}", self.name));
    }
}

/// An account with the password "right".
pub(crate) struct Account {
    pub(crate) name: String,
}

impl Account {
    pub(crate) fn new() -> Self {
        let name = format!("rt{}", unique());
        run(
            "useradd",
            &[
                "--no-create-home",
                "--home-dir",
                "/nonexistent",
                "--shell",
                "/usr/sbin/nologin",
                &name,
            ],
        );
        let account = Self { name };
        let script = format!("echo '{}:right' | chpasswd", account.name);
        run("sh", &["-c", &script]);
        account
    }

    pub(crate) fn change(&self, program: &str, arguments: &[&str]) {
        run(program, &[arguments, &[&*self.name]].concat());
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let _ = Command::new("userdel").arg(&self.name).output();
    }
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A program for pam_exec that writes down each call.
pub(crate) struct Recorder {
    folder: tempfile::TempDir,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let recorder = Self { folder };
        let lines = recorder.folder.path().join("lines");
        let script = format!(
            "#!/bin/sh\necho \"$PAM_TYPE $PAM_USER ${{PAM_RUSER:--}} ${{PAM_TTY:--}}\" >> {}\n",
            lines.display()
        );
        fs::write(recorder.program(), script).unwrap();
        fs::set_permissions(
            recorder.program(),
            std::os::unix::fs::PermissionsExt::from_mode(0o700),
        )
        .unwrap();
        recorder
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("record")
    }

    /// A rule that records, such as `session`.
    pub(crate) fn rule(&self, kind: &str) -> String {
        format!("{kind} required pam_exec.so {}\n", self.program().display())
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.path().join("lines")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}
