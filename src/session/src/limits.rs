//! What all processes of a job may use together: set, looked at, and what came of it.
//!
//! Where logind runs the job's group is its account's slice. systemd sets its bounds when the broker asks
//! for it (what was written there directly it would undo at its next occasion); what systemd has no
//! setting for is written here. Elsewhere it is a group of our own, bounded before anything is in it.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use order::{Outcome, Unenforced, Usage};
use privsep::Refusal;
use privsep::session::{Backend, FromSession, Resources, Spec, ToSession};
use sys::cgroup::{Disk, Group, Limit, MemoryEvents, NotApplied, disk_of};
use sys::poll::Watch;

use crate::close::{STOPPING, wait};
use crate::group;
use crate::monitor::{End, EndMode, Event, Monitor};
use crate::open::await_step;
use crate::run::Exited;

/// systemd's answer, on a host under load, and one restart of the bus.
const SET: Duration = Duration::from_secs(60);
/// Groups below a job's own: a bot has no cgroup file system, and nothing of ours makes any.
const GROUPS_BELOW: u64 = 4;
/// The kernel's usual period of quotas, microseconds.
const PERIOD: u64 = 100_000;
/// A write beyond RLIMIT_FSIZE.
const SIGXFSZ: i32 = 25;
const SIGKILL: i32 = 9;

/// What is known about the bounds of a job.
#[derive(Default)]
pub(crate) struct Bounds {
    /// The account's slice; none where the group is our own.
    slice: Option<Group>,
    pub(crate) not_enforced: Vec<Unenforced>,
    /// systemd was asked and has not answered.
    asked: bool,
    /// The kernel's kills in the group.
    events: Option<MemoryEvents>,
    /// No page of the job goes to swap.
    pub(crate) swap_excluded: bool,
    used: sys::cgroup::Usage,
}

/// Each bound with its name in the order.
fn bounds_of(wanted: &Resources, disks: &[Disk]) -> Vec<(&'static str, Limit)> {
    let mut bounds = vec![
        ("memory-bytes", Limit::Memory(wanted.memory_bytes)),
        // One process that the kernel picks may be the least guilty, and the rest is of no use.
        ("memory-bytes", Limit::KillTogether(true)),
        ("swap", Limit::Swap(0)),
        ("processes", Limit::Processes(wanted.processes)),
        ("cpu-weight", Limit::CpuWeight(wanted.cpu_weight)),
        ("io-weight", Limit::IoWeight(wanted.io_weight)),
    ];
    let quota = |percent| Limit::Cpu {
        quota: percent * PERIOD / 100,
        period: PERIOD,
    };
    bounds.extend(
        wanted
            .cpu_percent
            .map(|percent| ("cpu-percent", quota(percent))),
    );
    let bytes = wanted.io_bytes_per_second.into_iter();
    bounds.extend(bytes.flat_map(|per_second| {
        let bound = move |disk: &Disk| Limit::IoBytes {
            disk: *disk,
            per_second,
        };
        disks
            .iter()
            .map(move |disk| ("io-bytes-per-second", bound(disk)))
    }));
    bounds
}

/// The disks of these directories, each once.
fn disks_of(paths: &[String]) -> Vec<Disk> {
    let mut disks = Vec::new();
    for disk in paths.iter().filter_map(|path| disk_of(Path::new(path))) {
        if !disks.contains(&disk) {
            disks.push(disk);
        }
    }
    disks
}

impl Bounds {
    /// From now on the kernel's kills are seen as they happen.
    fn watch(&mut self, group: Option<&Group>) {
        self.events = group.and_then(Group::memory_events);
        // Reading arms the first notification.
        let _ = self.has_killed();
    }

    /// To wait for.
    pub(crate) fn events(&self) -> Option<Watch<'_>> {
        self.events.as_ref().map(Watch::changed)
    }

    /// Whether the kernel has killed for want of memory. Told once.
    pub(crate) fn has_killed(&mut self) -> bool {
        let kills = self.events.as_mut().map(MemoryEvents::kills);
        let killed = matches!(kills, Some(Some(1..)));
        if killed || kills == Some(None) {
            self.events = None;
        }
        killed
    }

    /// Notes which of these bounds are not in force, each name once.
    fn note(&mut self, bounds: &[(&'static str, Limit)], missing: &[NotApplied]) {
        let of = |missing: &NotApplied| {
            let row = bounds.iter().find(|(_, limit)| *limit == missing.limit);
            let reason = match &missing.reason {
                Some(reason) => reason.to_string(),
                None => format!(
                    "this host's control groups have no {}",
                    missing.limit.file()
                ),
            };
            row.map(|(name, _)| (*name, reason))
        };
        let mut seen: BTreeSet<String> = self
            .not_enforced
            .iter()
            .map(|own| own.limit.clone())
            .collect();
        let found: Vec<_> = missing.iter().filter_map(of).collect();
        let has = |name: &str| found.iter().any(|(own, _)| *own == name);
        self.swap_excluded = !has("swap");
        for (name, reason) in &found {
            // init bounds the account's processes in any case, by number.
            let otherwise = *name == "processes" || (*name == "swap" && !host_swaps());
            if !otherwise && seen.insert((*name).to_owned()) {
                self.not_enforced.push(Unenforced {
                    limit: (*name).to_owned(),
                    reason: reason.clone(),
                });
            }
        }
    }

    /// What has no disk to be set for.
    fn note_disks(&mut self, wanted: &Resources, disks: &[Disk]) {
        if wanted.io_bytes_per_second.is_some() && disks.is_empty() {
            self.not_enforced.push(Unenforced {
                limit: "io-bytes-per-second".to_owned(),
                reason: "this host's files lie on no single disk".to_owned(),
            });
        }
    }
}

fn host_swaps() -> bool {
    std::fs::read_to_string("/proc/swaps").is_ok_and(|text| text.lines().count() > 1)
}

/// Bounds the group that was just made, before the job's first process is in it.
pub(crate) fn bound_own(group: Option<&Group>, wanted: &Resources) -> Bounds {
    let mut known = Bounds::default();
    let disks = disks_of(&wanted.io_paths);
    let bounds = bounds_of(wanted, &disks);
    known.note_disks(wanted, &disks);
    let limits: Vec<Limit> = bounds.iter().map(|(_, limit)| *limit).collect();
    let missing = match group {
        Some(group) => {
            let _ = group.apply(&[Limit::Descendants(GROUPS_BELOW)]);
            group.apply(&limits)
        }
        None => limits
            .iter()
            .map(|limit| NotApplied {
                limit: *limit,
                reason: None,
            })
            .collect(),
    };
    known.note(&bounds, &missing);
    known.watch(group);
    known
}

/// Has systemd bound the account's slice, and looks whether it did. The session is open and init
/// waits: nothing of the bot has run.
pub(crate) fn bound_slice(monitor: &mut Monitor) -> Result<(), Refusal> {
    if monitor.spec.backend != Backend::Logind {
        return Ok(());
    }
    let wanted = monitor.spec.resources.clone();
    monitor.bounds.asked = true;
    monitor
        .link
        .tell(&FromSession::LimitsWanted(wanted.clone()));
    await_step(
        monitor,
        SET,
        "LIMITS_NOT_SET",
        |monitor, event| match event {
            Event::Broker(ToSession::Limited { problem }, _) => {
                monitor.bounds.asked = false;
                Some(problem.map_or(Ok(()), Err))
            }
            // What was asked went down with the old broker.
            Event::BrokerBack => {
                let wanted = monitor.spec.resources.clone();
                monitor.link.tell(&FromSession::LimitsWanted(wanted));
                None
            }
            _ => None,
        },
    )?;
    let uid = monitor.spec.account.uid;
    let slice = group::slice(uid).ok_or_else(|| {
        Refusal::new(
            "LIMITS_NOT_SET",
            format!("user-{uid}.slice has no control group"),
        )
    })?;
    let disks = disks_of(&wanted.io_paths);
    let bounds = bounds_of(&wanted, &disks);
    monitor.bounds.note_disks(&wanted, &disks);
    // systemd 252 has no setting for it.
    let mut missing = slice.apply(&[Limit::KillTogether(true)]);
    let by_systemd: Vec<Limit> = bounds
        .iter()
        .map(|(_, limit)| *limit)
        .filter(|limit| !matches!(limit, Limit::KillTogether(_)))
        .collect();
    missing.extend(slice.not_in_force(&by_systemd));
    monitor.bounds.note(&bounds, &missing);
    monitor.bounds.watch(Some(&slice));
    monitor.bounds.slice = Some(slice);
    Ok(())
}

impl Monitor {
    fn job_group(&self) -> Option<&Group> {
        self.group.as_ref().or(self.bounds.slice.as_ref())
    }

    /// Processor time of everything that ever ran in the job.
    pub(crate) fn processor_time(&self) -> Option<Duration> {
        let used = self.job_group()?.cpu_us().ok()?;
        Some(Duration::from_micros(used))
    }

    /// Counts what was used by now: a group that goes takes its counts along.
    pub(crate) fn count_usage(&mut self) {
        if let Some(group) = self.job_group() {
            self.bounds.used = self.bounds.used.max(group.usage());
        }
    }

    /// The kernel killed some of the job, or all of it: where systemd wrote its own `memory.oom.group` back
    /// (it does at every reload) it is one process, and the rest goes now.
    pub(crate) fn out_of_memory(&mut self) {
        self.count_usage();
        let outcome = if self.running {
            Outcome::Failed
        } else {
            Outcome::NotStarted
        };
        if let Some(refusal) = by_kernel(&self.spec, &self.bounds.used, true, None) {
            self.ask_end(End {
                outcome,
                refusal,
                mode: EndMode::Kill,
            });
        }
    }

    /// systemd may still be at it, and would bound a slice of which nothing is to be left.
    pub(crate) fn await_limits(&mut self) {
        let limit = if self.terminated { STOPPING } else { SET };
        if std::mem::take(&mut self.bounds.asked) {
            wait(self, limit, |event| {
                matches!(
                    event,
                    Event::Broker(ToSession::Limited { .. }, _) | Event::BrokerBack
                )
            });
        }
    }

    /// What the job used, for its report.
    pub(crate) fn usage(&self) -> Option<Usage> {
        self.leader_started.then(|| told(&self.bounds.used))
    }

    /// Why the kernel ended the job, if it did.
    pub(crate) fn ended_by_kernel(
        &self,
        outcome: &Result<(), Refusal>,
        exited: Exited,
    ) -> Option<Refusal> {
        by_kernel(
            &self.spec,
            &self.bounds.used,
            outcome.is_err(),
            exited.signal,
        )
    }
}

fn told(used: &sys::cgroup::Usage) -> Usage {
    let millis = |micros: Option<u64>| micros.map(|micros| micros / 1_000);
    Usage {
        cpu_ms: millis(used.cpu_us),
        cpu_held_back_ms: millis(used.cpu_held_back_us),
        memory_peak_bytes: used.memory_peak,
        memory_kills: used.memory_kills,
        processes_peak: used.processes_peak,
        processes_refused: used.processes_refused,
        io_read_bytes: used.io_read,
        io_written_bytes: used.io_written,
    }
}

/// `lost`: the session ended under the job, as it does when all of it is killed together.
fn by_kernel(
    spec: &Spec,
    used: &sys::cgroup::Usage,
    lost: bool,
    signal: Option<i32>,
) -> Option<Refusal> {
    let kills = used.memory_kills.unwrap_or(0);
    if kills > 0 && (lost || signal == Some(SIGKILL)) {
        let (code, whose) = match used.out_of_memory {
            Some(0) => ("HOST_MEMORY", "the whole host was out of memory".to_owned()),
            _ => {
                let most = spec.resources.memory_bytes >> 20;
                (
                    "LIMIT_MEMORY",
                    format!("it wanted more than its {most} MiB of memory"),
                )
            }
        };
        let detail = format!("the kernel killed the job ({kills} processes): {whose}");
        return Some(Refusal::new(code, detail));
    }
    (signal == Some(SIGXFSZ) && !lost).then(|| {
        let most = spec.volume_bytes >> 20;
        let detail = format!("the bot wrote a file beyond the {most} MiB of its volume");
        Refusal::new("LIMIT_FILE_SIZE", detail)
    })
}
