//! A bot that wants more than it was given, or wants to stay: it harms itself and nobody else.

use std::fs;

use serde_json::Value;
use sys::cgroup::Group;
use tests::procs::JobProcesses;
use tests::{Host, Options, eventually, phases};

/// Every claim of this file.
pub(crate) const CLAIMS: &[(&str, fn())] = &[
    (
        "limits::a_fork_bomb_gets_the_processes_of_its_order_and_its_neighbour_runs_on",
        fork_bomb,
    ),
    ("limits::a_full_volume_is_the_bot_s_own_matter", full_volume),
    (
        "limits::a_flood_of_output_takes_no_more_memory_than_a_trickle",
        flood,
    ),
    (
        "limits::daemons_that_refuse_every_signal_are_gone_with_their_job",
        daemons,
    ),
    (
        "limits::stopped_traced_and_waiting_processes_are_gone_with_their_job",
        stopped,
    ),
    ("limits::a_display_of_any_size_is_bounded", display),
];

fn host(slots: usize) -> Host {
    Host::start(&Options {
        slots,
        licenses: 2,
        ..Options::default()
    })
}

fn id(report: &Value) -> &str {
    report["job_id"].as_str().expect("an id")
}

fn said(host: &Host, job: &str) -> String {
    String::from_utf8(host.stream(job, "stdout")).expect("text")
}

/// No process, file, key, mount or control group of the job.
fn gone(host: &Host, job: &str) {
    host.assert_nothing_left();
    let group = Group::of_process(nix::unistd::Pid::this()).expect("a control group");
    let below = fs::read_dir(group.path())
        .expect("a control group")
        .flatten();
    let left: Vec<_> = below
        .filter(|entry| entry.file_name().to_string_lossy().contains(job))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Children until no more are given, also from inside of a user namespace, where it is root.
const BOMB: &str = r#"
import ctypes, os, signal, sys
def fill():
    made = 0
    try:
        while made < 5000:
            if os.fork() == 0:
                signal.pause()
            made += 1
    except BlockingIOError:
        pass
    return made
first = fill()
ctypes.CDLL(None).unshare(0x10000000)
print('children', first, 'more', fill(), flush=True)
signal.pause()
"#;

fn fork_bomb() {
    let host = host(2);
    let bomb = host.push_python("bomb", BOMB);
    let neighbour = host.push_python(
        "neighbour",
        "import subprocess\nsubprocess.run(['true'], check=True)\n",
    );
    let job = host.submit(
        &bomb,
        &[
            "--processes",
            "64",
            "--display",
            "none",
            "--stop-grace",
            "1s",
        ],
    );
    host.says(&job, "children");
    let beside = host.run_job(&neighbour, &["--display", "none"]);
    assert_eq!(beside["outcome"], "SUCCEEDED", "{beside:#}");
    host.ask(&["job", "stop", &job]);
    let report = host.report(&job);
    assert_eq!(report["outcome"], "STOPPED", "{report:#}");
    assert_eq!(report["ended_by"]["who"], "operator", "{report:#}");
    let words = said(&host, &job);
    let counts: Vec<u32> = words
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    assert!(matches!(counts[..], [40..=63, 0]), "{words}");
    gone(&host, &job);
}

const FILLER: &str = r#"
import errno, os
def full(what, work):
    done = 0
    try:
        while True:
            work(done)
            done += 1
    except OSError as error:
        print(what, errno.errorcode[error.errno], flush=True)
    return done
chunk = bytes(1 << 20)
for place in ('/tmp', '/dev/shm', os.environ['HOME'], '/work'):
    path = os.path.join(place, 'filling')
    with open(path, 'wb', buffering=0) as file:
        bytes_made = full('bytes', lambda n: file.write(chunk))
    os.unlink(path)
os.mkdir('/tmp/many')
made = full('files', lambda n: open(f'/tmp/many/{n}', 'x').close())
print('in bounds', bytes_made <= 64, 500 < made < 2000)
"#;

fn full_volume() {
    let host = host(1);
    let filler = host.push_python("filler", FILLER);
    let more = [
        "--volume",
        "64M",
        "--volume-files",
        "2000",
        "--display",
        "none",
    ];
    let report = host.run_job(&filler, &more);
    assert_eq!(report["outcome"], "SUCCEEDED", "{report:#}");
    let words = said(&host, id(&report));
    let lines: Vec<&str> = words.lines().collect();
    let (bounds, full) = lines.split_last().expect("lines");
    assert_eq!(*bounds, "in bounds True True", "{words}");
    // A file as large as the volume is cut by its own limit before the volume is full.
    assert!(
        full.iter()
            .all(|line| line.ends_with(" ENOSPC") || *line == "bytes EFBIG"),
        "{words}"
    );
    assert_eq!(full.last(), Some(&"files ENOSPC"), "{words}");
    let next = host.run_job(
        &host.push_python("next", "print('up')\n"),
        &["--display", "none"],
    );
    assert_eq!(next["outcome"], "SUCCEEDED", "{next:#}");
    gone(&host, id(&report));
}

/// A line of a hundred megabytes, NULs, bytes that are no text, fields of the journal, control sequences;
/// then lines as fast as they go.
const FLOOD: &str = r#"
import subprocess, sys, time
out = sys.stdout.buffer
for _ in range(100): out.write(b'x' * (1 << 20))
out.write(b'\n\x00\x00\xff\xfe\nMESSAGE=forged\nPRIORITY=0\n\x1b]0;owned\x07\n')
for n in range(100): out.write((b'%d ' % n + b'y' * 118 + b'\n') * 8192)
out.flush()
subprocess.run(['robotjob', 'alert', 'flooded', 'all of it'], check=True)
time.sleep(1000)
"#;

/// More than an attendant needs for its buffers, far less than what comes.
const MOST_MIB: u64 = 64;

/// The largest picture that is taken, three times, and its file.
const PICTURES_MIB: u64 = 512;

/// The bot has said that it is done.
fn alerted(host: &Host, job: &str) {
    eventually("the bot's alert", || {
        let alerts = host.show(job)["alerts"].as_array().cloned();
        alerts.filter(|alerts| !alerts.is_empty())
    });
}

/// Most memory that a process ever had.
fn peak_mib(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("its peak");
    let peak: u64 = peak
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number");
    peak >> 10
}

fn flood() {
    let host = host(1);
    let package = host.push_python("flood", FLOOD);
    let job = host.submit(&package, &["--display", "none", "--stop-grace", "1s"]);
    host.reaches(&job, "RUNNING");
    let attendant = JobProcesses::of(&job, "bot.py").attendant;
    alerted(&host, &job);
    let peak = peak_mib(attendant);
    assert!(peak < MOST_MIB, "the attendant took {peak} MiB");
    host.ask(&["job", "stop", &job]);
    let report = host.report(&job);
    assert_eq!(report["outcome"], "STOPPED", "{report:#}");
    // Either all of it arrived, or a gap counts what did not.
    let arrived = report["log"]["stdout"]["bytes"].as_u64().expect("a count");
    assert!(
        arrived > 190 << 20 || report["gaps"][0]["bytes"].is_u64(),
        "{report:#}"
    );
    gone(&host, &job);
}

/// Each way of getting away from whoever started it.
const DAEMONS: &str = r#"
import os, signal
def deaf():
    for number in range(1, 65):
        try: signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError): pass
    os.closerange(0, 64)
    while True: signal.pause()
for way in range(4):
    if os.fork() == 0:
        if way & 1: os.setsid()
        if way & 2: os.setpgid(0, 0) if not way & 1 else None
        if os.fork() == 0: deaf()
        os._exit(0)
print('up', flush=True)
"#;

fn daemons() {
    let host = host(1);
    let report = host.run_job(
        &host.push_python("daemons", DAEMONS),
        &["--display", "none"],
    );
    assert_eq!(report["outcome"], "SUCCEEDED", "{report:#}");
    assert!(
        phases(&report).contains(&"PROCESSES_GONE".to_owned()),
        "{report:#}"
    );
    assert_eq!(report["wipe"]["complete"], true, "{report:#}");
    gone(&host, id(&report));
}

/// One that is stopped, one that is stopped by who traces it, one that waits for the child that it
/// shares its memory with, one that does not read a pipe, and a stopped bot.
const STOPPED: &str = r#"
import ctypes, os, signal, sys
libc = ctypes.CDLL(None)
def child(work):
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    return pid
child(lambda: os.kill(os.getpid(), signal.SIGSTOP))
def traced():
    libc.ptrace(0, 0, 0, 0)
    os.kill(os.getpid(), signal.SIGSTOP)
os.waitpid(child(traced), os.WUNTRACED)
child(lambda: os.posix_spawn('/bin/sleep', ['sleep', '1000'], {}))
reader, writer = os.pipe()
child(lambda: os.write(writer, bytes(1 << 20)))
print('up', flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"#;

fn stopped() {
    let host = host(1);
    let package = host.push_python("stopped", STOPPED);
    let job = host.submit(&package, &["--display", "none", "--stop-grace", "1s"]);
    host.says(&job, "up");
    host.ask(&["job", "stop", &job]);
    let report = host.report(&job);
    assert_eq!(report["outcome"], "STOPPED", "{report:#}");
    assert_eq!(report["wipe"]["complete"], true, "{report:#}");
    gone(&host, &job);
}

/// As large as its server lets it be, and larger.
const RESIZER: &str = r#"
import subprocess, time
def run(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
output = next(line.split()[0] for line in run('xrandr').stdout.splitlines() if ' connected' in line)
for width, height in ((1400, 1000), (7680, 4320), (16384, 8192), (16384, 16384), (32767, 32767)):
    timing = [str(size + more) for size in (width, height) for more in range(4)]
    run('xrandr', '--newmode', f'm{width}x{height}', '60', *timing)
    run('xrandr', '--addmode', output, f'm{width}x{height}')
    done = run('xrandr', '--output', output, '--mode', f'm{width}x{height}')
    shot = run('robotjob', 'screenshot')
    print(width, height, done.returncode == 0, shot.returncode == 0, flush=True)
subprocess.run(['robotjob', 'alert', 'resized'], check=True)
time.sleep(1000)
"#;

fn display() {
    let host = host(1);
    let package = host.push_python("large", RESIZER);
    for size in ["32768x32768", "7681x100", "0x0", "4294967295x1"] {
        let refused =
            host.orchestrator(&["job", "submit", "--package", &package, "--display", size]);
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            !refused.status.success() && told.contains("display"),
            "{size}: {told}"
        );
    }
    let job = host.submit(
        &package,
        &["--display", "xvnc:1280x800", "--volume", "512M"],
    );
    host.reaches(&job, "RUNNING");
    let attendant = JobProcesses::of(&job, "bot.py").attendant;
    alerted(&host, &job);
    let peak = peak_mib(attendant);
    println!(
        "sizes: {:?}, the attendant took {peak} MiB",
        said(&host, &job)
    );
    assert!(peak < PICTURES_MIB, "the attendant took {peak} MiB");
    host.ask(&["job", "stop", &job]);
    let report = host.report(&job);
    assert_eq!(report["outcome"], "STOPPED", "{report:#}");
    gone(&host, &job);
}
