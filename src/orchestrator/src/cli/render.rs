//! Tables for people. Everything that a bot or a host said is made inert.

use serde_json::Value;

use super::inert;

/// RFC 3339 with milliseconds, UTC.
pub(super) fn time(unix_ms: u64) -> String {
    let at = i64::try_from(unix_ms)
        .ok()
        .and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
    at.map_or_else(|| "-".to_owned(), |at| format!("{at:.3}"))
}

/// A field as text.
pub(super) fn field(value: &Value, name: &str) -> String {
    let value = value.get(name).unwrap_or(&Value::Null);
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => inert::line(text.as_bytes()),
        Value::Number(number) if name.ends_with("_unix_ms") => {
            number.as_u64().map_or_else(|| "-".to_owned(), time)
        }
        other => inert::line(other.to_string().as_bytes()),
    }
}

/// A table of these fields, one line per row.
fn table(rows: &Value, columns: &[(&str, &str)]) -> String {
    let mut lines = vec![
        columns
            .iter()
            .map(|(title, _)| (*title).to_owned())
            .collect::<Vec<_>>(),
    ];
    for row in rows.as_array().into_iter().flatten() {
        lines.push(columns.iter().map(|(_, name)| field(row, name)).collect());
    }
    let width = |at: usize| {
        lines
            .iter()
            .map(|line| line[at].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let printed = lines.iter().map(|line| {
        let cells = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    printed.collect::<Vec<_>>().join("\n")
}

pub(super) fn agents(rows: &Value) -> String {
    table(
        rows,
        &[
            ("NAME", "name"),
            ("STATE", "state"),
            ("AGENT", "agent_id"),
            ("ENROLLED", "enrolled_unix_ms"),
            ("LAST SEEN", "last_seen_unix_ms"),
        ],
    )
}

pub(super) fn pools(rows: &Value) -> String {
    table(
        rows,
        &[
            ("POOL", "pool"),
            ("LICENSES", "licenses"),
            ("HELD", "held"),
            ("WAITING", "waiting"),
            ("FENCE", "fence"),
        ],
    )
}

pub(super) fn packages(rows: &Value) -> String {
    table(
        rows,
        &[
            ("NAME", "name"),
            ("VERSION", "version"),
            ("PUBLISHER", "publisher"),
            ("BYTES", "bytes"),
            ("SHA256", "sha256"),
            ("PUSHED", "pushed_unix_ms"),
        ],
    )
}

pub(super) fn secrets(rows: &Value) -> String {
    table(
        rows,
        &[
            ("NAME", "name"),
            ("VERSION", "version"),
            ("UPDATED", "updated_unix_ms"),
        ],
    )
}

pub(super) fn jobs(rows: &Value) -> String {
    table(
        rows,
        &[
            ("JOB", "job_id"),
            ("STATE", "state"),
            ("OUTCOME", "outcome"),
            ("ATTEMPT", "attempt"),
            ("PACKAGE", "package"),
            ("AGENT", "agent"),
            ("SUBMITTED", "submitted_unix_ms"),
        ],
    )
}

pub(super) fn events(rows: &Value) -> String {
    table(
        rows,
        &[
            ("TIME", "at_unix_ms"),
            ("CODE", "code"),
            ("SEVERITY", "severity"),
            ("NAME", "name"),
            ("SOURCE", "source"),
            ("USER", "user"),
            ("TEXT", "text"),
        ],
    )
}

/// What proves a wipe, where it lies in a shown job.
const WIPE_PARTS: [(&str, &str, &[&str]); 2] = [
    (
        "  key",
        "/wipe/key",
        &[
            "cipher",
            "identifier",
            "created_unix_ms",
            "destroyed_unix_ms",
            "removal_flags",
        ],
    ),
    (
        "  scan",
        "/wipe/scan",
        &["bytes", "secrets", "too_short", "found"],
    ),
];

/// One job, a screenful.
pub(super) fn job(job: &Value) -> String {
    let mut lines = Vec::new();
    for name in [
        "job_id",
        "state",
        "outcome",
        "code",
        "detail",
        "exit_code",
        "signal",
        "attempt",
        "agent",
        "submitted_unix_ms",
        "ended_unix_ms",
    ] {
        let shown = field(job, name);
        if shown != "-" {
            lines.push(format!("{:12} {shown}", name.trim_end_matches("_unix_ms")));
        }
    }
    lines.extend(super::ended::lines(job));
    for (title, name, fields) in [
        (
            "license",
            "license",
            ["pool", "lease_id", "fence", "returned"].as_slice(),
        ),
        (
            "session",
            "session",
            ["id", "account", "uid", "display", "closed"].as_slice(),
        ),
        (
            "sandbox",
            "sandbox",
            ["profile", "landlock", "seccomp", "mdwe", "without"].as_slice(),
        ),
        (
            "network",
            "network",
            [
                "profile",
                "connections",
                "bytes_sent",
                "bytes_received",
                "refused",
            ]
            .as_slice(),
        ),
        (
            "wipe",
            "wipe",
            [
                "assurance",
                "backend",
                "complete",
                "files",
                "bytes",
                "canary",
                "swap",
                "leftovers",
            ]
            .as_slice(),
        ),
    ] {
        if let Some(part) = job.get(name).filter(|part| part.is_object()) {
            let shown: Vec<_> = fields
                .iter()
                .map(|name| format!("{name} {}", field(part, name)))
                .collect();
            lines.push(format!("{title:12} {}", shown.join(", ")));
        }
    }
    for (title, name, fields) in WIPE_PARTS {
        if let Some(part) = job.pointer(name).filter(|part| part.is_object()) {
            let shown: Vec<_> = fields
                .iter()
                .map(|name| format!("{name} {}", field(part, name)))
                .collect();
            lines.push(format!("{title:12} {}", shown.join(", ")));
        }
    }
    for stream in ["stdout", "stderr"] {
        if let Some(part) = job.get("log").and_then(|log| log.get(stream)) {
            lines.push(format!(
                "{stream:12} {} lines, {} bytes, sha256 {}",
                field(part, "lines"),
                field(part, "bytes"),
                field(part, "sha256")
            ));
        }
    }
    let lists = [
        ("artifact", "artifacts", ["name", "bytes", "sha256"]),
        ("alert", "alerts", ["level", "title", "message"]),
        ("error", "errors", ["kind", "message", "at_unix_ms"]),
        ("rejected", "rejections", ["agent", "reason", "detail"]),
        ("gap", "gaps", ["reason", "records", "bytes"]),
    ];
    for (title, name, fields) in lists {
        for row in job
            .get(name)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let shown: Vec<_> = fields.iter().map(|name| field(row, name)).collect();
            lines.push(format!("{title:12} {}", shown.join("  ")));
        }
    }
    for picture in job
        .get("screenshots")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        lines.push(screenshot(picture));
    }
    for missing in job
        .get("missing")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        lines.push(format!(
            "{:12} {}",
            "missing",
            inert::line(missing.as_str().unwrap_or_default().as_bytes())
        ));
    }
    lines.extend(phases(job));
    lines.join("\n")
}

/// One picture, with the areas that it does not show.
fn screenshot(picture: &Value) -> String {
    let shown = ["seq", "reason", "sha256"].map(|name| field(picture, name));
    let masked = areas(picture);
    let masked = match masked.is_empty() {
        true => String::new(),
        false => format!("  masked {masked}"),
    };
    format!("{:12} {}{masked}", "screenshot", shown.join("  "))
}

/// Masked areas as `--mask-area` reads them.
pub(super) fn areas(shown: &Value) -> String {
    let area = |area: &Value| {
        let [x, y, width, height] = ["x", "y", "width", "height"].map(|name| field(area, name));
        format!("{x},{y},{width}x{height}")
    };
    let masked = shown.get("masked").and_then(Value::as_array);
    let areas: Vec<String> = masked.into_iter().flatten().map(area).collect();
    areas.join(" ")
}

/// The steps with their times.
pub(super) fn phases(job: &Value) -> Vec<String> {
    let steps = job.get("timeline").and_then(Value::as_array);
    let line = |step: &Value| format!("{}  {}", field(step, "at_unix_ms"), field(step, "phase"));
    steps.into_iter().flatten().map(line).collect()
}
