//! A secret reaches the bot's memory and nothing else.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use tests::{Host, Options, programs};

const SECRET: &str = "kvK7-plain-9Qx";

/// Prints the secret in two writes, split at every offset, with a pause between.
const BOT: &str = "import subprocess,sys,time\n\
    secret = subprocess.run(['robotjob','credential','erp'], check=True, stdout=subprocess.PIPE).stdout.decode()\n\
    for cut in range(len(secret) + 1):\n    sys.stdout.write('<' + secret[:cut]); sys.stdout.flush(); time.sleep(0.02)\n    \
    sys.stdout.write(secret[cut:] + '>\\n'); sys.stdout.flush()\n\
    print(len(secret))\n";

pub(crate) fn set_secret(host: &Host, name: &str, value: &str) {
    let mut command = Command::new(programs().join("robot-orchestrator"));
    command
        .args(["secret", "set", name, "--data-dir"])
        .arg(host.dir.join("orchestrator"));
    let mut child = command
        .stdin(Stdio::piped())
        .spawn()
        .expect("robot-orchestrator starts");
    child
        .stdin
        .take()
        .expect("a pipe")
        .write_all(value.as_bytes())
        .expect("a write");
    assert!(child.wait().expect("a wait").success());
}

fn files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&path, found),
            Ok(kind) if kind.is_file() => found.push(path),
            _ => {}
        }
    }
}

#[test]
fn a_secret_split_at_every_offset_is_masked_and_on_no_disk() {
    let host = Host::start(&Options::default());
    set_secret(&host, "erp", SECRET);
    let package = host.push_python("teller", BOT);
    let report = host.run_job(&package, &["--secret", "erp"]);
    assert_eq!(report["outcome"], "SUCCEEDED", "{report:#}");
    let job = report["job_id"].as_str().expect("an id");
    let mut expected = "<***>\n".repeat(SECRET.len() + 1);
    expected += &format!("{}\n", SECRET.len());
    assert_eq!(
        String::from_utf8(host.stream(job, "stdout")).expect("text"),
        expected
    );
    let mut all = Vec::new();
    files(&host.dir, &mut all);
    assert!(all.len() > 10, "there is something to look at");
    for path in all {
        let bytes = fs::read(&path).unwrap_or_default();
        assert!(
            !bytes
                .windows(SECRET.len())
                .any(|part| part == SECRET.as_bytes()),
            "{} holds the secret",
            path.display()
        );
    }
    let read = host.event(100_205, |event| {
        event["job_id"] == job || event["job"] == job
    });
    assert!(!read.to_string().contains(SECRET));
    host.assert_nothing_left();
}

#[test]
fn a_secret_that_the_job_was_not_granted_is_refused() {
    let host = Host::start(&Options::default());
    set_secret(&host, "erp", SECRET);
    let code = "import subprocess\nout = subprocess.run(['robotjob','credential','erp'], capture_output=True, text=True)\n\
                print(out.returncode != 0, 'SECRET_NOT_GRANTED' in out.stderr, repr(out.stdout))\n";
    let package = host.push_python("curious", code);
    let report = host.run_job(&package, &[]);
    assert_eq!(report["outcome"], "SUCCEEDED", "{report:#}");
    assert_eq!(
        host.stream(report["job_id"].as_str().expect("an id"), "stdout"),
        b"True True ''\n"
    );
}

/// Holds the secret until it is stopped.
const HOLDER: &str = "import subprocess,time\n\
    secret = subprocess.run(['robotjob','credential','erp'], check=True, stdout=subprocess.PIPE).stdout\n\
    print('holds', len(secret), flush=True)\ntime.sleep(1000)\n";

/// How often the bytes stand in what a process has mapped and written to.
fn in_memory(pid: i32, wanted: &[u8]) -> usize {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("a running process");
    let mut memory = fs::File::open(format!("/proc/{pid}/mem")).expect("root");
    let mut found = 0;
    for line in maps.lines() {
        let Some((from, to)) = line
            .split_once(' ')
            .and_then(|(range, _)| range.split_once('-'))
        else {
            continue;
        };
        let [from, to] = [from, to].map(|text| u64::from_str_radix(text, 16).unwrap_or(0));
        // Not all can be read: what the kernel maps for itself, and guard pages.
        if !line.contains(" r") || to <= from || memory.seek(SeekFrom::Start(from)).is_err() {
            continue;
        }
        let mut bytes = Vec::new();
        let _ = (&memory).take(to - from).read_to_end(&mut bytes);
        found += bytes
            .windows(wanted.len())
            .filter(|part| *part == wanted)
            .count();
    }
    found
}

/// Whether every mapping of this name is there and locked against swapping (`lo` of proc(5) smaps).
fn is_locked(pid: i32, what: &str) -> bool {
    let maps = fs::read_to_string(format!("/proc/{pid}/smaps")).expect("a running process");
    let mut wanted = false;
    let mut flags = Vec::new();
    for line in maps.lines() {
        // A mapping begins with its addresses, its facts with their names.
        if !line
            .split(' ')
            .next()
            .is_some_and(|word| word.ends_with(':'))
        {
            wanted = line.contains(what);
        } else if let Some(own) = line.strip_prefix("VmFlags:")
            && wanted
        {
            flags.push(own.split_whitespace().any(|flag| flag == "lo"));
        }
    }
    !flags.is_empty() && flags.iter().all(|locked| *locked)
}

#[test]
fn robotd_and_the_broker_hold_no_plain_secret_and_no_command_line_or_environment_does() {
    let host = Host::start(&Options::default());
    set_secret(&host, "erp", SECRET);
    let package = host.push_python("holder", HOLDER);
    let job = host.submit(&package, &["--secret", "erp", "--stop-grace", "1s"]);
    host.says(&job, "holds");
    let processes = tests::procs::JobProcesses::of(&job, "bot.py");
    let wanted = SECRET.as_bytes();
    assert!(
        in_memory(processes.bot, wanted) > 0,
        "the search finds what is there"
    );
    assert_eq!(
        in_memory(host.agent_pid(), wanted),
        0,
        "robotd carries it sealed only"
    );
    assert_eq!(
        in_memory(host.broker_pid(), wanted),
        0,
        "the broker forgets what it opened"
    );
    assert_eq!(
        in_memory(processes.leader, wanted),
        0,
        "the leader never sees it"
    );
    // A host may forbid it to a user without rights; then it is told.
    assert!(
        is_locked(processes.attendant, "[heap]")
            || host
                .all_logs()
                .contains("robotd-attendant: secrets are not kept out of swap")
    );
    for (pid, what) in [
        (host.broker_pid(), "[heap]"),
        // Its copy, kept for a successor of the attendant.
        (processes.monitor, "/memfd:robotd"),
    ] {
        assert!(
            is_locked(pid, what),
            "{what} of {} can go to swap",
            tests::procs::arguments(pid)
        );
    }
    for pid in tests::procs::pids() {
        for file in ["cmdline", "environ"] {
            let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let there = bytes.windows(wanted.len()).any(|part| part == wanted);
            assert!(!there, "{file} of {pid} holds the secret");
        }
    }
    for (pid, hard) in [
        (processes.attendant, Some("0")),
        (processes.bot, Some("0")),
        (processes.monitor, None),
    ] {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
        let core = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max core file size"));
        let mut words = core.unwrap_or_default().split_whitespace();
        let name = tests::procs::arguments(pid);
        assert_eq!(words.next(), Some("0"), "{name}: {core:?}");
        assert!(hard.is_none() || words.next() == hard, "{name}: {core:?}");
    }
    host.ask(&["job", "stop", &job]);
    assert_eq!(host.report(&job)["outcome"], "STOPPED");
    host.assert_nothing_left();
}
