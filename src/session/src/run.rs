//! The story of a job, in the order that is the contract: each step owns what the next needs,
//! and closing undoes opening in reverse.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use order::{AttemptRef, Phase};
use privsep::Refusal;
use privsep::attendant::{FromAttendant, ToAttendant};
use privsep::session::{Backend, Spec, ToSession};
use sys::Signal;
use sys::fdpass::Seqpacket;
use sys::poll::Signals;
use sys::process::{Fork, Namespaces};

use crate::attendant::{Attendant, Display, Place};
use crate::close::{close, deliver};
use crate::group;
use crate::init::Inherited;
use crate::inner::{FromInit, FromLeader, ToInit, say};
use crate::leader;
use crate::link::Link;
use crate::monitor::{EndMode, Event, Leader, Monitor, Waited};
use crate::volume::Volume;

/// A PAM stack that takes longer hangs (twelve seconds were seen on a host under load).
const OPEN: Duration = Duration::from_secs(90);
/// The display, its window manager and the attendant's connection to it.
const DISPLAY: Duration = Duration::from_secs(60);
/// A specification is an order and little more.
const MAX_SPEC: usize = 1 << 20;

/// How the bot's own process ended.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Exited {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) left: u32,
}

/// What was opened of a job.
#[derive(Default)]
pub(crate) struct Opened {
    pub(crate) volume: Option<Volume>,
    pub(crate) session_id: Option<String>,
    pub(crate) exited: Option<Exited>,
}

/// Runs one attempt to its report.
pub(crate) fn run(attempt: AttemptRef, socket: &Path) -> Result<(), Refusal> {
    let internal = |error: &dyn std::error::Error| crate::refusal("SESSION_PROGRAM_FAILED", error);
    sys::process::not_dumpable().map_err(|error| internal(&error))?;
    sys::process::set_umask(0o022);
    let signals = Signals::new(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP])
        .map_err(|error| internal(&error))?;
    let mut link = Link::open(socket, attempt)?;
    let (spec, dirs) = receive_spec(&mut link)?;
    let mut monitor = Monitor::new(spec, link, signals);
    let mut opened = Opened::default();
    let outcome =
        open(&mut monitor, &mut opened, dirs).and_then(|()| watch(&mut monitor, &mut opened));
    let report = close(&mut monitor, opened, outcome);
    deliver(&mut monitor, &report);
    Ok(())
}

struct Directories {
    spool: OwnedFd,
    socket: OwnedFd,
}

/// The broker's answer to the first call.
fn receive_spec(link: &mut Link) -> Result<(Spec, Directories), Refusal> {
    let refuse = |detail: &str| Refusal::new("SPEC_MISSING", detail.to_owned());
    let ready = link.socket().map(|socket| {
        sys::poll::wait(
            &mut [sys::poll::Watch::readable(socket)],
            Some(Duration::from_secs(30)),
        )
    });
    if !matches!(ready, Some(Ok(1..))) {
        return Err(refuse("the broker did not answer"));
    }
    let Some((ToSession::Spec, fds)) = link.hear() else {
        return Err(refuse("the broker refused this session"));
    };
    let fds: [OwnedFd; 3] = fds
        .try_into()
        .map_err(|_| refuse("descriptors are missing"))?;
    let [document, spool, socket] = fds;
    let bytes = sys::memfd::read_sealed(document.as_fd(), MAX_SPEC)
        .map_err(|error| crate::refusal("SPEC_MISSING", &error))?;
    let spec =
        privsep::decode_document(&bytes).map_err(|error| crate::refusal("SPEC_MISSING", &error))?;
    Ok((spec, Directories { spool, socket }))
}

/// volume ─► attendant ─► session ─► init ─► display ─► bot
fn open(monitor: &mut Monitor, opened: &mut Opened, dirs: Directories) -> Result<(), Refusal> {
    let spec = monitor.spec.clone();
    opened.volume = Some(Volume::mount(
        &spec.attempt,
        spec.volume_bytes,
        &spec.account,
    )?);
    monitor.step(Phase::VolumeReady);
    let (stdout, stdout_write) = pipe()?;
    let (stderr, stderr_write) = pipe()?;
    let place = Place {
        spool: dirs.spool,
        socket_dir: dirs.socket,
        stdout,
        stderr,
        bot_socket: None,
        display: None,
    };
    // Before the leader: it must not be in the session's scope, limits, keyring or login uid.
    start_attendant(monitor, place)?;
    let (mine, theirs) =
        Seqpacket::pair().map_err(|error| crate::refusal("SESSION_NOT_OPENED", &error))?;
    monitor.init_socket = Some(mine);
    let inherited = Inherited {
        monitor: theirs,
        stdout: stdout_write,
        stderr: stderr_write,
    };
    start_leader(monitor, inherited)?;
    opened.session_id = Some(session_open(monitor)?);
    monitor.step(Phase::SessionOpen);
    init_ready(monitor)?;
    if let Some(volume) = &mut opened.volume {
        volume.count_as_own();
    }
    if let Some(display) = spec.display {
        open_display(monitor, display.width, display.height)?;
        monitor.step(Phase::DisplayReady);
    }
    start_bot(monitor)?;
    monitor.step(Phase::Running);
    Ok(())
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Refusal> {
    nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)
        .map_err(|error| crate::refusal("SESSION_PROGRAM_FAILED", &error))
}

fn start_attendant(monitor: &mut Monitor, place: Place) -> Result<(), Refusal> {
    let attendant = Attendant::start(&monitor.spec, &place, &[], false)?;
    monitor.attendant = Some(attendant);
    monitor.place = Some(place);
    await_step(monitor, OPEN, "ATTENDANT_FAILED", |_, event| {
        matches!(event, Event::Attendant(FromAttendant::Ready { .. })).then_some(Ok(()))
    })
}

fn start_leader(monitor: &mut Monitor, inherited: Inherited) -> Result<(), Refusal> {
    let failed = |error: &dyn std::error::Error| crate::refusal("SESSION_NOT_OPENED", error);
    if monitor.spec.backend == Backend::Pam {
        monitor.group = group::make(&monitor.spec.attempt).map_err(|error| failed(&error))?;
    }
    let (socket, theirs) = Seqpacket::pair().map_err(|error| failed(&error))?;
    let group = monitor.group.as_ref().map(|group| group.as_fd());
    match sys::process::fork(Namespaces::NONE, group).map_err(|error| failed(&error))? {
        Fork::Parent(process) => {
            monitor.leader = Some(Leader { process, socket });
            Ok(())
        }
        Fork::Child => {
            drop(socket);
            leader::leave(lead(&monitor.spec, &theirs, inherited))
        }
    }
}

/// The child keeps what leader and init need. The monitor's conversations with the broker and the
/// attendant, the spool and the pipes' read ends are none of it.
fn lead(spec: &Spec, theirs: &Seqpacket, inherited: Inherited) -> i32 {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let keep = [
        stdin.as_fd(),
        stdout.as_fd(),
        stderr.as_fd(),
        theirs.as_fd(),
        inherited.monitor.as_fd(),
        inherited.stdout.as_fd(),
        inherited.stderr.as_fd(),
    ];
    match sys::process::close_fds_except(&keep) {
        Ok(()) => leader::run(spec, theirs, inherited),
        Err(_) => 1,
    }
}

fn session_open(monitor: &mut Monitor) -> Result<String, Refusal> {
    await_step(
        monitor,
        OPEN,
        "SESSION_NOT_OPENED",
        |monitor, event| match event {
            Event::Leader(FromLeader::Opened { session_id, init }, mut fds) => {
                let pidfd = fds.pop()?;
                monitor.init = Some(sys::process::Process::from_parts(
                    sys::Pid::from_raw(init),
                    pidfd,
                ));
                Some(Ok(session_id))
            }
            _ => None,
        },
    )
}

fn init_ready(monitor: &mut Monitor) -> Result<(), Refusal> {
    let socket = await_step(monitor, OPEN, "SANDBOX_FAILED", |_, event| match event {
        Event::Init(FromInit::Ready, mut fds) => fds.pop().map(Ok),
        _ => None,
    })?;
    monitor.tell_attendant(&ToAttendant::BotSocket, Some(&socket));
    if let Some(place) = &mut monitor.place {
        place.bot_socket = Some(socket);
    }
    Ok(())
}

fn open_display(monitor: &mut Monitor, width: u32, height: u32) -> Result<(), Refusal> {
    let mut cookie = [0; 16];
    getrandom::fill(&mut cookie)
        .map_err(|error| Refusal::new("DISPLAY_FAILED", error.to_string()))?;
    tell_init(
        monitor,
        &ToInit::StartDisplay {
            width,
            height,
            cookie,
        },
    )?;
    let (number, directory) =
        await_step(monitor, DISPLAY, "DISPLAY_FAILED", |_, event| match event {
            Event::Init(FromInit::DisplayReady { number }, mut fds) => {
                fds.pop().map(|fd| Ok((number, fd)))
            }
            _ => None,
        })?;
    let display = Display {
        directory,
        number,
        cookie,
    };
    if let Some(attendant) = &monitor.attendant {
        attendant.show(&display)?;
    }
    if let Some(place) = &mut monitor.place {
        place.display = Some(display);
    }
    await_step(monitor, DISPLAY, "DISPLAY_FAILED", |_, event| match event {
        Event::Attendant(FromAttendant::DisplayConnected) => Some(Ok(())),
        Event::Attendant(FromAttendant::DisplayFailed(refusal)) => Some(Err(refusal)),
        _ => None,
    })
}

fn start_bot(monitor: &mut Monitor) -> Result<(), Refusal> {
    tell_init(monitor, &ToInit::Run)?;
    await_step(monitor, OPEN, "PROGRAM_NOT_STARTED", |_, event| {
        matches!(event, Event::Init(FromInit::Started, _)).then_some(Ok(()))
    })?;
    monitor.running = true;
    monitor.deadlines.start_run(monitor.spec.run_ms);
    monitor.tell_attendant(&ToAttendant::Running, None);
    Ok(())
}

fn tell_init(monitor: &Monitor, message: &ToInit) -> Result<(), Refusal> {
    match &monitor.init_socket {
        Some(socket) => say(socket, message, &[]),
        None => Err(Refusal::new(
            "SANDBOX_FAILED",
            "init ended before it was told",
        )),
    }
}

/// Waits for one step of opening: for what it brings, a refusal of leader or init, a death, an
/// end that was asked for, or the time.
fn await_step<T>(
    monitor: &mut Monitor,
    limit: Duration,
    code: &str,
    mut pick: impl FnMut(&mut Monitor, Event) -> Option<Result<T, Refusal>>,
) -> Result<T, Refusal> {
    let died = |who: &str| Refusal::new(code, format!("{who} ended before this step was done"));
    let until = sys::clock::boottime() + limit;
    let waited = monitor.wait_for(None, Some(until), |monitor, event| match event {
        Event::Leader(FromLeader::Refused(refusal), _)
        | Event::Init(FromInit::Refused(refusal), _) => Some(Err(refusal)),
        Event::LeaderEnded => Some(Err(died("the session's leader"))),
        Event::InitEnded => Some(Err(died("init"))),
        event => pick(monitor, event),
    });
    match waited {
        Waited::For(outcome) => outcome,
        Waited::Late => Err(Refusal::new(
            code,
            format!("not done after {} s", limit.as_secs()),
        )),
        Waited::End => Err(Refusal::new(
            "STOPPED",
            "the job was ended before its bot ran",
        )),
    }
}

/// Waits for the bot's end and brings it about when it is asked for.
fn watch(monitor: &mut Monitor, opened: &mut Opened) -> Result<(), Refusal> {
    let mut known = None;
    let mut grace = None;
    loop {
        match monitor.wait_for(known, grace, |_, event| bot_end(event)) {
            Waited::For(exited) => {
                opened.exited = Some(exited?);
                break;
            }
            Waited::Late => break,
            Waited::End => {
                known = monitor.end.as_ref().map(|end| end.mode);
                let soft = known == Some(EndMode::Graceful);
                let time = if soft {
                    Duration::from_millis(monitor.spec.stop_grace_ms)
                } else {
                    Duration::ZERO
                };
                grace = Some(sys::clock::boottime() + time);
                if soft {
                    // Gone already: its end is on its way.
                    let _ = tell_init(monitor, &ToInit::Terminate);
                }
            }
        }
    }
    monitor.step(Phase::Exited);
    monitor.deadlines.clear();
    Ok(())
}

fn bot_end(event: Event) -> Option<Result<Exited, Refusal>> {
    match event {
        Event::Init(FromInit::Exited { code, signal, left }, _) => {
            Some(Ok(Exited { code, signal, left }))
        }
        Event::Init(FromInit::Refused(refusal), _) => Some(Err(refusal)),
        Event::InitEnded | Event::LeaderEnded => Some(Err(Refusal::new(
            "SESSION_ENDED",
            "the OS session was ended under the job",
        ))),
        _ => None,
    }
}
