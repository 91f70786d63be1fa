//! The real attendant, with a session and a robotd of ours around it, and what it costs.

use std::fs::{self, File, Permissions};
use std::io::PipeWriter;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use order::{AttemptRef, JobId};
use privsep::attendant::{Begin, FromAttendant, ToAttendant};
use privsep::doorbell::{self, MAX_SCREEN};
use privsep::session::Screenshots;
use privsep::{MAX_PACKET, decode, encode};
use prost::Message;
use spool::{LaneDir, LaneKey};
use sys::fdpass::{Error, Seqpacket};
use wire::v1::ScreenFrame;

use crate::desktop::{COOKIE, Desktop};

const UID: u32 = 59_813;
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Attendant {
    folder: tempfile::TempDir,
    session: Seqpacket,
    robotd: Seqpacket,
    child: Child,
    last_seq: u64,
    _bot: [PipeWriter; 2],
}

/// What came of the live view.
pub(crate) struct Frame {
    pub(crate) bytes: usize,
    pub(crate) tiles: usize,
    pub(crate) whole: bool,
}

impl Attendant {
    pub(crate) fn start(desktop: &Desktop, change: impl FnOnce(&mut Screenshots)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let program = prepare(folder.path());
        let (session, theirs) = Seqpacket::pair().expect("a pair");
        let child = Command::new("/bin/sh")
            .args(["-c", "exec \"$0\" 3<&0 </dev/null"])
            .arg(program)
            .env_clear()
            .stdin(theirs.into_fd())
            .uid(UID)
            .gid(UID)
            .spawn()
            .expect("a shell");
        let bot = begin(folder.path(), &session, change);
        let sockets = File::open("/tmp/.X11-unix").expect("the directory of displays");
        let display = ToAttendant::Display {
            number: desktop.number,
            vnc: false,
            cookie: COOKIE,
        };
        tell(&session, &display, &[sockets.as_fd()]);
        assert_eq!(
            hear::<FromAttendant>(&session),
            FromAttendant::DisplayConnected
        );
        let robotd = Seqpacket::connect(&folder.path().join("sockets/attendant.sock"));
        let attendant = Self {
            folder,
            session,
            robotd: robotd.expect("a doorbell"),
            child,
            last_seq: 0,
            _bot: bot,
        };
        attendant.say(&doorbell::ToAttendant::Subscribe);
        attendant
    }

    pub(crate) fn say(&self, message: &doorbell::ToAttendant) {
        let packet = encode(message).expect("a packet");
        self.robotd.send(&packet, &[]).expect("the doorbell");
    }

    /// The bot begins to run, and pictures to be taken.
    pub(crate) fn runs(&self) {
        tell(&self.session, &ToAttendant::Running, &[]);
    }

    /// One picture on request.
    pub(crate) fn picture(&mut self) {
        let before = self.last_seq;
        self.say(&doorbell::ToAttendant::Screenshot);
        while self.last_seq == before {
            if let doorbell::FromAttendant::Written { last_seq, .. } = hear(&self.robotd) {
                self.last_seq = last_seq;
            }
        }
    }

    /// The next frame, if it comes in time; without one, at all.
    pub(crate) fn frame(&mut self, within: Option<Duration>) -> Option<Frame> {
        let mut buffer = vec![0; MAX_PACKET];
        loop {
            let received = match self
                .robotd
                .recv_within(&mut buffer, within.unwrap_or(PATIENCE))
            {
                Err(Error::TimedOut { .. }) => return None,
                received => received.expect("the doorbell").expect("an attendant"),
            };
            let Some(memory) = received.fds.first() else {
                continue;
            };
            let bytes = sys::memfd::read_sealed(memory.as_fd(), MAX_SCREEN).expect("a frame");
            let frame = ScreenFrame::decode(bytes.as_slice()).expect("a frame");
            return Some(Frame {
                bytes: bytes.len(),
                tiles: frame.tiles.len(),
                whole: frame.keyframe,
            });
        }
    }

    /// CPU time of the thread that captures, compares and encodes.
    pub(crate) fn display_ns(&self) -> u64 {
        self.threads()
            .iter()
            .find(|task| fs::read_to_string(task.join("comm")).is_ok_and(|own| own == "display\n"))
            .map_or(0, |task| spent(task))
    }

    /// CPU time of all threads.
    pub(crate) fn all_ns(&self) -> u64 {
        self.threads().iter().map(|task| spent(task)).sum()
    }

    fn threads(&self) -> Vec<PathBuf> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id()));
        tasks
            .expect("it runs")
            .flatten()
            .map(|task| task.path())
            .collect()
    }

    pub(crate) fn largest_blob(&self) -> u64 {
        let blobs = fs::read_dir(self.folder.path().join("spool/blobs")).expect("blobs");
        let sizes = blobs
            .flatten()
            .filter_map(|blob| Some(blob.metadata().ok()?.len()));
        sizes.max().unwrap_or(0)
    }
}

impl Drop for Attendant {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Nanoseconds on a processor, once the thread sleeps: until then it may still be at it.
fn spent(task: &Path) -> u64 {
    loop {
        let stat = fs::read_to_string(task.join("stat")).expect("a thread");
        if stat
            .rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('S'))
        {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let text = fs::read_to_string(task.join("schedstat")).expect("schedstat");
    let first = text.split_whitespace().next();
    first.and_then(|own| own.parse().ok()).expect("a number")
}

/// Directories and key as the broker makes them; the program where its user reaches it.
fn prepare(folder: &Path) -> PathBuf {
    fs::set_permissions(folder, Permissions::from_mode(0o755)).expect("root");
    for name in ["spool", "sockets"] {
        let path = folder.join(name);
        fs::create_dir(&path).expect("a directory");
        chown(&path, Some(UID), None).expect("root");
    }
    let spool = folder.join("spool");
    let dir = LaneDir::open(&spool).expect("a lane");
    LaneKey::generate()
        .and_then(|key| key.store(&dir))
        .expect("a key");
    chown(spool.join("lane.key"), Some(UID), None).expect("root");
    let bench = std::env::current_exe().expect("a program");
    let built = bench.ancestors().nth(2).expect("target/release/deps/BENCH");
    let program = built.join("robotd-attendant");
    assert!(program.exists(), "cargo build --release -p attendant");
    let copied = Command::new("cp").arg(program).arg(folder).status();
    assert!(copied.expect("cp").success());
    folder.join("robotd-attendant")
}

fn begin(
    folder: &Path,
    session: &Seqpacket,
    change: impl FnOnce(&mut Screenshots),
) -> [PipeWriter; 2] {
    let mut screenshots = Screenshots::default();
    change(&mut screenshots);
    let begin = Begin {
        attempt: AttemptRef {
            job: JobId::new(),
            number: 1,
        },
        restarted: false,
        bot_uid: UID,
        robotd_uid: 0,
        screenshots,
        log_bytes: 1 << 30,
        artifact_bytes: 1 << 20,
        secrets: Vec::new(),
        given: Vec::new(),
        params_json: "{}".to_owned(),
    };
    let open = |name: &str| File::open(folder.join(name)).expect("a directory");
    let (spool, sockets) = (open("spool"), open("sockets"));
    let (out, err) = (pipe(), pipe());
    let fds = [spool.as_fd(), sockets.as_fd(), out.0.as_fd(), err.0.as_fd()];
    tell(session, &ToAttendant::Begin(begin), &fds);
    assert!(matches!(hear(session), FromAttendant::Ready { .. }));
    [out.1, err.1]
}

fn pipe() -> (std::io::PipeReader, PipeWriter) {
    std::io::pipe().expect("a pipe")
}

fn tell(session: &Seqpacket, message: &ToAttendant, fds: &[BorrowedFd<'_>]) {
    let packet = encode(message).expect("a packet");
    session.send(&packet, fds).expect("a session");
}

fn hear<T: serde::de::DeserializeOwned>(socket: &Seqpacket) -> T {
    let mut buffer = vec![0; MAX_PACKET];
    let received = socket
        .recv_within(&mut buffer, PATIENCE)
        .expect("an answer");
    decode(&buffer[..received.expect("an attendant").len]).expect("a message")
}
