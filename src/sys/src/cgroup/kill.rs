//! Ending every process of a group.

use std::fs;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::group::is_gone;
use super::{Error, Group};
use crate::process::{self, Process};

/// How often the processes are listed and killed where the kernel can't do it at once. Frozen
/// they can't fork, so a second round only meets those that were being born.
const ROUNDS: usize = 100;

impl Group {
    /// Sends `SIGKILL` to every process in this group and below, those included that are forking
    /// just now. It does not wait: [`Group::wait_empty`] does.
    ///
    /// # Errors
    ///
    /// [`Error::Write`], [`Error::Read`] and [`Error::Kill`].
    pub fn kill(&self) -> Result<(), Error> {
        match self.write("cgroup.kill", "1") {
            Ok(()) => Ok(()),
            // No such file before Linux 5.14, unless it is the group that is gone.
            Err(Error::Write { source, .. }) if is_gone(&source) => self.kill_one_by_one(),
            Err(error) => Err(error),
        }
    }

    fn kill_one_by_one(&self) -> Result<(), Error> {
        if !self.path().exists() {
            return Ok(());
        }
        self.write("cgroup.freeze", "1")?;
        let killed = self.kill_rounds();
        // Whatever came of it: what is frozen can't be waited for by anybody.
        self.write("cgroup.freeze", "0")?;
        killed
    }

    fn kill_rounds(&self) -> Result<(), Error> {
        for _ in 0..ROUNDS {
            let mut fresh = false;
            for path in self.with_all_below()? {
                fresh |= Self::open(path)?.kill_members()?;
            }
            if !fresh {
                break;
            }
        }
        Ok(())
    }

    /// Whether there was one that had not been killed before.
    fn kill_members(&self) -> Result<bool, Error> {
        let mut fresh = false;
        for pid in self.processes()? {
            fresh |= self.kill_member(pid)?;
        }
        Ok(fresh)
    }

    fn kill_member(&self, pid: Pid) -> Result<bool, Error> {
        if has_pending_kill(pid) {
            return Ok(false);
        }
        let failed = |source| Error::Kill {
            path: self.path().to_owned(),
            source,
        };
        let process = match Process::open(pid) {
            Err(process::Error::Open {
                source: Errno::ESRCH,
                ..
            }) => return Ok(false),
            outcome => outcome.map_err(failed)?,
        };
        // Listed again now that the descriptor can't change its mind: else a reused id outside
        // of this group could be hit.
        if !self.processes()?.contains(&pid) {
            return Ok(false);
        }
        process.send(Signal::SIGKILL).map_err(failed)?;
        Ok(true)
    }

    /// [`Group::kill`], and waits until it is empty.
    ///
    /// # Errors
    ///
    /// As both.
    pub fn kill_and_wait(&self, timeout: Duration) -> Result<(), Error> {
        self.kill()?;
        self.wait_empty(timeout)
    }
}

/// Whether it was killed but has not come to its end yet, or is a zombie.
fn has_pending_kill(pid: Pid) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
        return true;
    };
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    let kill_bit = 1_u64 << (libc::SIGKILL - 1);
    let pending = |name| {
        field(name)
            .and_then(|mask| u64::from_str_radix(mask, 16).ok())
            .unwrap_or(0)
    };
    field("State:").is_some_and(|state| state.starts_with(['Z', 'X']))
        || (pending("SigPnd:") | pending("ShdPnd:")) & kill_bit != 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command};

    use super::*;

    /// A group below the one of the tests; on a hybrid host that is the root of version 2.
    struct Scratch(Option<Group>);

    impl Scratch {
        fn new(name: &str) -> Self {
            let parent = Group::of_process(Pid::this()).unwrap();
            Self(Some(
                Group::create(&parent, &format!("robotd-test-{}-{name}", Pid::this())).unwrap(),
            ))
        }

        fn group(&self) -> &Group {
            self.0.as_ref().unwrap()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let group = self.0.take().unwrap();
            group.kill_and_wait(Duration::from_secs(10)).unwrap();
            group.remove().unwrap();
        }
    }

    fn sleeper_in(group: &Group) -> Child {
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        group.add(Pid::from_raw(child.id() as i32)).unwrap();
        child
    }

    fn kill_all(scratch: &Scratch, kill: impl Fn(&Group) -> Result<(), Error>) {
        let below = Group::create(scratch.group(), "below").unwrap();
        let mut children = [sleeper_in(scratch.group()), sleeper_in(&below)];
        assert!(scratch.group().populated().unwrap());
        kill(scratch.group()).unwrap();
        scratch.group().wait_empty(Duration::from_secs(10)).unwrap();
        for child in &mut children {
            assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
        }
        assert!(!scratch.group().populated().unwrap());
    }

    #[test]
    fn killing_a_group_ends_all_in_it_and_below() {
        kill_all(&Scratch::new("kill"), Group::kill);
    }

    #[test]
    fn killing_one_by_one_ends_all_as_well() {
        kill_all(&Scratch::new("one-by-one"), Group::kill_one_by_one);
    }

    #[test]
    fn waiting_for_a_group_that_stays_full_ends_in_time() {
        let scratch = Scratch::new("full");
        let mut child = sleeper_in(scratch.group());
        let outcome = scratch.group().wait_empty(Duration::from_millis(5));
        assert!(
            matches!(outcome, Err(Error::NotEmpty { .. })),
            "{outcome:?}"
        );
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_group_that_is_gone_is_empty_and_killed() {
        let scratch = Scratch::new("gone");
        let gone = Group::create(scratch.group(), "gone").unwrap();
        fs::remove_dir(gone.path()).unwrap();
        assert!(!gone.populated().unwrap());
        gone.kill_and_wait(Duration::ZERO).unwrap();
        gone.remove().unwrap();
    }

    #[test]
    fn limits_without_a_controller_are_reported() {
        let scratch = Scratch::new("limits");
        let limits = [
            super::super::Limit::Descendants(4),
            super::super::Limit::Memory(1 << 30),
        ];
        let has_memory = scratch
            .group()
            .controllers()
            .unwrap()
            .iter()
            .any(|name| name == "memory");
        let missing = scratch.group().apply(&limits);
        assert_eq!(missing.len(), usize::from(!has_memory));
        assert_eq!(
            fs::read_to_string(scratch.group().path().join("cgroup.max.descendants")).unwrap(),
            "4\n"
        );
    }

    #[test]
    fn a_name_can_not_lead_elsewhere() {
        let scratch = Scratch::new("name");
        for name in ["..", "", ".", "a/b"] {
            assert!(
                matches!(
                    Group::create(scratch.group(), name),
                    Err(Error::BadName { .. })
                ),
                "{name}"
            );
        }
        assert!(matches!(
            Group::at("user.slice/../.."),
            Err(Error::BadName { .. })
        ));
    }
}
