//! From a frame to its records, with every size bounded before memory is taken.

use std::io::Read as _;

use order::{AttemptRef, KeyId, Phase, Sha256Hex, Signed};
use prost::Message as _;
use serde_json::Value;
use wire::v1;
use wire::v1::record::Body;

use crate::config;
use crate::core::Row;
use crate::events::{Event, severity_name};
use crate::store::{AlertRow, ArtifactRow, BotErrorRow, GapRow, ScreenshotRow};
use crate::view;

/// Texts of bots that are indexed are cut to this; the whole is in the frame.
const MAX_INDEXED: usize = 64 << 10;
/// Records of one frame.
const MAX_RECORDS: u32 = 1 << 20;

/// The batch of a frame whose checksum was right. The reason is for people.
pub(super) fn batch(frame: &v1::RecordFrame) -> Result<v1::RecordBatch, String> {
    if frame.record_count == 0 || frame.record_count > MAX_RECORDS {
        return Err(format!(
            "a frame has 1 to {MAX_RECORDS} records, not {}",
            frame.record_count
        ));
    }
    let raw_bytes = frame.raw_bytes as usize;
    if raw_bytes > config::MAX_FRAME_RAW {
        return Err(format!(
            "{raw_bytes} bytes are more than {}",
            config::MAX_FRAME_RAW
        ));
    }
    let raw = match frame.codec() {
        v1::FrameCodec::Plain => frame.payload.clone(),
        v1::FrameCodec::Zstd => inflate(&frame.payload, raw_bytes)?.into(),
        v1::FrameCodec::Unspecified => return Err("unknown codec".to_owned()),
    };
    if raw.len() != raw_bytes {
        return Err(format!(
            "{} bytes where {raw_bytes} were announced",
            raw.len()
        ));
    }
    let batch = v1::RecordBatch::decode(raw).map_err(|error| error.to_string())?;
    if batch.records.len() != frame.record_count as usize {
        return Err(format!(
            "{} records where {} were announced",
            batch.records.len(),
            frame.record_count
        ));
    }
    Ok(batch)
}

/// Never more than was announced and one byte, whatever the frame claims inside.
fn inflate(payload: &[u8], raw_bytes: usize) -> Result<Vec<u8>, String> {
    let mut decoder =
        zstd::stream::read::Decoder::with_buffer(payload).map_err(|error| error.to_string())?;
    // A window beyond the largest frame only costs memory.
    decoder
        .window_log_max(23)
        .map_err(|error| error.to_string())?;
    let mut raw = Vec::with_capacity(raw_bytes);
    decoder
        .take(raw_bytes as u64 + 1)
        .read_to_end(&mut raw)
        .map_err(|error| error.to_string())?;
    Ok(raw)
}

fn cut(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len().min(MAX_INDEXED)].to_vec()
}

fn digest(bytes: &[u8]) -> Option<Sha256Hex> {
    bytes.try_into().ok().map(Sha256Hex)
}

fn attempt_of(job: Option<&v1::JobRef>) -> Option<AttemptRef> {
    let job = job?;
    Some(AttemptRef {
        job: job.job_id.parse().ok()?,
        number: job.attempt,
    })
}

/// The row that a record is indexed by. Log lines have none; what can't be understood has a
/// reason instead.
pub(super) fn row(record: &v1::Record, base_ns: u64) -> Result<Option<Row>, &'static str> {
    let at_ns = base_ns.saturating_add_signed(record.time_delta_nano);
    let at_ms = at_ns / 1_000_000;
    let body = record.body.as_ref().ok_or("a record without content")?;
    Ok(match body {
        Body::Log(_) => None,
        Body::JobEvent(event) => Some(job_event(event, at_ms)?),
        Body::Event(event) => Some(security_event(event, at_ms)?),
        Body::Artifact(artifact) => Some(Row::Artifact(ArtifactRow {
            name: cut(&artifact.name),
            sha256: digest(&artifact.sha256).ok_or("a digest is 32 bytes")?,
            bytes: artifact.size_bytes,
            media_type: artifact.media_type.clone(),
        })),
        Body::Screenshot(picture) => Some(Row::Screenshot(ScreenshotRow {
            seq: picture.seq,
            at_ms,
            reason: short(picture.reason().as_str_name(), "SCREENSHOT_REASON_"),
            width: picture.width,
            height: picture.height,
            media_type: picture.media_type.clone(),
            sha256: digest(&picture.sha256).ok_or("a digest is 32 bytes")?,
            bytes: picture.size_bytes,
            masked: view::masked(&picture.masked),
        })),
        Body::Alert(alert) => Some(Row::Alert(AlertRow {
            at_ms,
            level: short(alert.level().as_str_name(), "ALERT_LEVEL_"),
            title: cut(&alert.title),
            message: cut(&alert.message),
        })),
        Body::Error(error) => Some(Row::Error(BotErrorRow {
            at_ms,
            kind: cut(&error.kind),
            message: cut(&error.message),
            stack_trace: cut(&error.stack_trace),
            tags: error.tags.clone().into_iter().take(64).collect(),
        })),
        Body::Gap(gap) => Some(Row::Gap(GapRow {
            at_ms,
            records: gap.records,
            bytes: gap.bytes,
            unknown: gap.unknown,
            reason: short(gap.reason().as_str_name(), "GAP_REASON_"),
            source: short(gap.source().as_str_name(), "LOG_SOURCE_"),
        })),
    })
}

fn short(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_owned()
}

fn job_event(event: &v1::JobEvent, at_ms: u64) -> Result<Row, &'static str> {
    let attempt = attempt_of(event.job.as_ref()).ok_or("a job event names no attempt")?;
    let name = short(event.phase().as_str_name(), "JOB_PHASE_");
    let phase: Phase =
        serde_json::from_value(Value::String(name)).map_err(|_| "a job event names no step")?;
    let result = event.result.as_ref().map(|result| Signed {
        body: result.body.to_vec(),
        key_id: KeyId(result.key_id.clone()),
        signature: result.signature.to_vec(),
    });
    Ok(Row::JobEvent {
        attempt,
        phase,
        at_ms,
        result,
    })
}

/// An agent's event keeps its code, text and data; who it came from is set by the core.
fn security_event(event: &v1::SecurityEvent, at_ms: u64) -> Result<Row, &'static str> {
    let body: ::events::Event =
        serde_json::from_slice(&event.body).map_err(|_| "an event that can't be read")?;
    if body.code != event.code {
        return Err("an event with two codes");
    }
    Ok(Row::Event(Box::new(Event {
        at_unix_ms: at_ms,
        code: event.code,
        name: body.name,
        severity: severity_name(body.severity).to_owned(),
        source: String::new(),
        agent: None,
        user: body.user,
        job_id: attempt_of(event.job.as_ref())
            .map(|attempt| attempt.job.to_string())
            .or(body.job_id),
        text: body.text,
        entity: body
            .entity
            .map(|entity| format!("{} {}", entity.kind, entity.id)),
        data: serde_json::to_value(body.data).unwrap_or_default(),
    })))
}
