//! Giving up everything that opening an archive does not need, before its first byte is read.
//!
//! The account was changed by the broker already; a process that is still root ends here. What
//! is set here can't be undone by this process.

use std::fs::File;
use std::os::fd::RawFd;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{getgroups, getresgid, getresuid};
use package::Limits;

/// Where the broker put the directory. Opened anew by this name, because a bare number can't be
/// turned into an owned descriptor without unsafe code; the kernel lets a process do so for its
/// own descriptors whatever its other rights.
const TARGET: &str = "/proc/self/fd/3";
const DESCRIPTORS: &str = "/proc/self/fd";
/// 0 to 2, the directory, one per level of the tree, and some air.
const MAX_OPEN: u64 = 64;
/// The decoder's window and buffers and the manifest take some 100 MiB.
const MAX_ADDRESS_SPACE: u64 = 2 * 1024 * 1024 * 1024;
/// Unpacking 1 GiB takes some 5 s.
const MAX_CPU_SECONDS: u64 = 60;

/// A step of confinement that failed. No archive is read then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfineError {
    #[error("robotd-unpack must not run as user or group root; the broker changes both first")]
    Root,
    #[error("could not {step} before opening the archive")]
    Step { step: &'static str, source: Errno },
    #[error("descriptor 3 is not a directory that this account can open")]
    Target(#[source] std::io::Error),
    #[error("could not list the open descriptors; /proc must be mounted")]
    Descriptors(#[source] std::io::Error),
}

/// Confines this process and gives the directory to unpack into.
pub(crate) fn confine(limits: &Limits) -> Result<File, ConfineError> {
    refuse_root()?;
    // First of the steps: from here no other process of this account can attach or read memory.
    step("forbid inspection", prctl::set_dumpable(false))?;
    step("forbid new privileges", prctl::set_no_new_privs())?;
    step("end with the broker", prctl::set_pdeathsig(Signal::SIGKILL))?;
    // Before the limits: afterwards there might be no number free to open them anew.
    let target = open_target()?;
    close_others()?;
    limit(Resource::RLIMIT_CORE, 0, "forbid core dumps")?;
    // No child: one that outlived this process could still write to a file after the broker has
    // checked it.
    limit(Resource::RLIMIT_NPROC, 0, "forbid processes")?;
    let largest = limits.max_file_bytes.max(package::MAX_MANIFEST_BYTES);
    limit(Resource::RLIMIT_FSIZE, largest, "limit the size of files")?;
    limit(Resource::RLIMIT_NOFILE, MAX_OPEN, "limit open files")?;
    limit(Resource::RLIMIT_AS, MAX_ADDRESS_SPACE, "limit memory")?;
    limit(
        Resource::RLIMIT_CPU,
        MAX_CPU_SECONDS,
        "limit processor time",
    )?;
    Ok(target)
}

fn refuse_root() -> Result<(), ConfineError> {
    let uids = getresuid().map_err(|source| failed("read the user ids", source))?;
    let gids = getresgid().map_err(|source| failed("read the group ids", source))?;
    let groups = getgroups().map_err(|source| failed("read the groups", source))?;
    let root = [uids.real, uids.effective, uids.saved]
        .iter()
        .any(|uid| uid.is_root())
        || [gids.real, gids.effective, gids.saved]
            .iter()
            .chain(&groups)
            .any(|gid| gid.as_raw() == 0);
    if root {
        Err(ConfineError::Root)
    } else {
        Ok(())
    }
}

fn open_target() -> Result<File, ConfineError> {
    let target = File::open(TARGET).map_err(ConfineError::Target)?;
    match target.metadata().map_err(ConfineError::Target)?.is_dir() {
        true => Ok(target),
        false => Err(ConfineError::Target(Errno::ENOTDIR.into())),
    }
}

/// Closes all but standard input, output and error, and the descriptor just opened.
fn close_others() -> Result<(), ConfineError> {
    for number in inherited()? {
        match nix::unistd::close(number) {
            // The listing itself had one open, which is closed by now.
            Ok(()) | Err(Errno::EBADF) => {}
            Err(source) => return Err(failed("close an inherited descriptor", source)),
        }
    }
    Ok(())
}

/// Numbers that were open when the program started, told by the missing close-on-exec flag that
/// everything opened in here has: what was inherited can't have it.
fn inherited() -> Result<Vec<RawFd>, ConfineError> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(DESCRIPTORS).map_err(ConfineError::Descriptors)? {
        let name = entry.map_err(ConfineError::Descriptors)?.file_name();
        let number: RawFd = name.to_string_lossy().parse().unwrap_or(-1);
        if number > 2 && !close_on_exec(number)? {
            numbers.push(number);
        }
    }
    Ok(numbers)
}

fn close_on_exec(number: RawFd) -> Result<bool, ConfineError> {
    const O_CLOEXEC: u32 = nix::libc::O_CLOEXEC as u32;
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}"))
        .map_err(ConfineError::Descriptors)?;
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags
        .and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok())
        .unwrap_or(0);
    Ok(flags & O_CLOEXEC != 0)
}

fn limit(resource: Resource, value: u64, what: &'static str) -> Result<(), ConfineError> {
    step(what, setrlimit(resource, value, value))
}

fn step(step: &'static str, outcome: nix::Result<()>) -> Result<(), ConfineError> {
    outcome.map_err(|source| failed(step, source))
}

fn failed(step: &'static str, source: Errno) -> ConfineError {
    ConfineError::Step { step, source }
}
