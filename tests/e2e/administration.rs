//! What an administrator does on the host.

use serde_json::Value;
use tests::{Host, Options, phases};

fn jobs(host: &Host) -> Vec<Value> {
    let output = host.control(&["jobs", "--json"]);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn a_drained_host_takes_no_job_and_finishes_what_runs_until_it_is_resumed() {
    let host = Host::start(&Options {
        slots: 2,
        licenses: 2,
        ..Options::default()
    });
    let code = "import sys,time\nprint('up', flush=True)\ntime.sleep(float(sys.argv[1]))\n";
    let package = host.push_python("sleeper", code);
    let first = host.submit(&package, &["--arg", "3"]);
    host.says(&first, "up");
    let drained = host.control(&["drain"]);
    assert!(drained.status.success(), "{drained:?}");
    host.event(100_009, |_| true);
    assert_eq!(host.status()["state"], "draining");
    let second = host.submit(&package, &["--arg", "0"]);
    let waited = host.control(&["drain", "--wait"]);
    assert!(waited.status.success(), "{waited:?}");
    assert!(jobs(&host).is_empty());
    assert_eq!(host.report(&first)["outcome"], "SUCCEEDED");
    let shown = host.show(&second);
    assert!(shown["outcome"].is_null(), "it waits: {shown:#}");
    assert!(
        !phases(&shown).contains(&"ACCEPTED".to_owned()),
        "{shown:#}"
    );
    let resumed = host.control(&["resume"]);
    assert!(resumed.status.success(), "{resumed:?}");
    host.event(100_010, |_| true);
    let report = host.report(&second);
    assert_eq!(
        report["outcome"],
        "SUCCEEDED",
        "{report:#}{}",
        host.all_logs()
    );
    host.assert_nothing_left();
}

#[test]
fn status_and_jobs_tell_an_administrator_what_there_is() {
    let host = Host::start(&Options::default());
    let status = tests::eventually("a link", || {
        let status = host.status();
        (status["link"]["state"] == "online").then_some(status)
    });
    assert_eq!(status["state"], "ready", "{status:#}");
    assert_eq!(status["slots"], 1, "{status:#}");
    assert_eq!(status["free-slots"], 1, "{status:#}");
    assert_eq!(status["link"]["state"], "online", "{status:#}");
    assert!(status["link"]["agent-id"].is_string(), "{status:#}");
    assert!(
        status["link"]["url"]
            .as_str()
            .is_some_and(|url| url.starts_with("https://"))
    );
    assert!(
        status["link"]["certificate-until-unix-ms"].as_u64() > Some(0),
        "{status:#}"
    );
    assert!(status["spool-limit-bytes"].as_u64() > Some(0), "{status:#}");
    let package = host.push_python(
        "sleeper",
        "import time\nprint('up', flush=True)\ntime.sleep(1000)\n",
    );
    let job = host.submit(&package, &["--stop-grace", "1s"]);
    host.says(&job, "up");
    let held = jobs(&host);
    assert_eq!(held.len(), 1, "{held:?}");
    assert_eq!(held[0]["attempt"], format!("{job}.1"), "{held:?}");
    assert_eq!(held[0]["phase"], "RUNNING", "{held:?}");
    let report = host.show(&job);
    assert_eq!(
        held[0]["lease"], report["license"]["lease_id"],
        "{held:?} {report:#}"
    );
    assert_eq!(
        held[0]["fence"], report["license"]["fence"],
        "{held:?} {report:#}"
    );
    let status = host.status();
    assert_eq!(status["free-slots"], 0, "{status:#}");
    assert_eq!(status["jobs"], 1, "{status:#}");
    host.ask(&["job", "stop", &job]);
    assert_eq!(host.report(&job)["outcome"], "STOPPED");
    host.assert_nothing_left();
}
