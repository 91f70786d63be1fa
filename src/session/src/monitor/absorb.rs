//! What concerns every step: orders of the broker, deadlines, secrets, the attendant's death.

use std::os::fd::{AsFd as _, OwnedFd};

use order::Outcome;
use privsep::Refusal;
use privsep::attendant::{FromAttendant, ToAttendant};
use privsep::broker::StopMode;
use privsep::session::{NoticeKind, ToSession};

use super::{End, EndMode, Event, Monitor, moment};
use crate::attendant::{Attendant, RESTARTS};
use crate::given::Given;

impl Monitor {
    /// Attends to an event, or gives it back for the step that waits.
    pub(super) fn absorb(&mut self, event: Event) -> Option<Event> {
        match event {
            Event::Broker(message, fds) => self.absorb_broker(message, fds),
            Event::Terminated => {
                self.terminated = true;
                if self.closing {
                    return None;
                }
                let refusal = Refusal::new(
                    "HOST_STOPPING",
                    "the session was told to end: the host stops, or its unit was stopped",
                );
                self.ask_end(End {
                    outcome: Outcome::Interrupted,
                    refusal,
                    mode: EndMode::Graceful,
                });
                None
            }
            Event::Expired => {
                while let Some(end) = self.deadlines.expired(sys::clock::boottime()) {
                    self.ask_end(end);
                }
                if self.idle.is_due(sys::clock::boottime()) {
                    self.look_whether_idle();
                }
                None
            }
            Event::OutOfMemory => {
                if !self.closing {
                    self.out_of_memory();
                }
                None
            }
            Event::Attendant(FromAttendant::LastHeard { boottime_ns }) => {
                self.heard_last(boottime_ns)
            }
            Event::Attendant(FromAttendant::SpoolLost(refusal)) => {
                // Nothing runs unrecorded.
                self.ask_end(End {
                    outcome: Outcome::Interrupted,
                    refusal,
                    mode: EndMode::Graceful,
                });
                None
            }
            Event::Attendant(FromAttendant::LookedOn { began }) => {
                let (kind, what) = if began {
                    (NoticeKind::LookedOn, "root of this host, over VNC")
                } else {
                    (NoticeKind::LooksNoMore, "root of this host, over VNC")
                };
                self.notice(kind, Refusal::new("LOOKED_ON", what));
                None
            }
            Event::Attendant(FromAttendant::Ready { epoch }) => {
                self.lane_epoch = epoch.iter().map(|byte| format!("{byte:02x}")).collect();
                Some(Event::Attendant(FromAttendant::Ready { epoch }))
            }
            Event::AttendantEnded => self.restart_attendant(),
            Event::Egress(said) => self.hear_of_network(said),
            Event::EgressEnded => self.restart_egress(),
            other => Some(other),
        }
    }

    fn absorb_broker(&mut self, message: ToSession, mut fds: Vec<OwnedFd>) -> Option<Event> {
        match message {
            // The bot is over; its outcome stands.
            ToSession::Stop(_) if self.closing => None,
            ToSession::Stop(mode) => {
                let mode = if mode == StopMode::Kill {
                    EndMode::Kill
                } else {
                    EndMode::Graceful
                };
                let refusal = Refusal::new("STOPPED", "the orchestrator stopped the job");
                self.ask_end(End {
                    outcome: Outcome::Stopped,
                    refusal,
                    mode,
                });
                None
            }
            ToSession::LeaseUntil { boottime_ns } => {
                self.deadlines.lease_until(moment(boottime_ns));
                None
            }
            // The account's, not the bot's: for the step that waits for it.
            ToSession::Secret { ref name } | ToSession::SecretRefused { ref name, .. }
                if self.spec.account_secret.as_ref() == Some(name) =>
            {
                Some(Event::Broker(message, fds))
            }
            ToSession::Secret { name } => {
                let value = fds.pop()?;
                // Kept before it is handed on: whatever dies then, the value is masked.
                let mut given = Given::new(name.clone(), value);
                if let Some(known) = self.given.iter().position(|own| own.name == name) {
                    given.at_unix_ms = self.given.swap_remove(known).at_unix_ms;
                }
                self.tell_attendant(&ToAttendant::Secret { name }, Some(&given.value));
                self.given.push(given);
                None
            }
            ToSession::SecretRefused { name, refusal } => {
                self.tell_attendant(&ToAttendant::SecretRefused { name, refusal }, None);
                None
            }
            other => Some(Event::Broker(other, fds)),
        }
    }

    /// A message that is lost with a dying attendant is asked for again by the bot's next call.
    pub(crate) fn tell_attendant(&self, message: &ToAttendant, fd: Option<&OwnedFd>) {
        let fds: Vec<_> = fd.iter().map(|fd| fd.as_fd()).collect();
        let told = self
            .attendant
            .as_ref()
            .map(|attendant| attendant.tell(message, &fds));
        if let Some(Err(refusal)) = told {
            eprintln!("robotd-session: attendant: {refusal}");
        }
    }

    /// The pipes are kept: at most what the dead one had read and not written is lost, and its
    /// successor says so in the log.
    fn restart_attendant(&mut self) -> Option<Event> {
        self.attendant_restarts += 1;
        let place = self.place.as_ref()?;
        let started = if self.attendant_restarts > RESTARTS {
            Err(Refusal::new(
                "ATTENDANT_LOST",
                format!("the attendant died {} times", self.attendant_restarts),
            ))
        } else {
            Attendant::start(&self.spec, place, &self.given, true)
        };
        match started {
            Ok(attendant) => {
                let refusal =
                    Refusal::new("ATTENDANT_LOST", "its process ended before its job did");
                self.notice(NoticeKind::AttendantLost, refusal);
                self.attendant = Some(attendant);
                if self.running {
                    self.tell_attendant(&ToAttendant::Running, None);
                }
            }
            Err(refusal) => {
                self.ask_end(End {
                    outcome: Outcome::Interrupted,
                    refusal,
                    mode: EndMode::Graceful,
                });
            }
        }
        Some(Event::AttendantEnded)
    }
}
