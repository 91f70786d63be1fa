//! What the agent has told so far.

use order::AttemptRef;
use wire::v1;
use wire::v1::connect_request::Body as Said;

use super::{Orchestrator, Seen, job_ref};

impl Orchestrator {
    /// Steps of an attempt in the JOB lane, in order.
    pub(crate) fn phases(seen: &Seen, attempt: AttemptRef) -> Vec<v1::JobPhase> {
        job_events(seen)
            .filter(|event| event.job == Some(job_ref(attempt)))
            .map(|event| event.phase())
            .collect()
    }

    pub(crate) fn reported(seen: &Seen, attempt: AttemptRef) -> Option<v1::JobEvent> {
        job_events(seen)
            .find(|event| {
                event.job == Some(job_ref(attempt)) && event.phase() == v1::JobPhase::Reported
            })
            .cloned()
    }

    pub(crate) fn lines(seen: &Seen, attempt: AttemptRef) -> Vec<String> {
        let lanes = seen
            .lanes
            .values()
            .filter(|lane| lane.attempt == Some(attempt));
        let records = lanes.flat_map(|lane| &lane.records);
        records
            .filter_map(|record| match &record.body {
                Some(v1::record::Body::Log(line)) => {
                    Some(String::from_utf8(line.text.to_vec()).unwrap())
                }
                _ => None,
            })
            .collect()
    }

    /// Codes and bodies of the AUDIT lane, in no order.
    pub(crate) fn events(seen: &Seen, code: events::Code) -> Vec<String> {
        let records = seen.lanes.values().flat_map(|lane| &lane.records);
        records
            .filter_map(|record| match &record.body {
                Some(v1::record::Body::Event(event)) if event.code == code.number() => {
                    Some(String::from_utf8(event.body.to_vec()).unwrap())
                }
                _ => None,
            })
            .collect()
    }

    /// Records that gaps stand for, in the lanes of an attempt.
    pub(crate) fn gaps(seen: &Seen, attempt: AttemptRef) -> Vec<(u64, v1::GapReason)> {
        let lanes = seen.lanes.values();
        let records = lanes
            .filter(|lane| lane.attempt == Some(attempt))
            .flat_map(|lane| &lane.records);
        records
            .filter_map(|record| match &record.body {
                Some(v1::record::Body::Gap(gap)) => Some((gap.records, gap.reason())),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn rejects(seen: &Seen, attempt: AttemptRef) -> Vec<v1::Reject> {
        seen.said
            .iter()
            .filter_map(|said| match said {
                Said::OfferReply(v1::OfferReply {
                    job,
                    answer: Some(v1::offer_reply::Answer::Reject(no)),
                }) if *job == Some(job_ref(attempt)) => Some(no.clone()),
                _ => None,
            })
            .collect()
    }
}

fn job_events(seen: &Seen) -> impl Iterator<Item = &v1::JobEvent> {
    seen.lanes
        .values()
        .flat_map(|lane| &lane.records)
        .filter_map(|record| match &record.body {
            Some(v1::record::Body::JobEvent(event)) => Some(event),
            _ => None,
        })
}
