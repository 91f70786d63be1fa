//! Opening a job, a step after the other; each one is a fact before the next begins.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use order::{DisplayKind, Phase};
use privsep::Refusal;
use privsep::attendant::{FromAttendant, ToAttendant};
use privsep::egress::FromEgress;
use privsep::session::{Backend, FromSession, Spec, ToSession};
use sys::fdpass::Seqpacket;
use sys::process::{Fork, Namespaces};

use crate::attendant::{Attendant, Display, Place};
use crate::group;
use crate::init::Inherited;
use crate::inner::{FromInit, FromLeader, ToInit, say};
use crate::leader;
use crate::monitor::{Event, Leader, Monitor, Waited};
use crate::run::Opened;
use crate::volume::Volume;

/// A PAM stack that takes longer hangs (twelve seconds were seen on a host under load).
const OPEN: Duration = Duration::from_secs(90);
/// The display, its window manager and the attendant's connection to it.
const DISPLAY: Duration = Duration::from_secs(60);
/// The egress's first word.
const NETWORK: Duration = Duration::from_secs(30);
/// Where the attempt's output goes, made by the broker.
pub(crate) struct Directories {
    pub(crate) spool: OwnedFd,
    pub(crate) socket: OwnedFd,
}

/// volume ─► attendant ─► session ─► init ─► egress ─► display ─► bot
pub(crate) fn open(
    monitor: &mut Monitor,
    opened: &mut Opened,
    dirs: Directories,
) -> Result<(), Refusal> {
    let spec = monitor.spec.clone();
    opened.volume = Some(mount_volume(monitor)?);
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
    let cookie = spec.display.map(|_| new_cookie()).transpose()?;
    let inherited = Inherited {
        monitor: theirs,
        stdout: stdout_write,
        stderr: stderr_write,
        cookie,
    };
    monitor.deadlines.start_session(spec.session_ms);
    let password = password(monitor)?;
    crate::account::check(&spec.account, spec.backend)?;
    free_account(monitor)?;
    start_leader(monitor, inherited, password)?;
    opened.session_id = Some(session_open(monitor)?);
    monitor.step(Phase::SessionOpen);
    init_ready(monitor)?;
    crate::limits::bound_slice(monitor)?;
    open_network(monitor)?;
    if let Some(volume) = &mut opened.volume {
        volume.count_as_own();
    }
    if let Some((display, cookie)) = spec.display.zip(cookie) {
        open_display(monitor, display.kind, cookie)?;
        monitor.step(Phase::DisplayReady);
    }
    start_bot(monitor)?;
    monitor.step(Phase::Running);
    Ok(())
}

/// The broker hears of which kind it will be before anything of it is there.
fn mount_volume(monitor: &mut Monitor) -> Result<Volume, Refusal> {
    let chosen = crate::volume::choose(&monitor.spec)?;
    monitor
        .link
        .tell(&FromSession::VolumeChosen(chosen.backend()));
    let pulse = &mut monitor.pulse;
    Volume::mount(&monitor.spec, chosen, &mut || pulse.beat_now())
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

/// The account's password, when the order names one. Fetched before the leader exists: it inherits
/// the descriptor, and nobody else ever holds it.
fn password(monitor: &mut Monitor) -> Result<Option<OwnedFd>, Refusal> {
    let Some(wanted) = monitor.spec.account_secret.clone() else {
        return Ok(None);
    };
    monitor.link.tell(&FromSession::PasswordWanted);
    let limit = Duration::from_millis(monitor.spec.session_ms);
    await_step(
        monitor,
        limit,
        "PASSWORD_NOT_FETCHED",
        |monitor, event| match event {
            Event::Broker(ToSession::Secret { name }, mut fds) if name == wanted => {
                fds.pop().map(|value| Ok(Some(value)))
            }
            Event::Broker(ToSession::SecretRefused { name, refusal }, _) if name == wanted => {
                let detail = format!(
                    "the password of {} ({name}): {refusal}",
                    monitor.spec.account.name
                );
                Some(Err(Refusal::new("PASSWORD_NOT_FETCHED", detail)))
            }
            // What was asked went down with the old broker.
            Event::BrokerBack => {
                monitor.link.tell(&FromSession::PasswordWanted);
                None
            }
            _ => None,
        },
    )
}

/// A logind that was restarted takes up the user of the last job for some seconds and starts its
/// manager anew: that is ended, and only who is there then is somebody. The broker ends nothing while
/// somebody is logged in.
fn free_account(monitor: &mut Monitor) -> Result<(), Refusal> {
    let account = monitor.spec.account.clone();
    let found = crate::account::nobody_there(&account);
    if found.is_ok() || monitor.spec.backend != Backend::Logind {
        return found;
    }
    monitor.link.tell(&FromSession::CloseUser);
    let leftovers = await_step(
        monitor,
        OPEN,
        "ACCOUNT_IN_USE",
        |monitor, event| match event {
            Event::Broker(ToSession::UserClosed { leftovers }, _) => Some(Ok(leftovers)),
            Event::BrokerBack => {
                monitor.link.tell(&FromSession::CloseUser);
                None
            }
            _ => None,
        },
    )?;
    match leftovers.first() {
        Some(left) => Err(Refusal::new("ACCOUNT_IN_USE", left.clone())),
        None => crate::account::nobody_there(&account),
    }
}

fn start_leader(
    monitor: &mut Monitor,
    inherited: Inherited,
    password: Option<OwnedFd>,
) -> Result<(), Refusal> {
    let failed = |error: &dyn std::error::Error| crate::refusal("SESSION_NOT_OPENED", error);
    if monitor.spec.backend == Backend::Pam {
        monitor.group = group::make(&monitor.spec.attempt).map_err(|error| failed(&error))?;
        monitor.bounds = crate::limits::bound_own(monitor.group.as_ref(), &monitor.spec.resources);
    }
    let (socket, theirs) = Seqpacket::pair().map_err(|error| failed(&error))?;
    let group = monitor.group.as_ref().map(|group| group.as_fd());
    match sys::process::fork(Namespaces::NONE, group).map_err(|error| failed(&error))? {
        Fork::Parent(process) => {
            monitor.leader_started = true;
            monitor.pam_is_open = true;
            monitor.leader = Some(Leader { process, socket });
            Ok(())
        }
        Fork::Child => {
            drop(socket);
            leader::leave(lead(&monitor.spec, &theirs, inherited, password))
        }
    }
}

/// The child keeps what leader and init need. The monitor's conversations with the broker and the
/// attendant, the spool and the pipes' read ends are none of it.
fn lead(spec: &Spec, theirs: &Seqpacket, inherited: Inherited, password: Option<OwnedFd>) -> i32 {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let mut keep = vec![
        stdin.as_fd(),
        stdout.as_fd(),
        stderr.as_fd(),
        theirs.as_fd(),
        inherited.monitor.as_fd(),
        inherited.stdout.as_fd(),
        inherited.stderr.as_fd(),
    ];
    keep.extend(password.as_ref().map(|value| value.as_fd()));
    match sys::process::close_fds_except(&keep) {
        Ok(()) => leader::run(spec, theirs, inherited, password),
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
    let (sandbox, socket) = await_step(
        monitor,
        OPEN,
        "SANDBOX_FAILED",
        |monitor, event| match event {
            Event::Init(FromInit::Listening, fds) => {
                monitor.egress.way.families.push(fds);
                None
            }
            Event::Init(FromInit::PacketLog, mut fds) => {
                monitor.egress.way.packet_log = fds.pop();
                None
            }
            Event::Init(FromInit::Ready(sandbox), mut fds) => {
                fds.pop().map(|socket| Ok((sandbox, socket)))
            }
            _ => None,
        },
    )?;
    monitor.sandbox = Some(sandbox);
    monitor.tell_attendant(&ToAttendant::BotSocket, Some(&socket));
    if let Some(place) = &mut monitor.place {
        place.bot_socket = Some(socket);
    }
    Ok(())
}

/// Before the bot: it never meets a network that does not answer.
fn open_network(monitor: &mut Monitor) -> Result<(), Refusal> {
    if monitor.spec.egress.is_none() {
        return Ok(());
    }
    monitor.start_egress()?;
    await_step(monitor, NETWORK, "EGRESS_FAILED", |_, event| match event {
        Event::Egress(FromEgress::Ready) => Some(Ok(())),
        _ => None,
    })
}

fn new_cookie() -> Result<[u8; 16], Refusal> {
    let mut cookie = [0; 16];
    getrandom::fill(&mut cookie)
        .map_err(|error| Refusal::new("DISPLAY_FAILED", error.to_string()))?;
    Ok(cookie)
}

fn open_display(monitor: &mut Monitor, kind: DisplayKind, cookie: [u8; 16]) -> Result<(), Refusal> {
    tell_init(monitor, &ToInit::StartDisplay)?;
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
        vnc: kind == DisplayKind::Xvnc,
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
    monitor.watch_idleness();
    monitor.tell_attendant(&ToAttendant::Running, None);
    Ok(())
}

pub(crate) fn tell_init(monitor: &Monitor, message: &ToInit) -> Result<(), Refusal> {
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
pub(crate) fn await_step<T>(
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
