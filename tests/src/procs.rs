//! The processes of a job, found from outside as an administrator would.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use crate::eventually;

/// Processes of one running attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobProcesses {
    /// robotd-session, the one that the broker started.
    pub monitor: i32,
    /// Its child that holds the PAM session.
    pub leader: i32,
    /// pid 1 of the job's namespaces.
    pub init: i32,
    /// robotd-attendant.
    pub attendant: i32,
    /// The bot itself: the process whose command line names the entry point.
    pub bot: i32,
}

impl JobProcesses {
    /// Waits until they are all there. `entry` tells the bot from the rest.
    ///
    /// # Panics
    /// When they are not within two minutes.
    pub fn of(job: &str, entry: &str) -> Self {
        eventually(&format!("all processes of job {job}"), || {
            let monitor = pids()
                .into_iter()
                .find(|pid| arguments(*pid).contains(&format!("--attempt\0{job}")))?;
            let below = children(monitor);
            let attendant = below
                .iter()
                .copied()
                .find(|pid| arguments(*pid).contains("robotd-attendant"))?;
            let leader = below
                .iter()
                .copied()
                .find(|pid| !children(*pid).is_empty())?;
            let init = children(leader).first().copied()?;
            let bot = descendants(init)
                .into_iter()
                .find(|pid| arguments(*pid).contains(entry))?;
            Some(Self {
                monitor,
                leader,
                init,
                attendant,
                bot,
            })
        })
    }

    /// A process of the job by a word of its command line, such as `Xvfb`.
    pub fn named(&self, word: &str) -> Option<i32> {
        descendants(self.init)
            .into_iter()
            .find(|pid| arguments(*pid).contains(word))
    }
}

/// All processes, oldest first unless pids have wrapped around.
pub fn pids() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut all: Vec<i32> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    all.sort_unstable();
    all
}

/// A command line, its parts separated by NUL; empty for what has ended.
pub fn arguments(pid: i32) -> String {
    fs::read(format!("/proc/{pid}/cmdline"))
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

/// Open descriptors.
pub fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Processes whose program has this name and that a user runs.
pub fn running(name: &str, uid: u32) -> Vec<i32> {
    let of_user =
        |pid: &i32| fs::metadata(format!("/proc/{pid}")).is_ok_and(|own| own.uid() == uid);
    let named = |pid: &i32| {
        fs::read_to_string(format!("/proc/{pid}/comm"))
            .is_ok_and(|own| name.starts_with(own.trim()))
    };
    pids().into_iter().filter(of_user).filter(named).collect()
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, so what follows its last parenthesis counts.
    let (_, after) = stat.rsplit_once(')')?;
    after.split_whitespace().nth(1)?.parse().ok()
}

fn children(of: i32) -> Vec<i32> {
    pids()
        .into_iter()
        .filter(|pid| parent(*pid) == Some(of))
        .collect()
}

fn descendants(of: i32) -> Vec<i32> {
    let mut all = children(of);
    let mut at = 0;
    while at < all.len() {
        all.extend(children(all[at]));
        at += 1;
    }
    all
}
