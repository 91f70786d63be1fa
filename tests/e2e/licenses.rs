//! No job without a license, never more holders than licenses.

use serde_json::Value;
use tests::{Host, Options};

/// From LICENSE_LEASED to LICENSE_RETURNED, in milliseconds.
fn interval(report: &Value) -> (u64, u64) {
    let at = |wanted: &str| {
        let timeline = report["timeline"].as_array().expect("a timeline");
        let step = timeline.iter().find(|step| step["phase"] == wanted);
        step.and_then(|step| step["at_unix_ms"].as_u64())
            .unwrap_or_else(|| panic!("no {wanted}: {report:#}"))
    };
    (at("LICENSE_LEASED"), at("LICENSE_RETURNED"))
}

fn run_three(licenses: u32) -> Vec<(u64, u64)> {
    let host = Host::start(&Options {
        slots: 3,
        licenses,
        ..Options::default()
    });
    let package = host.push_python("worker", "import time\ntime.sleep(2)\n");
    let jobs: Vec<String> = (0..3).map(|_| host.submit(&package, &[])).collect();
    let reports: Vec<Value> = jobs.iter().map(|job| host.report(job)).collect();
    for report in &reports {
        assert_eq!(report["outcome"], "SUCCEEDED", "{report:#}");
        assert_eq!(report["license"]["returned"], true);
    }
    assert_eq!(host.events(608).len(), 3);
    assert_eq!(host.events(610).len(), 3);
    host.assert_nothing_left();
    let mut intervals: Vec<_> = reports.iter().map(interval).collect();
    intervals.sort_unstable();
    intervals
}

#[test]
fn with_one_license_three_jobs_never_hold_it_together() {
    let intervals = run_three(1);
    for pair in intervals.windows(2) {
        assert!(pair[0].1 <= pair[1].0, "{intervals:?}");
    }
}

#[test]
fn with_three_licenses_three_jobs_hold_them_together() {
    let intervals = run_three(3);
    assert!(
        intervals.windows(2).all(|pair| pair[1].0 < pair[0].1),
        "{intervals:?}"
    );
}

#[test]
fn a_pool_that_does_not_exist_refuses_the_job_at_once() {
    let host = Host::start(&Options::default());
    let package = host.push_python("hello", "print(1)\n");
    let refused = host.orchestrator(&[
        "job",
        "submit",
        "--package",
        &package,
        "--pool",
        "nowhere",
        "--display",
        "none",
    ]);
    assert!(!refused.status.success());
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("POOL_UNKNOWN"),
        "{refused:?}"
    );
}
