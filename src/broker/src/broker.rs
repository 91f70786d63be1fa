//! The one owner of the broker's state, and how it tells others.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd as _;
use std::time::Duration;

use events::{Code, Event};
use order::{AgentId, AttemptRef, Phase, PhaseAt};
use privsep::abilities::Abilities;
use privsep::broker::{Answer, Notice, Reply, Slot, SlotState};
use privsep::session::{Backend, ToSession};
use privsep::{Refusal, encode};
use sys::fdpass::Seqpacket;
use sys::process::Process;

use crate::attempts::{Attempt, Stage};
use crate::bus::Login;
use crate::closing::Closing;
use crate::fences::Fences;
use crate::generation::Generation;
use crate::keys::Keys;
use crate::outbox::{Kept, Outbox};
use crate::policy::Policy;
use crate::rate::Rate;
use crate::record::Records;
use crate::store::Store;
use crate::tenants::LastTenants;
use crate::work::Workers;

/// A packet that a peer does not take at once means that it does not read: its connection ends,
/// it connects again and asks for the state.
pub(crate) const PEERS: usize = 256;

/// Everything that the broker knows.
pub(crate) struct Broker {
    pub(crate) policy: Policy,
    pub(crate) backend: Backend,
    pub(crate) keys: Keys,
    pub(crate) records: Records,
    pub(crate) tenants: LastTenants,
    pub(crate) fences: Fences,
    pub(crate) generation: Generation,
    pub(crate) outbox: Outbox,
    pub(crate) store: Store,
    /// CLOCK_BOOTTIME of the next look through it.
    pub(crate) tidy_at: Duration,
    pub(crate) workers: Workers,
    pub(crate) journal: events::journal::Sender,
    pub(crate) host: String,
    pub(crate) agent_id: Option<AgentId>,
    pub(crate) agent_uid: u32,
    pub(crate) attempts: BTreeMap<AttemptRef, Attempt>,
    /// Limits that this host can't enforce, as far as somebody was told.
    pub(crate) told_not_enforced: BTreeSet<String>,
    /// Slots out of use, with the attempt that made them so.
    pub(crate) quarantined: BTreeMap<String, (AttemptRef, Refusal)>,
    pub(crate) agent: Option<Seqpacket>,
    /// Refusals that are told as events: robotd can ask for as many as it likes.
    pub(crate) refusals: Rate,
    pub(crate) sessions: Vec<SessionPeer>,
    pub(crate) watched: Vec<Watched>,
    /// Who waits for a slot's recovery, and until when (CLOCK_BOOTTIME).
    pub(crate) recovering: BTreeMap<String, (Seqpacket, Duration)>,
    /// Who is logged in on this host, by logind's id, our own sessions left out.
    pub(crate) logins: BTreeMap<String, Login>,
    /// The first list of sessions was seen: what belonged to no job then was left by one.
    pub(crate) looked_around: bool,
    /// Accounts whose users are being closed; numbers rise.
    pub(crate) closings: BTreeMap<String, Closing>,
    pub(crate) last_closing: u64,
    /// What the host can do; absent until the probe has reported.
    pub(crate) abilities: Option<Abilities>,
    /// When the probe is given up, while it is awaited.
    pub(crate) probe_until: Option<Duration>,
}

/// A connection on session.sock.
pub(crate) struct SessionPeer {
    pub(crate) socket: Seqpacket,
    pub(crate) pid: i32,
    pub(crate) who: Who,
}

/// What a connection on session.sock said that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// Nothing yet.
    Unknown,
    /// The session of an attempt.
    Session(AttemptRef),
    /// The session of an attempt whose report is on the disk: all that it may do is hear so.
    Over(AttemptRef),
    /// The teardown of an account's slot.
    Teardown(String),
    /// Who finds out what the host can do.
    Probe,
}

/// A process whose end matters.
pub(crate) struct Watched {
    pub(crate) process: Process,
    pub(crate) what: Watch,
    /// A child of the broker, to be waited for.
    pub(crate) child: bool,
}

/// Why it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    /// The session of an attempt.
    Session(AttemptRef),
    /// The teardown of an account's slot.
    Teardown(String),
    /// Finding out what the host can do.
    Probe,
}

impl Broker {
    /// Tells robotd, if it is there.
    pub(crate) fn notice(&mut self, notice: Notice) {
        self.answer(&Answer::Notice(notice), None);
    }

    /// Answers a call of robotd.
    pub(crate) fn reply(&mut self, number: u32, reply: Reply) {
        self.answer(&Answer::Reply { number, reply }, None);
    }

    /// Sends to robotd, with a sealed document if there is one.
    pub(crate) fn answer(&mut self, answer: &Answer, document: Option<&[u8]>) {
        let Some(agent) = &self.agent else { return };
        if let Err(problem) = send(agent, &encode(answer), document) {
            self.operator(&format!("robotd's connection ends: {problem}"));
            self.agent = None;
        }
    }

    /// Tells the session of an attempt; `false` when it is not connected.
    pub(crate) fn tell_session(
        &mut self,
        attempt: &AttemptRef,
        message: &ToSession,
        document: Option<&[u8]>,
    ) -> bool {
        let who = Who::Session(*attempt);
        let Some(at) = self.sessions.iter().position(|peer| peer.who == who) else {
            return false;
        };
        match send(&self.sessions[at].socket, &encode(message), document) {
            Ok(()) => true,
            Err(problem) => {
                self.operator(&format!(
                    "the connection of session {attempt} ends: {problem}"
                ));
                self.sessions.swap_remove(at);
                false
            }
        }
    }

    /// A step of an attempt, for its result and for robotd.
    pub(crate) fn step(&mut self, attempt: AttemptRef, at: PhaseAt) {
        if let Some(held) = self.attempts.get_mut(&attempt) {
            held.timeline.push(at);
        }
        self.notice(Notice::Phase { attempt, at });
    }

    /// The same, now.
    pub(crate) fn step_now(&mut self, attempt: AttemptRef, phase: Phase) {
        self.step(
            attempt,
            PhaseAt {
                phase,
                at_unix_ms: sys::clock::unix_ms(),
            },
        );
    }

    /// A security event: to the journal, and to robotd for the audit lane.
    pub(crate) fn event(&mut self, event: Event, attempt: Option<AttemptRef>) {
        let mut event = event.on_host(self.host.clone());
        if let Some(agent) = self.agent_id {
            event = event.of_agent(agent);
        }
        if let Some(attempt) = attempt {
            event = event.of_attempt(attempt.job, attempt);
            event.tenant = self
                .attempts
                .get(&attempt)
                .and_then(|held| held.bound.as_ref())
                .map(|bound| bound.tenant.clone());
        }
        let event = event.bounded(events::journal::MAX_EVENT);
        if let Err(error) = self.journal.send(&event) {
            self.operator(&format!(
                "event {} did not reach the journal: {}",
                event.code,
                crate::text(&error)
            ));
        }
        let kept = Kept {
            code: event.code,
            attempt,
            body: event.to_json(),
        };
        if !self.tell_event(&kept)
            && let Err(error) = self.outbox.keep(&kept)
        {
            self.operator(&format!(
                "event {} is in the journal only: {error}",
                kept.code
            ));
        }
    }

    /// `false` when robotd is not there to take it.
    fn tell_event(&mut self, event: &Kept) -> bool {
        self.notice(Notice::Event {
            code: event.code,
            attempt: event.attempt,
            body: event.body.clone(),
        });
        // A connection that did not take it has ended.
        self.agent.is_some()
    }

    /// What robotd was not there for.
    pub(crate) fn tell_kept_events(&mut self) {
        let kept = match self.outbox.all() {
            Ok(kept) => kept,
            Err(error) => return self.operator(&format!("kept events can't be read: {error}")),
        };
        // A robotd that takes no more of them has lost its connection; the rest waits for the next.
        let told = kept.iter().take_while(|event| self.tell_event(event));
        let told = told.count();
        if told > 0
            && let Err(error) = self.outbox.keep_only(&kept[told..])
        {
            self.operator(&format!("events will be told again: {error}"));
        }
    }

    /// An event of this moment.
    pub(crate) fn event_now(code: Code) -> Event {
        Event::new(code, sys::clock::unix_ms())
    }

    /// The operator's log. journald takes standard error with its own fields.
    #[expect(clippy::unused_self, reason = "the log belongs to the broker")]
    pub(crate) fn operator(&self, line: &str) {
        eprintln!("robotd-broker: {line}");
    }

    /// All slots with their states.
    pub(crate) fn slots(&self) -> Vec<Slot> {
        let accounts = self.policy.slots.iter().map(|slot| slot.account.clone());
        accounts
            .map(|account| Slot {
                state: self.slot_state(&account),
                account,
            })
            .collect()
    }

    pub(crate) fn slot_state(&self, account: &str) -> SlotState {
        if let Some((_, refusal)) = self.quarantined.get(account) {
            return SlotState::Quarantined(refusal.clone());
        }
        let user = self
            .attempts
            .iter()
            .find(|(_, held)| held.account == account && held.holds_slot());
        user.map_or(SlotState::Free, |(attempt, _)| SlotState::Busy(*attempt))
    }

    /// Tells robotd how a slot stands now.
    pub(crate) fn notice_slot(&mut self, account: &str) {
        let slot = Slot {
            account: account.to_owned(),
            state: self.slot_state(account),
        };
        self.notice(Notice::Slot(slot));
    }
}

impl Attempt {
    /// When a started attempt ends whatever happens.
    pub(crate) fn hard_end(&self) -> Option<Duration> {
        let bound = self.bound.as_ref()?;
        Some(Duration::from_nanos(bound.hard_end_ns))
    }

    /// An ended attempt waits for its delivery but its slot is free again.
    pub(crate) fn holds_slot(&self) -> bool {
        !matches!(self.stage, Stage::Ended { .. })
    }
}

/// Sends one packet without waiting.
pub(crate) fn send(
    socket: &Seqpacket,
    packet: &Result<Vec<u8>, privsep::DecodeError>,
    document: Option<&[u8]>,
) -> Result<(), String> {
    let packet = packet.as_ref().map_err(|error| crate::text(error))?;
    let sealed = document
        .map(|bytes| sys::memfd::sealed(c"robotd", bytes))
        .transpose();
    let sealed = sealed.map_err(|error| crate::text(&error))?;
    let fds: Vec<_> = sealed.iter().map(|fd| fd.as_fd()).collect();
    socket
        .try_send(packet, &fds)
        .map_err(|error| crate::text(&error))
}
