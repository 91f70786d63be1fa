//! The monitor: the one place of a session that waits. Whatever a step waits for, the broker's
//! orders, deadlines, deaths and secrets are attended to meanwhile.

mod absorb;
mod deadlines;
mod idle;
mod wait;

use std::collections::VecDeque;
use std::time::Duration;

use order::{Outcome, Phase, PhaseAt, SandboxSummary};
use privsep::Refusal;
use privsep::attendant::Totals;
use privsep::session::{FromSession, NoticeKind, Spec};
use sys::cgroup::Group;
use sys::fdpass::Seqpacket;
use sys::poll::Signals;
use sys::process::Process;
use sys::pulse::Pulse;

use crate::attendant::{Attendant, Place};
use crate::egress::Egress;
use crate::given::Given;
use crate::link::Link;

use crate::limits::Bounds;

pub(crate) use deadlines::Deadlines;
use idle::Idle;
pub(crate) use wait::{Event, Waited};

/// What one job can put into journal and audit by what it leaves lying about.
const MOST_NOTICES: u32 = 16;

/// Everything that one session watches over.
pub(crate) struct Monitor {
    pub(crate) spec: Spec,
    pub(crate) link: Link,
    pub(crate) signals: Signals,
    pub(crate) pulse: Pulse,
    /// What happened while a step was done with waiting.
    pending: VecDeque<Event>,
    pub(crate) timeline: Vec<PhaseAt>,
    pub(crate) deadlines: Deadlines,
    /// When it is looked whether the bot does nothing.
    idle: Idle,
    /// Why the bot is to end, the first reason counts.
    pub(crate) end: Option<End>,
    pub(crate) place: Option<Place>,
    pub(crate) attendant: Option<Attendant>,
    pub(crate) attendant_restarts: u32,
    pub(crate) egress: Egress,
    pub(crate) lane_epoch: String,
    pub(crate) leader: Option<Leader>,
    /// From then on the account's processes are the job's.
    pub(crate) leader_started: bool,
    /// A leader was started and has not said that its PAM session is closed, or never was open.
    pub(crate) pam_is_open: bool,
    pub(crate) init: Option<Process>,
    pub(crate) init_socket: Option<Seqpacket>,
    pub(crate) group: Option<Group>,
    /// What the job may use and has used.
    pub(crate) bounds: Bounds,
    /// What init says that it enforced.
    pub(crate) sandbox: Option<SandboxSummary>,
    pub(crate) totals: Totals,
    pub(crate) given: Vec<Given>,
    /// Stops and the host's end come too late for the bot.
    closing: bool,
    /// The host stops: nobody is waited for longer than it takes.
    pub(crate) terminated: bool,
    /// What was told to the security people, bounded: a bot can make any number.
    pub(crate) notices: u32,
    /// The bot was started, so interval pictures go on after an attendant's restart.
    pub(crate) running: bool,
}

/// The leader process and its conversation.
pub(crate) struct Leader {
    pub(crate) process: Process,
    pub(crate) socket: Seqpacket,
}

/// Why a bot is ended before its own end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) outcome: Outcome,
    pub(crate) refusal: Refusal,
    pub(crate) mode: EndMode,
}

/// How a bot is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum EndMode {
    /// SIGTERM, grace, kill.
    Graceful,
    /// Kill at once.
    Kill,
}

impl Monitor {
    pub(crate) fn new(spec: Spec, link: Link, signals: Signals) -> Self {
        Self {
            deadlines: Deadlines::of(&spec),
            idle: Idle::default(),
            spec,
            link,
            signals,
            pulse: Pulse::of_this_program(),
            pending: VecDeque::new(),
            timeline: vec![],
            end: None,
            place: None,
            attendant: None,
            attendant_restarts: 0,
            egress: Egress::default(),
            lane_epoch: String::new(),
            leader: None,
            leader_started: false,
            pam_is_open: false,
            init: None,
            init_socket: None,
            group: None,
            bounds: Bounds::default(),
            sandbox: None,
            totals: Totals::default(),
            given: vec![],
            closing: false,
            terminated: false,
            notices: 0,
            running: false,
        }
    }

    /// A step was done: told at once, and again if the broker was away.
    pub(crate) fn step(&mut self, phase: Phase) {
        let at = PhaseAt {
            phase,
            at_unix_ms: sys::clock::unix_ms(),
        };
        self.timeline.push(at);
        self.link.tell(&FromSession::Phase(at));
    }

    /// Something for the security people, while the job goes on.
    pub(crate) fn notice(&mut self, kind: NoticeKind, refusal: Refusal) {
        self.notices += 1;
        if self.notices > MOST_NOTICES {
            return;
        }
        eprintln!("robotd-session: {refusal}");
        self.link.tell(&FromSession::Notice { kind, refusal });
    }

    /// The bot is over: what ends bots, and does not end closing, changes its outcome no more.
    pub(crate) fn begin_closing(&mut self) {
        self.deadlines.clear();
        self.forget_idleness();
        self.closing = true;
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing
    }

    /// Asks for the bot's end. The first reason stays; a kill is never softened.
    pub(crate) fn ask_end(&mut self, end: End) {
        match &mut self.end {
            Some(asked) => asked.mode = asked.mode.max(end.mode),
            None => {
                eprintln!("robotd-session: the job is ended: {}", end.refusal);
                self.end = Some(end);
            }
        }
    }

    /// Kills pid 1 of the job, and with it everything in its namespaces.
    pub(crate) fn kill_init(&self) {
        if let Some(init) = &self.init {
            let _ = init.send(sys::Signal::SIGKILL);
        }
    }
}

/// A moment on CLOCK_BOOTTIME from nanoseconds.
pub(crate) fn moment(nanos: u64) -> Duration {
    Duration::from_nanos(nanos)
}
