//! The ways in which a bot can end.

use tests::{Host, Options};

#[test]
fn exit_code_and_death_by_signal_are_told_apart() {
    let host = Host::start(&Options::default());
    let package = host.push_python("exit", "import sys\nsys.exit(137)\n");
    let report = host.run_job(&package, &[]);
    assert_eq!(
        (report["outcome"].as_str(), report["exit_code"].as_i64()),
        (Some("FAILED"), Some(137)),
        "{report:#}"
    );
    assert!(report["signal"].is_null());
    let package = host.push_python(
        "kill",
        "import os,signal\nos.kill(os.getpid(), signal.SIGKILL)\n",
    );
    let report = host.run_job(&package, &[]);
    assert_eq!(
        (report["outcome"].as_str(), report["signal"].as_i64()),
        (Some("FAILED"), Some(9)),
        "{report:#}"
    );
    assert!(report["exit_code"].is_null());
    host.assert_nothing_left();
}

#[test]
fn a_stop_is_sigterm_first_and_the_bot_may_finish_its_sentence() {
    let host = Host::start(&Options::default());
    let code = "import signal,sys,time\n\
        def stop(*_):\n    print('stopped in order', flush=True)\n    sys.exit(5)\n\
        signal.signal(signal.SIGTERM, stop)\nprint('up', flush=True)\ntime.sleep(1000)\n";
    let package = host.push_python("polite", code);
    let job = host.submit(&package, &["--stop-grace", "60s"]);
    host.says(&job, "up");
    host.ask(&["job", "stop", &job]);
    let report = host.report(&job);
    assert_eq!(
        (report["outcome"].as_str(), report["exit_code"].as_i64()),
        (Some("STOPPED"), Some(5)),
        "{report:#}"
    );
    assert_eq!(host.stream(&job, "stdout"), b"up\nstopped in order\n");
    host.assert_nothing_left();
}

#[test]
fn a_bot_that_ignores_sigterm_is_killed_with_all_it_started_when_its_grace_is_over() {
    let host = Host::start(&Options::default());
    let code = "import signal,subprocess,time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n\
        for _ in range(5): subprocess.Popen(['setsid','sh','-c','trap \"\" TERM HUP INT; while :; do sleep 1; done'])\n\
        print('up', flush=True)\nwhile True: time.sleep(1)\n";
    let package = host.push_python("stubborn", code);
    let job = host.submit(&package, &["--stop-grace", "1s"]);
    host.says(&job, "up");
    host.ask(&["job", "stop", &job]);
    let report = host.report(&job);
    assert_eq!(report["outcome"], "STOPPED", "{report:#}");
    assert!(report["exit_code"].is_null(), "{report:#}");
    host.assert_nothing_left();
}

#[test]
fn a_bot_that_runs_too_long_is_timed_out() {
    let host = Host::start(&Options::default());
    let package = host.push_python("long", "import time\ntime.sleep(1000)\n");
    let report = host.run_job(&package, &["--timeout", "1s", "--stop-grace", "1s"]);
    assert_eq!(
        (report["outcome"].as_str(), report["code"].as_str()),
        (Some("TIMED_OUT"), Some("RUN_LIMIT")),
        "{report:#}"
    );
    host.assert_nothing_left();
}

#[test]
fn an_executable_entry_point_runs_without_an_interpreter() {
    let host = Host::start(&Options::default());
    let package = host.push(
        "shell",
        &[
            ("run.sh", "#!/bin/sh\necho \"$1 $GREETING\"\npwd\n"),
            ("robotd.toml", "entry = \"run.sh\"\n"),
        ],
        None,
    );
    let report = host.run_job(
        &package,
        &[
            "--entry",
            "run.sh",
            "--arg",
            "hello",
            "--env",
            "GREETING=there",
        ],
    );
    assert_eq!(report["outcome"], "SUCCEEDED", "{report:#}");
    assert_eq!(
        host.stream(report["job_id"].as_str().expect("an id"), "stdout"),
        b"hello there\n/work\n"
    );
}
