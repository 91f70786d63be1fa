//! One job, from the offer to the report.

use tests::{Host, Options, phases};

#[test]
fn a_job_runs_end_to_end_and_leaves_nothing() {
    let host = Host::start(&Options::default());
    let package = host.push_python("hello", "import os\nprint('hello from', os.getuid())\n");
    let report = host.run_job(&package, &[]);
    assert_eq!(
        report["outcome"],
        "SUCCEEDED",
        "{report:#}{}",
        host.all_logs()
    );
    assert_eq!(report["exit_code"], 0);
    let expected = [
        "OFFERED",
        "ACCEPTED",
        "LICENSE_LEASED",
        "STARTED",
        "PACKAGE_READY",
        "VOLUME_READY",
        "SESSION_OPEN",
        "RUNNING",
        "EXITED",
        "PROCESSES_GONE",
        "SESSION_CLOSED",
        "WIPED",
        "LICENSE_RETURNED",
        "REPORTED",
    ];
    assert_eq!(phases(&report), expected, "{report:#}");
    assert_eq!(report["license"]["returned"], true);
    assert_eq!(report["session"]["closed"], true);
    assert_eq!(report["wipe"]["complete"], true);
    let uid = report["session"]["uid"].as_u64().expect("a uid");
    assert_eq!(
        host.stream(report["job_id"].as_str().expect("an id"), "stdout"),
        format!("hello from {uid}\n").as_bytes()
    );
    host.assert_nothing_left();
}
