//! Closing an account's user takes time, in a thread of its own: whose question an answer belongs
//! to, and which accounts are not free yet because one is still being closed.

use order::{AttemptRef, Phase, PhaseAt};
use privsep::Refusal;
use privsep::session::{Backend, ToSession};

use crate::broker::{Broker, Who};
use crate::starting::account;
use crate::work::Job;

/// Questions about one account that are not answered.
pub(crate) struct Closing {
    /// How many threads are at it: one that was given up by who asked goes on.
    running: u32,
    /// The last one, and who asked it.
    number: u64,
    who: Who,
}

impl Broker {
    pub(crate) fn close_user_of(&mut self, attempt: &AttemptRef) -> Result<(), Refusal> {
        let opened = self.attempts.get(attempt).is_some_and(|held| {
            let open = |step: &PhaseAt| step.phase == Phase::SessionOpen;
            held.timeline.iter().any(open)
        });
        let own = self.policy.session.pam_service.clone();
        let account = self.account_of(attempt);
        self.close_user(account, (!opened).then_some(own), Who::Session(*attempt))
    }

    /// Has logind and systemd close an account's user. With `unless_in_use`, nothing is ended while
    /// somebody is logged in through another PAM service.
    pub(crate) fn close_user(
        &mut self,
        name: String,
        unless_in_use: Option<String>,
        who: Who,
    ) -> Result<(), Refusal> {
        if self.backend == Backend::Pam {
            self.answer_closed(&who, &name, vec![]);
            return Ok(());
        }
        let uid = account(&name, 1000)?.uid;
        self.last_closing += 1;
        let number = self.last_closing;
        let running = self.closings.get(&name).map_or(0, |known| known.running);
        let closing = Closing {
            running: running + 1,
            number,
            who,
        };
        self.closings.insert(name.clone(), closing);
        self.workers.give(Job::CloseUser {
            uid,
            account: name,
            unless_in_use,
            number,
        });
        Ok(())
    }

    /// A worker is done with an account's user. An answer that nobody waits for any more is dropped.
    pub(crate) fn user_closed(&mut self, name: &str, number: u64, leftovers: Vec<String>) {
        let Some(closing) = self.closings.get_mut(name) else {
            return;
        };
        closing.running -= 1;
        let who = (closing.number == number).then(|| closing.who.clone());
        if closing.running == 0 {
            self.closings.remove(name);
            self.notice_slot(name);
        }
        if let Some(who) = who {
            self.answer_closed(&who, name, leftovers);
        }
    }

    fn answer_closed(&mut self, who: &Who, name: &str, leftovers: Vec<String>) {
        let message = ToSession::UserClosed { leftovers };
        match who {
            Who::Session(attempt) => _ = self.tell_session(attempt, &message, None),
            Who::Teardown(_) => self.answer_teardown(name, &message),
            Who::Unknown | Who::Over(_) | Who::Probe => {}
        }
    }
}
