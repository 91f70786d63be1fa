//! Rotating and revoking the key that signs orders, with a root key that the server never sees.

use std::path::PathBuf;

use tests::{Host, Options};

/// A host whose enrolment pinned a root key, and the root key's file.
fn host_with_root(options: &Options) -> (Host, PathBuf) {
    let mut host = Host::prepare(options);
    host.start_orchestrator(options);
    let root = host.dir.join("root.key");
    let path = root.display().to_string();
    let public = public_of(&offline(&host, &["key", "root", "--out", &path]));
    host.ask(&["key", "trust-root", &public]);
    host.start_broker();
    host.start_agent();
    host.enrol();
    host.ask(&["license", "set", "default", "1"]);
    (host, root)
}

/// A command that asks no server.
fn offline(host: &Host, args: &[&str]) -> String {
    let output = host.offline(args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn public_of(said: &str) -> String {
    let line = said.lines().find_map(|line| line.strip_prefix("public "));
    line.expect("a public key").to_owned()
}

fn keys(host: &Host) -> serde_json::Value {
    serde_json::from_str(&host.ask(&["key", "list", "--json"])).expect("JSON")
}

fn trust(host: &Host) -> serde_json::Value {
    let listed = host.control(&["trust", "list", "--json"]);
    serde_json::from_slice(&listed.stdout).expect("JSON")
}

#[test]
fn the_order_key_is_rotated_and_revoked_while_jobs_go_on_and_root_stays_offline() {
    let options = Options::default();
    let (mut host, root) = host_with_root(&options);
    let package = host.push_python("bot", "print('ran')\n");
    assert_eq!(host.run_job(&package, &[])["outcome"], "SUCCEEDED");
    let old = keys(&host)["keys"][0].clone();
    let (old_id, old_key) = (
        old["key"].as_str().expect("an id"),
        old["public"].as_str().expect("a key"),
    );
    let new_key = public_of(&host.ask(&["key", "new"]));
    let (root, set) = (
        root.display().to_string(),
        host.dir.join("1.json").display().to_string(),
    );
    let retired = format!("{old_key},1h");
    offline(
        &host,
        &[
            "key", "sign", "--root", &root, "--key", &new_key, "--retire", &retired, "--out", &set,
        ],
    );
    host.ask(&["key", "install", &set]);
    host.event(100_420, |_| true);
    let report = host.run_job(&package, &[]);
    assert_eq!(
        report["outcome"],
        "SUCCEEDED",
        "{report:#}{}",
        host.all_logs()
    );
    assert_eq!(trust(&host)["key_set"], 1);

    // While this host is away; it hears of it before its next job.
    host.kill_agent();
    let second = host.dir.join("2.json").display().to_string();
    offline(
        &host,
        &[
            "key", "sign", "--root", &root, "--after", &set, "--key", &new_key, "--revoke", old_id,
            "--out", &second,
        ],
    );
    host.ask(&["key", "install", &second]);
    assert_eq!(trust(&host)["key_set"], 1);
    host.start_agent();
    let report = host.run_job(&package, &[]);
    assert_eq!(
        report["outcome"],
        "SUCCEEDED",
        "{report:#}{}",
        host.all_logs()
    );
    let shown = trust(&host);
    assert_eq!(shown["key_set"], 2, "{shown:#}");
    let revoked = shown["keys"]
        .as_array()
        .expect("keys")
        .iter()
        .find(|line| line["key"] == old_id);
    assert_eq!(revoked.expect("the old key")["state"], "revoked");

    let again = host.orchestrator(&["key", "install", &set]);
    let text = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(text.contains("KEY_SET_ROLLBACK"), "{text}");
    host.assert_nothing_left();
}
