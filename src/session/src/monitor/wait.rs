//! Waiting: for what a step needs, while everything else is attended to.

use std::os::fd::OwnedFd;
use std::time::Duration;

use privsep::attendant::FromAttendant;
use privsep::egress::FromEgress;
use privsep::session::ToSession;
use sys::poll::Watch;

use super::{EndMode, Monitor};
use crate::inner::{FromInit, FromLeader, Heard, hear};

/// What can happen.
pub(crate) enum Event {
    Broker(ToSession, Vec<OwnedFd>),
    /// The broker is there again and knows the timeline.
    BrokerBack,
    Leader(FromLeader, Vec<OwnedFd>),
    LeaderEnded,
    Init(FromInit, Vec<OwnedFd>),
    InitEnded,
    Attendant(FromAttendant),
    AttendantEnded,
    Egress(FromEgress),
    EgressEnded,
    /// SIGTERM and the like: the host or its administrator ends the session.
    Terminated,
    /// A deadline of the job has passed.
    Expired,
    /// The kernel killed processes of the job for want of memory.
    OutOfMemory,
}

/// How a wait ended.
pub(crate) enum Waited<T> {
    /// With what was waited for.
    For(T),
    /// The time given was over.
    Late,
    /// The bot's end was asked for, more urgently than the step knew.
    End,
}

impl Monitor {
    /// Waits until `pick` takes an event, at most until `deadline` (CLOCK_BOOTTIME), or until the
    /// bot's end is asked for more urgently than `known`. Events that concern every step are
    /// attended to and not offered.
    pub(crate) fn wait_for<T>(
        &mut self,
        known: Option<EndMode>,
        deadline: Option<Duration>,
        mut pick: impl FnMut(&mut Self, Event) -> Option<T>,
    ) -> Waited<T> {
        loop {
            if self.end.as_ref().map(|end| end.mode) > known {
                return Waited::End;
            }
            self.pulse.beat();
            let Some(event) = self.pending.pop_front() else {
                if deadline.is_some_and(|at| at <= sys::clock::boottime()) {
                    return Waited::Late;
                }
                self.sleep(deadline);
                self.pending = self.ready_events().into();
                continue;
            };
            if let Some(event) = self.absorb(event)
                && let Some(picked) = pick(self, event)
            {
                // The rest waits for the next step.
                return Waited::For(picked);
            }
        }
    }

    /// Sleeps until something happens.
    fn sleep(&self, deadline: Option<Duration>) {
        let due = [
            deadline,
            self.deadlines.next(),
            self.idle.next(),
            self.link.retry_at(),
            self.pulse.next(),
        ];
        let due = due.into_iter().flatten().min();
        let timeout = due.map(|at| at.saturating_sub(sys::clock::boottime()));
        let mut watches = vec![Watch::readable(&self.signals)];
        watches.extend(self.link.socket().map(Watch::readable));
        watches.extend(self.bounds.events());
        if let Some(leader) = &self.leader {
            watches.extend([
                Watch::readable(&leader.socket),
                Watch::readable(&leader.process),
            ]);
        }
        if let Some(init) = &self.init {
            watches.push(Watch::readable(init));
            watches.extend(self.init_socket.as_ref().map(Watch::readable));
        }
        if let Some(attendant) = &self.attendant {
            watches.push(Watch::readable(&attendant.process));
            if !attendant.gone {
                watches.push(Watch::readable(&attendant.socket));
            }
        }
        if let Some(egress) = &self.egress.running {
            watches.push(Watch::readable(&egress.process));
            if !egress.gone {
                watches.push(Watch::readable(&egress.socket));
            }
        }
        // An error here is a descriptor that was closed under us: the reads below find out which.
        let _ = sys::poll::wait(&mut watches, timeout);
    }

    /// Each source is read without waiting: cheaper than remembering which one was ready. At most
    /// one message of each, so that none starves.
    fn ready_events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Ok(Some(_)) = self.signals.take() {
            events.push(Event::Terminated);
        }
        let due = self.deadlines.next().into_iter().chain(self.idle.next());
        if due.min().is_some_and(|at| at <= sys::clock::boottime()) {
            events.push(Event::Expired);
        }
        if self.bounds.has_killed() {
            events.push(Event::OutOfMemory);
        }
        if self.link.reconnect(&self.timeline) {
            events.push(Event::BrokerBack);
        }
        if let Some((message, fds)) = self.link.hear() {
            events.push(Event::Broker(message, fds));
        }
        self.hear_init(&mut events);
        self.hear_leader(&mut events);
        self.hear_attendant(&mut events);
        self.hear_egress(&mut events);
        events
    }

    /// init speaks when the leader has said that it is there: what it says is for later steps.
    fn hear_init(&mut self, events: &mut Vec<Event>) {
        if self.init.is_none() {
            return;
        }
        // All that it said: its end, which is seen below, must not overtake the bot's.
        while let Some(socket) = &self.init_socket {
            match hear(socket) {
                Heard::Message(message, fds) => events.push(Event::Init(message, fds)),
                Heard::Gone => self.init_socket = None,
                Heard::Nothing => break,
            }
        }
        if self
            .init
            .as_ref()
            .is_some_and(|init| init.ended_within(Duration::ZERO).unwrap_or(true))
        {
            self.init = None;
            events.push(Event::InitEnded);
        }
    }

    fn hear_leader(&mut self, events: &mut Vec<Event>) {
        let Some(leader) = &self.leader else { return };
        if let Heard::Message(message, fds) = hear(&leader.socket) {
            self.pam_is_open &= matches!(message, FromLeader::Opened { .. });
            events.push(Event::Leader(message, fds));
        } else if let Ok(Some(_)) = leader.process.try_wait() {
            // What it said last was read before.
            self.leader = None;
            events.push(Event::LeaderEnded);
        }
    }

    fn hear_egress(&mut self, events: &mut Vec<Event>) {
        let Some(egress) = &mut self.egress.running else {
            return;
        };
        if !egress.gone {
            match hear(&egress.socket) {
                Heard::Message(message, _) => {
                    events.push(Event::Egress(message));
                    return;
                }
                Heard::Nothing => {}
                Heard::Gone => {
                    egress.gone = true;
                    let _ = egress.process.send(sys::Signal::SIGKILL);
                }
            }
        }
        if let Ok(Some(_)) = egress.process.try_wait() {
            self.egress.running = None;
            events.push(Event::EgressEnded);
        }
    }

    fn hear_attendant(&mut self, events: &mut Vec<Event>) {
        let Some(attendant) = &mut self.attendant else {
            return;
        };
        match attendant.gone {
            true => {}
            false => match hear(&attendant.socket) {
                Heard::Message(message, _) => {
                    events.push(Event::Attendant(message));
                    return;
                }
                Heard::Nothing => {}
                // It hung up or talks nonsense: whatever it is now, it is no attendant.
                Heard::Gone => {
                    attendant.gone = true;
                    let _ = attendant.process.send(sys::Signal::SIGKILL);
                }
            },
        }
        if let Ok(Some(_)) = attendant.process.try_wait() {
            self.attendant = None;
            events.push(Event::AttendantEnded);
        }
    }
}
