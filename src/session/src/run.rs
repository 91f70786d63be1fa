//! The story of a job, in the order that is the contract: each step owns what the next needs,
//! and closing undoes opening in reverse.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use order::{AttemptRef, Phase};
use privsep::Refusal;
use privsep::session::{Spec, ToSession};
use sys::Signal;
use sys::poll::Signals;

use crate::close::close;
use crate::inner::{FromInit, ToInit};
use crate::link::Link;
use crate::monitor::{EndMode, Event, Monitor, Waited};
use crate::open::{Directories, open, tell_init};
use crate::report::deliver;
use crate::volume::Volume;

/// The broker's first answer; within the unit's watchdog, which begins with the program.
const SPEC: Duration = Duration::from_secs(20);
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

/// The broker's answer to the first call.
fn receive_spec(link: &mut Link) -> Result<(Spec, Directories), Refusal> {
    let refuse = |detail: &str| Refusal::new("SPEC_MISSING", detail.to_owned());
    let ready = link
        .socket()
        .map(|socket| sys::poll::wait(&mut [sys::poll::Watch::readable(socket)], Some(SPEC)));
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
    monitor.forget_idleness();
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
