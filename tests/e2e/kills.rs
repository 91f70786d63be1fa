//! Any process of a job dies at a bad moment: the job ends once and says how, the slot is free or
//! in quarantine with a reason, nothing is left, and the next job works.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tests::procs::JobProcesses;
use tests::{Host, Options};

use crate::bad_input::goes_on;

const COUNTER: &str = "import sys,time\nfor n in range(int(sys.argv[1])):\n    print('count', n, flush=True)\n    time.sleep(0.01)\n";

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).expect("a signal to a process that is there");
}

/// Starts a bot that counts, waits until it does, and returns its processes.
fn counting(host: &Host, count: &str, more: &[&str]) -> (String, JobProcesses) {
    let package = host.push_python("counter", COUNTER);
    let job = host.submit(&package, &[&["--arg", count], more].concat());
    host.says(&job, "count");
    let processes = JobProcesses::of(&job, "bot.py");
    (job, processes)
}

/// One end, reported once, and the host as it was.
fn ended_once(host: &Host, job: &str) -> Value {
    let report = host.report(job);
    host.assert_nothing_left();
    for source in ["agent:host", "orchestrator"] {
        let ended = host.events(100_202);
        let told = ended
            .iter()
            .filter(|event| event["job_id"] == job && event["source"] == source);
        assert_eq!(told.count(), 1, "{source} tells of one end: {ended:#?}");
    }
    assert_eq!(report["attempt"], 1, "it ran once: {report:#}");
    goes_on(host);
    report
}

/// What arrived is the beginning of what the bot wrote, or a gap says what is not.
fn never_silently_wrong(host: &Host, job: &str, report: &Value, count: Option<usize>) {
    let text = String::from_utf8(host.stream(job, "stdout")).expect("text");
    let gaps = report["gaps"].as_array().cloned().unwrap_or_default();
    let whole: String = (0..count.unwrap_or(100_000))
        .map(|n| format!("count {n}\n"))
        .collect();
    if gaps.is_empty() {
        let complete = count.map_or_else(|| whole.starts_with(&text), |_| whole == text);
        assert!(
            complete,
            "no gap and not what the bot wrote: {text:?} {report:#}"
        );
        return;
    }
    assert!(
        gaps.iter().all(|gap| gap["reason"].is_string()),
        "{report:#}"
    );
    let numbers: Vec<usize> = text
        .lines()
        .filter_map(|line| line.strip_prefix("count ")?.parse().ok())
        .collect();
    assert!(
        numbers.windows(2).all(|pair| pair[0] < pair[1]),
        "in order, none twice: {text}"
    );
}

fn killed(victim: impl Fn(&JobProcesses) -> i32) -> (Host, String, Value) {
    let host = Host::start(&Options::default());
    let (job, processes) = counting(&host, "100000", &[]);
    signal(victim(&processes), Signal::SIGKILL);
    let report = ended_once(&host, &job);
    never_silently_wrong(&host, &job, &report, None);
    (host, job, report)
}

fn ends(report: &Value) -> (Option<&str>, Option<&str>) {
    (report["outcome"].as_str(), report["code"].as_str())
}

#[test]
fn a_killed_bot_failed_by_that_signal() {
    let (_host, _, report) = killed(|processes| processes.bot);
    assert_eq!(report["outcome"], "FAILED", "{report:#}");
    assert_eq!(report["signal"], 9, "{report:#}");
    assert_eq!(report["wipe"]["complete"], true, "{report:#}");
}

#[test]
fn a_killed_session_monitor_is_torn_down_by_the_broker() {
    let (_host, _, report) = killed(|processes| processes.monitor);
    assert_eq!(
        ends(&report),
        (Some("INTERRUPTED"), Some("SESSION_LOST")),
        "{report:#}"
    );
    assert_eq!(report["wipe"]["complete"], true, "{report:#}");
}

#[test]
fn a_killed_leader_ends_the_session_and_the_job() {
    let (_host, _, report) = killed(|processes| processes.leader);
    assert_eq!(
        ends(&report),
        (Some("INTERRUPTED"), Some("SESSION_ENDED")),
        "{report:#}"
    );
    assert_eq!(report["wipe"]["complete"], true, "{report:#}");
}

#[test]
fn a_killed_init_takes_the_bot_along_and_the_job_ends() {
    let (_host, _, report) = killed(|processes| processes.init);
    assert_eq!(report["outcome"], "INTERRUPTED", "{report:#}");
    assert_eq!(report["wipe"]["complete"], true, "{report:#}");
}

#[test]
fn a_killed_attendant_is_replaced_and_the_log_is_whole_or_has_a_gap() {
    let host = Host::start(&Options::default());
    let (job, processes) = counting(&host, "300", &[]);
    signal(processes.attendant, Signal::SIGKILL);
    let replaced = tests::eventually("another attendant", || {
        let now = JobProcesses::of(&job, "bot.py").attendant;
        (now != processes.attendant).then_some(now)
    });
    signal(replaced, Signal::SIGKILL);
    let report = ended_once(&host, &job);
    assert_eq!(
        report["outcome"],
        "SUCCEEDED",
        "{report:#}{}",
        host.all_logs()
    );
    never_silently_wrong(&host, &job, &report, Some(300));
    let text = String::from_utf8(host.stream(&job, "stdout")).expect("text");
    assert!(text.ends_with("count 299\n"), "the new one goes on: {text}");
}

#[test]
fn a_killed_x_server_ends_no_bot_that_does_not_use_it() {
    let host = Host::start(&Options::default());
    let (job, processes) = counting(&host, "200", &["--display", "640x480"]);
    signal(
        processes.named("Xvfb").expect("an X server"),
        Signal::SIGKILL,
    );
    let report = ended_once(&host, &job);
    assert_eq!(
        report["outcome"],
        "SUCCEEDED",
        "{report:#}{}",
        host.all_logs()
    );
    never_silently_wrong(&host, &job, &report, Some(200));
}

#[test]
fn robotd_stopped_for_a_while_loses_nothing() {
    let host = Host::start(&Options::default());
    let (job, processes) = counting(&host, "200", &[]);
    signal(host.agent_pid(), Signal::SIGSTOP);
    tests::eventually("the bot to end meanwhile", || {
        tests::procs::arguments(processes.bot)
            .is_empty()
            .then_some(())
    });
    signal(host.agent_pid(), Signal::SIGCONT);
    let report = ended_once(&host, &job);
    assert_eq!(report["outcome"], "SUCCEEDED", "{report:#}");
    never_silently_wrong(&host, &job, &report, Some(200));
    assert_eq!(report["gaps"], serde_json::json!([]));
}

#[test]
fn an_attendant_stopped_for_a_while_loses_nothing() {
    let host = Host::start(&Options::default());
    let (job, processes) = counting(&host, "200", &[]);
    signal(processes.attendant, Signal::SIGSTOP);
    tests::eventually("the bot to end meanwhile", || {
        tests::procs::arguments(processes.bot)
            .is_empty()
            .then_some(())
    });
    signal(processes.attendant, Signal::SIGCONT);
    let report = ended_once(&host, &job);
    assert_eq!(report["outcome"], "SUCCEEDED", "{report:#}");
    never_silently_wrong(&host, &job, &report, Some(200));
    assert_eq!(report["gaps"], serde_json::json!([]));
}

#[test]
fn the_broker_stopped_for_a_while_loses_nothing() {
    let host = Host::start(&Options::default());
    let (job, processes) = counting(&host, "200", &[]);
    signal(host.broker_pid(), Signal::SIGSTOP);
    tests::eventually("the bot to end meanwhile", || {
        tests::procs::arguments(processes.bot)
            .is_empty()
            .then_some(())
    });
    signal(host.broker_pid(), Signal::SIGCONT);
    let report = ended_once(&host, &job);
    assert_eq!(report["outcome"], "SUCCEEDED", "{report:#}");
    never_silently_wrong(&host, &job, &report, Some(200));
}

#[test]
fn broker_and_robotd_killed_together_find_the_job_again() {
    let mut host = Host::start(&Options::default());
    let (job, _) = counting(&host, "300", &[]);
    host.kill_broker();
    host.kill_agent();
    host.start_broker();
    host.start_agent();
    let report = ended_once(&host, &job);
    assert_eq!(
        report["outcome"],
        "SUCCEEDED",
        "{report:#}{}",
        host.all_logs()
    );
    never_silently_wrong(&host, &job, &report, Some(300));
}

#[test]
fn everything_killed_at_once_is_torn_down_at_the_next_start_and_reported() {
    let mut host = Host::start(&Options::default());
    let (job, processes) = counting(&host, "100000", &[]);
    host.kill_agent();
    host.kill_broker();
    signal(processes.monitor, Signal::SIGKILL);
    host.start_broker();
    host.start_agent();
    let report = ended_once(&host, &job);
    assert_eq!(report["outcome"], "INTERRUPTED", "{report:#}");
    assert_eq!(report["wipe"]["complete"], true, "{report:#}");
    never_silently_wrong(&host, &job, &report, None);
}
