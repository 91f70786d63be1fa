//! The monitor's side of the attendant: starting it, and starting it again when it dies.
//!
//! The monitor keeps everything that a new attendant needs: the read ends of the pipes, so that
//! the bot never gets SIGPIPE, the directories, the bot's socket and the display.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use privsep::Refusal;
use privsep::attendant::{Begin, ToAttendant};
use privsep::session::{Account, Spec};
use sys::fdpass::Seqpacket;
use sys::process::{Fork, Identity, Launch, Limit, Namespaces, Process, Program, exec_report};

use crate::given::Given;
use crate::inner::say;

/// An attendant that dies more often than this does so because of what the bot does to it.
pub(crate) const RESTARTS: u32 = 3;

/// What an attendant is given, for every start of one.
pub(crate) struct Place {
    pub(crate) spool: OwnedFd,
    pub(crate) socket_dir: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    pub(crate) bot_socket: Option<OwnedFd>,
    pub(crate) display: Option<Display>,
}

/// The display of the job, as the attendant reaches it.
pub(crate) struct Display {
    pub(crate) directory: OwnedFd,
    pub(crate) number: u32,
    pub(crate) vnc: bool,
    pub(crate) cookie: [u8; 16],
}

/// A running attendant.
pub(crate) struct Attendant {
    pub(crate) socket: Seqpacket,
    pub(crate) process: Process,
    /// Its conversation is over; only its end is waited for.
    pub(crate) gone: bool,
}

impl Attendant {
    /// Starts it and tells it where to begin.
    pub(crate) fn start(
        spec: &Spec,
        place: &Place,
        given: &[Given],
        restarted: bool,
    ) -> Result<Self, Refusal> {
        let failed = |error: &dyn std::error::Error| crate::refusal("ATTENDANT_FAILED", error);
        nobody_there(&spec.attendant)?;
        let (socket, theirs) = Seqpacket::pair().map_err(|error| failed(&error))?;
        let theirs = theirs.into_fd();
        let process = launch(&spec.program_dir, &spec.attendant, &theirs)?;
        drop(theirs);
        let begin = Begin {
            attempt: spec.attempt,
            restarted,
            bot_uid: spec.account.uid,
            robotd_uid: spec.robotd_uid,
            screenshots: spec.screenshots.clone(),
            log_bytes: spec.log_bytes,
            artifact_bytes: spec.artifact_bytes,
            secrets: spec.secrets.clone(),
            given: given.iter().map(|given| given.name.clone()).collect(),
            params_json: spec.params_json.clone(),
        };
        let fds = [
            &place.spool,
            &place.socket_dir,
            &place.stdout,
            &place.stderr,
        ]
        .map(|fd| fd.as_fd());
        let attendant = Self {
            socket,
            process,
            gone: false,
        };
        attendant.tell(&ToAttendant::Begin(begin), &fds)?;
        for Given { name, value, .. } in given {
            attendant.tell(
                &ToAttendant::Secret { name: name.clone() },
                &[value.as_fd()],
            )?;
        }
        if let Some(bot_socket) = &place.bot_socket {
            attendant.tell(&ToAttendant::BotSocket, &[bot_socket.as_fd()])?;
        }
        if let Some(display) = &place.display {
            attendant.show(display)?;
        }
        Ok(attendant)
    }

    /// Hands over the display.
    pub(crate) fn show(&self, display: &Display) -> Result<(), Refusal> {
        let message = ToAttendant::Display {
            number: display.number,
            vnc: display.vnc,
            cookie: display.cookie,
        };
        self.tell(&message, &[display.directory.as_fd()])
    }

    pub(crate) fn tell(
        &self,
        message: &ToAttendant,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), Refusal> {
        say(&self.socket, message, fds)
    }
}

/// A process of the attendant's user that is there already is none of ours.
fn nobody_there(user: &Account) -> Result<(), Refusal> {
    match sys::account::processes_of_uid(user.uid.into()) {
        Ok(found) if found.is_empty() => Ok(()),
        Ok(found) => {
            let detail = format!(
                "account {} has {} processes already",
                user.name,
                found.len()
            );
            Err(Refusal::new("ACCOUNT_IN_USE", detail))
        }
        Err(error) => Err(crate::refusal("ATTENDANT_FAILED", &error)),
    }
}

fn launch(programs: &str, user: &Account, socket: &OwnedFd) -> Result<Process, Refusal> {
    let failed = |error: &dyn std::error::Error| crate::refusal("ATTENDANT_FAILED", error);
    let program =
        CString::new(format!("{programs}/robotd-attendant")).map_err(|error| failed(&error))?;
    let null = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(|error| failed(&error))?;
    let stderr = std::io::stderr();
    let (watch, report) = exec_report().map_err(|error| failed(&error))?;
    // Sees no other process, reaches no network, and whatever it starts dies with it.
    let alone = Namespaces {
        pid: true,
        ipc: true,
        net: true,
        ..Namespaces::NONE
    };
    match sys::process::fork(alone, None).map_err(|error| failed(&error))? {
        Fork::Parent(process) => {
            drop(report);
            watch.wait(&program).map_err(|error| failed(&error))?;
            Ok(process)
        }
        Fork::Child => {
            crate::leader::offer_to_oom_killer();
            let identity = Identity {
                uid: user.uid.into(),
                gid: user.gid.into(),
                groups: vec![user.gid.into()],
            };
            let argv = [program.clone()];
            let fds = [null.as_fd(), null.as_fd(), stderr.as_fd(), socket.as_fd()];
            let launch = Launch {
                program: Program::Path(&program),
                argv: &argv,
                env: &[],
                fds: &fds,
                report: Some(report.as_fd()),
            };
            // It locks its memory against swapping; where it may not, it says so.
            let _ = sys::process::set_limit(Limit::LockedMemory(u64::MAX));
            // The order that the kernel forces: the user last, then nothing that needs rights.
            let started =
                sys::process::become_user_for_good(&identity).and_then(|()| launch.exec());
            let Err(error) = started;
            eprintln!("robotd-session: attendant: {}", crate::text(&error));
            crate::leader::leave(127)
        }
    }
}
