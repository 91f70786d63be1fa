//! What robotd says of itself: each job writes its own line, the jobs' owner the rest.

use privsep::abilities::Abilities;
use tokio::sync::watch;

use super::admission::Situation;
use crate::exchange::{Blocker, HeldJob, HeldLease, LeaseRef, Readiness, Standing};
use crate::ids::AttemptRef;

/// The board. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Board(watch::Sender<Standing>);

impl Board {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::default())
    }

    /// As of now and from now on.
    pub(crate) fn watch(&self) -> watch::Receiver<Standing> {
        self.0.subscribe()
    }

    /// Jobs that take a slot.
    pub(super) fn taken_slots(&self) -> u32 {
        let taken = self
            .0
            .borrow()
            .jobs
            .iter()
            .filter(|job| job.takes_slot)
            .count();
        u32::try_from(taken).unwrap_or(u32::MAX)
    }

    /// A job's last step.
    pub(super) fn job(&self, job: HeldJob) {
        self.change(|standing| {
            match standing
                .jobs
                .iter_mut()
                .find(|known| known.attempt == job.attempt)
            {
                Some(known) => *known = job,
                None => standing.jobs.push(job),
            }
        });
    }

    /// The license that a job holds, or none any more.
    pub(super) fn lease(&self, attempt: AttemptRef, lease: Option<LeaseRef>) {
        self.change(|standing| {
            standing.leases.retain(|held| held.job != attempt.job);
            standing.leases.extend(lease.map(|lease| HeldLease {
                lease,
                job: attempt.job,
            }));
        });
    }

    /// A job is forgotten.
    pub(super) fn gone(&self, attempt: AttemptRef) {
        self.change(|standing| {
            standing.jobs.retain(|job| job.attempt != attempt);
            standing.leases.retain(|held| held.job != attempt.job);
        });
    }

    /// What the host can do, and what its policy requires beside it.
    pub(super) fn host(&self, found: &Abilities, missing: Vec<String>) {
        let abilities = found.names();
        self.change(|standing| {
            standing.abilities = abilities;
            standing.missing_abilities = missing;
        });
    }

    /// Everything that is not a single job's.
    pub(super) fn situation(&self, now: &Situation) {
        self.change(|standing| {
            standing.slots = now.slots();
            standing.free_slots = if now.draining || !now.broker_here {
                0
            } else {
                now.free_slots()
            };
            standing.blockers = blockers(now).into_iter().collect();
            standing.readiness = readiness(now, standing.blockers.is_empty());
            standing.spool_used_bytes = now.spool_used;
            standing.spool_limit_bytes = now.spool_limit;
        });
    }

    fn change(&self, change: impl FnOnce(&mut Standing)) {
        self.0.send_if_modified(|standing| {
            let before = standing.clone();
            change(standing);
            *standing != before
        });
    }
}

fn blockers(now: &Situation) -> Vec<Blocker> {
    [
        (!now.broker_here, Blocker::BrokerUnreachable),
        (
            now.broker_here && now.clean_slots == 0,
            Blocker::NoCleanSlot,
        ),
        (now.spool_full(), Blocker::SpoolFull),
        (now.disk_full(), Blocker::DiskFull),
        (!now.lanes_writable, Blocker::LaneLost),
    ]
    .into_iter()
    .filter_map(|(blocks, blocker)| blocks.then_some(blocker))
    .collect()
}

fn readiness(now: &Situation, unblocked: bool) -> Readiness {
    if now.draining {
        Readiness::Draining
    } else if !unblocked {
        Readiness::Unhealthy
    } else if now.free_slots() == 0 {
        Readiness::Busy
    } else {
        Readiness::Ready
    }
}
