//! Everything around an attendant, in the roles of broker, session, robotd and bot.

use std::fs::{self, File, Permissions};
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use order::{AttemptRef, JobId};
use privsep::attendant::{Begin, FromAttendant, ToAttendant, Totals};
use privsep::doorbell;
use privsep::session::Screenshots;
use privsep::{MAX_PACKET, decode, encode};
use spool::{LaneDir, LaneKey};
use sys::fdpass::Seqpacket;

/// Nothing in here takes so long; a test that waits in vain ends.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Users that nobody else is. Only root can be them; others are everybody themselves.
const ATTENDANT: u32 = 59_811;
const BOT: u32 = 59_812;

pub(crate) fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

fn uid_or_self(uid: u32) -> u32 {
    if is_root() {
        uid
    } else {
        rustix::process::getuid().as_raw()
    }
}

pub(crate) struct Rig {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) begin: Begin,
    pub(crate) session: Seqpacket,
    pub(crate) child: Child,
    pub(crate) epoch: [u8; 16],
    /// The bot's ends; none once closed.
    pub(crate) stdout: Option<PipeWriter>,
    pub(crate) stderr: Option<PipeWriter>,
    kept: [PipeReader; 2],
    /// The bot's socket, as the session keeps it.
    listener: OwnedFd,
}

impl Rig {
    pub(crate) fn start() -> Self {
        Self::start_with(|_| {})
    }

    pub(crate) fn start_with(change: impl FnOnce(&mut Begin)) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), change)
    }

    /// With a folder in which something may be prepared.
    pub(crate) fn start_in(folder: tempfile::TempDir, change: impl FnOnce(&mut Begin)) -> Self {
        prepare(folder.path());
        let mut begin = begin();
        change(&mut begin);
        let ((stdout_read, stdout), (stderr_read, stderr)) =
            (io::pipe().unwrap(), io::pipe().unwrap());
        let listener = UnixListener::bind(folder.path().join("job.sock")).unwrap();
        fs::set_permissions(
            folder.path().join("job.sock"),
            Permissions::from_mode(0o666),
        )
        .unwrap();
        let (session, child) = spawn(folder.path());
        let mut rig = Self {
            folder,
            begin,
            session,
            child,
            epoch: [0; 16],
            stdout: Some(stdout),
            stderr: Some(stderr),
            kept: [stdout_read, stderr_read],
            listener: listener.into(),
        };
        rig.greet();
        rig
    }

    /// Says the first words and waits until it is ready.
    fn greet(&mut self) {
        let (spool, sockets) = (
            File::open(self.spool()).unwrap(),
            File::open(self.folder.path().join("sockets")).unwrap(),
        );
        let fds = [
            spool.as_fd(),
            sockets.as_fd(),
            self.kept[0].as_fd(),
            self.kept[1].as_fd(),
        ];
        self.tell(&ToAttendant::Begin(self.begin.clone()), &fds);
        let FromAttendant::Ready { epoch } = self.hear() else {
            panic!("it is not ready")
        };
        self.epoch = epoch;
        let listener = self.listener.try_clone().unwrap();
        self.tell(&ToAttendant::BotSocket, &[listener.as_fd()]);
    }

    /// As the session does when an attendant died.
    pub(crate) fn start_another(&mut self, given: &[&str]) {
        self.child.wait().unwrap();
        (self.session, self.child) = spawn(self.folder.path());
        self.begin.restarted = true;
        self.begin.given = given.iter().map(|name| (*name).to_owned()).collect();
        self.greet();
    }

    pub(crate) fn spool(&self) -> PathBuf {
        self.folder.path().join("spool")
    }

    /// The reading end of the bot's stdout, as the session keeps it.
    pub(crate) fn pipe(&self) -> &PipeReader {
        &self.kept[0]
    }

    pub(crate) fn tell(&self, message: &ToAttendant, fds: &[BorrowedFd<'_>]) {
        self.session.send(&encode(message).unwrap(), fds).unwrap();
    }

    pub(crate) fn hear(&self) -> FromAttendant {
        let mut buffer = vec![0; MAX_PACKET];
        let received = self.session.recv_within(&mut buffer, PATIENCE).unwrap();
        let received = received.expect("the attendant has ended");
        decode(&buffer[..received.len]).unwrap()
    }

    /// The bot is gone: its pipes close, the lane ends.
    pub(crate) fn finish(&mut self) -> Totals {
        (self.stdout, self.stderr) = (None, None);
        self.tell(&ToAttendant::Finish, &[]);
        let FromAttendant::Finished(totals) = self.hear() else {
            panic!("another answer")
        };
        self.tell(&ToAttendant::Leave, &[]);
        assert!(self.child.wait().unwrap().success());
        totals
    }

    pub(crate) fn robotd(&self) -> Robotd {
        let path = self.folder.path().join("sockets/attendant.sock");
        let robotd = Robotd {
            socket: Seqpacket::connect(&path).unwrap(),
            last_seq: 0,
        };
        robotd.say(&doorbell::ToAttendant::Subscribe);
        robotd
    }

    /// Runs robotjob as the bot does.
    pub(crate) fn robotjob(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.folder.path().join("robotjob"));
        command
            .args(arguments)
            .env_clear()
            .env("ROBOT_SOCKET", self.folder.path().join("job.sock"));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if is_root() {
            command.uid(BOT).gid(BOT);
        }
        command
    }

    /// How often the display's thread has gone to sleep: it does so after all that it does.
    pub(crate) fn sleeps_of_the_display(&self) -> u64 {
        let tasks = format!("/proc/{}/task", self.child.id());
        let is_display = |task: &fs::DirEntry| {
            fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name == "display\n")
        };
        let display = fs::read_dir(tasks).unwrap().flatten().find(is_display);
        let status = fs::read_to_string(display.unwrap().path().join("status")).unwrap();
        let count = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        count.unwrap().trim().parse().unwrap()
    }

    pub(crate) fn records(&self) -> Vec<wire::v1::record::Body> {
        super::lane::records(&self.spool(), self.epoch).0
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // It has ended already in every test that came to its end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// robotd's end of the doorbell.
pub(crate) struct Robotd {
    pub(crate) socket: Seqpacket,
    last_seq: u64,
}

impl Robotd {
    pub(crate) fn hear(&self) -> doorbell::FromAttendant {
        self.hear_with_fds().0
    }

    pub(crate) fn hear_with_fds(&self) -> (doorbell::FromAttendant, Vec<OwnedFd>) {
        let mut buffer = vec![0; MAX_PACKET];
        let received = self
            .socket
            .recv_within(&mut buffer, PATIENCE)
            .unwrap()
            .expect("the doorbell is closed");
        (decode(&buffer[..received.len]).unwrap(), received.fds)
    }

    pub(crate) fn say(&self, message: &doorbell::ToAttendant) {
        self.socket.send(&encode(message).unwrap(), &[]).unwrap();
    }

    /// Asks for a picture and waits until the lane has as many records as it then has.
    pub(crate) fn picture(&mut self, records: u64) {
        self.say(&doorbell::ToAttendant::Screenshot);
        self.wait_for(records);
    }

    /// Until the lane has so many records.
    pub(crate) fn wait_for(&mut self, records: u64) {
        while self.last_seq < records {
            if let doorbell::FromAttendant::Written { last_seq, .. } = self.hear() {
                self.last_seq = last_seq;
            }
        }
    }

    pub(crate) fn wait_for_a_wish(&self) -> String {
        loop {
            if let doorbell::FromAttendant::SecretWanted { name } = self.hear() {
                return name;
            }
        }
    }
}

fn begin() -> Begin {
    Begin {
        attempt: AttemptRef {
            job: JobId::new(),
            number: 1,
        },
        restarted: false,
        bot_uid: uid_or_self(BOT),
        robotd_uid: rustix::process::getuid().as_raw(),
        screenshots: Screenshots {
            on_start: true,
            on_failure: true,
            ..Screenshots::default()
        },
        log_bytes: 1 << 30,
        artifact_bytes: 1 << 20,
        secrets: Vec::new(),
        given: Vec::new(),
        params_json: r#"{"month":"may","count":3}"#.to_owned(),
    }
}

/// As the broker does: directories, the lane's key, and programs where every user reaches them.
fn prepare(folder: &Path) {
    fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
    let owner = uid_or_self(ATTENDANT);
    for name in ["spool", "sockets"] {
        let path = folder.join(name);
        if !path.exists() {
            fs::create_dir(&path).unwrap();
        }
        fs::set_permissions(&path, Permissions::from_mode(0o2770)).unwrap();
        chown(&path, Some(owner), None).unwrap();
    }
    let dir = LaneDir::open(&folder.join("spool")).unwrap();
    LaneKey::generate().unwrap().store(&dir).unwrap();
    chown(folder.join("spool/lane.key"), Some(owner), None).unwrap();
    // By cp(1): a copy made in this process could still be open for writing in a child that
    // another test forks at the same moment, and a program open for writing can't be started.
    let copied = Command::new("cp")
        .args([
            env!("CARGO_BIN_EXE_robotd-attendant"),
            env!("CARGO_BIN_EXE_robotjob"),
        ])
        .arg(folder)
        .status();
    assert!(copied.unwrap().success());
}

fn spawn(folder: &Path) -> (Seqpacket, Child) {
    let (ours, theirs) = Seqpacket::pair().unwrap();
    let mut command = attendant(&folder.join("robotd-attendant"), theirs.into_fd());
    if is_root() {
        command.uid(ATTENDANT).gid(ATTENDANT);
    }
    (ours, command.spawn().unwrap())
}

/// The program with its conversation as descriptor 3: the shell moves it there.
pub(crate) fn attendant(program: &Path, conversation: OwnedFd) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "exec \"$0\" 3<&0 </dev/null"])
        .arg(program)
        .env_clear()
        .stdin(conversation);
    command
}
