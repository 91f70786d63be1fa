//! `job logs`: inert lines for people, exact bytes for programs.

use std::io::{BufWriter, Write};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use prost::Message as _;
use serde_json::json;
use wire::v1;
use wire::v1::record::Body;

use super::inert;
use super::render::time;
use crate::admin::{Client, Frame, Request};
use crate::refused::Refused;

/// How output is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Inert,
    Raw,
    Json,
}

/// What is wanted of a log.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) stream: Option<v1::LogSource>,
    pub(super) form: Form,
    pub(super) follow: bool,
}

pub(super) async fn print(data_dir: &Path, job: String, wanted: &Wanted) -> Result<(), Refused> {
    let follow = wanted.follow;
    let mut client = Client::ask(data_dir, &Request::JobLogs { job, follow }).await?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    while let Frame::Bytes(bytes) = client.next().await? {
        let batch = v1::RecordBatch::decode(bytes.as_slice())
            .map_err(|error| Refused::unavailable("ARCHIVE_DAMAGED", error.to_string()))?;
        let written = write_batch(&mut out, &batch, wanted).and_then(|()| match follow {
            true => out.flush(),
            false => Ok(()),
        });
        if done(written)? {
            return Ok(());
        }
    }
    done(out.flush()).map(drop)
}

/// True when the reader went away, which is its right.
fn done(written: std::io::Result<()>) -> Result<bool, Refused> {
    match written {
        Ok(()) => Ok(false),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(true),
        Err(error) => Err(Refused::unavailable(
            "OUTPUT_FAILED",
            format!("can't write the log: {error}"),
        )),
    }
}

fn write_batch(
    out: &mut impl Write,
    batch: &v1::RecordBatch,
    wanted: &Wanted,
) -> std::io::Result<()> {
    for record in &batch.records {
        let at_ns = batch
            .base_time_unix_nano
            .saturating_add_signed(record.time_delta_nano);
        match &record.body {
            Some(Body::Log(line)) => write_line(out, line, at_ns / 1_000_000, wanted)?,
            Some(Body::Gap(gap)) if wanted.form == Form::Inert => write_gap(out, gap)?,
            _ => {}
        }
    }
    Ok(())
}

fn write_line(
    out: &mut impl Write,
    line: &v1::LogLine,
    at_ms: u64,
    wanted: &Wanted,
) -> std::io::Result<()> {
    let source = line.source();
    match wanted.form {
        Form::Raw => {
            if source != wanted.stream.unwrap_or(v1::LogSource::Stdout) {
                return Ok(());
            }
            out.write_all(&line.text)?;
            match line.terminated {
                true => out.write_all(b"\n"),
                false => Ok(()),
            }
        }
        _ if wanted.stream.is_some_and(|stream| stream != source) => Ok(()),
        Form::Inert => {
            let mark = if line.continued { "…" } else { "" };
            writeln!(
                out,
                "{} {:6} {mark}{}",
                time(at_ms),
                name(source),
                inert::line(&line.text)
            )
        }
        Form::Json => {
            let shown = json!({
                "at_unix_ms": at_ms, "stream": name(source), "severity": line.severity,
                "text": String::from_utf8_lossy(&line.text), "base64": BASE64.encode(&line.text),
                "terminated": line.terminated, "continued": line.continued,
                "redactions": line.redactions,
            });
            writeln!(out, "{shown}")
        }
    }
}

fn name(source: v1::LogSource) -> &'static str {
    match source {
        v1::LogSource::Stdout => "stdout",
        v1::LogSource::Stderr => "stderr",
        v1::LogSource::Bot => "bot",
        v1::LogSource::Agent => "agent",
        v1::LogSource::Unspecified => "?",
    }
}

fn write_gap(out: &mut impl Write, gap: &v1::Gap) -> std::io::Result<()> {
    let reason = gap.reason().as_str_name().trim_start_matches("GAP_REASON_");
    let most = if gap.unknown { "at most " } else { "" };
    writeln!(
        out,
        "[gap: {} records, {most}{} bytes lost: {reason}]",
        gap.records, gap.bytes
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(source: v1::LogSource, text: &[u8], terminated: bool) -> v1::Record {
        let line = v1::LogLine {
            source: source.into(),
            text: text.to_vec().into(),
            terminated,
            ..v1::LogLine::default()
        };
        v1::Record {
            time_delta_nano: 0,
            body: Some(Body::Log(line)),
        }
    }

    fn printed(stream: Option<v1::LogSource>, form: Form) -> Vec<u8> {
        let records = vec![
            piece(v1::LogSource::Stdout, b"long ", false),
            piece(v1::LogSource::Stderr, b"oops", true),
            piece(v1::LogSource::Stdout, b"\x1b[31m\xff", true),
            piece(v1::LogSource::Stdout, b"end", false),
        ];
        let batch = v1::RecordBatch {
            base_time_unix_nano: 0,
            records,
        };
        let wanted = Wanted {
            stream,
            form,
            follow: false,
        };
        let mut out = Vec::new();
        write_batch(&mut out, &batch, &wanted).unwrap();
        out
    }

    #[test]
    fn raw_output_is_the_stream_byte_for_byte() {
        assert_eq!(printed(None, Form::Raw), b"long \x1b[31m\xff\nend");
        assert_eq!(printed(Some(v1::LogSource::Stderr), Form::Raw), b"oops\n");
    }

    #[test]
    fn output_for_people_holds_no_escape() {
        let text = String::from_utf8(printed(None, Form::Inert)).unwrap();
        assert_eq!(text.lines().count(), 4);
        assert!(text.contains("␛[31m\\xff") && !text.contains('\u{1b}'));
    }
}
