//! People on a host of bots: each log-in is an event, and the policy says whether jobs run meanwhile.
//! At start also what sessions an earlier life of this host has left.

use std::path::Path;

use events::{Code, Event};
use privsep::Refusal;
use privsep::broker::SlotState;

use crate::broker::Broker;
use crate::bus::{Login, Seen};
use crate::launch::systemd_runs;
use crate::policy::People;
use crate::work::Job;

/// Who closes a host to log-ins makes one of these (pam_nologin(8)).
const CLOSED: [&str; 2] = ["/run/nologin", "/etc/nologin"];

/// What a result says of a job that ran while somebody was logged in.
pub(crate) const REMARK: &str = "PEOPLE_LOGGED_IN";

impl Broker {
    /// Begins to watch, and ends sessions that no attempt of ours has.
    pub(crate) fn look_around(&mut self) {
        if !systemd_runs() {
            return;
        }
        let known = self.attempts.keys();
        let known = known.map(|attempt| format!("robotd-session@{attempt}.service"));
        self.workers.give(Job::KillStrays {
            known: known.collect(),
        });
        self.workers.watch_people();
        let user = &self.policy.session.journal_user;
        match crate::privileges::reader(user) {
            Some(reader) => self.workers.watch_privileges(reader),
            None => self.seen(Seen::Deaf(
                "the journal can't be read: no group systemd-journal, or no session.journal-user"
                    .to_owned(),
            )),
        }
    }

    /// Sessions of attempts that no record knows were killed.
    pub(crate) fn strays_killed(&mut self, outcome: Result<Vec<String>, String>) {
        match outcome {
            Ok(units) => {
                for unit in units {
                    self.event(Self::event_now(Code::SessionStale).with("what", unit), None);
                }
            }
            Err(error) => self.operator(&format!("left sessions can't be looked for: {error}")),
        }
    }

    /// Somebody came or went.
    pub(crate) fn seen(&mut self, seen: Seen) {
        match seen {
            Seen::In(login) => self.logged_in(login),
            Seen::Out(id) => self.logged_out(&id),
            Seen::Rights(taken, more) => {
                let event = Self::event_now(Code::PrivilegesTaken)
                    .with("by", taken.by)
                    .with("user", taken.user)
                    .with("service", taken.service)
                    .with("more", more);
                self.event(event, None);
            }
            Seen::Deaf(reason) => {
                self.looked_around = false;
                let event = Self::event_now(Code::PeopleNotWatched).with("reason", reason);
                self.event(event, None);
            }
            Seen::Everybody(now) => {
                let there = |id: &String| now.iter().any(|login| login.id == *id);
                let gone: Vec<_> = self
                    .logins
                    .keys()
                    .filter(|id| !there(id))
                    .cloned()
                    .collect();
                gone.iter().for_each(|id| self.logged_out(id));
                for login in now {
                    self.logged_in(login);
                }
                self.looked_around = true;
            }
        }
    }

    fn logged_in(&mut self, login: Login) {
        match self.logins.get(&login.id) {
            Some(known) if *known == login => return,
            // A logind that was restarted gives the same id to somebody else.
            Some(_) => self.logged_out(&login.id.clone()),
            None => {}
        }
        if self.is_ours(&login) {
            if !self.looked_around {
                self.left_behind(&login);
            }
            return;
        }
        let code = if self.policy.slot(&login.user).is_some() {
            Code::BotAccountLoggedIn
        } else if login.is_interactive() {
            Code::PersonLoggedIn
        } else {
            return;
        };
        self.event(about(code, &login), None);
        self.logins.insert(login.id.clone(), login);
        self.mark_jobs();
    }

    fn logged_out(&mut self, id: &str) {
        if let Some(login) = self.logins.remove(id) {
            self.event(about(Code::PersonLoggedOut, &login), None);
        }
    }

    /// Opened through our PAM service for a bot account: only root can do that.
    fn is_ours(&self, login: &Login) -> bool {
        login.service == self.policy.session.pam_service && self.policy.slot(&login.user).is_some()
    }

    /// A session of ours at start. If its slot is free, no record knows the job: the slot is closed
    /// until the session is torn down.
    fn left_behind(&mut self, login: &Login) {
        if self.slot_state(&login.user) != SlotState::Free {
            return;
        }
        self.event(about(Code::SessionStale, login), None);
        let nobody = order::AttemptRef {
            job: order::JobId(order::NIL),
            number: 0,
        };
        let refusal = Refusal::new(
            "SESSION_STALE",
            format!("{login} was left by an unknown job"),
        );
        self.quarantined
            .insert(login.user.clone(), (nobody, refusal));
        self.notice_slot(&login.user);
        if let Err(refusal) = self.start_teardown(&login.user) {
            self.operator(&refusal.to_string());
        }
    }

    fn mark_jobs(&mut self) {
        if self.policy.session.people == People::Allow {
            return;
        }
        let mut marked = Vec::new();
        for (attempt, held) in &mut self.attempts {
            if let Some(bound) = held.bound.as_mut().filter(|bound| !bound.people)
                && held.stage.is_alive()
            {
                bound.people = true;
                marked.push(*attempt);
            }
        }
        for attempt in marked {
            self.save_slot(attempt);
        }
    }

    /// Whether a job that starts now has company, and the policy wants to know.
    pub(crate) fn has_company(&self) -> bool {
        self.policy.session.people != People::Allow && !self.logins.is_empty()
    }

    /// Whether the host takes jobs as far as people are concerned.
    pub(crate) fn permit_company(&self) -> Result<(), Refusal> {
        if let Some(mark) = CLOSED.into_iter().find(|mark| Path::new(mark).exists()) {
            let detail = format!("{mark} is there: this host takes no log-ins now");
            return Err(Refusal::new("HOST_CLOSED", detail));
        }
        let refuses = self.policy.session.people == People::Refuse;
        if refuses && systemd_runs() && !self.looked_around {
            let detail = "it is not known yet who is logged in, and this host's policy is to wait (session.people)";
            return Err(Refusal::new("PEOPLE_LOGGED_IN", detail));
        }
        match self.logins.values().next() {
            Some(login) if refuses => {
                let detail = format!(
                    "{} is logged in ({login}) and this host's policy is to wait (session.people)",
                    login.user
                );
                Err(Refusal::new("PEOPLE_LOGGED_IN", detail))
            }
            _ => Ok(()),
        }
    }

    /// Somebody who is logged in as this bot account.
    pub(crate) fn intruder(&self, account: &str) -> Option<&Login> {
        self.logins.values().find(|login| login.user == account)
    }
}

fn about(code: Code, login: &Login) -> Event {
    let user = if login.user.is_empty() {
        "somebody"
    } else {
        &login.user
    };
    Broker::event_now(code)
        .with("user", user)
        .with("what", login.to_string())
        .with("uid", login.uid)
        .with("service", login.service.as_str())
        .with("remote_host", login.remote_host.as_str())
        .with("session", login.id.as_str())
}
