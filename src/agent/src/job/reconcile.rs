//! What to do with an attempt when robotd or the broker comes back. Pure.
//!
//! | robotd's journal | broker: nothing | reserved | awaits package, running, ended |
//! |---|---|---|---|
//! | before the start | decline | cancel, decline | follow |
//! | start intended   | lost    | cancel, decline | follow |
//! | started          | lost    | cancel, lost    | follow |
//! | ended or later   | go on   | go on           | go on  |
//! | declined, lost   | go on   | cancel, go on   | go on  |
//!
//! "Decline" is safe in the row of the intent, because a broker that still has the reservation
//! never made the start durable.

use privsep::broker::HeldState;

use super::entry::Stage;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// It runs or ran at the broker: follow it to its end.
    Follow,
    /// It never started: tell the orchestrator no.
    Decline,
    /// Whether it started is unknown and nobody can prove more: report it as interrupted.
    ReportLost,
    /// What is left to do needs no broker.
    GoOn,
}

/// The plan, and whether a reservation has to be given back first.
pub(crate) fn reconcile(stage: Stage, held: Option<&HeldState>) -> (Plan, bool) {
    let reserved = held == Some(&HeldState::Reserved);
    let runs = held.is_some() && !reserved;
    let plan = match stage {
        Stage::Ended | Stage::Released | Stage::Reported | Stage::Declined | Stage::Lost => {
            Plan::GoOn
        }
        _ if runs => Plan::Follow,
        Stage::Offered | Stage::Accepted | Stage::Leased => Plan::Decline,
        Stage::StartIntent if reserved => Plan::Decline,
        Stage::StartIntent | Stage::Started => Plan::ReportLost,
    };
    (
        plan,
        reserved && stage != Stage::Ended && stage != Stage::Released && stage != Stage::Reported,
    )
}

#[cfg(test)]
mod tests {
    use order::Phase;

    use super::*;

    const STAGES: [Stage; 10] = [
        Stage::Offered,
        Stage::Accepted,
        Stage::Leased,
        Stage::StartIntent,
        Stage::Started,
        Stage::Ended,
        Stage::Released,
        Stage::Reported,
        Stage::Declined,
        Stage::Lost,
    ];

    #[test]
    fn the_table_stands_as_documented() {
        let running = HeldState::Running(Phase::Running);
        let rows: Vec<_> = STAGES
            .into_iter()
            .map(|stage| {
                let of = |held| reconcile(stage, held);
                (
                    stage,
                    of(None),
                    of(Some(&HeldState::Reserved)),
                    of(Some(&running)),
                )
            })
            .collect();
        use Plan::{Decline, Follow, GoOn, ReportLost};
        for (stage, none, reserved, runs) in rows {
            let expected = match stage {
                Stage::Offered | Stage::Accepted | Stage::Leased => {
                    [(Decline, false), (Decline, true), (Follow, false)]
                }
                Stage::StartIntent => [(ReportLost, false), (Decline, true), (Follow, false)],
                Stage::Started => [(ReportLost, false), (ReportLost, true), (Follow, false)],
                Stage::Ended | Stage::Released | Stage::Reported => {
                    [(GoOn, false), (GoOn, false), (GoOn, false)]
                }
                Stage::Declined | Stage::Lost => [(GoOn, false), (GoOn, true), (GoOn, false)],
            };
            assert_eq!([none, reserved, runs], expected, "{stage:?}");
        }
    }

    #[test]
    fn nothing_that_may_have_started_is_ever_declined_without_the_brokers_proof() {
        for stage in STAGES
            .into_iter()
            .filter(|stage| *stage >= Stage::StartIntent)
        {
            assert_ne!(reconcile(stage, None).0, Plan::Decline, "{stage:?}");
        }
    }

    #[test]
    fn whatever_the_broker_runs_is_followed_unless_its_end_is_known() {
        for held in [
            HeldState::AwaitsPackage,
            HeldState::Ended,
            HeldState::Running(Phase::Exited),
        ] {
            for stage in STAGES {
                let plan = reconcile(stage, Some(&held)).0;
                assert!(
                    matches!(plan, Plan::Follow | Plan::GoOn),
                    "{stage:?} {held:?}"
                );
            }
        }
    }
}
