//! The program `robotd-unpack`, started as the broker starts it.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;

use nix::unistd::{Gid, Uid, chown};
use package::{Code, Report};
use tempfile::TempDir;

use crate::forge::{archive, entry, honest, with};

/// `nobody` and `nogroup`: any account that is not root will do.
const NOBODY: u32 = 65_534;

/// Held while a program is copied and while one is started: a child forked at that moment would
/// hold the copy open for writing, and the copy could not be executed (ETXTBSY).
static NO_FORK_WHILE_COPYING: Mutex<()> = Mutex::new(());

struct Rig {
    base: TempDir,
    uid: u32,
    gid: u32,
}

impl Rig {
    fn new() -> Self {
        let base = TempDir::new().expect("folder");
        let rig = match Uid::effective().is_root() {
            true => Self {
                base,
                uid: NOBODY,
                gid: NOBODY,
            },
            false => Self {
                base,
                uid: Uid::effective().as_raw(),
                gid: Gid::effective().as_raw(),
            },
        };
        // The folder of the build may be closed to other accounts.
        let _alone = NO_FORK_WHILE_COPYING.lock().expect("not poisoned");
        // Not in this process: a child that another test forks meanwhile would hold it open for
        // writing, and it could not be started.
        let copied = Command::new("cp")
            .arg(env!("CARGO_BIN_EXE_robotd-unpack"))
            .arg(rig.program())
            .status();
        assert!(copied.expect("cp").success());
        fs::set_permissions(rig.base.path(), Permissions::from_mode(0o755)).expect("chmod");
        fs::create_dir(rig.target()).expect("folder");
        if Uid::effective().is_root() {
            chown(
                &rig.target(),
                Some(Uid::from_raw(rig.uid)),
                Some(Gid::from_raw(rig.gid)),
            )
            .expect("chown");
        }
        rig
    }

    fn program(&self) -> PathBuf {
        self.base.path().join("robotd-unpack")
    }

    fn target(&self) -> PathBuf {
        self.base.path().join("target")
    }

    /// The shell stands in for the broker's way to put descriptors in place.
    fn start(&self, descriptors: &str, arguments: &[&str], (uid, gid): (u32, u32)) -> Child {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(format!(
            "target=$1; shift; exec \"$0\" \"$@\" {descriptors}"
        ));
        command
            .arg(self.program())
            .arg(self.target())
            .args(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if Uid::effective().is_root() {
            command.uid(uid).gid(gid);
        }
        let _alone = NO_FORK_WHILE_COPYING.lock().expect("not poisoned");
        command.spawn().expect("started")
    }

    fn run(&self, archive: &[u8]) -> Output {
        feed(
            self.start("3<\"$target\"", &[], (self.uid, self.gid)),
            archive,
        )
    }
}

/// The program may end before it has read everything, so a broken pipe is no failure here.
fn feed(mut child: Child, archive: &[u8]) -> Output {
    let _ = child.stdin.take().expect("a pipe").write_all(archive);
    child.wait_with_output().expect("ended")
}

fn refusal(output: &Output) -> Code {
    match Report::parse(&output.stdout).expect("a report") {
        Report::Refused { code, .. } => code,
        done => panic!("{done:?}"),
    }
}

#[test]
fn a_package_is_unpacked_and_reported() {
    let rig = Rig::new();
    let output = rig.run(&archive(&honest()));
    assert_eq!(
        Report::parse(&output.stdout),
        Ok(Report::Done {
            files: 3,
            bytes: 17
        })
    );
    assert_eq!(
        (output.status.code(), output.stderr.as_slice()),
        (Some(0), &b""[..])
    );
    let file = rig.target().join("files/z/last.txt");
    assert_eq!(fs::read(&file).expect("read"), b"last");
    assert_eq!(fs::metadata(&file).expect("exists").uid(), rig.uid);
}

#[test]
fn a_hostile_package_is_refused_with_its_code() {
    let rig = Rig::new();
    let output = rig.run(&with(2, entry("files/../../../victim", b"x")));
    assert_eq!(
        (refusal(&output), output.status.code()),
        (Code::PathInvalid, Some(65))
    );
    assert!(!rig.base.path().join("victim").exists());
    let rig = Rig::new();
    let output = rig.run(b"");
    assert_eq!(
        (refusal(&output), output.status.code()),
        (Code::Truncated, Some(65))
    );
}

#[test]
fn limits_are_taken_from_the_command_line() {
    let rig = Rig::new();
    let child = rig.start("3<\"$target\"", &["--max-files=2"], (rig.uid, rig.gid));
    assert_eq!(refusal(&feed(child, &archive(&honest()))), Code::TooLarge);
    let child = rig.start("3<\"$target\"", &["--help"], (rig.uid, rig.gid));
    let output = feed(child, b"");
    assert_eq!(
        (refusal(&output), output.status.code()),
        (Code::Confinement, Some(64))
    );
}

#[test]
fn without_a_directory_on_descriptor_3_nothing_is_read() {
    let rig = Rig::new();
    for descriptors in ["", "3<\"$0\"", "3</dev/null"] {
        let child = rig.start(descriptors, &[], (rig.uid, rig.gid));
        let output = feed(child, b"");
        assert_eq!(
            (refusal(&output), output.status.code()),
            (Code::Confinement, Some(71)),
            "{descriptors}"
        );
    }
}

#[test]
fn user_or_group_root_is_refused() {
    if !Uid::effective().is_root() {
        eprintln!("skipped: needs root to become root");
        return;
    }
    let rig = Rig::new();
    for ids in [(0, 0), (0, NOBODY), (NOBODY, 0)] {
        let output = feed(rig.start("3<\"$target\"", &[], ids), &archive(&honest()));
        assert_eq!(
            (refusal(&output), output.status.code()),
            (Code::Confinement, Some(77)),
            "{ids:?}"
        );
        assert_eq!(fs::read_dir(rig.target()).expect("listed").count(), 0);
    }
}

#[test]
fn the_process_is_confined_before_it_reads_a_byte() {
    if !Uid::effective().is_root() {
        eprintln!("skipped: needs root to look into a process that forbids inspection");
        return;
    }
    let rig = Rig::new();
    let mut child = rig.start("3<\"$target\" 7</etc/passwd 9>&1", &[], (rig.uid, rig.gid));
    let proc = PathBuf::from(format!("/proc/{}", child.id()));
    let of = |name: &str| fs::read_to_string(proc.join(name)).unwrap_or_default();
    // Processor time is the last limit to be set; it sleeps in its first read soon after.
    while !limit(&of("limits"), "Max cpu time").starts_with("60 ") {
        assert!(
            child.try_wait().expect("asked").is_none(),
            "ended instead of waiting for input"
        );
        std::thread::yield_now();
    }
    let limits = of("limits");
    assert!(limit(&limits, "Max core file size").starts_with("0 "));
    assert!(limit(&limits, "Max open files").starts_with("64 "));
    assert!(limit(&limits, "Max address space").starts_with("2147483648 "));
    assert!(of("status").contains("NoNewPrivs:\t1"));
    // A process that is not dumpable belongs to root as far as /proc is concerned.
    assert_eq!(fs::metadata(proc.join("mem")).expect("exists").uid(), 0);
    let mut places: Vec<_> = fs::read_dir(proc.join("fd"))
        .expect("listed")
        .map(|fd| fs::read_link(fd.expect("entry").path()).expect("open"))
        .collect();
    places.retain(|place| place.is_absolute());
    assert_eq!(
        places,
        [rig.target()],
        "besides three pipes only the directory is open"
    );
    drop(child.stdin.take());
    let output = child.wait_with_output().expect("ended");
    assert_eq!(refusal(&output), Code::Truncated);
}

/// The soft limit and what follows it on the line.
fn limit<'a>(limits: &'a str, name: &str) -> &'a str {
    limits
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap_or_default()
        .trim_start()
}
