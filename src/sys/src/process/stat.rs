//! When a process started: with its id the pair names it for good.

use nix::unistd::Pid;

use super::Error;

/// Clock ticks from the machine's start to the process's (proc(5), field 22). Only for
/// comparison; the tick is 10 ms on all usual kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StartTime(pub u64);

/// When this process started. A pid that was reused has another start time, unless the whole
/// space of pids was used up within one tick.
///
/// # Errors
///
/// [`Error::ReadStat`] (`NotFound` when there is none) and [`Error::OddStat`].
pub fn start_time(pid: Pid) -> Result<StartTime, Error> {
    let stat = std::fs::read(format!("/proc/{pid}/stat"))
        .map_err(|source| Error::ReadStat { pid, source })?;
    parse(&stat).ok_or(Error::OddStat { pid })
}

fn parse(stat: &[u8]) -> Option<StartTime> {
    // The program's name, in parentheses, may itself hold parentheses and spaces: what follows
    // the last one is the kernel's own.
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&stat[name_end + 1..]).ok()?;
    // The first field after the name is field 3.
    rest.split_ascii_whitespace()
        .nth(22 - 3)?
        .parse()
        .ok()
        .map(StartTime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_looks_like_fields_does_not_move_the_start_time() {
        let name = "x) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 666 (";
        let stat = format!("42 ({name}) S 1 42 42 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 12345 0 0");
        assert_eq!(parse(stat.as_bytes()), Some(StartTime(12345)));
    }

    #[test]
    fn a_short_line_has_no_start_time() {
        assert_eq!(parse(b"42 (sh) S 1 42"), None);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn this_process_started_once() {
        let pid = Pid::this();
        assert_eq!(start_time(pid).unwrap(), start_time(pid).unwrap());
    }
}
