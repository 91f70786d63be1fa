//! Submissions: everything that can be known to be wrong is refused here.

use order::{Challenge, Expectation, JobId, LeaseId, Purpose, Sha256Hex};

use super::Core;
use super::dispatch::{Accepted, Job};
use super::lease::Held;
use super::starting::{Terms, make_order};
use crate::events::{self, Event};
use crate::refused::Refused;
use crate::spec::{Spec, Submission};
use crate::store::{JobRow, PackageRow};

impl Core {
    /// Queues a job.
    pub(crate) fn submit(&mut self, submission: Submission, by: &str) -> Result<JobId, Refused> {
        let package = self.find_package(&submission.package)?;
        let spec = resolve(submission, &package, by);
        self.check_spec(&spec)?;
        let (now, id) = (self.now(), JobId::new());
        let row = JobRow {
            id,
            spec: spec.clone(),
            state: super::job::State::Queued.name().to_owned(),
            attempt: 0,
            agent: None,
            submitted_ms: now,
            ended_ms: None,
            outcome: None,
            code: String::new(),
            detail: String::new(),
            missing: Vec::new(),
            stop: None,
        };
        let event = Event::own(
            events::JOB_SUBMITTED,
            now,
            format!("job {id} submitted by {by}"),
        )
        .job(id)
        .user(by)
        .entity(package.sha256);
        let store = &self.store;
        store.atomically(|| {
            store.put_job(&row)?;
            store.put_event(&event)
        })?;
        let boot_ms = self.clock.boot_ms();
        self.jobs.insert(id, Job::queued(id, spec, boot_ms));
        Ok(id)
    }

    fn find_package(&self, wanted: &str) -> Result<PackageRow, Refused> {
        let found = match wanted.parse::<Sha256Hex>() {
            Ok(digest) => self.store.package(digest)?,
            Err(_) => self.store.newest_package(wanted)?,
        };
        found.ok_or_else(|| {
            Refused::not_found(
                "PACKAGE_UNKNOWN",
                format!("no package {wanted:?}; `package list` shows what was pushed"),
            )
        })
    }

    fn check_spec(&self, spec: &Spec) -> Result<(), Refused> {
        if !self.leases.has_pool(&spec.pool) {
            return Err(Refused::not_found(
                "POOL_UNKNOWN",
                format!(
                    "no license pool {0:?}; make it with `license set {0} COUNT`",
                    spec.pool
                ),
            ));
        }
        if let Some(agent) = &spec.agent
            && self.store.agent_named(agent)?.is_none()
        {
            return Err(Refused::not_found(
                "AGENT_UNKNOWN",
                format!("no agent {agent:?}"),
            ));
        }
        for name in spec.secrets.iter().chain(&spec.account_secret) {
            if self.store.secret(name)?.is_none() {
                return Err(Refused::not_found(
                    "SECRET_UNKNOWN",
                    format!("no secret {name:?}; store it with `secret set {name}`"),
                ));
            }
        }
        self.rehearse(spec)
    }

    /// Signs and verifies an order for this job as its broker would: what a broker is bound to
    /// refuse is refused now and not after a license was taken.
    fn rehearse(&self, spec: &Spec) -> Result<(), Refused> {
        let challenge = Challenge([1; 32]);
        let attempt = order::AttemptRef {
            job: JobId::new(),
            number: 1,
        };
        let agent = order::AgentId::new();
        let held = Held {
            id: LeaseId::new(),
            pool: spec.pool.clone(),
            fence: u64::MAX,
            attempt,
            agent,
            request_id: String::new(),
            ttl_ms: u64::MAX,
            free_at: 0,
        };
        let accepted = Accepted {
            challenge: challenge.0.to_vec(),
        };
        let now_unix_ms = self.now();
        let terms = Terms {
            attempt,
            agent,
            accepted: &accepted,
            held: &held,
            ticks_ns: u64::MAX,
            now_unix_ms,
        };
        let body = serde_json::to_vec(&make_order(spec, &terms))
            .map_err(|error| Refused::invalid("ORDER_INVALID", error.to_string()))?;
        let signed = self.keys.signing().sign(Purpose::Order, body);
        let public = self.keys.signing().public();
        let expected = Expectation {
            keys: &[(public.id(), public)].into_iter().collect(),
            agent,
            attempt,
            challenge: Some(challenge),
            now_unix_ms,
        };
        order::verify(&signed, &expected)
            .map(drop)
            .map_err(|error| Refused::invalid(error.code(), error.to_string()))
    }

    /// Makes a pushed package known.
    pub(crate) fn add_package(&mut self, mut row: PackageRow, by: &str) -> Result<(), Refused> {
        row.pushed_ms = self.now();
        let text = format!("package {} {} pushed by {by}", row.name, row.version);
        let event = Event::own(events::PACKAGE_PUSHED, row.pushed_ms, text)
            .user(by)
            .entity(row.sha256);
        let store = &self.store;
        store.atomically(|| {
            store.put_package(&row)?;
            store.put_event(&event)
        })?;
        Ok(())
    }
}

fn resolve(submission: Submission, package: &PackageRow, by: &str) -> Spec {
    let mut automation = submission.automation;
    if automation.name.is_empty() {
        automation.name.clone_from(&package.name);
    }
    if automation.version.is_empty() {
        automation.version.clone_from(&package.version);
    }
    Spec {
        package: package.sha256,
        package_name: package.name.clone(),
        package_bytes: package.bytes,
        publisher: package.publisher.clone(),
        entry: submission.entry.unwrap_or_else(|| package.entry.clone()),
        args: submission.args,
        env: submission.env,
        params: submission.params,
        pool: submission.pool,
        account: submission.account,
        account_secret: submission.account_secret,
        network: submission.network,
        display: submission.display,
        screenshots: submission.screenshots,
        limits: submission.limits,
        sandbox: submission.sandbox,
        secrets: submission.secrets,
        agent: submission.agent,
        tenant: submission.tenant,
        data_class: submission.data_class,
        requester: by.to_owned(),
        automation,
    }
}
