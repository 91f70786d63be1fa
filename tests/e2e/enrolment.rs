//! Tokens and certificates that do not fit: refused where they are used, with an event at the
//! orchestrator, and what works goes on.

use serde_json::{Value, json};
use tests::{Host, Options, eventually};

use crate::bad_input::{goes_on, said};

fn token(host: &Host) -> Value {
    let text = std::fs::read(host.dir.join("token.json")).expect("the token");
    serde_json::from_slice(&text).expect("JSON")
}

fn enrol(host: &Host, token: &Value) -> (bool, String) {
    let path = host.dir.join("other-token.json");
    std::fs::write(&path, token.to_string()).expect("a write");
    let output = host.control(&["enroll", "--token", &path.display().to_string()]);
    (output.status.success(), said(&output))
}

fn pinned(host: &Host) -> Vec<u8> {
    std::fs::read(host.dir.join("etc/trust.d/orchestrator.json")).expect("the pin")
}

#[test]
fn a_token_that_is_too_old_or_malformed_is_refused_before_anything_is_changed() {
    let host = Host::start(&Options::default());
    let before = pinned(&host);
    let mut old = token(&host);
    old["expires_unix_ms"] = json!(1);
    let mut short = token(&host);
    short["secret"] = json!("AAAA");
    let mut odd = token(&host);
    odd["more"] = json!("fields");
    for (bad, code) in [
        (old, "TOKEN_EXPIRED"),
        (short, "TOKEN_MALFORMED"),
        (odd, "TOKEN_MALFORMED"),
    ] {
        let (done, text) = enrol(&host, &bad);
        assert!(!done && text.contains(code), "{code}: {text}");
    }
    assert_eq!(pinned(&host), before);
    goes_on(&host);
}

#[test]
fn a_token_that_was_never_made_is_refused_with_an_event() {
    let host = Host::start(&Options::default());
    let mut guessed = token(&host);
    guessed["secret"] = json!("A".repeat(43) + "=");
    let (done, text) = enrol(&host, &guessed);
    assert!(!done && text.contains("TOKEN_UNKNOWN"), "{text}");
    host.event(100_502, |event| event.to_string().contains("TOKEN_UNKNOWN"));
    goes_on(&host);
}

#[test]
fn a_token_that_the_orchestrator_refuses_does_not_replace_the_pinned_order_key() {
    let host = Host::start(&Options::default());
    let before = pinned(&host);
    let path = host.dir.join("second.json").display().to_string();
    host.ask(&["token", "create", "--agent", "second", "--out", &path]);
    let mut spoilt: Value =
        serde_json::from_slice(&std::fs::read(&path).expect("a token")).expect("JSON");
    spoilt["secret"] = json!("A".repeat(43) + "=");
    let (done, text) = enrol(&host, &spoilt);
    assert!(!done, "{text}");
    let package = host.push_python("after", "print('after')\n");
    let report = host.run_job(&package, &[]);
    assert_eq!(report["outcome"], "SUCCEEDED", "{report:#}");
    let after = pinned(&host);
    assert_eq!(
        String::from_utf8_lossy(&after),
        String::from_utf8_lossy(&before),
        "a refused token leaves the enrolment that works as it is"
    );
    goes_on(&host);
}

#[test]
fn a_token_that_another_key_has_used_is_refused_with_an_event() {
    let host = Host::start(&Options::default());
    let mut thief = Host::prepare(&Options::default());
    thief.start_broker();
    thief.start_agent();
    let (done, text) = enrol(&thief, &token(&host));
    assert!(!done && text.contains("TOKEN_BOUND"), "{text}");
    host.event(100_502, |event| event.to_string().contains("TOKEN_BOUND"));
    let status = thief.status();
    assert_eq!(status["link"]["state"], "not-enrolled", "{status:#}");
    goes_on(&host);
}

#[test]
fn an_agent_that_is_revoked_while_connected_is_cut_off_and_other_hosts_go_on() {
    let host = Host::start(&Options {
        licenses: 2,
        ..Options::default()
    });
    let mut second = Host::prepare(&Options::default());
    second.start_broker();
    second.start_agent();
    let path = second.dir.join("token.json").display().to_string();
    host.ask(&["token", "create", "--agent", "second", "--out", &path]);
    let joined = second.control(&["enroll", "--token", &path]);
    assert!(joined.status.success(), "{}", said(&joined));
    let package = host.push_python("hello", "print('hello')\n");
    let report = host.run_job(&package, &["--agent", "second"]);
    assert_eq!(report["outcome"], "SUCCEEDED", "{report:#}");

    host.ask(&["agent", "revoke", "second"]);
    host.event(100_503, |_| true);
    eventually(
        &format!("the revoked agent to say so{}", second.all_logs()),
        || {
            let status = second.status();
            (status["link"]["state"] == "refused").then_some(())
        },
    );
    let status = second.status();
    assert!(
        status["link"]["reason"]
            .as_str()
            .is_some_and(|why| why.contains("revoked")),
        "{status:#}"
    );
    let listed: Value =
        serde_json::from_str(&host.ask(&["agent", "list", "--json"])).expect("JSON");
    assert!(listed.to_string().contains("revoked"), "{listed:#}");
    let waits = host.orchestrator(&[
        "job",
        "submit",
        "--package",
        &package,
        "--display",
        "none",
        "--agent",
        "second",
        "--json",
    ]);
    if waits.status.success() {
        let job: Value = serde_json::from_slice(&waits.stdout).expect("JSON");
        let job = job["job_id"].as_str().expect("an id").to_owned();
        goes_on(&host);
        let shown = host.show(&job);
        let offered = tests::phases(&shown).contains(&"ACCEPTED".to_owned());
        assert!(!offered, "a revoked agent is offered nothing: {shown:#}");
    } else {
        assert!(said(&waits).contains("AGENT_UNKNOWN"), "{}", said(&waits));
        goes_on(&host);
    }
    second.assert_nothing_left();
}

#[test]
fn a_revoked_certificate_that_comes_again_is_told_as_an_event() {
    let mut host = Host::start(&Options::default());
    host.ask(&["agent", "revoke", "host"]);
    eventually("the agent to be refused", || {
        (host.status()["link"]["state"] == "refused").then_some(())
    });
    // It was told on its connection and keeps away; a robotd that starts again does not know.
    host.kill_agent();
    host.start_agent();
    host.event(100_510, |event| event["source"] == "orchestrator");
}
