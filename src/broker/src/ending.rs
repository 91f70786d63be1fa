//! How attempts end: a report becomes a signed result, a lost session is torn down first, a slot
//! is freed or put into quarantine, and a delivered result is forgotten.

use std::path::Path;
use std::time::Duration;

use events::{Code, Event};
use order::{AttemptRef, EndedBy, JobResult, Outcome, SessionSummary, VolumeReport, WipeReport};
use privsep::Refusal;
use privsep::broker::Reply;
use privsep::session::{Report, Swept};
use sys::beneath::{Dir, Mounts};

use crate::attempts::{Attempt, Stage};
use crate::broker::{Broker, Watch, Who};
use crate::record::{ResultRecord, SlotRecord};
use crate::work::Job;

/// How soon a result that could not be written is tried again: a full disk is emptied by people.
const RETRY: Duration = Duration::from_secs(5);

/// A teardown asks logind and systemd, which stop units for at most a minute; one that takes
/// longer has died unseen.
pub(crate) const TEARDOWN: Duration = Duration::from_secs(300);

/// Longest text about what is left, in characters.
const LONGEST: usize = 512;

impl Broker {
    /// An attempt that ended before anything of it was opened on the host.
    pub(crate) fn end_unlaunched(&mut self, attempt: AttemptRef, refusal: Refusal) {
        let timeline = self
            .attempts
            .get(&attempt)
            .map(|held| held.timeline.clone())
            .unwrap_or_default();
        let report = Report {
            refusal: Some(refusal),
            timeline,
            ..empty(Outcome::NotStarted)
        };
        self.record_report(attempt, report);
    }

    /// Signs and keeps what a session reported. `true` when it is on the disk.
    pub(crate) fn record_report(&mut self, attempt: AttemptRef, mut report: Report) -> bool {
        let Some(held) = self.attempts.get(&attempt) else {
            return true;
        };
        if let Stage::Ended { .. } = held.stage {
            return true;
        }
        // The broker's own steps and the session's, each told once and in order.
        report.timeline.clone_from(&held.timeline);
        let account = held.account.clone();
        let told = matches!(held.stage, Stage::Unrecorded { .. });
        let result = self.result(attempt, held, &report);
        let body = serde_json::to_vec(&result).unwrap_or_default();
        let signed = self.keys.sign_result(body);
        let kept = ResultRecord::new(attempt, signed.clone());
        if let Err(error) = self.records.save_result(&kept) {
            if !told {
                let what = format!("the result of {attempt} is not kept, its slot stays busy");
                self.operator(&format!("{what}: {}", crate::text(&error)));
            }
            let retry_at = sys::clock::boottime() + RETRY;
            if let Some(held) = self.attempts.get_mut(&attempt) {
                let report = Box::new(report);
                held.stage = Stage::Unrecorded { report, retry_at };
            }
            return false;
        }
        let dirty = dirt(report.wipe.as_ref(), report.session.as_ref());
        if let Some(held) = self.attempts.get_mut(&attempt) {
            held.stage = Stage::Ended {
                result: signed.clone(),
            };
        }
        self.end_events(attempt, &account, &report, dirty.as_ref());
        self.release_slot(attempt, &account, dirty);
        self.send_result(attempt, &signed);
        true
    }

    fn result(&self, attempt: AttemptRef, held: &Attempt, report: &Report) -> JobResult {
        let refusal = report.refusal.clone();
        let (code, detail) = refusal
            .map(|refusal| (refusal.code, refusal.detail))
            .unwrap_or_default();
        JobResult {
            v: 1,
            attempt,
            agent: self.agent_id.unwrap_or(order::AgentId(order::NIL)),
            order_sha256: held.bound.as_ref().map(|bound| bound.order_sha256),
            package: held.bound.as_ref().map(|bound| bound.package),
            outcome: report.outcome,
            ended_by: EndedBy::of(&code, &detail, report.exit_code, report.signal),
            code,
            detail,
            exit_code: report.exit_code,
            signal: report.signal,
            timeline: report.timeline.clone(),
            license: held.bound.as_ref().map(|bound| bound.license.clone()),
            secrets: report.secrets.clone(),
            session: report.session.clone(),
            log: report.log.clone(),
            artifacts: report.artifacts.clone(),
            screenshots: report.screenshots,
            lane_epoch: report.lane_epoch.clone(),
            lane_last_seq: report.lane_last_seq,
            processes_killed: report.processes_killed,
            network: report.network.clone(),
            wipe: report.wipe.clone(),
            usage: report.usage,
            not_enforced: report.not_enforced.clone(),
            sandbox: report.sandbox.clone(),
            remarks: remarks(held, report),
        }
    }

    fn end_events(
        &mut self,
        attempt: AttemptRef,
        account: &str,
        report: &Report,
        dirty: Option<&Refusal>,
    ) {
        if report
            .session
            .as_ref()
            .is_some_and(|session| session.closed)
        {
            self.event(
                Self::event_now(Code::SessionClosed).with("account", account),
                Some(attempt),
            );
        }
        match (&report.wipe, dirty) {
            (Some(wipe), None) => {
                let event = crate::wiping::wiped(wipe);
                self.event(event, Some(attempt));
            }
            (Some(_), Some(refusal)) => {
                self.event(
                    Self::event_now(Code::WipeFailed).with("reason", refusal.detail.as_str()),
                    Some(attempt),
                );
            }
            (None, _) => {}
        }
        let refusal = report.refusal.as_ref();
        let mut event =
            Self::event_now(Code::JobEnded).with("outcome", serde_json::json!(report.outcome));
        if let Some(refusal) = refusal {
            event = event
                .with("reason_code", refusal.code.as_str())
                .with("reason", refusal.detail.as_str());
        }
        self.event(event, Some(attempt));
        self.limit_events(attempt, report);
        if let Some(event) = refusal.and_then(reason_event) {
            self.event(event.with("account", account), Some(attempt));
        }
    }

    fn release_slot(&mut self, attempt: AttemptRef, account: &str, dirty: Option<Refusal>) {
        let kept = match &dirty {
            None => self.records.clear_slot(account),
            Some(refusal) => self.quarantine(attempt, account, refusal.clone()),
        };
        if let Err(error) = kept {
            self.operator(&crate::text(&error));
        }
        self.notice_slot(account);
    }

    fn quarantine(
        &mut self,
        attempt: AttemptRef,
        account: &str,
        refusal: Refusal,
    ) -> Result<(), crate::record::RecordError> {
        let event = Self::event_now(Code::SlotQuarantined)
            .with("slot", account)
            .with("reason", refusal.detail.as_str());
        self.event(event, Some(attempt));
        self.quarantined
            .insert(account.to_owned(), (attempt, refusal.clone()));
        let bound = self
            .attempts
            .get(&attempt)
            .and_then(|held| held.bound.clone());
        let Some(bound) = bound else { return Ok(()) };
        self.records.save_slot(&SlotRecord {
            account: account.to_owned(),
            attempt,
            bound,
            timeline: vec![],
            session: None,
            quarantine: Some(refusal),
        })
    }

    /// The session ended without a report: whatever it held is torn down by a process of its own.
    pub(crate) fn session_lost(&mut self, attempt: AttemptRef, why: &str) {
        let Some(held) = self.attempts.get_mut(&attempt) else {
            return;
        };
        if matches!(
            held.stage,
            Stage::Ended { .. } | Stage::TearingDown { .. } | Stage::Unrecorded { .. }
        ) {
            return;
        }
        let refusal = Refusal::new(
            "SESSION_LOST",
            format!("the session's supervisor died: {why}"),
        );
        let report = Report {
            refusal: Some(refusal),
            timeline: held.timeline.clone(),
            ..empty(Outcome::Interrupted)
        };
        let account = held.account.clone();
        held.stage = Stage::TearingDown {
            report: Box::new(report),
            deadline: sys::clock::boottime() + TEARDOWN,
        };
        self.sessions
            .retain(|peer| peer.who != Who::Session(attempt));
        self.event(
            Self::event_now(Code::SessionLost).with("reason", why),
            Some(attempt),
        );
        if let Err(refusal) = self.start_teardown(&account) {
            self.end_torn_down(
                attempt,
                &Swept {
                    leftovers: vec![refusal.to_string()],
                    ..Swept::default()
                },
                None,
            );
        }
    }

    /// A teardown is done: the result of the attempt it was for.
    pub(crate) fn end_torn_down(
        &mut self,
        attempt: AttemptRef,
        swept: &Swept,
        volume: Option<VolumeReport>,
    ) {
        let Some(held) = self.attempts.get_mut(&attempt) else {
            return;
        };
        let Stage::TearingDown { report, .. } = &held.stage else {
            return;
        };
        let mut report = (**report).clone();
        let opened = held
            .timeline
            .iter()
            .any(|step| step.phase == order::Phase::SessionOpen);
        report.processes_killed = swept.processes_killed;
        report.session = opened.then(|| SessionSummary {
            id: String::new(),
            backend: self.backend.name().to_owned(),
            account: held.account.clone(),
            uid: crate::starting::account(&held.account, 1)
                .map(|account| account.uid)
                .unwrap_or(u32::MAX),
            display: "none".to_owned(),
            closed: swept.leftovers.is_empty(),
        });
        report.wipe = Some(crate::wiping::torn_down(swept, volume));
        self.record_report(attempt, report);
    }

    /// A process that mattered has ended.
    pub(crate) fn on_ended(&mut self, what: &Watch) {
        match what {
            Watch::Session(attempt) => {
                self.session_lost(*attempt, "its process ended without a report")
            }
            Watch::Teardown(account) => self.teardown_ended(account),
            Watch::Probe => self.probe_ended("its process ended without a report"),
        }
    }

    /// A teardown that reported is not in any of these places any more.
    fn teardown_ended(&mut self, account: &str) {
        let swept = Swept {
            leftovers: vec!["the teardown ended without a report".to_owned()],
            ..Swept::default()
        };
        let waits = |held: &&Attempt| matches!(held.stage, Stage::TearingDown { .. });
        let attempt = self
            .attempts
            .iter()
            .find(|(_, held)| held.account == account && waits(held))
            .map(|(attempt, _)| *attempt);
        match attempt {
            Some(attempt) => self.end_torn_down(attempt, &swept, None),
            None => self.recovered(account, &swept),
        }
    }

    /// The result is at the orchestrator and the spool is delivered: nothing of the attempt is
    /// needed here any more. The directories are root's before anything in them is removed, by a
    /// worker: an attendant may have filled them.
    pub(crate) fn forget(&mut self, attempt: AttemptRef) -> Result<Reply, Refusal> {
        let failed =
            |error: &dyn std::error::Error| Refusal::new("FORGET_FAILED", crate::text(error));
        for directory in [&self.policy.paths.spool, &self.policy.paths.jobs] {
            let path = directory.join(attempt.to_string());
            take_back(directory, &attempt).map_err(|error| failed(&error))?;
            self.workers.give(Job::Remove { path });
        }
        self.records
            .clear_result(&attempt)
            .map_err(|error| failed(&error))?;
        self.attempts.remove(&attempt);
        Ok(Reply::Done)
    }
}

fn remarks(held: &Attempt, report: &Report) -> Vec<String> {
    let company = held.bound.as_ref().is_some_and(|bound| bound.people);
    let company = company.then(|| crate::logins::REMARK.to_owned());
    let started = held.started.as_ref();
    let weakened = started.map(|started| crate::able::remarks(&started.sandbox));
    company
        .into_iter()
        .chain(weakened.unwrap_or_default())
        .chain(crate::limits::remark(report))
        .collect()
}

/// Makes an attempt's directory root's again, if it is there.
pub(crate) fn take_back(directory: &Path, attempt: &AttemptRef) -> Result<(), sys::beneath::Error> {
    let parent = Dir::open_root(directory, Mounts::Stay)?;
    let own = match parent.open_dir(attempt.to_string()) {
        Err(sys::beneath::Error::Open {
            source: sys::Errno::ENOENT,
            ..
        }) => return Ok(()),
        own => own?,
    };
    own.set_owner(sys::Uid::from_raw(0), sys::Gid::from_raw(0))?;
    own.set_mode(0o700)
}

/// What keeps a slot from being used again.
pub(crate) fn dirt(wipe: Option<&WipeReport>, session: Option<&SessionSummary>) -> Option<Refusal> {
    let wipe = wipe.filter(|wipe| !wipe.complete);
    let session = session.filter(|session| !session.closed);
    match (wipe, session) {
        (Some(wipe), _) => {
            let detail: String = wipe.leftovers.join("; ").chars().take(LONGEST).collect();
            Some(Refusal::new("NOT_PROVEN_CLEAN", detail))
        }
        (None, Some(session)) => Some(Refusal::new(
            "SESSION_NOT_PROVEN_GONE",
            format!("the session of {} is not proven gone", session.account),
        )),
        (None, None) => None,
    }
}

/// A job that ended for a reason of ours has an event that says what to do.
fn reason_event(refusal: &Refusal) -> Option<Event> {
    let code = match refusal.code.as_str() {
        "SESSION_NOT_OPENED"
        | "PAM_REFUSED"
        | "SANDBOX_FAILED"
        | "ACCOUNT_LOCKED"
        | "ACCOUNT_EXPIRED"
        | "ACCOUNT_AGED"
        | "ACCOUNT_IN_USE"
        | "ACCOUNT_UNKNOWN"
        | "ACCOUNT_LINGERS"
        | "ACCOUNT_LOGGED_IN"
        | "HOST_CLOSED"
        | "STARTED_IN_SESSION"
        | "PASSWORD_REFUSED"
        | "LOGIND_UNREACHABLE"
        | "SESSION_LIMIT"
        | "LIMITS_NOT_SET"
        | "NETWORK_FAILED"
        | "EGRESS_FAILED"
        | "VOLUME_FAILED"
        | "VOLUME_BACKEND_MISSING"
        | "VOLUME_STORE_FULL"
        | "VOLUME_STORE_UNSAFE" => Code::SessionOpenRefused,
        "ACCOUNT_MISSING" | "ACCOUNT_NOT_ALLOWED" => Code::AccountRefused,
        "DISPLAY_FAILED" => Code::DisplayFailed,
        "SPOOL_FAILED" => Code::SpoolFailed,
        "LEASE_ENDED" => Code::LeaseEnded,
        _ => return None,
    };
    Some(
        Broker::event_now(code)
            .with("reason_code", refusal.code.as_str())
            .with("reason", refusal.detail.as_str()),
    )
}

pub(crate) fn empty(outcome: Outcome) -> Report {
    Report {
        outcome,
        refusal: None,
        exit_code: None,
        signal: None,
        timeline: vec![],
        secrets: vec![],
        session: None,
        log: order::LogTotals::default(),
        artifacts: vec![],
        screenshots: 0,
        lane_epoch: String::new(),
        lane_last_seq: 0,
        processes_killed: 0,
        usage: None,
        not_enforced: vec![],
        network: None,
        wipe: None,
        sandbox: None,
    }
}
