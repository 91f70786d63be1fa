//! What a job may use: each limit of its order holds, and its result says who ended it.

use serde_json::Value;
use tests::{Host, Options};

/// Of the catalogue: a job came to a limit.
const LIMIT_REACHED: u32 = 100_230;

fn end(report: &Value) -> (Option<&str>, Option<&str>, Option<&str>) {
    let ended = &report["ended_by"];
    (
        report["outcome"].as_str(),
        report["code"].as_str(),
        ended["limit"].as_str(),
    )
}

#[test]
fn a_bot_that_does_nothing_is_stopped_when_its_idle_time_is_over() {
    let host = Host::start(&Options::default());
    let package = host.push_python(
        "idler",
        "import time\nprint('up', flush=True)\ntime.sleep(1000)\n",
    );
    let report = host.run_job(&package, &["--idle-timeout", "2s", "--stop-grace", "1s"]);
    assert_eq!(
        end(&report),
        (Some("TIMED_OUT"), Some("IDLE_LIMIT"), Some("idle-ms")),
        "{report:#}"
    );
    assert_eq!(report["ended_by"]["who"], "limit", "{report:#}");
    let job = report["job_id"].as_str().expect("an id");
    let event = host.event(LIMIT_REACHED, |event| event.to_string().contains(job));
    assert!(event.to_string().contains("IDLE_LIMIT"), "{event:#}");
    let shown = host.ask(&["job", "show", job]);
    assert!(
        shown.contains("a limit of its order, idle-ms: the bot did nothing"),
        "{shown}"
    );
    host.assert_nothing_left();
}

/// Each is quiet in two of the three ways, for longer than it may be idle.
const BUSY: [(&str, &str); 3] = [
    (
        "prints",
        "import time\nfor n in range(12):\n    print(n, flush=True)\n    time.sleep(0.5)\n",
    ),
    (
        "calls",
        "import subprocess,time\nfor n in range(12):\n    \
         subprocess.run(['robotjob','params'],stdout=subprocess.DEVNULL,check=True)\n    time.sleep(0.5)\n",
    ),
    (
        "computes",
        "import time\nend = time.monotonic() + 6\nwhile time.monotonic() < end: pass\n",
    ),
];

#[test]
fn a_bot_that_prints_or_calls_or_computes_is_not_idle() {
    let host = Host::start(&Options::default());
    for (name, code) in BUSY {
        let package = host.push_python(name, code);
        let report = host.run_job(&package, &["--idle-timeout", "2s", "--display", "none"]);
        assert_eq!(report["outcome"], "SUCCEEDED", "{name}: {report:#}");
        assert_eq!(report["ended_by"]["who"], "bot", "{name}: {report:#}");
    }
    host.assert_nothing_left();
}

#[test]
fn the_host_s_idle_time_holds_for_an_order_that_asks_for_none() {
    let policy = "[packages]\nallow-unsigned = true\n[limits]\nidle-minutes = 1\n".to_owned();
    let host = Host::start(&Options {
        policy,
        ..Options::default()
    });
    let package = host.push_python("end", "pass\n");
    let report = host.run_job(&package, &["--idle-timeout", "2m"]);
    assert_eq!(report["code"], "LIMIT_ABOVE_POLICY", "{report:#}");
    let report = host.run_job(&package, &[]);
    assert_eq!(report["outcome"], "SUCCEEDED", "{report:#}");
}

const OPENS: &str = r#"
import resource, os
files = []
try:
    while True: files.append(open('/dev/null'))
except OSError as error:
    names = len(os.listdir('/proc/self/fd')) if files.pop().close() is None else 0
    files.append(None)
    print(error.strerror, 90 <= len(files) <= 100)
try: resource.setrlimit(resource.RLIMIT_NOFILE, (101, 101))
except ValueError: print('not raised')
print(*(resource.getrlimit(limit) for limit in (resource.RLIMIT_CORE, resource.RLIMIT_AS)))
"#;

#[test]
fn a_bot_opens_as_many_files_as_its_order_says_and_can_not_raise_that() {
    let host = Host::start(&Options::default());
    let package = host.push_python("opens", OPENS);
    let report = host.run_job(&package, &["--open-files", "100", "--display", "none"]);
    assert_eq!(report["outcome"], "SUCCEEDED", "{report:#}");
    let said = host.stream(report["job_id"].as_str().expect("an id"), "stdout");
    let said = String::from_utf8(said).expect("text");
    // No core dump ever; the address space never bounded, or no browser runs.
    assert_eq!(
        said,
        "Too many open files True\nnot raised\n(0, 0) (-1, -1)\n"
    );
    host.assert_nothing_left();
}

#[test]
fn a_file_larger_than_the_volume_ends_the_bot_with_that_reason() {
    let host = Host::start(&Options::default());
    let code = "import os,signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n\
        file = os.open('/tmp/large', os.O_CREAT | os.O_WRONLY)\nos.truncate(file, 1 << 40)\n";
    let package = host.push_python("sparse", code);
    let report = host.run_job(&package, &["--volume", "64M", "--display", "none"]);
    assert_eq!(
        end(&report),
        (
            Some("FAILED"),
            Some("LIMIT_FILE_SIZE"),
            Some("volume-bytes")
        ),
        "{report:#}"
    );
    host.assert_nothing_left();
}

#[test]
fn a_result_counts_what_the_job_used_and_names_what_this_host_can_not_enforce() {
    let host = Host::start(&Options::default());
    let code =
        "import time\nend = time.process_time() + 1\nwhile time.process_time() < end: pass\n";
    let package = host.push_python("counts", code);
    let report = host.run_job(&package, &["--cpu", "400", "--display", "none"]);
    assert_eq!(report["outcome"], "SUCCEEDED", "{report:#}");
    assert!(
        report["usage"]["cpu_ms"].as_u64() >= Some(1_000),
        "{report:#}"
    );
    let lacking = report["not_enforced"].as_array().expect("a list").clone();
    let reaching = sys::cgroup::reaching_jobs(false).expect("controllers");
    for (limit, controller) in [
        ("memory-bytes", "memory"),
        ("cpu-percent", "cpu"),
        ("cpu-weight", "cpu"),
    ] {
        let told = lacking.iter().any(|row| row["limit"] == limit);
        let has = reaching.iter().any(|name| name == controller);
        assert_eq!(told, !has, "{limit} with {reaching:?}: {report:#}");
    }
    // init bounds them by number where no controller does.
    assert!(
        lacking.iter().all(|row| row["limit"] != "processes"),
        "{report:#}"
    );
    host.assert_nothing_left();
}
