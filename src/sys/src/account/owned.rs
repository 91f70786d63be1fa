//! The processes of one user, wherever they are: a session's cgroup is no bound for what a user
//! can start through services.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, Uid};

use crate::clock::boottime;
use crate::poll::{self, Watch};
use crate::process::{self, Process};

/// The processes of a user could not be listed or ended.
#[derive(Debug, thiserror::Error)]
pub enum OwnedError {
    /// /proc could not be listed.
    #[error("can't list the processes in /proc")]
    List {
        /// The kernel's reason.
        source: io::Error,
    },
    /// The owner of a live process could not be read, so nothing is proven.
    #[error("can't read {}", path.display())]
    Status {
        /// The file.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A status file is not what proc(5) describes.
    #[error("{} has no line of four user ids", path.display())]
    OddStatus {
        /// The file.
        path: PathBuf,
    },
    /// Root's processes are the host.
    #[error("refused to kill all processes of root")]
    Root,
    /// One of them could not be killed.
    #[error("can't kill the processes of uid {uid}")]
    Kill {
        /// Whose.
        uid: Uid,
        /// What went wrong.
        source: process::Error,
    },
    /// Waiting for their end failed.
    #[error("can't wait for the end of the processes of uid {uid}")]
    Wait {
        /// Whose.
        uid: Uid,
        /// What went wrong.
        source: poll::Error,
    },
    /// Some are left when the time is over.
    #[error("uid {uid} still has {} processes: {left:?}", left.len())]
    Left {
        /// Whose.
        uid: Uid,
        /// Their ids.
        left: Vec<Pid>,
    },
}

/// What [`kill_all_of_uid`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Killed {
    /// How many processes were killed.
    pub processes: usize,
}

/// The live processes of which any user id (real, effective, saved, file system) is `uid`. One
/// that has ended and only waits to be collected by its parent is not among them.
///
/// # Errors
///
/// [`OwnedError::List`], [`OwnedError::Status`] and [`OwnedError::OddStatus`].
pub fn processes_of_uid(uid: Uid) -> Result<Vec<Pid>, OwnedError> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").map_err(|source| OwnedError::List { source })? {
        let name = entry
            .map_err(|source| OwnedError::List { source })?
            .file_name();
        if let Some(pid) = name
            .to_str()
            .and_then(|name| name.parse().ok())
            .map(Pid::from_raw)
            && is_live_of(pid, uid)?
        {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Kills every process of this user with `SIGKILL` until none is left: each is opened by
/// descriptor, checked again and only then killed, so that a reused id hits nobody else. The
/// calling process is left out.
///
/// # Errors
///
/// [`OwnedError::Left`] when `timeout` is over, and all others.
pub fn kill_all_of_uid(uid: Uid, timeout: Duration) -> Result<Killed, OwnedError> {
    if uid.is_root() {
        return Err(OwnedError::Root);
    }
    let end = boottime().saturating_add(timeout);
    let mut killed = HashSet::new();
    loop {
        let live = others_of_uid(uid)?;
        if live.is_empty() {
            return Ok(Killed {
                processes: killed.len(),
            });
        }
        let opened = kill_each(&live, uid)?;
        killed.extend(opened.iter().map(Process::pid));
        let left = end.saturating_sub(boottime());
        if left.is_zero() {
            return Err(OwnedError::Left { uid, left: live });
        }
        wait_for_any(&opened, uid, left)?;
    }
}

fn others_of_uid(uid: Uid) -> Result<Vec<Pid>, OwnedError> {
    let mut live = processes_of_uid(uid)?;
    live.retain(|pid| *pid != Pid::this());
    Ok(live)
}

fn kill_each(pids: &[Pid], uid: Uid) -> Result<Vec<Process>, OwnedError> {
    let failed = |source| OwnedError::Kill { uid, source };
    let mut opened = Vec::new();
    for pid in pids {
        let process = match Process::open(*pid) {
            Err(process::Error::Open {
                source: Errno::ESRCH,
                ..
            }) => continue,
            outcome => outcome.map_err(failed)?,
        };
        if is_live_of(*pid, uid)? {
            process.send(Signal::SIGKILL).map_err(failed)?;
            opened.push(process);
        }
    }
    Ok(opened)
}

/// A process in an uninterruptible wait ends later: the next round looks at all of them again.
fn wait_for_any(processes: &[Process], uid: Uid, left: Duration) -> Result<(), OwnedError> {
    let mut watches: Vec<Watch<'_>> = processes.iter().map(Watch::readable).collect();
    // Without any to wait for, all had ended between the list and now.
    let left = if watches.is_empty() {
        Duration::ZERO
    } else {
        left
    };
    poll::wait(&mut watches, Some(left))
        .map(drop)
        .map_err(|source| OwnedError::Wait { uid, source })
}

fn is_live_of(pid: Pid, uid: Uid) -> Result<bool, OwnedError> {
    let path = PathBuf::from(format!("/proc/{pid}/status"));
    let status = match fs::read(&path) {
        Ok(status) => status,
        // Ended meanwhile.
        Err(source) if matches!(source.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => {
            return Ok(false);
        }
        Err(source) => return Err(OwnedError::Status { path, source }),
    };
    parse(&status, uid).ok_or(OwnedError::OddStatus { path })
}

/// Whether this status is of a live process that has the user id; none if it can't be read.
fn parse(status: &[u8], uid: Uid) -> Option<bool> {
    // The name is the user's choice and may be any bytes, but the kernel writes its newlines as
    // `\n`: lines are the kernel's own.
    let mut lines = status.split(|byte| *byte == b'\n');
    let mut field = |name: &[u8]| {
        lines
            .find_map(|line| line.strip_prefix(name))
            .and_then(|rest| std::str::from_utf8(rest).ok())
    };
    let state = field(b"State:\t")?;
    let ids: Vec<u32> = field(b"Uid:\t")?
        .split_ascii_whitespace()
        .map_while(|id| id.parse().ok())
        .collect();
    let threads: u32 = field(b"Threads:\t")?.trim().parse().ok()?;
    if ids.len() != 4 {
        return None;
    }
    // A process whose first thread has ended looks like a zombie while its others go on.
    let ended = state.starts_with(['Z', 'X']) && threads <= 1;
    Some(!ended && ids.contains(&uid.as_raw()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::Command;

    use super::*;

    /// In no account database; each test has its own.
    const KILLED: Uid = Uid::from_raw(3_987_650_001);
    const ZOMBIE: Uid = Uid::from_raw(3_987_650_002);

    fn status(state: &str, uids: &str, threads: u32) -> String {
        format!(
            "Name:\tUid:\\n\nUmask:\t0022\nState:\t{state}\nTgid:\t1\nUid:\t{uids}\nGid:\t0\t0\t0\t0\nThreads:\t{threads}\n"
        )
    }

    #[test]
    fn any_of_the_four_ids_counts() {
        for uids in ["7\t0\t0\t0", "0\t7\t0\t0", "0\t0\t7\t0", "0\t0\t0\t7"] {
            assert_eq!(
                parse(status("S (sleeping)", uids, 1).as_bytes(), Uid::from_raw(7)),
                Some(true),
                "{uids}"
            );
        }
        assert_eq!(
            parse(
                status("S (sleeping)", "70\t70\t70\t70", 1).as_bytes(),
                Uid::from_raw(7)
            ),
            Some(false)
        );
    }

    #[test]
    fn a_zombie_with_threads_is_alive() {
        assert_eq!(
            parse(
                status("Z (zombie)", "7\t7\t7\t7", 1).as_bytes(),
                Uid::from_raw(7)
            ),
            Some(false)
        );
        assert_eq!(
            parse(
                status("Z (zombie)", "7\t7\t7\t7", 2).as_bytes(),
                Uid::from_raw(7)
            ),
            Some(true)
        );
    }

    #[test]
    fn a_status_that_can_not_be_read_proves_nothing() {
        assert_eq!(parse(b"", Uid::from_raw(7)), None);
        assert_eq!(
            parse(
                status("S (sleeping)", "7\t7\t7", 1).as_bytes(),
                Uid::from_raw(7)
            ),
            None
        );
    }

    #[test]
    fn every_process_of_a_user_is_killed_and_none_of_another() {
        let sleeper = |uid: Uid| {
            Command::new("sleep")
                .arg("1000")
                .uid(uid.as_raw())
                .spawn()
                .unwrap()
        };
        let mut children = [sleeper(KILLED), sleeper(KILLED), sleeper(KILLED)];
        let mut other = Command::new("sleep").arg("1000").spawn().unwrap();
        assert_eq!(processes_of_uid(KILLED).unwrap().len(), 3);
        let killed = kill_all_of_uid(KILLED, Duration::from_secs(10)).unwrap();
        assert_eq!(killed.processes, 3);
        for child in &mut children {
            assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
        }
        assert_eq!(other.try_wait().unwrap(), None);
        other.kill().unwrap();
        other.wait().unwrap();
    }

    #[test]
    fn one_that_has_ended_and_is_not_collected_yet_is_not_live() {
        let mut child = Command::new("true").uid(ZOMBIE.as_raw()).spawn().unwrap();
        let process = Process::open(Pid::from_raw(child.id() as i32)).unwrap();
        assert!(process.ended_within(Duration::from_secs(10)).unwrap());
        assert_eq!(processes_of_uid(ZOMBIE).unwrap(), []);
        child.wait().unwrap();
    }

    #[test]
    fn root_is_refused() {
        assert!(matches!(
            kill_all_of_uid(Uid::from_raw(0), Duration::ZERO),
            Err(OwnedError::Root)
        ));
    }
}
