//! What robotd asks. Each request is checked against the table before anything happens.

use std::os::fd::OwnedFd;

use events::{Code, Event};
use order::{AttemptRef, Challenge, Purpose, Renewal, Sha256Hex, Signed};
use privsep::broker::{Answer, Call, Held, Notice, Reply, Request, SlotState, StopMode};
use privsep::session::ToSession;
use privsep::{Refusal, VERSION};

use crate::attempts::{Attempt, Permit, Stage, subject};
use crate::broker::Broker;
use crate::trust::Trust;

/// Refusals that are told one by one in a minute; the next one told counts the rest.
pub(crate) const REFUSALS_A_MINUTE: u32 = 300;

impl Broker {
    /// One call of robotd with the descriptors that came along.
    pub(crate) fn on_call(&mut self, call: Call, mut fds: Vec<OwnedFd>) {
        let attempt = subject(&call.request);
        let outcome = one_at_most(&fds)
            .and_then(|()| self.permit(&call.request, attempt))
            .and_then(|permit| match permit {
                Permit::Repeat => Ok(self.repeat(&call.request)),
                _ => self.carry_out(&call.request, fds.pop()),
            });
        let reply = outcome.unwrap_or_else(|refusal| {
            self.refused(&call.request, attempt, &refusal);
            Reply::Refused(refusal)
        });
        let synced = matches!(reply, Reply::Held(_));
        self.reply(call.number, reply);
        if synced {
            self.tell_kept_events();
            self.send_results();
            self.tell_wanted();
        }
    }

    fn permit(&self, request: &Request, attempt: Option<AttemptRef>) -> Result<Permit, Refusal> {
        let Some(attempt) = attempt else {
            return Ok(Permit::Go);
        };
        let permit = match (self.attempts.get(&attempt), request) {
            (Some(held), _) => held.stage.permit(request),
            (None, Request::Reserve { .. }) if self.records.was_started(&attempt) => {
                Permit::Refuse("ATTEMPT_STARTED")
            }
            (None, Request::Reserve { .. }) => Permit::Go,
            // The reservation is gone already, or the result was delivered already.
            (None, Request::Cancel { .. } | Request::Forget { .. }) => Permit::Repeat,
            (None, _) if self.records.was_started(&attempt) => Permit::Refuse("ATTEMPT_STARTED"),
            (None, _) => Permit::Refuse("ATTEMPT_UNKNOWN"),
        };
        match permit {
            Permit::Refuse(code) => Err(Refusal::new(
                code,
                format!("attempt {attempt} is not in a state that allows this request"),
            )),
            permit => Ok(permit),
        }
    }

    /// An answer to what was carried out before.
    fn repeat(&self, request: &Request) -> Reply {
        let held = subject(request).and_then(|attempt| self.attempts.get(&attempt));
        match (request, held) {
            (
                Request::Reserve { package, .. },
                Some(Attempt {
                    account,
                    stage: Stage::Reserved { challenge, .. },
                    ..
                }),
            ) => Reply::Reserved {
                account: account.clone(),
                challenge: challenge.0,
                package_cached: self.store.has(package),
            },
            (Request::Start { .. }, Some(held)) => Reply::Started {
                package_needed: matches!(held.stage, Stage::AwaitsPackage),
            },
            _ => Reply::Done,
        }
    }

    fn carry_out(&mut self, request: &Request, fd: Option<OwnedFd>) -> Result<Reply, Refusal> {
        match request {
            Request::Hello { version } => self.hello(*version),
            Request::Sync => Ok(Reply::Held(self.held())),
            Request::KeySet { signed } => self.apply_key_set(signed).map(|_| Reply::Done),
            Request::Reserve {
                attempt,
                account,
                tenant,
                package,
            } => self.reserve(*attempt, account.as_deref(), tenant, package),
            Request::Cancel { attempt } => Ok(self.cancel(attempt)),
            Request::Start {
                attempt,
                key_id,
                signature,
            } => self.start(*attempt, key_id, signature, required(fd)?),
            Request::Package { attempt } => self.take_package(*attempt, required(fd)?),
            Request::PackageFailed { attempt, refusal } => {
                self.end_unlaunched(*attempt, refusal.clone());
                Ok(Reply::Done)
            }
            Request::Renew { attempt, renewal } => self.renew(*attempt, renewal),
            Request::Stop { attempt, mode } => Ok(self.stop(*attempt, *mode)),
            Request::Secret {
                attempt,
                name,
                encapsulated_key,
                ciphertext,
            } => self.pass_secret(*attempt, name, encapsulated_key, ciphertext),
            Request::SecretFailed {
                attempt,
                name,
                refusal,
            } => {
                let message = ToSession::SecretRefused {
                    name: name.clone(),
                    refusal: refusal.clone(),
                };
                self.tell_session(attempt, &message, None);
                self.password_answered(*attempt, name);
                Ok(Reply::Done)
            }
            Request::Forget { attempt } => self.forget(*attempt),
        }
    }

    fn hello(&mut self, version: u32) -> Result<Reply, Refusal> {
        if version != VERSION {
            let detail =
                format!("robotd speaks version {version}, the broker {VERSION}; restart both");
            return Err(Refusal::new("VERSION_MISMATCH", detail));
        }
        Ok(Reply::Welcome {
            version: VERSION,
            result_key: self.keys.result_public(),
            secret_key: self.keys.secret_public(),
            slots: self.slots(),
            abilities: self.abilities.clone(),
            missing: self.missing(),
        })
    }

    fn held(&self) -> Vec<Held> {
        let held = |(attempt, held): (&AttemptRef, &Attempt)| Held {
            attempt: *attempt,
            state: held.held(),
            timeline: held.timeline.clone(),
        };
        self.attempts.iter().map(held).collect()
    }

    fn reserve(
        &mut self,
        attempt: AttemptRef,
        wished: Option<&str>,
        tenant: &str,
        package: &Sha256Hex,
    ) -> Result<Reply, Refusal> {
        self.look_at_clock();
        self.permit_company()?;
        self.permit_host()?;
        self.policy.tenant(tenant)?;
        let account = self.free_slot(wished, tenant)?;
        let challenge = Challenge::generate().map_err(|error| {
            Refusal::new(
                "NO_RANDOMNESS",
                format!("no random bytes from the kernel: {error}"),
            )
        })?;
        let stage = Stage::Reserved {
            challenge,
            since: sys::clock::boottime(),
        };
        let held = Attempt {
            account: account.clone(),
            stage,
            package: Some(*package),
            timeline: vec![],
            started: None,
            bound: None,
            wants_password: false,
        };
        self.attempts.insert(attempt, held);
        self.notice_slot(&account);
        Ok(Reply::Reserved {
            account,
            challenge: challenge.0,
            package_cached: self.store.has(package),
        })
    }

    fn free_slot(&self, wished: Option<&str>, tenant: &str) -> Result<String, Refusal> {
        if let Some(name) = wished
            && self.policy.slot(name).is_none()
        {
            let detail =
                format!("account {name:?} is not in this host's policy; add a [[slot]] for it");
            return Err(Refusal::new("ACCOUNT_NOT_ALLOWED", detail));
        }
        let slots = self.slots();
        let mut fitting = slots
            .into_iter()
            .filter(|slot| wished.is_none_or(|name| slot.account == name))
            .peekable();
        if fitting.peek().is_none() {
            return Err(Refusal::new(
                "NO_SLOT",
                "this host's policy has no [[slot]]; without one it takes no job",
            ));
        }
        // The order decides; but a slot that it would be refused is not chosen for it.
        let mut refused = None;
        let all: Vec<_> = fitting
            .filter(|slot| match self.serves(tenant, &slot.account) {
                Ok(()) => true,
                Err(refusal) => {
                    refused = Some(refusal);
                    false
                }
            })
            .collect();
        if let Some(refusal) = refused.filter(|_| all.is_empty()) {
            return Err(refusal);
        }
        let free: Vec<_> = all
            .iter()
            .filter(|slot| slot.state == SlotState::Free)
            // What a job before it asked for, and gave up, may still be done to the account.
            .filter(|slot| !self.closings.contains_key(&slot.account))
            .collect();
        match free
            .iter()
            .find(|slot| self.intruder(&slot.account).is_none())
        {
            Some(slot) => Ok(slot.account.clone()),
            None if let Some(login) =
                free.first().and_then(|slot| self.intruder(&slot.account)) =>
            {
                let detail = format!(
                    "account {} is logged in: {login}; bot accounts are for jobs only",
                    login.user
                );
                Err(Refusal::new("ACCOUNT_LOGGED_IN", detail))
            }
            None if all
                .iter()
                .all(|slot| matches!(slot.state, SlotState::Quarantined(_))) =>
            {
                let detail = "every fitting slot is in quarantine; see `robotctl slot list`";
                Err(Refusal::new("NO_CLEAN_SLOT", detail))
            }
            None => Err(Refusal::new("NO_FREE_SLOT", "every fitting slot is in use")),
        }
    }

    fn cancel(&mut self, attempt: &AttemptRef) -> Reply {
        if let Some(held) = self.attempts.remove(attempt) {
            self.notice_slot(&held.account);
        }
        Reply::Done
    }

    fn renew(&mut self, attempt: AttemptRef, signed: &Signed) -> Result<Reply, Refusal> {
        let outcome = self.check_renewal(attempt, signed);
        let until = outcome.inspect_err(|refusal| {
            // Told apart from other refusals: it is an attempt to stretch a job.
            eprintln!("robotd-broker: renewal for {attempt}: {refusal}");
        })?;
        // A broker that restarts must not shorten what was renewed.
        self.save_slot(attempt);
        self.tell_session(
            &attempt,
            &ToSession::LeaseUntil { boottime_ns: until },
            None,
        );
        Ok(Reply::Done)
    }

    fn check_renewal(&mut self, attempt: AttemptRef, signed: &Signed) -> Result<u64, Refusal> {
        let trust = Trust::read(&self.policy.paths)?;
        let refuse = |code: &str, why: &str| Refusal::new(code, format!("the renewal {why}"));
        let key = trust.key(&signed.key_id, sys::clock::unix_ms());
        let key = key
            .map_err(|reason| refuse(&format!("RENEWAL_KEY_{}", reason.suffix()), reason.why()))?;
        if !key.accepts(Purpose::Renewal, signed) {
            return Err(refuse(
                "RENEWAL_SIGNATURE_INVALID",
                "does not match its signature",
            ));
        }
        let renewal: Renewal = serde_json::from_slice(&signed.body)
            .map_err(|error| refuse("RENEWAL_MALFORMED", &format!("can't be read: {error}")))?;
        let bound = self
            .attempts
            .get_mut(&attempt)
            .and_then(|held| held.bound.as_mut());
        let bound = bound.ok_or_else(|| {
            refuse(
                "ATTEMPT_NOT_STARTED",
                "is for an attempt that is not started",
            )
        })?;
        let same = renewal.v == 1
            && renewal.attempt == attempt
            && renewal.agent == trust.agent
            && renewal.lease == bound.license.lease
            && renewal.fence == bound.license.fence;
        if !same {
            return Err(refuse(
                "RENEWAL_MISMATCH",
                "is for another lease, attempt or host",
            ));
        }
        let now = nanos(sys::clock::boottime());
        if renewal.ticks_ns > now {
            return Err(refuse(
                "RENEWAL_FROM_FUTURE",
                "counts from a moment that has not come",
            ));
        }
        if renewal.ticks_ns < bound.renewed_ticks_ns {
            return Err(refuse(
                "RENEWAL_OUTDATED",
                "is older than one that was taken before",
            ));
        }
        bound.renewed_ticks_ns = renewal.ticks_ns;
        let until = renewal
            .ticks_ns
            .saturating_add(renewal.ttl_ms.saturating_mul(1_000_000));
        // Late and repeated renewals never shorten; the hard end is never passed.
        bound.lease_until_ns = bound.lease_until_ns.max(until).min(bound.hard_end_ns);
        bound.license.until_unix_ms = wall_ms(bound.lease_until_ns);
        Ok(bound.lease_until_ns)
    }

    pub(crate) fn stop(&mut self, attempt: AttemptRef, mode: StopMode) -> Reply {
        let unlaunched = self
            .attempts
            .get(&attempt)
            .is_some_and(|held| matches!(held.stage, Stage::AwaitsPackage));
        if unlaunched {
            self.end_unlaunched(
                attempt,
                Refusal::new("STOPPED", "the job was stopped before its package arrived"),
            );
        } else if !self.tell_session(&attempt, &ToSession::Stop(mode), None) {
            // Not connected yet: it is told when it calls.
            if let Some(bound) = self
                .attempts
                .get_mut(&attempt)
                .and_then(|held| held.bound.as_mut())
            {
                bound.stop = Some(mode);
            }
            self.save_slot(attempt);
        }
        Reply::Done
    }

    fn pass_secret(
        &mut self,
        attempt: AttemptRef,
        name: &str,
        key: &[u8],
        sealed: &[u8],
    ) -> Result<Reply, Refusal> {
        let held = self.attempts.get(&attempt);
        held.map_or(Ok(()), |held| held.grants_secret(name))?;
        let value = self.keys.open_secret(&attempt, name, key, sealed)?;
        if !self.tell_session(
            &attempt,
            &ToSession::Secret {
                name: name.to_owned(),
            },
            Some(&value),
        ) {
            return Err(Refusal::new(
                "ATTEMPT_NOT_RUNNING",
                "the session is not connected",
            ));
        }
        self.password_answered(attempt, name);
        self.event(
            Self::event_now(Code::SecretRead).with("secret", name),
            Some(attempt),
        );
        Ok(Reply::Done)
    }

    fn refused(&mut self, request: &Request, attempt: Option<AttemptRef>, refusal: &Refusal) {
        let code = match request {
            Request::Start { .. } => Code::OrderRefused,
            Request::Package { .. } => Code::PackageRefused,
            Request::Renew { .. } => Code::RenewalRefused,
            Request::Secret { .. } => Code::SecretRefused,
            Request::Reserve { .. } if refusal.code == "ACCOUNT_NOT_ALLOWED" => {
                Code::AccountRefused
            }
            Request::Reserve { .. } if refusal.code.ends_with("_OF_TENANT") => Code::RequestRefused,
            Request::Reserve { .. } if refusal.code == "TENANT_NOT_ALLOWED" => Code::RequestRefused,
            // Busy is no matter of security.
            Request::Reserve { .. } => return,
            // It has an event of its own.
            Request::KeySet { .. } => return,
            _ => Code::RequestRefused,
        };
        let mut event = Self::event_now(code)
            .with("reason_code", refusal.code.as_str())
            .with("reason", refusal.detail.as_str());
        match request {
            Request::Secret { name, .. } => event = event.with("secret", name.as_str()),
            Request::Reserve {
                account: Some(account),
                ..
            } => event = event.with("account", account.as_str()),
            _ => {}
        }
        self.bounded_event(event, attempt);
    }

    /// An event that robotd can cause as often as it likes.
    pub(crate) fn bounded_event(&mut self, event: Event, attempt: Option<AttemptRef>) {
        match self.refusals.take() {
            Some(0) => self.event(event, attempt),
            Some(more) => self.event(event.with("more", more), attempt),
            None => {}
        }
    }

    /// Every signed result that robotd has not had acknowledged yet.
    pub(crate) fn send_results(&mut self) {
        let ended = self
            .attempts
            .iter()
            .filter_map(|(attempt, held)| match &held.stage {
                Stage::Ended { result } => Some((*attempt, result.clone())),
                _ => None,
            });
        for (attempt, result) in ended.collect::<Vec<_>>() {
            self.send_result(attempt, &result);
        }
    }

    pub(crate) fn send_result(&mut self, attempt: AttemptRef, result: &Signed) {
        let notice = Notice::Ended {
            attempt,
            key_id: result.key_id.clone(),
            signature: result.signature.clone(),
        };
        self.answer(&Answer::Notice(notice), Some(&result.body));
    }
}

/// No request takes more than one: whatever else comes along has nothing to do here.
fn one_at_most(fds: &[OwnedFd]) -> Result<(), Refusal> {
    if fds.len() <= 1 {
        return Ok(());
    }
    let detail = format!(
        "{} descriptors came with a request, one at most is taken",
        fds.len()
    );
    Err(Refusal::new("DESCRIPTORS_TOO_MANY", detail))
}

fn required(fd: Option<OwnedFd>) -> Result<OwnedFd, Refusal> {
    fd.ok_or_else(|| {
        Refusal::new(
            "DESCRIPTOR_MISSING",
            "the request needs a descriptor and came without one",
        )
    })
}

/// A moment of CLOCK_BOOTTIME on the wall clock as it is now, for people.
pub(crate) fn wall_ms(boottime_ns: u64) -> u64 {
    let (now, wall) = (nanos(sys::clock::boottime()), sys::clock::unix_ms());
    let ahead = boottime_ns.saturating_sub(now) / 1_000_000;
    let behind = now.saturating_sub(boottime_ns) / 1_000_000;
    wall.saturating_add(ahead).saturating_sub(behind)
}

/// Nanoseconds of a clock; 584 years fit.
pub(crate) fn nanos(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
