//! The states of a job: pure rules, no clock, no store.
//!
//! ```text
//!            offer            accept           license+order        result            output complete
//!  QUEUED ─────────► OFFERED ────────► ACCEPTED ───────────► STARTED ──────► REPORTED ───────────► ENDED
//!    ▲                  │                  │                    │                                    ▲
//!    └── withdraw ◄─────┴──────────────────┴── never begun ◄────┘        end (stopped, lost) ────────┘
//! ```
//!
//! An attempt's number is used once: every offer takes a new one. STARTED is the
//! commit point: from there an attempt goes back to the queue only when its agent
//! proved that it never began ([`Step::NeverBegun`]).

use order::AgentId;

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Queued,
    Offered,
    Accepted,
    Started,
    Reported,
    Ended,
}

impl State {
    pub(crate) const ALL: [Self; 6] = [
        Self::Queued,
        Self::Offered,
        Self::Accepted,
        Self::Started,
        Self::Reported,
        Self::Ended,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Queued => "QUEUED",
            Self::Offered => "OFFERED",
            Self::Accepted => "ACCEPTED",
            Self::Started => "STARTED",
            Self::Reported => "REPORTED",
            Self::Ended => "ENDED",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// Where a job is, with whom, and in which attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) state: State,
    /// The last attempt that was offered; 0 before the first.
    pub(crate) attempt: u32,
    /// Set from OFFERED on.
    pub(crate) agent: Option<AgentId>,
    /// The agent has shown that it began: the attempt can't go back to the queue any more.
    pub(crate) confirmed: bool,
}

/// What can happen to a job. Steps that come from an agent name the attempt that they mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Offer(AgentId),
    Accept {
        agent: AgentId,
        attempt: u32,
    },
    /// Rejected, unanswered, or its agent is gone: before the start only.
    Withdraw {
        attempt: u32,
    },
    /// License and signed order are durable.
    Start {
        agent: AgentId,
        attempt: u32,
    },
    /// The agent showed it as begun.
    Confirm {
        agent: AgentId,
        attempt: u32,
    },
    /// The agent does not have it and never began it.
    NeverBegun {
        attempt: u32,
    },
    Report {
        agent: AgentId,
        attempt: u32,
    },
    /// All that there will ever be is here, or it is given up.
    End,
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Moved,
    /// It had already happened; nothing changed.
    Repeated,
    /// Stable code of why not.
    Denied(&'static str),
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Queued,
            attempt: 0,
            agent: None,
            confirmed: false,
        }
    }

    /// The progress after `step`, and what became of it. Unchanged unless it moved.
    pub(crate) fn take(self, step: Step) -> (Self, Taken) {
        match step {
            Step::Offer(agent) => self.offer(agent),
            Step::Accept { agent, attempt } => {
                self.forward(agent, attempt, State::Offered, State::Accepted)
            }
            Step::Start { agent, attempt } => {
                self.forward(agent, attempt, State::Accepted, State::Started)
            }
            Step::Report { agent, attempt } => self.report(agent, attempt),
            Step::Confirm { agent, attempt } => self.confirm(agent, attempt),
            Step::Withdraw { attempt } => self.withdraw(attempt),
            Step::NeverBegun { attempt } => self.never_begun(attempt),
            Step::End => self.end(),
        }
    }

    fn moved(self, state: State) -> (Self, Taken) {
        (Self { state, ..self }, Taken::Moved)
    }

    fn denied(self, code: &'static str) -> (Self, Taken) {
        (self, Taken::Denied(code))
    }

    fn offer(self, agent: AgentId) -> (Self, Taken) {
        if self.state != State::Queued {
            return self.denied("JOB_NOT_QUEUED");
        }
        let next = Self {
            state: State::Offered,
            attempt: self.attempt + 1,
            agent: Some(agent),
            confirmed: false,
        };
        (next, Taken::Moved)
    }

    /// Whether a step of `agent` for `attempt` is about what is going on now.
    fn concerns(self, agent: AgentId, attempt: u32) -> Result<(), &'static str> {
        if attempt != self.attempt || self.state == State::Queued {
            Err("STALE_ATTEMPT")
        } else if self.agent != Some(agent) {
            Err("NOT_YOUR_ATTEMPT")
        } else {
            Ok(())
        }
    }

    fn forward(self, agent: AgentId, attempt: u32, from: State, to: State) -> (Self, Taken) {
        match self.concerns(agent, attempt) {
            Err(code) => self.denied(code),
            Ok(()) if self.state == from => self.moved(to),
            Ok(()) if self.state == State::Ended => self.denied("JOB_ENDED"),
            Ok(()) if self.state as u8 >= to as u8 => (self, Taken::Repeated),
            Ok(()) => self.denied("OUT_OF_ORDER"),
        }
    }

    fn confirm(self, agent: AgentId, attempt: u32) -> (Self, Taken) {
        match self.concerns(agent, attempt) {
            Err(code) => self.denied(code),
            Ok(()) if self.state != State::Started => self.denied("NOT_STARTED"),
            Ok(()) if self.confirmed => (self, Taken::Repeated),
            Ok(()) => (
                Self {
                    confirmed: true,
                    ..self
                },
                Taken::Moved,
            ),
        }
    }

    fn report(self, agent: AgentId, attempt: u32) -> (Self, Taken) {
        match self.concerns(agent, attempt) {
            Err(code) => self.denied(code),
            Ok(()) => match self.state {
                State::Started => (
                    Self {
                        state: State::Reported,
                        confirmed: true,
                        ..self
                    },
                    Taken::Moved,
                ),
                State::Reported | State::Ended => (self, Taken::Repeated),
                _ => self.denied("NOT_STARTED"),
            },
        }
    }

    fn withdraw(self, attempt: u32) -> (Self, Taken) {
        if attempt != self.attempt {
            return self.denied("STALE_ATTEMPT");
        }
        match self.state {
            State::Offered | State::Accepted => self.back(),
            State::Queued => (self, Taken::Repeated),
            _ => self.denied("ALREADY_STARTED"),
        }
    }

    fn never_begun(self, attempt: u32) -> (Self, Taken) {
        if attempt != self.attempt || self.state != State::Started {
            return self.denied("STALE_ATTEMPT");
        }
        if self.confirmed {
            return self.denied("ALREADY_BEGUN");
        }
        self.back()
    }

    fn back(self) -> (Self, Taken) {
        let next = Self {
            state: State::Queued,
            agent: None,
            ..self
        };
        (next, Taken::Moved)
    }

    fn end(self) -> (Self, Taken) {
        if self.state == State::Ended {
            return (self, Taken::Repeated);
        }
        self.moved(State::Ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn agent(number: u8) -> AgentId {
        AgentId(Uuid::from_u128(u128::from(number)))
    }

    fn step() -> impl Strategy<Value = Step> {
        let from = (0..2_u8, 0..6_u32).prop_map(|(number, attempt)| (agent(number), attempt));
        prop_oneof![
            4 => (0..2_u8).prop_map(|number| Step::Offer(agent(number))),
            4 => from.clone().prop_map(|(agent, attempt)| Step::Accept { agent, attempt }),
            2 => (0..6_u32).prop_map(|attempt| Step::Withdraw { attempt }),
            4 => from.clone().prop_map(|(agent, attempt)| Step::Start { agent, attempt }),
            3 => from.clone().prop_map(|(agent, attempt)| Step::Confirm { agent, attempt }),
            2 => (0..6_u32).prop_map(|attempt| Step::NeverBegun { attempt }),
            1 => from.prop_map(|(agent, attempt)| Step::Report { agent, attempt }),
            1 => Just(Step::End),
        ]
    }

    proptest! {
        #[test]
        fn an_attempt_starts_at_most_once_and_never_after_it_was_given_up(
            steps in proptest::collection::vec(step(), 0..200)
        ) {
            let mut now = Progress::new();
            let mut started = Vec::new();
            for step in steps {
                let (next, taken) = now.take(step);
                if taken != Taken::Moved {
                    prop_assert_eq!(next, now, "a step that did not move changed something");
                }
                prop_assert!(next.attempt >= now.attempt);
                if now.state == State::Ended {
                    prop_assert_eq!(next.state, State::Ended);
                }
                if now.confirmed && now.state == State::Started {
                    prop_assert!(next.state != State::Queued, "a begun attempt was queued again");
                }
                if next.state == State::Started && now.state != State::Started {
                    prop_assert_eq!(now.state, State::Accepted);
                    prop_assert!(!started.contains(&next.attempt));
                    started.push(next.attempt);
                }
                now = next;
            }
        }

        #[test]
        fn only_the_agent_that_has_the_attempt_moves_it(other in 2..9_u8) {
            let (offered, _) = Progress::new().take(Step::Offer(agent(1)));
            let (_, taken) = offered.take(Step::Accept { agent: agent(other), attempt: 1 });
            prop_assert_eq!(taken, Taken::Denied("NOT_YOUR_ATTEMPT"));
        }
    }

    #[test]
    fn a_late_accept_of_a_withdrawn_offer_is_refused() {
        let (offered, _) = Progress::new().take(Step::Offer(agent(1)));
        let (queued, _) = offered.take(Step::Withdraw { attempt: 1 });
        let accept = Step::Accept {
            agent: agent(1),
            attempt: 1,
        };
        assert_eq!(queued.take(accept).1, Taken::Denied("STALE_ATTEMPT"));
        let (again, _) = queued.take(Step::Offer(agent(1)));
        assert_eq!(again.attempt, 2);
        assert_eq!(again.take(accept).1, Taken::Denied("STALE_ATTEMPT"));
    }
}
