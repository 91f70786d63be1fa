//! Bad input of every kind: a clear error with a stable code where somebody can act on it, an
//! event, nothing left behind, and the agent goes on.

use std::process::Output;

use tests::{Host, Options};

pub(crate) fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// The agent still works after all that.
pub(crate) fn goes_on(host: &Host) {
    let package = host.push_python("still", "print('still here')\n");
    assert_eq!(
        host.run_job(&package, &[])["outcome"],
        "SUCCEEDED",
        "{}",
        host.all_logs()
    );
    host.assert_nothing_left();
}

#[test]
fn an_account_that_the_policy_does_not_name_is_refused_with_its_code() {
    let host = Host::start(&Options::default());
    let package = host.push_python("hello", "print(1)\n");
    let report = host.run_job(&package, &["--account", "root"]);
    assert_eq!(report["outcome"], "NOT_STARTED", "{report:#}");
    assert_eq!(report["code"], "ACCOUNT_NOT_ALLOWED", "{report:#}");
    host.event(100_405, |event| {
        event.to_string().contains("ACCOUNT_NOT_ALLOWED")
    });
    goes_on(&host);
}

#[test]
fn an_entry_point_that_nothing_can_run_ends_not_started() {
    let host = Host::start(&Options::default());
    let package = host.push(
        "notes",
        &[
            ("notes.txt", "not a program\n"),
            ("robotd.toml", "entry = \"notes.txt\"\n"),
        ],
        None,
    );
    let report = host.run_job(&package, &["--entry", "notes.txt"]);
    assert_eq!(
        (report["outcome"].as_str(), report["code"].as_str()),
        (Some("NOT_STARTED"), Some("UNSUPPORTED_ENTRY")),
        "{report:#}"
    );
    goes_on(&host);
}

#[test]
fn a_package_without_a_trusted_signature_is_refused_by_default() {
    let host = Host::start(&Options {
        policy: String::new(),
        ..Options::default()
    });
    let package = host.push_python("unsigned", "print(1)\n");
    let report = host.run_job(&package, &[]);
    assert_eq!(report["outcome"], "NOT_STARTED", "{report:#}");
    assert_eq!(report["code"], "PACKAGE_UNSIGNED", "{report:#}");
    host.event(100_203, |event| {
        event.to_string().contains("PACKAGE_UNSIGNED")
    });
    host.assert_nothing_left();
}

#[test]
fn a_scratch_volume_that_is_full_is_the_bots_error_alone() {
    let host = Host::start(&Options::default());
    let code = "try:\n    with open('/tmp/big','wb') as f:\n        while True: f.write(b'x' * 65536)\n\
        except OSError as error:\n    print(error.strerror)\n";
    let package = host.push_python("hoarder", code);
    let report = host.run_job(&package, &["--volume", "16M"]);
    assert_eq!(report["outcome"], "SUCCEEDED", "{report:#}");
    assert_eq!(
        host.stream(report["job_id"].as_str().expect("an id"), "stdout"),
        b"No space left on device\n"
    );
    goes_on(&host);
}

#[test]
fn tokens_that_are_used_garbage_or_unknown_are_refused() {
    let host = Host::start(&Options::default());
    let path = host.dir.join("bad.json");
    let enrol =
        |host: &Host| said(&host.control(&["enroll", "--token", &path.display().to_string()]));
    std::fs::write(&path, "{not json").expect("a write");
    assert!(enrol(&host).contains("TOKEN_MALFORMED"), "{}", enrol(&host));
    let token = std::fs::read_to_string(host.dir.join("token.json")).expect("the token");
    std::fs::write(
        &path,
        token.replacen("\"secret\":\"", "\"secret\":\"AAAA", 1),
    )
    .expect("a write");
    assert!(!enrol(&host).is_empty());
    goes_on(&host);
}

#[test]
fn configuration_that_can_not_be_meant_is_named_with_its_remedy() {
    let host = Host::prepare(&Options::default());
    let validate = |name: &str, text: &str| {
        let path = host.dir.join(name);
        std::fs::write(&path, text).expect("a write");
        let output = host.control(&["validate", &path.display().to_string()]);
        (output.status.code(), said(&output))
    };
    let (code, text) = validate(
        "policy.toml",
        "[[slot]]\naccount = \"root\"\nattendant = \"x\"\n",
    );
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains("slot[0].account"), "{text}");
    let (code, text) = validate("robotd.toml", "state_dir = \"/x\"\n");
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains("state_dir"), "{text}");
    for (name, shipped) in [
        ("policy.toml", include_str!("../../packaging/policy.toml")),
        ("robotd.toml", include_str!("../../packaging/robotd.toml")),
    ] {
        let (code, text) = validate(name, shipped);
        assert_eq!(code, Some(0), "{text}");
    }
}

#[test]
fn a_program_that_is_missing_ends_the_job_and_names_it() {
    let host = Host::start(&Options {
        policy:
            "[packages]\nallow-unsigned = true\n[interpreters]\npy = \"/opt/nowhere/python3\"\n"
                .into(),
        ..Options::default()
    });
    let package = host.push_python("hello", "print(1)\n");
    let report = host.run_job(&package, &[]);
    assert_eq!(
        (report["outcome"].as_str(), report["code"].as_str()),
        (Some("NOT_STARTED"), Some("PROGRAM_NOT_STARTED")),
        "{report:#}"
    );
    assert!(
        report["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains("/opt/nowhere/python3")),
        "{report:#}"
    );
    assert_eq!(report["wipe"]["complete"], true);
    host.assert_nothing_left();
}
