//! From a signed order to a running session: verify, permit, commit, package, launch.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use events::Code;
use order::{
    AttemptRef, Expectation, KeyId, LicenseTimes, MAX_BODY, Order, Phase, Sha256Hex, Signed,
};
use privsep::Refusal;
use privsep::broker::Reply;
use privsep::session::{Account, Screenshots, Spec};
use sha2::{Digest as _, Sha256};

use crate::agent_calls::{nanos, wall_ms};
use crate::attempts::{Bound, Stage, Started};
use crate::broker::Broker;
use crate::launch::systemd_runs;
use crate::policy::{Network, OnLoss, permit_order, permitted, resources};
use crate::record::{RecordError, SlotRecord};
use crate::store::{Ready, Wanted};
use crate::trust::{NoKey, Trust};
use crate::work::Job;

/// A session that was started calls within this time, also on a host under load.
pub(crate) const LAUNCH: Duration = Duration::from_secs(60);

impl Broker {
    /// Verifies and commits an order. When this returns `Started`, the attempt is on the disk
    /// and never starts again.
    pub(crate) fn start(
        &mut self,
        attempt: AttemptRef,
        key_id: &KeyId,
        signature: &[u8],
        document: OwnedFd,
    ) -> Result<Reply, Refusal> {
        let body = sys::memfd::read_sealed(document.as_fd(), MAX_BODY)
            .map_err(|error| Refusal::new("ORDER_NOT_SEALED", crate::text(&error)))?;
        let signed = Signed {
            body,
            key_id: key_id.clone(),
            signature: signature.to_vec(),
        };
        self.look_at_clock();
        let (order, agent) = self.verify(attempt, &signed)?;
        let account = self
            .attempts
            .get(&attempt)
            .map(|held| held.account.clone())
            .unwrap_or_default();
        let network = permit_order(&self.policy, &order, &account)?;
        self.serves(&order.tenant, &account)?;
        let sandbox = self.policy.sandbox.permit(&order.profiles.sandbox)?;
        // Somebody may have come since the reservation.
        self.permit_company()?;
        self.permit_host()?;
        let bound = Bound {
            people: self.has_company(),
            ..bind(&order, &signed)?
        };
        self.agent_id = Some(agent);
        self.fences.take(agent, &order.lease)?;
        self.give_slot(&account, &order.tenant)?;
        self.commit(attempt, &account, &bound)?;
        let package_needed = !self.store.has(&order.package);
        if let Some(held) = self.attempts.get_mut(&attempt) {
            held.package = Some(order.package);
            held.started = Some(Started {
                order,
                network,
                sandbox: sandbox.clone(),
            });
            held.bound = Some(bound);
            held.stage = Stage::AwaitsPackage;
        }
        self.event(
            Self::event_now(Code::JobStarted).with("account", account.as_str()),
            Some(attempt),
        );
        self.tell_weakened(attempt, &sandbox);
        self.tell_of_network(attempt, &account);
        if !package_needed {
            self.take_in(attempt, None)?;
        }
        Ok(Reply::Started { package_needed })
    }

    fn verify(
        &self,
        attempt: AttemptRef,
        signed: &Signed,
    ) -> Result<(Order, order::AgentId), Refusal> {
        let trust = Trust::read(&self.policy.paths)?;
        let now_unix_ms = sys::clock::unix_ms();
        if let Err(reason @ (NoKey::Revoked | NoKey::Expired)) =
            trust.key(&signed.key_id, now_unix_ms)
        {
            let code = format!("ORDER_KEY_{}", reason.suffix());
            return Err(Refusal::new(&code, format!("the order {}", reason.why())));
        }
        let challenge = self
            .attempts
            .get(&attempt)
            .and_then(|held| match &held.stage {
                Stage::Reserved { challenge, .. } => Some(*challenge),
                _ => None,
            });
        let expected = Expectation {
            keys: &trust.keys_at(now_unix_ms),
            agent: trust.agent,
            attempt,
            challenge,
            now_unix_ms,
        };
        let order = order::verify(signed, &expected);
        Ok((
            order.map_err(|error| Refusal::new(error.code(), error.to_string()))?,
            trust.agent,
        ))
    }

    fn commit(&mut self, attempt: AttemptRef, account: &str, bound: &Bound) -> Result<(), Refusal> {
        let slot = SlotRecord {
            account: account.to_owned(),
            attempt,
            bound: bound.clone(),
            timeline: vec![],
            session: None,
            quarantine: None,
        };
        let refuse = |error: RecordError| Refusal::new("STATE_NOT_DURABLE", crate::text(&error));
        self.records.commit_start(&slot).map_err(refuse)
    }

    /// The package that robotd brings for an attempt that awaits it.
    pub(crate) fn take_package(
        &mut self,
        attempt: AttemptRef,
        archive: OwnedFd,
    ) -> Result<Reply, Refusal> {
        self.take_in(attempt, Some(archive)).map(|()| Reply::Done)
    }

    /// Hands the package to the worker: from the archive, or from the store to check it again.
    fn take_in(&mut self, attempt: AttemptRef, archive: Option<OwnedFd>) -> Result<(), Refusal> {
        let held = self.attempts.get_mut(&attempt);
        let Some((held, started)) =
            held.and_then(|held| Some((&mut held.stage, held.started.as_ref()?)))
        else {
            return Err(Refusal::new(
                "PACKAGE_NOT_AWAITED",
                "the attempt awaits no package",
            ));
        };
        let wanted = Wanted {
            attempt,
            digest: started.order.package,
            publisher: started.order.publisher.clone(),
            entry: started.order.entry.clone(),
        };
        *held = Stage::TakingIn;
        self.workers.give(Job::TakeIn {
            store: Box::new(self.store.clone()),
            wanted,
            archive,
        });
        Ok(())
    }

    /// The worker is done with a package.
    pub(crate) fn package_taken(&mut self, attempt: AttemptRef, taken: Result<Ready, Refusal>) {
        let taking_in = self
            .attempts
            .get(&attempt)
            .is_some_and(|held| matches!(held.stage, Stage::TakingIn));
        if !taking_in {
            return;
        }
        match taken {
            Ok(ready) => {
                self.tidy_soon();
                self.step_now(attempt, Phase::PackageReady);
                self.launch(attempt, ready);
            }
            Err(refusal) => {
                let event = Self::event_now(Code::PackageRefused)
                    .with("reason_code", refusal.code.as_str())
                    .with("reason", refusal.detail.as_str());
                self.event(event, Some(attempt));
                self.end_unlaunched(attempt, refusal);
            }
        }
    }

    /// A license that ended while the package was fetched starts nothing: finishing in spite of a
    /// lost lease is for jobs that run.
    fn launch(&mut self, attempt: AttemptRef, ready: Ready) {
        let now = nanos(sys::clock::boottime());
        let bound = self
            .attempts
            .get(&attempt)
            .and_then(|held| held.bound.as_ref());
        if bound.is_some_and(|bound| bound.lease_until_ns <= now) {
            let detail = "the license lease ended before the job could be started";
            self.end_unlaunched(attempt, Refusal::new("LEASE_ENDED", detail));
            return;
        }
        if let Some(held) = self.attempts.get_mut(&attempt) {
            // The wait for a busy bus does not count: systemd is asked first, then the clock runs.
            let by_systemd = held.hard_end().filter(|_| systemd_runs());
            let deadline = by_systemd.unwrap_or(sys::clock::boottime() + LAUNCH);
            held.stage = Stage::Launching {
                ready: Some(ready),
                deadline,
            };
        }
        if let Err(refusal) = self.start_session(attempt) {
            self.end_unlaunched(attempt, refusal);
        }
    }

    /// What a session is told to run: policy and order together, nothing from robotd.
    pub(crate) fn spec(&self, attempt: AttemptRef, ready: &Ready) -> Result<Spec, Refusal> {
        let missing = || {
            Refusal::new(
                "ATTEMPT_UNKNOWN",
                format!("attempt {attempt} is not started"),
            )
        };
        let held = self.attempts.get(&attempt).ok_or_else(missing)?;
        let (
            Started {
                order,
                network,
                sandbox,
            },
            bound,
        ) = held
            .started
            .as_ref()
            .zip(held.bound.as_ref())
            .ok_or_else(missing)?;
        let slot = self.policy.slot(&held.account).ok_or_else(missing)?;
        let interpreter =
            crate::policy::interpreter(&self.policy, &order.entry, ready.entry_executable)?;
        Ok(Spec {
            attempt,
            account: account(&slot.account, 1000)?,
            attendant: account(&slot.attendant, 1)?,
            program_dir: self.policy.paths.programs.display().to_string(),
            backend: self.backend,
            pam_service: self.policy.session.pam_service.clone(),
            robotd_uid: self.agent_uid,
            package_tree: ready.tree.display().to_string(),
            interpreter: interpreter.map(|path| path.display().to_string()),
            entry: order.entry.clone(),
            args: order.args.clone(),
            env: order.env.clone().into_iter().collect(),
            params_json: serde_json::to_string(&order.params).unwrap_or_default(),
            display: order.display,
            screenshots: Screenshots {
                on_start: order.screenshots.on_start,
                on_failure: order.screenshots.on_failure,
                every_ms: order.screenshots.every_ms,
                live_view: order.screenshots.live_view,
                format: order.screenshots.format,
                masks: order.screenshots.masks.clone(),
                secret_pause_ms: order.screenshots.secret_pause_ms,
            },
            session_ms: order.limits.session_ms,
            run_ms: order.limits.run_ms,
            stop_grace_ms: order.limits.stop_grace_ms,
            idle_ms: permitted(
                order.limits.idle_ms,
                self.policy.limits.idle_minutes * 60_000,
            ),
            volume_bytes: order.limits.volume_bytes,
            volume_files: order.limits.volume_files,
            volume: self.policy.volume.rules(),
            open_files: order.limits.open_files,
            resources: resources(&self.policy, &order.limits),
            log_bytes: order.limits.log_bytes,
            artifact_bytes: order.limits.artifact_bytes,
            secrets: order.secrets.clone(),
            account_secret: order.account_secret.clone(),
            hard_end_ns: bound.hard_end_ns,
            lease_until_ns: bound.lease_until_ns,
            stop_at_lease_end: self.policy.lease.on_loss == OnLoss::StopAtExpiry,
            sandbox: sandbox.clone(),
            host_network: *network == Network::Host,
            egress: self.egress(network, slot)?,
        })
    }
}

/// What the order binds the attempt to, on this host's clock.
fn bind(order: &Order, signed: &Signed) -> Result<Bound, Refusal> {
    let now = nanos(sys::clock::boottime());
    if order.lease.ticks_ns > now {
        return Err(Refusal::new(
            "LEASE_FROM_FUTURE",
            "the order's lease counts from a moment that has not come",
        ));
    }
    let lease_until = order
        .lease
        .ticks_ns
        .saturating_add(order.lease.ttl_ms.saturating_mul(1_000_000));
    if lease_until <= now {
        return Err(Refusal::new(
            "LEASE_ENDED",
            "the order's license lease ended before the start",
        ));
    }
    let hard_end_ns = now.saturating_add(order.hard_end_ms.saturating_mul(1_000_000));
    Ok(Bound {
        order_sha256: Sha256Hex(Sha256::digest(&signed.body).into()),
        order_key: signed.key_id.clone(),
        package: order.package,
        renewed_ticks_ns: order.lease.ticks_ns,
        license: LicenseTimes {
            lease: order.lease.id,
            fence: order.lease.fence,
            pool: order.lease.pool.clone(),
            from_unix_ms: wall_ms(order.lease.ticks_ns),
            until_unix_ms: wall_ms(lease_until.min(hard_end_ns)),
        },
        tenant: order.tenant.clone(),
        secrets: order.secrets.clone(),
        account_secret: order.account_secret.clone(),
        hard_end_ns,
        lease_until_ns: lease_until.min(hard_end_ns),
        people: false,
        volume: None,
        stop: None,
    })
}

/// Resolves an account anew for each job: what /etc/passwd says may have changed.
pub(crate) fn account(name: &str, least_uid: u32) -> Result<Account, Refusal> {
    let found = known_account(name)?;
    let uid = found.uid.as_raw();
    if uid < least_uid {
        let detail = format!("account {name} has uid {uid}, at least {least_uid} is needed");
        return Err(Refusal::new("ACCOUNT_NOT_ALLOWED", detail));
    }
    Ok(Account {
        name: name.to_owned(),
        uid,
        gid: found.gid.as_raw(),
        home: found.home.display().to_string(),
    })
}

/// The entry of /etc/passwd (or wherever the host keeps its accounts).
pub(crate) fn known_account(name: &str) -> Result<sys::account::Account, Refusal> {
    match sys::account::by_name(name) {
        Ok(Some(account)) => Ok(account),
        Ok(None) => {
            let detail = format!(
                "this host has no account {name}; the package makes its accounts, or correct policy.toml"
            );
            Err(Refusal::new("ACCOUNT_MISSING", detail))
        }
        Err(error) => Err(Refusal::new("ACCOUNT_MISSING", crate::text(&error))),
    }
}
