//! Whether an offer can be taken. Pure: what is known comes in, yes or no comes out.

use crate::exchange::{Offer, Reject, RejectReason};

/// Output beyond this part of the limit, in percent, refuses offers: what runs must still fit.
const SPOOL_FULL_PERCENT: u64 = 90;

/// What is known when an offer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Situation {
    /// The broker answers and was synced with.
    pub(crate) broker_here: bool,
    /// An administrator or the orchestrator drains this host.
    pub(crate) draining: bool,
    /// This attempt was here and is over.
    pub(crate) ended_before: bool,
    /// robotd's own lanes can be written.
    pub(crate) lanes_writable: bool,
    /// Attempts that take a slot.
    pub(crate) jobs: u32,
    /// Jobs that may run at once by configuration.
    pub(crate) max_jobs: u32,
    /// Slots that are not quarantined.
    pub(crate) clean_slots: u32,
    /// Free space in the state directory.
    pub(crate) disk_free: u64,
    /// As much must stay free.
    pub(crate) disk_reserve: u64,
    /// Output that waits.
    pub(crate) spool_used: u64,
    /// As much may wait.
    pub(crate) spool_limit: u64,
}

impl Situation {
    /// How many more jobs may start now.
    pub(crate) fn free_slots(&self) -> u32 {
        self.slots().saturating_sub(self.jobs)
    }

    /// How many jobs may run at once.
    pub(crate) fn slots(&self) -> u32 {
        self.clean_slots.min(self.max_jobs)
    }

    /// Whether too much output waits.
    pub(crate) fn spool_full(&self) -> bool {
        u128::from(self.spool_used) * 100
            >= u128::from(self.spool_limit) * u128::from(SPOOL_FULL_PERCENT)
    }

    /// Whether nothing more should be written.
    pub(crate) fn disk_full(&self) -> bool {
        self.disk_free < self.disk_reserve
    }
}

/// Yes, or the first reason against it.
pub(crate) fn admit(offer: &Offer, now: &Situation) -> Result<(), Reject> {
    let no = |reason, detail: String| Err(Reject::new(reason, detail));
    if now.ended_before {
        return no(
            RejectReason::AlreadyEnded,
            format!("attempt {} was here and is over", offer.attempt),
        );
    }
    if now.draining {
        return no(
            RejectReason::Draining,
            "the host is drained; `robotctl resume` ends it".into(),
        );
    }
    if !now.broker_here {
        let detail = "robotd-broker does not answer; look at its unit or log";
        return Err(Reject::with_code(
            RejectReason::Busy,
            "BROKER_UNREACHABLE",
            detail,
        ));
    }
    if !now.lanes_writable {
        let detail = "robotd's own lanes can't be written; look at the disk of its state directory";
        return Err(Reject::with_code(RejectReason::NoDisk, "LANE_LOST", detail));
    }
    if now.clean_slots == 0 {
        return no(
            RejectReason::NoCleanSlot,
            "no slot is proven clean; see `robotctl slot list`".into(),
        );
    }
    if now.free_slots() == 0 {
        return no(
            RejectReason::Busy,
            format!("all {} slots are taken", now.slots()),
        );
    }
    if now.spool_full() {
        let detail = format!(
            "{} of {} bytes of output wait for the orchestrator",
            now.spool_used, now.spool_limit
        );
        return no(RejectReason::SpoolFull, detail);
    }
    // A package that the broker has needs no space, but only the broker knows that; and a disk
    // this full is no place for a job's output either.
    let need = offer.package_bytes.saturating_add(now.disk_reserve);
    if now.disk_free < need {
        let detail = format!(
            "{} bytes are free in the state directory, {need} are needed",
            now.disk_free
        );
        return no(RejectReason::NoDisk, detail);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::{AttemptRef, JobId, Sha256Hex};

    fn offer(package_bytes: u64) -> Offer {
        Offer {
            attempt: AttemptRef {
                job: JobId::new(),
                number: 1,
            },
            package: Sha256Hex([1; 32]),
            package_bytes,
            pool: "p".into(),
            account: None,
            tenant: String::new(),
            answer_within_ms: 1000,
        }
    }

    fn fine() -> Situation {
        Situation {
            broker_here: true,
            draining: false,
            ended_before: false,
            lanes_writable: true,
            jobs: 0,
            max_jobs: 8,
            clean_slots: 2,
            disk_free: 1000,
            disk_reserve: 100,
            spool_used: 0,
            spool_limit: 100,
        }
    }

    fn reason(now: Situation) -> Option<RejectReason> {
        admit(&offer(500), &now).err().map(|reject| reject.reason)
    }

    #[test]
    fn each_obstacle_has_its_own_reason() {
        assert_eq!(reason(fine()), None);
        for (now, expected) in [
            (
                Situation {
                    ended_before: true,
                    draining: true,
                    ..fine()
                },
                RejectReason::AlreadyEnded,
            ),
            (
                Situation {
                    draining: true,
                    ..fine()
                },
                RejectReason::Draining,
            ),
            (
                Situation {
                    broker_here: false,
                    ..fine()
                },
                RejectReason::Busy,
            ),
            (
                Situation {
                    lanes_writable: false,
                    ..fine()
                },
                RejectReason::NoDisk,
            ),
            (
                Situation {
                    clean_slots: 0,
                    ..fine()
                },
                RejectReason::NoCleanSlot,
            ),
            (Situation { jobs: 2, ..fine() }, RejectReason::Busy),
            (
                Situation {
                    jobs: 1,
                    max_jobs: 1,
                    ..fine()
                },
                RejectReason::Busy,
            ),
            (
                Situation {
                    spool_used: 90,
                    ..fine()
                },
                RejectReason::SpoolFull,
            ),
            (
                Situation {
                    disk_free: 599,
                    ..fine()
                },
                RejectReason::NoDisk,
            ),
        ] {
            assert_eq!(reason(now), Some(expected), "{now:?}");
        }
    }

    #[test]
    fn limits_are_met_exactly() {
        assert_eq!(
            reason(Situation {
                spool_used: 89,
                ..fine()
            }),
            None
        );
        assert_eq!(
            reason(Situation {
                disk_free: 600,
                ..fine()
            }),
            None
        );
        assert_eq!(reason(Situation { jobs: 1, ..fine() }), None);
    }

    proptest! {
        #[test]
        fn an_admitted_job_always_has_a_slot_and_space(
            jobs in 0..5u32, max_jobs in 1..5u32, clean_slots in 0..5u32,
            disk_free in any::<u64>(), package in any::<u64>(), spool_used in any::<u64>(), spool_limit in any::<u64>(),
        ) {
            let now = Situation { jobs, max_jobs, clean_slots, disk_free, spool_used, spool_limit, ..fine() };
            if admit(&offer(package), &now).is_ok() {
                prop_assert!(jobs < max_jobs.min(clean_slots));
                prop_assert!(disk_free >= package);
                prop_assert!(spool_used < spool_limit);
            }
        }
    }
}
