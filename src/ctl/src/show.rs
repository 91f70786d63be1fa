//! For people.

use agent::control::{JobLine, LinkState, Status};

/// Left-aligned columns, two spaces between them.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A moment as people write it.
pub(crate) fn moment(unix_ms: u64) -> String {
    let seconds = i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_second(seconds) {
        Ok(moment) => moment.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => "-".to_owned(),
    }
}

pub(crate) fn status(status: &Status) -> String {
    let link = match status.link.state {
        LinkState::NotEnrolled => "not enrolled".to_owned(),
        LinkState::Connecting => "connecting".to_owned(),
        LinkState::Online => format!("online, session {}", status.link.session_epoch),
        LinkState::Refused => "refused".to_owned(),
    };
    let reason = if status.link.reason.is_empty() {
        link
    } else {
        format!("{link}: {}", status.link.reason)
    };
    let mut rows = vec![
        vec!["robotd".to_owned(), status.version.clone()],
        vec!["state".to_owned(), state(&status.state).to_owned()],
    ];
    let blockers = status.blockers.iter();
    rows.extend(blockers.map(|code| vec![String::new(), format!("{} ({code})", blocker(code))]));
    rows.extend([vec!["link".to_owned(), reason]]);
    let mut row = |name: &str, value: Option<String>| {
        rows.extend(value.map(|value| vec![name.to_owned(), value]))
    };
    row("orchestrator", status.link.url.clone());
    row("agent", status.link.agent_id.clone());
    row(
        "slots",
        Some(format!("{} of {} free", status.free_slots, status.slots)),
    );
    row("jobs", Some(status.jobs.to_string()));
    row(
        "spool",
        Some(format!(
            "{} wait for delivery, at most {}",
            size(status.spool_used_bytes),
            size(status.spool_limit_bytes)
        )),
    );
    row("host", said(&status.abilities));
    row(
        "lacks",
        said(&status.missing_abilities)
            .map(|names| format!("{names}: every job is refused (HOST_NOT_ABLE, host.require)")),
    );
    table(&rows)
}

fn said(names: &[String]) -> Option<String> {
    (!names.is_empty()).then(|| names.join(" "))
}

/// What it means.
fn state(word: &str) -> &str {
    match word {
        "ready" => "ready",
        "busy" => "busy: all slots are taken",
        "draining" => "draining: no new jobs are taken until `robotctl resume`",
        "unhealthy" => "unhealthy: no new jobs are taken",
        other => other,
    }
}

/// What it means and what to do.
fn blocker(code: &str) -> &'static str {
    match code {
        "BROKER_UNREACHABLE" => "robotd-broker does not answer; look at its unit or log",
        "SPOOL_FULL" => {
            "too much output waits for the orchestrator; it goes down when the link is up"
        }
        "DISK_FULL" => "the disk of the state directory is nearly full; free space",
        "NO_CLEAN_SLOT" => "no slot is proven clean; see `robotctl slot list`",
        "LANE_LOST" => {
            "robotd can't write its own records; look at the disk of its state directory"
        }
        _ => "see robotd's log",
    }
}

pub(crate) fn jobs(jobs: &[JobLine]) -> String {
    if jobs.is_empty() {
        return "No jobs.".to_owned();
    }
    let mut rows = vec![
        ["ATTEMPT", "PHASE", "LEASE", "FENCE"]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(jobs.iter().map(|job| {
        let lease = job.lease.clone().unwrap_or_else(|| "-".into());
        let fence = job
            .fence
            .map_or_else(|| "-".into(), |fence| fence.to_string());
        vec![job.attempt.clone(), job.phase.clone(), lease, fence]
    }));
    table(&rows)
}

/// Bytes as a person reads them.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use agent::control::LinkStatus;

    use super::*;

    #[test]
    fn a_healthy_host_in_nine_lines() {
        let status = Status {
            version: "0.1.0".into(),
            state: "ready".into(),
            blockers: vec![],
            slots: 3,
            free_slots: 2,
            jobs: 1,
            link: LinkStatus {
                state: LinkState::Online,
                url: Some("https://o:7443".into()),
                agent_id: Some("a".into()),
                session_epoch: 4,
                ..LinkStatus::default()
            },
            spool_used_bytes: 1536,
            spool_limit_bytes: 4 << 30,
            abilities: vec!["landlock=7".into(), "seccomp".into()],
            missing_abilities: vec![],
        };
        let expected = "\
robotd        0.1.0
state         ready
link          online, session 4
orchestrator  https://o:7443
agent         a
slots         2 of 3 free
jobs          1
spool         1.5 KiB wait for delivery, at most 4.0 GiB
host          landlock=7 seccomp";
        assert_eq!(super::status(&status), expected);
    }

    #[test]
    fn jobs_stand_in_columns() {
        let job = JobLine {
            attempt: "j.1".into(),
            phase: "RUNNING".into(),
            lease: None,
            fence: Some(7),
        };
        assert_eq!(
            jobs(&[job]),
            "ATTEMPT  PHASE    LEASE  FENCE\nj.1      RUNNING  -      7"
        );
        assert_eq!(jobs(&[]), "No jobs.");
    }
}
