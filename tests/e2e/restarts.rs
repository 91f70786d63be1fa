//! Programs die in the middle of a job; nothing is lost, nothing runs twice.

use nix::sys::signal::Signal;
use tests::{Host, Options};

const COUNTER: &str = "import sys,time\nfor n in range(int(sys.argv[1])):\n    print('count', n, flush=True)\n    time.sleep(0.01)\n";

fn counted(count: usize) -> Vec<u8> {
    (0..count)
        .map(|n| format!("count {n}\n"))
        .collect::<String>()
        .into_bytes()
}

#[test]
fn robotd_killed_in_the_middle_attaches_again_and_the_log_is_complete() {
    let mut host = Host::start(&Options::default());
    let package = host.push_python("counter", COUNTER);
    let job = host.submit(&package, &["--arg", "500"]);
    for _ in 0..3 {
        host.says(&job, "count");
        host.kill_agent();
        host.start_agent();
    }
    let report = host.report(&job);
    assert_eq!(report["outcome"], "SUCCEEDED", "{report:#}");
    assert_eq!(report["attempt"], 1);
    assert_eq!(host.stream(&job, "stdout"), counted(500));
    host.assert_nothing_left();
}

#[test]
fn the_broker_killed_in_the_middle_finds_the_session_again() {
    let mut host = Host::start(&Options::default());
    let package = host.push_python("counter", COUNTER);
    let job = host.submit(&package, &["--arg", "300"]);
    host.says(&job, "count");
    host.kill_broker();
    host.start_broker();
    let report = host.report(&job);
    assert_eq!(
        report["outcome"],
        "SUCCEEDED",
        "{report:#}{}",
        host.all_logs()
    );
    assert_eq!(host.stream(&job, "stdout"), counted(300));
    host.assert_nothing_left();
}

#[test]
fn the_orchestrator_killed_in_the_middle_gets_everything_once() {
    let options = Options::default();
    let mut host = Host::start(&options);
    let package = host.push_python("counter", COUNTER);
    let job = host.submit(&package, &["--arg", "400"]);
    host.says(&job, "count");
    host.stop_orchestrator(Signal::SIGKILL);
    host.start_orchestrator(&options);
    let report = host.report(&job);
    assert_eq!(report["outcome"], "SUCCEEDED", "{report:#}");
    assert_eq!(host.stream(&job, "stdout"), counted(400));
    host.assert_nothing_left();
}
