//! The report: what became of a job, in one packet whatever it left, told until it is recorded.

use std::time::Duration;

use order::{NetworkUse, Outcome, SessionSummary, WipeReport};
use privsep::Refusal;
use privsep::attendant::{MAX_ARTIFACT_NAME, MAX_ARTIFACTS};
use privsep::session::{FromSession, Report, ToSession};

use crate::close::{STOPPING, wait};
use crate::given::Given;
use crate::monitor::{Event, Monitor};
use crate::run::Exited;

/// A report that is not answered is told again: the broker may have a full disk.
const REPORT: Duration = Duration::from_secs(5);

/// What became of the job.
pub(crate) fn report(
    monitor: &mut Monitor,
    outcome: Result<(), Refusal>,
    exited: Exited,
    session: Option<SessionSummary>,
    network: Option<NetworkUse>,
    wipe: Option<WipeReport>,
) -> Report {
    let end = monitor.end.take();
    let by_kernel = monitor.ended_by_kernel(&outcome, exited);
    let (outcome, refusal) = match (end, outcome) {
        (Some(end), _) => (end.outcome, Some(end.refusal)),
        (None, _) if by_kernel.is_some() && monitor.running => (Outcome::Failed, by_kernel),
        (None, _) if by_kernel.is_some() => (Outcome::NotStarted, by_kernel),
        (None, Err(refusal)) if monitor.running => (Outcome::Interrupted, Some(refusal)),
        (None, Err(refusal)) => (Outcome::NotStarted, Some(refusal)),
        (None, Ok(())) if exited.code == Some(0) => (Outcome::Succeeded, None),
        (None, Ok(())) => (Outcome::Failed, None),
    };
    let totals = std::mem::take(&mut monitor.totals);
    bounded(Report {
        outcome,
        refusal,
        exit_code: exited.code,
        signal: exited.signal,
        timeline: monitor.timeline.clone(),
        secrets: monitor.given.iter().map(Given::told).collect(),
        session,
        log: totals.log,
        artifacts: totals.artifacts,
        screenshots: totals.screenshots,
        lane_epoch: monitor.lane_epoch.clone(),
        lane_last_seq: totals.last_seq,
        processes_killed: exited.left,
        usage: monitor.usage(),
        not_enforced: std::mem::take(&mut monitor.bounds.not_enforced),
        network,
        wipe,
        sandbox: monitor.sandbox.take(),
    })
}

/// Tells the broker until it has written the report down.
pub(crate) fn deliver(monitor: &mut Monitor, report: &Report) {
    let began = sys::clock::boottime();
    loop {
        monitor
            .link
            .tell(&FromSession::Report(Box::new(report.clone())));
        let recorded = wait(monitor, REPORT, |event| {
            matches!(
                event,
                Event::Broker(ToSession::Recorded, _) | Event::BrokerBack
            )
        });
        if matches!(recorded, Some(Event::Broker(ToSession::Recorded, _))) {
            return;
        }
        if monitor.terminated && sys::clock::boottime() > began + STOPPING {
            return;
        }
    }
}

/// Longest text of a report, in bytes, and longest list: a report is one packet, whatever the job
/// left.
const LONGEST: usize = 256;
const MOST: usize = 16;

fn short(text: &str) -> String {
    text[..text.floor_char_boundary(LONGEST)].to_owned()
}

/// A list that fits a packet, whatever the job left.
pub(crate) fn shorten(list: &mut Vec<String>) {
    let more = list.len().saturating_sub(MOST);
    list.truncate(MOST);
    list.iter_mut().for_each(|line| *line = short(line));
    if more > 0 {
        list.push(format!("and {more} more"));
    }
}

fn bounded(mut report: Report) -> Report {
    report.artifacts.truncate(MAX_ARTIFACTS);
    for artifact in &mut report.artifacts {
        let end = artifact.name.floor_char_boundary(MAX_ARTIFACT_NAME);
        artifact.name.truncate(end);
    }
    if let Some(refusal) = &mut report.refusal {
        *refusal = Refusal::new(&short(&refusal.code), short(&refusal.detail));
    }
    for limit in &mut report.not_enforced {
        limit.reason = short(&limit.reason);
    }
    if let Some(wipe) = &mut report.wipe {
        [&mut wipe.swept, &mut wipe.leftovers]
            .into_iter()
            .chain(wipe.volume.as_mut().map(|volume| &mut volume.passed_over))
            .for_each(shorten);
    }
    for stream in [&mut report.log.stdout, &mut report.log.stderr] {
        stream.sha256 = short(&stream.sha256);
    }
    report
}

#[cfg(test)]
mod tests {
    use order::{
        ArtifactTotal, Assurance, Canary, KeyReport, LogTotals, Phase, PhaseAt, ScanReport,
        SecretUse, Sha256Hex, StreamTotals, Unenforced, Usage, VolumeBackend, VolumeReport,
    };

    use super::*;

    /// Cipher and identifier are the kernel's, the rest is bounded.
    fn largest_volume(long: &str) -> VolumeReport {
        VolumeReport {
            backend: VolumeBackend::DmCrypt,
            passed_over: vec![long.to_owned(); 300],
            key: Some(KeyReport {
                cipher: sys::fscrypt::CIPHER.to_owned(),
                identifier: "f".repeat(128),
                created_unix_ms: u64::MAX,
                destroyed_unix_ms: u64::MAX,
                removal_flags: Some(u32::MAX),
            }),
            files: u64::MAX,
            bytes: u64::MAX,
            canary: Canary::Readable,
            scan: Some(ScanReport {
                bytes: u64::MAX,
                secrets: u32::MAX,
                too_short: u32::MAX,
                found: u32::MAX,
            }),
        }
    }

    fn largest_use() -> NetworkUse {
        let peer = order::PeerUse {
            name: "x".repeat(253),
            address: "f".repeat(64),
            port: u16::MAX,
            connections: u64::MAX,
            bytes_sent: u64::MAX,
            bytes_received: u64::MAX,
        };
        NetworkUse {
            peers: vec![peer; privsep::egress::MAX_PEERS],
            more_peers: u64::MAX,
            ..NetworkUse::default()
        }
    }

    #[test]
    fn the_largest_report_that_a_job_can_bring_about_fits_a_packet() {
        let long = "\u{fffd}".repeat(2_000);
        let artifact = ArtifactTotal {
            name: long.clone(),
            sha256: Sha256Hex([7; 32]),
            bytes: u64::MAX,
        };
        let stream = StreamTotals {
            lines: u64::MAX,
            bytes: u64::MAX,
            sha256: long.clone(),
        };
        let report = Report {
            outcome: Outcome::Interrupted,
            refusal: Some(Refusal::new(&long, long.clone())),
            exit_code: Some(i32::MIN),
            signal: Some(i32::MIN),
            timeline: vec![
                PhaseAt {
                    phase: Phase::Wiped,
                    at_unix_ms: u64::MAX
                };
                16
            ],
            secrets: vec![
                SecretUse {
                    name: "s".repeat(LONGEST),
                    given_at_unix_ms: u64::MAX
                };
                64
            ],
            session: None,
            log: LogTotals {
                stdout: stream.clone(),
                stderr: stream,
            },
            artifacts: vec![artifact; 300],
            screenshots: u32::MAX,
            lane_epoch: "f".repeat(32),
            lane_last_seq: u64::MAX,
            processes_killed: u32::MAX,
            usage: Some(Usage {
                cpu_ms: Some(u64::MAX),
                ..Usage::default()
            }),
            not_enforced: vec![
                Unenforced {
                    limit: "io-bytes-per-second".to_owned(),
                    reason: long.clone()
                };
                8
            ],
            network: Some(largest_use()),
            wipe: Some(WipeReport {
                complete: false,
                assurance: Assurance::Failed,
                volume: Some(largest_volume(&long)),
                swap: "possible".to_owned(),
                duration_ms: u64::MAX,
                swept: vec![long.clone(); 300],
                leftovers: vec![long; 300],
            }),
            sandbox: Some(order::SandboxSummary {
                profile: order::SandboxProfile::Legacy,
                landlock: u32::MAX,
                seccomp: false,
                mdwe: order::Mdwe::Off,
                without: order::SandboxPart::ALL.to_vec(),
            }),
        };
        let message = FromSession::Report(Box::new(bounded(report)));
        assert!(privsep::encode(&message).is_ok());
    }
}
