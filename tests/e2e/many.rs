//! Many jobs through few slots.

use std::collections::HashSet;

use tests::procs::descriptors;
use tests::{Host, Options, eventually};

#[test]
fn twenty_jobs_through_three_slots_all_succeed_and_no_descriptor_is_lost() {
    let host = Host::start(&Options {
        slots: 3,
        licenses: 3,
        ..Options::default()
    });
    let package = host.push_python("worker", "import sys\nprint('job', sys.argv[1])\n");
    let run = |count: usize| {
        let jobs: Vec<String> = (0..count)
            .map(|number| host.submit(&package, &["--arg", &number.to_string()]))
            .collect();
        for (number, job) in jobs.iter().enumerate() {
            let report = host.report(job);
            assert_eq!(
                report["outcome"],
                "SUCCEEDED",
                "{report:#}{}",
                host.all_logs()
            );
            let said = String::from_utf8(host.stream(job, "stdout")).expect("text");
            assert_eq!(said, format!("job {number}\n"));
        }
        host.assert_nothing_left();
        jobs
    };
    // What is opened once and kept is open after these.
    run(3);
    let held = || [host.broker_pid(), host.agent_pid()].map(descriptors);
    let before = eventually("a quiet host", || {
        let first = held();
        (first == held() && host.status()["jobs"] == 0).then_some(first)
    });
    let ids: HashSet<String> = run(20).into_iter().collect();
    assert_eq!(ids.len(), 20);
    eventually(
        &format!("as few descriptors as before, {before:?}, now {:?}", held()),
        || {
            let now = held();
            (now[0] <= before[0] && now[1] <= before[1]).then_some(())
        },
    );
    let quarantined = host.events(100_104);
    assert!(quarantined.is_empty(), "{quarantined:#?}");
    assert_eq!(host.events(608).len(), 23);
    assert_eq!(host.events(610).len(), 23);
}
