//! Who ended a job and what it used, in sentences.

use serde_json::Value;

use super::render::field;

/// The lines of one job; none before its result is in.
pub(super) fn lines(job: &Value) -> Vec<String> {
    let sentence = ended_by(&job["ended_by"]).map(|said| ("ended by", said));
    let used = usage(&job["usage"]).map(|said| ("used", said));
    let lacking = job["not_enforced"].as_array().into_iter().flatten();
    let lacking = lacking.map(|row| {
        let said = format!("{}: {}", field(row, "limit"), field(row, "reason"));
        ("not enforced", said)
    });
    let remarks = job["remarks"].as_array().into_iter().flatten();
    let remarks = remarks.map(|remark| {
        (
            "remark",
            super::inert::line(remark.as_str().unwrap_or_default().as_bytes()),
        )
    });
    let all = sentence
        .into_iter()
        .chain(used)
        .chain(lacking)
        .chain(remarks);
    all.map(|(title, said)| format!("{title:12} {said}"))
        .collect()
}

fn ended_by(ended: &Value) -> Option<String> {
    let detail = field(ended, "detail");
    let who = match ended["who"].as_str()? {
        "limit" => format!("a limit of its order, {}", field(ended, "limit")),
        "bot" => "itself".to_owned(),
        "operator" => "who stopped it".to_owned(),
        "lease" => "its license lease".to_owned(),
        "host" => "its host".to_owned(),
        "kernel" => "its host's kernel".to_owned(),
        _ => field(ended, "who"),
    };
    Some(format!("{who}: {detail}"))
}

fn usage(usage: &Value) -> Option<String> {
    let number = |name: &str| usage[name].as_u64();
    let mebibytes = |name: &str| number(name).map(|bytes| bytes >> 20);
    let parts = [
        number("cpu_ms").map(|ms| format!("{}.{:03} s of processor", ms / 1_000, ms % 1_000)),
        number("cpu_held_back_ms")
            .filter(|ms| *ms > 0)
            .map(|ms| format!("held back {ms} ms by its quota")),
        mebibytes("memory_peak_bytes").map(|mib| format!("{mib} MiB of memory at most")),
        number("processes_peak").map(|count| format!("{count} processes at most")),
        number("processes_refused")
            .filter(|count| *count > 0)
            .map(|count| format!("{count} more refused")),
        mebibytes("io_read_bytes").map(|mib| format!("{mib} MiB read")),
        mebibytes("io_written_bytes").map(|mib| format!("{mib} MiB written")),
    ];
    let said: Vec<String> = parts.into_iter().flatten().collect();
    (!said.is_empty()).then(|| said.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_job_that_came_to_a_limit_is_told_in_a_sentence() {
        let job = json!({
            "ended_by": {"who": "limit", "limit": "memory-bytes", "detail": "it wanted more than its 64 MiB"},
            "usage": {"cpu_ms": 1234, "memory_peak_bytes": 67_108_864, "processes_refused": 0},
            "not_enforced": [{"limit": "io-weight", "reason": "no io.weight"}],
            "remarks": ["LIMIT_PROCESSES: 3 new processes were refused"],
        });
        assert_eq!(
            lines(&job),
            [
                "ended by     a limit of its order, memory-bytes: it wanted more than its 64 MiB",
                "used         1.234 s of processor, 64 MiB of memory at most",
                "not enforced io-weight: no io.weight",
                "remark       LIMIT_PROCESSES: 3 new processes were refused",
            ]
        );
    }

    #[test]
    fn a_job_that_has_not_ended_says_nothing_of_it() {
        let job = json!({"ended_by": null, "usage": null, "not_enforced": [], "remarks": []});
        assert!(lines(&job).is_empty());
    }
}
