//! What sessions and teardowns say.

use std::os::fd::AsFd as _;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use events::Code;
use order::{AttemptRef, Phase, PhaseAt, VolumeBackend, VolumeReport};
use privsep::broker::Notice;
use privsep::session::{FromSession, NoticeKind, Resources, Spec, Swept, Teardown, ToSession};
use privsep::{Refusal, encode};
use sys::process::{Process, start_time};

use crate::attempts::Stage;
use crate::broker::{Broker, Watch, Watched, Who};
use crate::launch::systemd_runs;
use crate::record::{RecordError, SessionProcess, SlotRecord};
use crate::starting::account;
use crate::work::Job;

impl Broker {
    /// One message of the peer at this place in the list. `Err` ends its connection.
    pub(crate) fn on_session(&mut self, at: usize, message: FromSession) -> Result<(), Refusal> {
        let (who, pid) = (self.sessions[at].who.clone(), self.sessions[at].pid);
        match (who, message) {
            (Who::Unknown, FromSession::Hello { attempt, timeline }) => {
                self.session_hello(at, pid, attempt, timeline)
            }
            (Who::Unknown, FromSession::TeardownHello { account }) => {
                self.teardown_hello(at, pid, &account)
            }
            (Who::Unknown, FromSession::ProbeHello) => self.probe_hello(at, pid),
            (Who::Probe, FromSession::Abilities(abilities)) => self.probed(at, abilities),
            (Who::Session(attempt), FromSession::Phase(step)) => {
                self.session_step(attempt, step);
                Ok(())
            }
            (Who::Session(attempt), FromSession::Notice { kind, refusal }) => {
                self.session_notice(attempt, kind, &refusal);
                Ok(())
            }
            (Who::Session(attempt), FromSession::VolumeChosen(backend)) => {
                self.volume_chosen(attempt, backend);
                Ok(())
            }
            (Who::Session(attempt), FromSession::NetworkRefused(denial)) => {
                self.network_refused(attempt, &denial);
                Ok(())
            }
            (Who::Session(attempt), FromSession::PasswordWanted) => self.want_password(attempt),
            (Who::Session(attempt), FromSession::LimitsWanted(wanted)) => {
                self.bound_user(attempt, wanted)
            }
            (Who::Session(attempt), FromSession::CloseUser) => self.close_user_of(&attempt),
            (Who::Session(attempt), FromSession::Report(report)) => {
                if self.record_report(attempt, *report) {
                    self.tell_session(&attempt, &ToSession::Recorded, None);
                }
                Ok(())
            }
            (Who::Over(_), FromSession::Report(_)) => self.say_recorded(at),
            (
                Who::Over(_),
                FromSession::Phase(_) | FromSession::Notice { .. } | FromSession::NetworkRefused(_),
            ) => Ok(()),
            (Who::Teardown(account), FromSession::CloseUser) => {
                self.close_user(account.clone(), None, Who::Teardown(account))
            }
            (Who::Teardown(account), FromSession::TornDown { swept, volume }) => {
                self.torn_down(&account, &swept, volume);
                self.answer_teardown(&account, &ToSession::Recorded);
                Ok(())
            }
            _ => Err(Refusal::new(
                "OUT_OF_PHASE",
                "a message that is not allowed at this point",
            )),
        }
    }

    fn session_hello(
        &mut self,
        at: usize,
        pid: i32,
        attempt: AttemptRef,
        timeline: Option<Vec<PhaseAt>>,
    ) -> Result<(), Refusal> {
        let unexpected = || {
            Refusal::new(
                "SESSION_UNEXPECTED",
                format!("no session is awaited for attempt {attempt}"),
            )
        };
        if timeline.is_some() && self.is_over(&attempt) {
            // Its report was written down by the broker before this one: let it go.
            self.sessions[at].who = Who::Over(attempt);
            return self.say_recorded(at);
        }
        let watch = Watch::Session(attempt);
        let unit = format!("robotd-session@{attempt}.service");
        let process = self.own_process(pid, &unit, &watch)?;
        let held = self.attempts.get_mut(&attempt).ok_or_else(unexpected)?;
        match &mut held.stage {
            Stage::Launching { ready, .. } if timeline.is_none() => {
                let ready = ready.take().ok_or_else(unexpected)?;
                let process_of = process.clone();
                held.stage = Stage::Running {
                    process: process_of,
                };
                // On the disk before it learns what to run: a broker that restarts in between
                // takes it for the session that it is.
                if let Err(error) = self.watch_session(attempt, process) {
                    let refusal = Refusal::new("STATE_NOT_DURABLE", crate::text(&error));
                    self.end_unlaunched(attempt, refusal.clone());
                    return Err(refusal);
                }
                if self.runs(&attempt) {
                    self.begin_session(at, attempt, &ready)
                } else {
                    Ok(())
                }
            }
            Stage::Running { process: known } if timeline.is_some() && *known == process => {
                // The broker's own steps come before the session's first.
                held.timeline
                    .retain(|step| step.phase <= Phase::PackageReady);
                held.timeline.extend(timeline.into_iter().flatten());
                self.sessions[at].who = Who::Session(attempt);
                // It is on the disk since its first call.
                let _ = self.watch_session(attempt, process);
                self.catch_up(&attempt);
                Ok(())
            }
            _ => Err(unexpected()),
        }
    }

    /// The session waits for the answer before anything of its bot runs.
    fn bound_user(&mut self, attempt: AttemptRef, wanted: Resources) -> Result<(), Refusal> {
        let uid = account(&self.account_of(&attempt), 1000)?.uid;
        self.workers.give(Job::BoundUser {
            attempt,
            uid,
            wanted: Box::new(wanted),
        });
        Ok(())
    }

    fn say_recorded(&self, at: usize) -> Result<(), Refusal> {
        let told = crate::broker::send(
            &self.sessions[at].socket,
            &encode(&ToSession::Recorded),
            None,
        );
        told.map_err(|problem| Refusal::new("MESSAGE_MALFORMED", problem))
    }

    /// Whether the attempt's result is on the disk, or was delivered and forgotten.
    fn is_over(&self, attempt: &AttemptRef) -> bool {
        match self.attempts.get(attempt).map(|held| &held.stage) {
            Some(Stage::Ended { .. }) => true,
            Some(_) => false,
            None => self.records.was_started(attempt),
        }
    }

    fn begin_session(
        &mut self,
        at: usize,
        attempt: AttemptRef,
        ready: &crate::store::Ready,
    ) -> Result<(), Refusal> {
        let spec = self.spec(attempt, ready);
        let begun = spec.and_then(|spec| {
            let dirs = crate::recovery::attempt_directories(&self.policy, &spec)?;
            send_spec(
                &self.sessions[at].socket,
                &spec,
                [dirs.spool.as_fd(), dirs.socket.as_fd()],
            )
        });
        match begun {
            Ok(()) => {
                self.sessions[at].who = Who::Session(attempt);
                self.catch_up(&attempt);
                Ok(())
            }
            Err(refusal) => {
                self.end_unlaunched(attempt, refusal.clone());
                Err(refusal)
            }
        }
    }

    /// What a session could not be told while it was not connected.
    fn catch_up(&mut self, attempt: &AttemptRef) {
        let bound = self
            .attempts
            .get_mut(attempt)
            .and_then(|held| held.bound.as_mut());
        let Some(bound) = bound else { return };
        let (until, stop) = (bound.lease_until_ns, bound.stop.take());
        self.tell_session(attempt, &ToSession::LeaseUntil { boottime_ns: until }, None);
        if let Some(mode) = stop
            && !self.tell_session(attempt, &ToSession::Stop(mode), None)
            && let Some(bound) = self
                .attempts
                .get_mut(attempt)
                .and_then(|held| held.bound.as_mut())
        {
            // It is told when it calls again.
            bound.stop = Some(mode);
        }
    }

    /// The peer is root already; it must also be the very process that was started.
    pub(crate) fn own_process(
        &self,
        pid: i32,
        unit: &str,
        what: &Watch,
    ) -> Result<SessionProcess, Refusal> {
        let foreign = || {
            Refusal::new(
                "SESSION_FOREIGN",
                format!("process {pid} is not the one that was started"),
            )
        };
        let start = start_time(sys::Pid::from_raw(pid)).map_err(|_| foreign())?;
        if systemd_runs() {
            let path = sys::cgroup::path_of(sys::Pid::from_raw(pid)).map_err(|_| foreign())?;
            if path.file_name().is_none_or(|name| name != unit) {
                return Err(foreign());
            }
        } else if !self
            .watched
            .iter()
            .any(|own| own.what == *what && own.process.pid().as_raw() == pid)
        {
            return Err(foreign());
        }
        Ok(SessionProcess {
            pid,
            start_ticks: start.0,
            boot_id: crate::recovery::boot_id(),
        })
    }

    fn runs(&self, attempt: &AttemptRef) -> bool {
        let stage = self.attempts.get(attempt).map(|held| &held.stage);
        matches!(stage, Some(Stage::Running { .. }))
    }

    fn watch_session(
        &mut self,
        attempt: AttemptRef,
        process: SessionProcess,
    ) -> Result<(), RecordError> {
        let what = Watch::Session(attempt);
        self.keep_slot(attempt)?;
        if self.watched.iter().any(|watched| watched.what == what) {
            return Ok(());
        }
        match Process::open(sys::Pid::from_raw(process.pid)) {
            Ok(process) => self.watched.push(Watched {
                process,
                what,
                child: false,
            }),
            Err(_) => self.session_lost(attempt, "it ended right after it had called"),
        }
        Ok(())
    }

    fn session_step(&mut self, attempt: AttemptRef, step: PhaseAt) {
        self.step(attempt, step);
        let account = self
            .attempts
            .get(&attempt)
            .map(|held| held.account.clone())
            .unwrap_or_default();
        if step.phase == Phase::SessionOpen {
            let event = Self::event_now(Code::SessionOpened)
                .with("account", account)
                .with("backend", self.backend.name());
            self.event(event, Some(attempt));
        }
    }

    fn session_notice(&mut self, attempt: AttemptRef, kind: NoticeKind, refusal: &Refusal) {
        let code = match kind {
            NoticeKind::AttendantLost => Code::AttendantLost,
            NoticeKind::ArtifactRefused => Code::ArtifactRefused,
            NoticeKind::EgressLost => Code::EgressLost,
            NoticeKind::LookedOn => Code::ScreenWatchBegan,
            NoticeKind::LooksNoMore => Code::ScreenWatchEnded,
        };
        let event = match kind {
            NoticeKind::LookedOn | NoticeKind::LooksNoMore => {
                Self::event_now(code).with("user", refusal.detail.as_str())
            }
            _ => Self::event_now(code)
                .with("reason_code", refusal.code.as_str())
                .with("reason", refusal.detail.as_str()),
        };
        self.event(event, Some(attempt));
    }

    /// How often a job can make this an event is bounded by its egress and its session.
    fn network_refused(&mut self, attempt: AttemptRef, denial: &privsep::egress::Denial) {
        let event = Self::event_now(Code::NetworkRefused)
            .with("asked", denial.asked.as_str())
            .with("count", denial.count)
            .with("reason_code", denial.code.as_str())
            .with("reason", denial.reason.as_str());
        self.event(event, Some(attempt));
    }

    /// robotd fetches it as it fetches what a bot asks for, sealed to this broker.
    fn want_password(&mut self, attempt: AttemptRef) -> Result<(), Refusal> {
        let held = self.attempts.get_mut(&attempt);
        let wanted = held.and_then(|held| {
            held.wants_password = true;
            held.bound.as_ref()?.account_secret.clone()
        });
        let name = wanted.ok_or_else(|| {
            Refusal::new(
                "SECRET_NOT_GRANTED",
                "the order names no password of its account",
            )
        })?;
        self.notice(Notice::SecretWanted { attempt, name });
        Ok(())
    }

    /// The session has its answer, or will not get one.
    pub(crate) fn password_answered(&mut self, attempt: AttemptRef, name: &str) {
        if let Some(held) = self.attempts.get_mut(&attempt)
            && held
                .bound
                .as_ref()
                .is_some_and(|bound| bound.account_secret.as_deref() == Some(name))
        {
            held.wants_password = false;
        }
    }

    /// What sessions wait for and robotd may not have heard.
    pub(crate) fn tell_wanted(&mut self) {
        let wanted = self.attempts.iter().filter_map(|(attempt, held)| {
            let name = held.bound.as_ref()?.account_secret.clone()?;
            held.wants_password.then_some((*attempt, name))
        });
        for (attempt, name) in wanted.collect::<Vec<_>>() {
            self.notice(Notice::SecretWanted { attempt, name });
        }
    }

    /// Writes the slot's state down, as it is now; a full disk is the operator's matter.
    pub(crate) fn save_slot(&mut self, attempt: AttemptRef) {
        if let Err(error) = self.keep_slot(attempt) {
            self.operator(&crate::text(&error));
        }
    }

    fn keep_slot(&mut self, attempt: AttemptRef) -> Result<(), RecordError> {
        let Some(held) = self.attempts.get(&attempt) else {
            return Ok(());
        };
        let session = match &held.stage {
            Stage::Running { process } => Some(process.clone()),
            _ => None,
        };
        let Some(bound) = held.bound.clone() else {
            return Ok(());
        };
        self.records.save_slot(&SlotRecord {
            account: held.account.clone(),
            attempt,
            bound,
            timeline: held.timeline.clone(),
            session,
            quarantine: None,
        })
    }

    fn teardown_hello(&mut self, at: usize, pid: i32, name: &str) -> Result<(), Refusal> {
        self.own_process(
            pid,
            &format!("robotd-teardown@{name}.service"),
            &Watch::Teardown(name.to_owned()),
        )?;
        let unknown = || {
            Refusal::new(
                "ACCOUNT_NOT_ALLOWED",
                format!("{name:?} is no slot of this host's policy"),
            )
        };
        let slot = self.policy.slot(name).ok_or_else(unknown)?;
        let using = self
            .attempts
            .iter()
            .find(|(_, held)| held.account == name && held.holds_slot());
        let attempt = using.map(|(attempt, held)| (*attempt, &held.stage));
        let expected = match attempt {
            Some((_, stage)) => matches!(stage, Stage::TearingDown { .. }),
            None => self.quarantined.contains_key(name),
        };
        if !expected {
            // One that was given up calls late: the slot is another job's, or clean.
            let detail = format!("slot {name} is not being torn down");
            return Err(Refusal::new("OUT_OF_PHASE", detail));
        }
        let attempt = attempt.map(|(attempt, _)| attempt);
        let bound = attempt.and_then(|attempt| self.attempts.get(&attempt)?.bound.as_ref());
        let volume = bound.and_then(|bound| bound.volume);
        let session = self.lost_session(name);
        let teardown = Teardown {
            account: account(&slot.account, 1000)?,
            attendant: account(&slot.attendant, 1)?,
            egress: slot
                .egress
                .as_deref()
                .map(|name| account(name, 1))
                .transpose()?,
            backend: self.backend,
            attempt: attempt.or_else(|| self.quarantined.get(name).map(|(attempt, _)| *attempt)),
            volume,
            volume_store: self.policy.volume.store.display().to_string(),
            session: session
                .filter(|known| crate::recovery::alive(known).is_some())
                .map(|known| (known.pid, known.start_ticks)),
        };
        self.watch_teardown(pid, name);
        self.sessions[at].who = Who::Teardown(name.to_owned());
        self.answer_teardown(name, &ToSession::Teardown(teardown));
        Ok(())
    }

    /// The session of a slot as it was last written down; its monitor may still live.
    fn lost_session(&self, account: &str) -> Option<SessionProcess> {
        let slots = self.records.slots().ok()?;
        slots
            .into_iter()
            .find(|slot| slot.account == account)?
            .session
    }

    fn watch_teardown(&mut self, pid: i32, account: &str) {
        let what = Watch::Teardown(account.to_owned());
        if self.watched.iter().any(|watched| watched.what == what) {
            return;
        }
        match Process::open(sys::Pid::from_raw(pid)) {
            Ok(process) => self.watched.push(Watched {
                process,
                what,
                child: false,
            }),
            Err(_) => self.on_ended(&what),
        }
    }

    pub(crate) fn answer_teardown(&mut self, account: &str, message: &ToSession) {
        let peer = self
            .sessions
            .iter()
            .find(|peer| peer.who == Who::Teardown(account.to_owned()));
        let Some(peer) = peer else { return };
        if let Err(problem) = crate::broker::send(&peer.socket, &encode(message), None) {
            self.operator(&format!("teardown of {account}: {problem}"));
        }
    }

    /// On the disk when it matters: a teardown after this broker's own end has to know.
    fn volume_chosen(&mut self, attempt: AttemptRef, backend: VolumeBackend) {
        let held = self.attempts.get_mut(&attempt);
        if let Some(bound) = held.and_then(|held| held.bound.as_mut()) {
            bound.volume = Some(backend);
            self.save_slot(attempt);
        }
    }

    fn torn_down(&mut self, account: &str, swept: &Swept, volume: Option<VolumeReport>) {
        let using = self
            .attempts
            .iter()
            .find(|(_, held)| held.account == *account && held.holds_slot());
        match using.map(|(attempt, _)| *attempt) {
            Some(attempt) => self.end_torn_down(attempt, swept, volume),
            None => self.recovered(account, swept),
        }
    }
}

fn send_spec(
    socket: &sys::fdpass::Seqpacket,
    spec: &Spec,
    dirs: [BorrowedFd<'_>; 2],
) -> Result<(), Refusal> {
    let failed = |problem: String| Refusal::new("SESSION_PROGRAM_FAILED", problem);
    let bytes = privsep::encode_document(spec).map_err(|error| failed(crate::text(&error)))?;
    let document: OwnedFd =
        sys::memfd::sealed(c"robotd-spec", &bytes).map_err(|error| failed(crate::text(&error)))?;
    let packet = encode(&ToSession::Spec).map_err(|error| failed(crate::text(&error)))?;
    let [spool, socket_dir] = dirs;
    socket
        .try_send(&packet, &[document.as_fd(), spool, socket_dir])
        .map_err(|error| failed(crate::text(&error)))
}
