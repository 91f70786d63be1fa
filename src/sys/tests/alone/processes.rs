//! Making, watching and ending processes.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{PipeReader, Read};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use sys::cgroup::{Group, path_of};
use sys::process::{
    Exit, Fork, Launch, Limit, Namespaces, Program, Reaped, StartTime, close_fds_except,
    die_with_parent, end_now, exec_report, fork, reap_any, set_child_subreaper, set_limit,
    signal_namespace, start_time,
};
use sys::{Errno, Pid, Signal};

use crate::Claim;
use crate::claims::{Gate, child, in_child, status};

pub(crate) const CLAIMS: &[Claim] = &[
    (
        "processes: a child in a pid namespace of its own is pid 1 there",
        pid_one,
    ),
    (
        "processes: when pid 1 ends, all in its namespace end",
        all_end_with_pid_one,
    ),
    (
        "processes: pid 1 signals all in its namespace but itself",
        pid_one_signals_all,
    ),
    (
        "processes: a child is born into its cgroup",
        born_into_cgroup,
    ),
    ("processes: a signal and a code are told apart", exits),
    (
        "processes: an orphan of a subreaper is collected by it",
        orphans,
    ),
    ("processes: a child dies with its parent", dies_with_parent),
    (
        "processes: another process at the same pid has another start time",
        start_times,
    ),
    (
        "processes: descriptors that are not kept are closed",
        closes,
    ),
    (
        "processes: a program gets the descriptors, environment and signals it is given",
        launches,
    ),
    (
        "processes: a program by descriptor runs",
        launches_by_descriptor,
    ),
    ("processes: descriptors may change places", swaps),
    (
        "processes: a program that can't be started says why",
        can_not_launch,
    ),
    ("processes: a limit bounds and can't be raised", limits),
    (
        "processes: loopback works in a network namespace of its own",
        loopback,
    ),
];

const PID: Namespaces = Namespaces {
    pid: true,
    ..Namespaces::NONE
};
const LONG: Duration = Duration::from_secs(20);

fn pid_one() {
    in_child(PID, || assert_eq!(Pid::this(), Pid::from_raw(1)));
    in_child(Namespaces::NONE, || {
        assert_ne!(Pid::this(), Pid::from_raw(1))
    });
}

fn all_end_with_pid_one() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let init = child(PID, || {
        child(Namespaces::NONE, || sleep_for_ever());
        sleep_for_ever();
    });
    drop(writer);
    init.send(Signal::SIGKILL).unwrap();
    // Both held the write end; its end is seen only when both are gone.
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    assert_eq!(
        init.wait().unwrap(),
        Exit::Signal {
            number: Signal::SIGKILL as i32,
            core: false
        }
    );
}

fn pid_one_signals_all() {
    in_child(PID, || {
        let sleeper = child(Namespaces::NONE, || sleep_for_ever());
        signal_namespace(Signal::SIGKILL).unwrap();
        assert!(matches!(sleeper.wait().unwrap(), Exit::Signal { .. }));
        signal_namespace(Signal::SIGKILL).unwrap();
    });
}

fn born_into_cgroup() {
    let parent = Group::of_process(Pid::this()).unwrap();
    let group = Group::create(&parent, &format!("robotd-test-{}", Pid::this())).unwrap();
    let mut gate = Gate::new();
    let born = match fork(Namespaces::NONE, Some(group.as_fd())).unwrap() {
        Fork::Parent(process) => process,
        Fork::Child => {
            gate.wait();
            end_now(0)
        }
    };
    assert!(
        group
            .path()
            .ends_with(path_of(born.pid()).unwrap().file_name().unwrap())
    );
    assert_eq!(group.processes().unwrap(), [born.pid()]);
    assert!(group.populated().unwrap());
    gate.open();
    assert!(born.wait().unwrap().is_success());
    group.wait_empty(LONG).unwrap();
    group.remove().unwrap();
}

fn exits() {
    let coded = child(Namespaces::NONE, || end_now(42));
    assert_eq!(coded.wait().unwrap(), Exit::Code(42));
    let mut gate = Gate::new();
    let alive = child(Namespaces::NONE, || gate.wait());
    assert_eq!(alive.try_wait().unwrap(), None);
    assert_eq!(alive.wait_within(Duration::from_millis(1)).unwrap(), None);
    alive.send(Signal::SIGTERM).unwrap();
    assert_eq!(
        alive.wait_within(LONG).unwrap(),
        Some(Exit::Signal {
            number: 15,
            core: false
        })
    );
    assert!(alive.wait().is_err(), "its end was collected twice");
    // Closed until here, so that only the signal could have ended it.
    gate.open();
}

fn orphans() {
    set_child_subreaper().unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let parent = child(Namespaces::NONE, || {
        child(Namespaces::NONE, || end_now(7));
    });
    drop(writer);
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    let mut codes = Vec::new();
    loop {
        match reap_any().unwrap() {
            Reaped::Child(_, Exit::Code(code)) => codes.push(code),
            Reaped::AllAlive => std::thread::yield_now(),
            Reaped::NoChildren => break,
            Reaped::Child(_, exit) => panic!("{exit:?}"),
        }
    }
    codes.sort_unstable();
    assert_eq!(codes, [0, 7]);
    assert!(parent.try_wait().is_err());
}

fn dies_with_parent() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let parent = child(Namespaces::NONE, move || {
        let me = Pid::this();
        child(Namespaces::NONE, move || {
            die_with_parent(Signal::SIGKILL, me).unwrap();
            loop {
                nix::unistd::pause();
            }
        });
        sleep_for_ever();
    });
    drop(writer);
    wait_until_sleeping_child_of(parent.pid());
    parent.send(Signal::SIGKILL).unwrap();
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    in_child(Namespaces::NONE, || {
        assert!(die_with_parent(Signal::SIGKILL, Pid::from_raw(1 << 22)).is_err())
    });
}

/// Waits until the only child of `pid` has set its wish to die and sleeps in pause(2).
fn wait_until_sleeping_child_of(pid: Pid) {
    loop {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let Some(child) = children.split_whitespace().next() else {
            continue;
        };
        let call = std::fs::read_to_string(format!("/proc/{child}/syscall")).unwrap_or_default();
        // pause(2) is 34 on x86_64; ppoll(2), which stands in for it elsewhere, is 73.
        if call.starts_with("34 ") || call.starts_with("73 ") {
            return;
        }
        std::thread::yield_now();
    }
}

fn start_times() {
    let mut gate = Gate::new();
    let process = child(Namespaces::NONE, || gate.wait());
    let started = start_time(process.pid()).unwrap();
    assert!(started >= start_time(Pid::this()).unwrap());
    assert!(started > StartTime(0));
    process.send(Signal::SIGKILL).unwrap();
    process.wait().unwrap();
    gate.open();
    assert!(start_time(process.pid()).is_err());
}

fn closes() {
    let kept = File::open("/dev/null").unwrap();
    let lost = File::open("/dev/null").unwrap();
    let (kept_number, lost_number) = (kept.as_raw_fd(), lost.as_raw_fd());
    close_fds_except(&[kept.as_fd()]).unwrap();
    let exists = |number: i32| std::fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_ok();
    assert!(exists(0) && exists(1) && exists(2) && exists(kept_number) && !exists(lost_number));
    std::mem::forget(lost);
}

fn launch_shell(script: &CStr, env: &[CString]) -> String {
    let null = File::open("/dev/null").unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let argv = [c"sh".to_owned(), c"-c".to_owned(), script.to_owned()];
    let shell = child(Namespaces::NONE, || {
        let fds = [null.as_fd(), writer.as_fd(), writer.as_fd(), null.as_fd()];
        let launch = Launch {
            program: Program::Path(c"/bin/sh"),
            argv: &argv,
            env,
            fds: &fds,
            report: None,
        };
        panic!("{:?}", launch.exec());
    });
    drop(writer);
    let text = text_of(&mut reader);
    assert!(shell.wait().unwrap().is_success(), "{text}");
    text
}

fn text_of(reader: &mut PipeReader) -> String {
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    text
}

fn launches() {
    let script = c"for n in 0 1 2 3 4 5 6 7 8 9; do test -e /proc/$$/fd/$n && echo fd $n; done
        /usr/bin/env; grep -E 'SigBlk|SigIgn' /proc/$$/status";
    let _other = File::open("/dev/null").unwrap();
    let _signals = sys::poll::Signals::of_a_program().unwrap();
    let text = launch_shell(script, &[c"ROBOT=1".to_owned()]);
    assert!(
        text.starts_with("fd 0\nfd 1\nfd 2\nfd 3\nROBOT=1\n"),
        "{text}"
    );
    assert!(!text.contains("CARGO"), "{text}");
    for field in ["SigBlk", "SigIgn"] {
        assert!(
            text.contains(&format!("{field}:\t0000000000000000\n")),
            "{text}"
        );
    }
}

fn launches_by_descriptor() {
    let program = File::open("/bin/true").unwrap();
    let argv = [c"true".to_owned()];
    let started = child(Namespaces::NONE, || {
        let launch = Launch {
            program: Program::Fd(program.as_fd()),
            argv: &argv,
            env: &[],
            fds: &[],
            report: None,
        };
        panic!("{:?}", launch.exec());
    });
    assert!(started.wait().unwrap().is_success());
}

fn swaps() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let argv = [
        c"sh".to_owned(),
        c"-c".to_owned(),
        c"echo one >&1; cat <&0".to_owned(),
    ];
    let (input, mut feed) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut feed, b"two\n").unwrap();
    drop(feed);
    let shell = child(Namespaces::NONE, || {
        // The numbers that are to be taken are those of other descriptors in the list.
        let low = (
            File::open("/dev/null").unwrap(),
            File::open("/dev/null").unwrap(),
        );
        let fds = [
            input.as_fd(),
            writer.as_fd(),
            low.1.as_fd(),
            writer.as_fd(),
            input.as_fd(),
            low.0.as_fd(),
        ];
        let launch = Launch {
            program: Program::Path(c"/bin/sh"),
            argv: &argv,
            env: &[],
            fds: &fds,
            report: None,
        };
        panic!("{:?}", launch.exec());
    });
    drop(writer);
    assert_eq!(text_of(&mut reader), "one\ntwo\n");
    assert!(shell.wait().unwrap().is_success());
}

fn can_not_launch() {
    for (path, errno) in [
        (c"/nonexistent", Errno::ENOENT),
        (c"/etc/passwd", Errno::EACCES),
    ] {
        let (watch, report) = exec_report().unwrap();
        let argv = [c"x".to_owned()];
        let started = child(Namespaces::NONE, || {
            let report = Some(report.as_fd());
            let _ = Launch {
                program: Program::Path(path),
                argv: &argv,
                env: &[],
                fds: &[],
                report,
            }
            .exec();
        });
        drop(report);
        let outcome = watch.wait(path);
        assert!(
            matches!(outcome, Err(sys::process::Error::Exec { source, .. }) if source == errno),
            "{outcome:?}"
        );
        assert_eq!(started.wait().unwrap(), Exit::Code(127));
    }
    let (watch, report) = exec_report().unwrap();
    let argv = [c"true".to_owned()];
    let started = child(Namespaces::NONE, || {
        let report = Some(report.as_fd());
        let _ = Launch {
            program: Program::Path(c"/bin/true"),
            argv: &argv,
            env: &[],
            fds: &[],
            report,
        }
        .exec();
    });
    drop(report);
    watch.wait(c"/bin/true").unwrap();
    started.wait().unwrap();
}

fn limits() {
    set_limit(Limit::OpenFiles(64)).unwrap();
    set_limit(Limit::Core(0)).unwrap();
    assert_eq!(status("Threads"), "1");
    let files: Vec<_> = (0..100)
        .map_while(|_| File::open("/dev/null").ok())
        .collect();
    assert!(files.len() < 64);
    drop(files);
    let text = launch_shell(c"ulimit -Hn; ulimit -Sc", &[]);
    assert_eq!(text, "64\n0\n");
}

fn loopback() {
    in_child(
        Namespaces {
            net: true,
            ..Namespaces::NONE
        },
        || {
            let listener = TcpListener::bind("127.0.0.1:0");
            let down = listener.and_then(|listener| TcpStream::connect(listener.local_addr()?));
            assert!(down.is_err(), "loopback was up already");
            sys::net::loopback_up().unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        },
    );
}

fn sleep_for_ever() -> ! {
    // A claim that fails leaves nothing behind.
    die_with_parent(Signal::SIGKILL, nix::unistd::getppid()).unwrap();
    loop {
        nix::unistd::pause();
    }
}
