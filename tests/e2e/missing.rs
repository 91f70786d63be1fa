//! What a job needs and the host does not have.

use std::process::Command;

use serde_json::Value;
use tests::{Copies, Host, Options, eventually};

use crate::bad_input::goes_on;

fn ends(report: &Value) -> (Option<&str>, Option<&str>) {
    (report["outcome"].as_str(), report["code"].as_str())
}

fn without_program(program: &str, code: &str) {
    let place = Copies::without(program);
    let host = Host::start(&Options {
        programs: Some(place.path().to_owned()),
        ..Options::default()
    });
    let package = host.push_python("hello", "print(1)\n");
    let report = host.run_job(&package, &[]);
    assert_eq!(
        ends(&report),
        (Some("NOT_STARTED"), Some(code)),
        "{report:#}"
    );
    assert!(
        report["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains(program)),
        "it is named: {report:#}"
    );
    host.event(100_202, |event| event.to_string().contains(code));
    host.assert_nothing_left();
    place.put_back(program);
    goes_on(&host);
}

#[test]
fn without_robotd_session_a_job_ends_not_started_and_names_it() {
    without_program("robotd-session", "SESSION_PROGRAM_FAILED");
}

#[test]
fn without_robotd_attendant_a_job_ends_not_started_and_names_it() {
    without_program("robotd-attendant", "ATTENDANT_FAILED");
}

#[test]
fn without_robotd_unpack_a_job_ends_not_started_and_names_it() {
    without_program("robotd-unpack", "UNPACK_FAILED");
}

fn without_display_program(path: &str) {
    let host = Host::start(&Options {
        hidden: vec![path.into()],
        ..Options::default()
    });
    let package = host.push_python("hello", "print(1)\n");
    let report = host.run_job(&package, &["--display", "640x480"]);
    assert_eq!(
        ends(&report),
        (Some("NOT_STARTED"), Some("DISPLAY_FAILED")),
        "{report:#}"
    );
    assert!(
        report["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains(path)),
        "it is named: {report:#}"
    );
    host.event(100_107, |_| true);
    goes_on(&host);
}

#[test]
fn without_an_x_server_a_job_with_a_display_ends_not_started_and_names_it() {
    without_display_program("/usr/bin/Xvfb");
}

#[test]
fn without_a_window_program_a_job_with_a_display_ends_not_started_and_names_it() {
    without_display_program("/usr/bin/openbox");
}

/// An account's password field or expiry, put back whatever happens.
struct Changed<'a> {
    back: [&'a str; 3],
}

impl<'a> Changed<'a> {
    fn by(how: [&'a str; 3], back: [&'a str; 3]) -> Self {
        usermod(how);
        Self { back }
    }
}

impl Drop for Changed<'_> {
    fn drop(&mut self) {
        usermod(self.back);
    }
}

/// Another usermod holds the lock for a moment.
fn usermod(arguments: [&str; 3]) {
    eventually(&format!("usermod {arguments:?}"), || {
        let done = Command::new("usermod")
            .args(arguments)
            .output()
            .expect("usermod");
        done.status.success().then_some(())
    });
}

#[test]
fn an_account_that_is_locked_or_expired_is_refused_until_it_is_repaired() {
    let host = Host::start(&Options::default());
    let account = host.slots.accounts().remove(0);
    let package = host.push_python("hello", "print(1)\n");
    let name = account.as_str();
    for (how, back, code) in [
        (
            ["--password", "!", name],
            ["--password", "*", name],
            "ACCOUNT_LOCKED",
        ),
        (
            ["--expiredate", "1", name],
            ["--expiredate", "", name],
            "ACCOUNT_EXPIRED",
        ),
    ] {
        let changed = Changed::by(how, back);
        let job = host.submit(&package, &[]);
        let report = host.report(&job);
        assert_eq!(
            ends(&report),
            (Some("NOT_STARTED"), Some(code)),
            "{report:#}"
        );
        assert!(
            report["detail"]
                .as_str()
                .is_some_and(|detail| detail.contains(name)),
            "it is named: {report:#}"
        );
        host.event(100_103, |event| event.to_string().contains(code));
        host.assert_nothing_left();
        drop(changed);
        goes_on(&host);
    }
}

#[test]
fn a_slot_whose_account_does_not_exist_refuses_its_jobs_and_the_others_go_on() {
    let policy = "[packages]\nallow-unsigned = true\n\
        [[slot]]\naccount = \"rbt-nobody\"\nattendant = \"rbt-nobody-a\"\n";
    let host = Host::start(&Options {
        policy: policy.into(),
        ..Options::default()
    });
    let package = host.push_python("hello", "print(1)\n");
    let report = host.run_job(&package, &["--account", "rbt-nobody"]);
    assert_eq!(
        ends(&report),
        (Some("NOT_STARTED"), Some("ACCOUNT_MISSING")),
        "{report:#}"
    );
    host.event(100_405, |event| {
        event.to_string().contains("ACCOUNT_MISSING")
    });
    goes_on(&host);
}
