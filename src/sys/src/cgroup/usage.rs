//! What the processes of a group have used, and how often they came to a bound.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use super::group::read_again;
use super::limits::value_of;
use super::{Error, Group};

/// What a group and all below it have used since it was made. What the kernel does not count here,
/// for want of a controller or of age, is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time, microseconds. Counted in every group.
    pub cpu_us: Option<u64>,
    /// For how long a quota held it back, microseconds.
    pub cpu_held_back_us: Option<u64>,
    /// Most memory at once, bytes (Linux 5.19).
    pub memory_peak: Option<u64>,
    /// How often it was out of its own memory.
    pub out_of_memory: Option<u64>,
    /// Processes that the kernel killed for want of memory, this group's or the host's.
    pub memory_kills: Option<u64>,
    /// Most processes and threads at once.
    pub processes_peak: Option<u64>,
    /// Forks that the bound refused.
    pub processes_refused: Option<u64>,
    /// Bytes read from disks.
    pub io_read: Option<u64>,
    /// Bytes written to disks.
    pub io_written: Option<u64>,
}

impl Usage {
    /// Of two looks at a group, the later of each count: a group that is being removed counts no more.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            cpu_us: self.cpu_us.max(other.cpu_us),
            cpu_held_back_us: self.cpu_held_back_us.max(other.cpu_held_back_us),
            memory_peak: self.memory_peak.max(other.memory_peak),
            out_of_memory: self.out_of_memory.max(other.out_of_memory),
            memory_kills: self.memory_kills.max(other.memory_kills),
            processes_peak: self.processes_peak.max(other.processes_peak),
            processes_refused: self.processes_refused.max(other.processes_refused),
            io_read: self.io_read.max(other.io_read),
            io_written: self.io_written.max(other.io_written),
        }
    }
}

/// Tells when the kernel kills for want of memory; to be polled for a change.
#[derive(Debug)]
pub struct MemoryEvents(File);

impl MemoryEvents {
    /// Processes that were killed in the group and below. Reading arms the next notification. `None`:
    /// the group is gone.
    pub fn kills(&mut self) -> Option<u64> {
        let text = read_again(&mut self.0).ok()?;
        value_of(&text, "oom_kill")?.parse().ok()
    }
}

impl AsFd for MemoryEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Group {
    /// Its want of memory; none without the controller.
    #[must_use]
    pub fn memory_events(&self) -> Option<MemoryEvents> {
        File::open(self.path().join("memory.events"))
            .ok()
            .map(MemoryEvents)
    }

    /// What it has used by now. A group that is gone tells nothing.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let cpu = self.text("cpu.stat");
        let memory = self.text("memory.events");
        let io = self.text("io.stat");
        let number =
            |text: &Option<String>, key: &str| value_of(text.as_deref()?, key)?.parse().ok();
        Usage {
            cpu_us: number(&cpu, "usage_usec"),
            cpu_held_back_us: number(&cpu, "throttled_usec"),
            memory_peak: self.whole("memory.peak"),
            out_of_memory: number(&memory, "oom"),
            memory_kills: number(&memory, "oom_kill"),
            processes_peak: self.whole("pids.peak"),
            processes_refused: self.refused(),
            io_read: io.as_deref().map(|text| sum_of(text, "rbytes=")),
            io_written: io.as_deref().map(|text| sum_of(text, "wbytes=")),
        }
    }

    /// Processor time of all that ever ran in it, microseconds.
    ///
    /// # Errors
    ///
    /// [`Error::Read`].
    pub fn cpu_us(&self) -> Result<u64, Error> {
        let text = self.read("cpu.stat")?;
        Ok(value_of(&text, "usage_usec")
            .and_then(|value| value.parse().ok())
            .unwrap_or(0))
    }

    fn text(&self, file: &str) -> Option<String> {
        self.read(file).ok()
    }

    fn whole(&self, file: &str) -> Option<u64> {
        self.text(file)?.trim().parse().ok()
    }

    /// Since Linux 6.11 the group whose bound it was counts; before, the one that the process was in.
    fn refused(&self) -> Option<u64> {
        let own = refused_in(&self.text("pids.events")?)?;
        if own > 0 {
            return Some(own);
        }
        let below = self.with_all_below().ok()?;
        let groups = below.into_iter().filter_map(|path| Self::open(path).ok());
        Some(
            groups
                .filter_map(|group| refused_in(&group.text("pids.events")?))
                .sum(),
        )
    }
}

fn refused_in(text: &str) -> Option<u64> {
    value_of(text, "max")?.parse().ok()
}

/// The sum over all disks.
fn sum_of(text: &str, key: &str) -> u64 {
    let parts = text
        .split_ascii_whitespace()
        .filter_map(|part| part.strip_prefix(key));
    parts
        .filter_map(|value| value.parse::<u64>().ok())
        .fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use nix::unistd::Pid;

    use super::*;

    #[test]
    fn bytes_of_all_disks_are_added_up() {
        let text = "8:0 rbytes=4096 wbytes=10 rios=1 wios=1 dbytes=0 dios=0\n7:0 rbytes=1 wbytes=5 rios=0\n";
        assert_eq!(
            (sum_of(text, "rbytes="), sum_of(text, "wbytes=")),
            (4097, 15)
        );
        assert_eq!(sum_of("", "rbytes="), 0);
    }

    #[test]
    fn the_later_count_stays_when_a_group_counts_no_more() {
        let seen = Usage {
            memory_kills: Some(2),
            ..Usage::default()
        };
        assert_eq!(seen.max(Usage::default()), seen);
        assert_eq!(Usage::default().max(seen), seen);
    }

    #[test]
    fn processor_time_is_counted_also_where_no_controller_is() {
        let parent = Group::of_process(Pid::this()).unwrap();
        let group = Group::create(&parent, &format!("robotd-test-{}-usage", Pid::this())).unwrap();
        let below = Group::create(&group, "below").unwrap();
        let spin = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
        let mut child = Command::new("sh")
            .args(["-c", &format!("read go; {spin}")])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        below.add(Pid::from_raw(child.id() as i32)).unwrap();
        drop(child.stdin.take());
        child.wait().unwrap();
        let used = group.cpu_us();
        let usage = group.usage();
        group.kill_and_wait(Duration::from_secs(10)).unwrap();
        group.remove().unwrap();
        assert!(used.unwrap() > 1_000);
        assert!(usage.cpu_us.is_some());
    }
}
