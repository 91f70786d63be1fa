//! Records as they lie in the spool and travel: a `RecordBatch` of `robotd.link.v1`.
//!
//! Beside `link` the only place that knows wire types, and only those of records: what is
//! appended to a lane must already be what is sent, or it would be encoded twice.

use order::{Phase, Signed};
use prost::Message as _;
use wire::v1;

use crate::exchange::Record;
use crate::ids::AttemptRef;

/// One record as a batch.
pub(crate) fn batch(record: &Record) -> Vec<u8> {
    let (at_unix_ms, body) = match record {
        Record::Job(job) => (
            job.at.at_unix_ms,
            v1::record::Body::JobEvent(v1::JobEvent {
                job: Some(job_ref(job.attempt)),
                phase: phase(job.at.phase).into(),
                result: job.result.as_ref().map(signed_result),
            }),
        ),
        Record::Audit(event) => (
            event.at_unix_ms,
            v1::record::Body::Event(v1::SecurityEvent {
                code: event.code,
                job: event.attempt.map(job_ref),
                body: event.body.clone().into_bytes().into(),
            }),
        ),
    };
    encode(
        at_unix_ms,
        vec![v1::Record {
            time_delta_nano: 0,
            body: Some(body),
        }],
    )
}

/// Gaps in place of `count` records that damage took: the first says how many, so that a reader
/// of the records need not count.
pub(crate) fn gaps(count: u32, at_unix_ms: u64) -> Vec<u8> {
    let gap = |records| v1::Record {
        time_delta_nano: 0,
        body: Some(v1::record::Body::Gap(v1::Gap {
            records,
            bytes: 0,
            unknown: false,
            reason: v1::GapReason::Corrupt.into(),
            source: v1::LogSource::Unspecified.into(),
        })),
    };
    let records = (0..count)
        .map(|index| gap(if index == 0 { u64::from(count) } else { 0 }))
        .collect();
    encode(at_unix_ms, records)
}

fn encode(at_unix_ms: u64, records: Vec<v1::Record>) -> Vec<u8> {
    v1::RecordBatch {
        base_time_unix_nano: at_unix_ms.saturating_mul(1_000_000),
        records,
    }
    .encode_to_vec()
}

/// An attempt as it travels.
pub(crate) fn job_ref(attempt: AttemptRef) -> v1::JobRef {
    v1::JobRef {
        job_id: attempt.job.to_string(),
        attempt: attempt.number,
    }
}

fn signed_result(signed: &Signed) -> v1::SignedResult {
    v1::SignedResult {
        body: signed.body.clone().into(),
        key_id: signed.key_id.to_string(),
        signature: signed.signature.clone().into(),
    }
}

/// A step as it travels.
pub(crate) fn phase(phase: Phase) -> v1::JobPhase {
    match phase {
        Phase::Offered => v1::JobPhase::Offered,
        Phase::Accepted => v1::JobPhase::Accepted,
        Phase::LicenseLeased => v1::JobPhase::LicenseLeased,
        Phase::Started => v1::JobPhase::Started,
        Phase::PackageReady => v1::JobPhase::PackageReady,
        Phase::VolumeReady => v1::JobPhase::VolumeReady,
        Phase::SessionOpen => v1::JobPhase::SessionOpen,
        Phase::DisplayReady => v1::JobPhase::DisplayReady,
        Phase::Running => v1::JobPhase::Running,
        Phase::Exited => v1::JobPhase::Exited,
        Phase::ProcessesGone => v1::JobPhase::ProcessesGone,
        Phase::ArtifactsCollected => v1::JobPhase::ArtifactsCollected,
        Phase::SessionClosed => v1::JobPhase::SessionClosed,
        Phase::Wiped => v1::JobPhase::Wiped,
        Phase::LicenseReturned => v1::JobPhase::LicenseReturned,
        Phase::Reported => v1::JobPhase::Reported,
    }
}

#[cfg(test)]
mod tests {
    use order::PhaseAt;

    use super::*;
    use crate::exchange::JobRecord;
    use crate::ids::JobId;

    #[test]
    fn a_step_is_one_record_with_its_time() {
        let attempt = AttemptRef {
            job: JobId::new(),
            number: 2,
        };
        let at = PhaseAt {
            phase: Phase::Running,
            at_unix_ms: 1_700_000_000_123,
        };
        let bytes = batch(&Record::Job(JobRecord::step(attempt, at)));
        let batch = v1::RecordBatch::decode(bytes.as_slice()).unwrap();
        assert_eq!(batch.base_time_unix_nano, 1_700_000_000_123_000_000);
        let [
            v1::Record {
                body: Some(v1::record::Body::JobEvent(event)),
                ..
            },
        ] = batch.records.as_slice()
        else {
            panic!("{batch:?}");
        };
        assert_eq!(event.phase(), v1::JobPhase::Running);
        assert_eq!(event.job, Some(job_ref(attempt)));
    }

    #[test]
    fn a_lost_range_keeps_its_numbers_and_counts_once() {
        let batch = v1::RecordBatch::decode(gaps(3, 0).as_slice()).unwrap();
        let counts: Vec<_> = batch
            .records
            .iter()
            .map(|record| match &record.body {
                Some(v1::record::Body::Gap(gap)) => gap.records,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(counts, [3, 0, 0]);
    }
}
