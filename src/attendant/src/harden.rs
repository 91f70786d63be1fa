//! Before the first byte from outside: nobody may look in, and nothing is gained.

use std::os::fd::{AsFd, OwnedFd};

use sys::Signal;
use sys::poll::Signals;
use sys::process::{self, Limit};
use sys::seccomp::{Architecture, Filter};

/// Where the session's end of the conversation is.
const SESSION: i32 = 3;

/// Started in a way that makes it unsafe.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HardenError {
    /// It has no business being root.
    #[error("the attendant never runs as root; robotd-session starts it as a slot's robotd-aNN")]
    Root,
    /// A step failed.
    #[error("the attendant can't be hardened")]
    Step(#[from] process::Error),
    /// Signals can't be blocked.
    #[error("the attendant can't block signals")]
    Signals(#[from] sys::poll::Error),
    /// Its filter can't be put on.
    #[error("the attendant can't give up system calls")]
    Calls(#[from] sys::seccomp::Error),
}

/// Calls that it never makes.
const REFUSED: &str = include_str!("refused.list");

/// Gives up what is not needed and takes the session's descriptor.
pub(crate) fn harden() -> Result<OwnedFd, HardenError> {
    let (real, effective) = (rustix::process::getuid(), rustix::process::geteuid());
    if real.is_root() || effective.is_root() {
        return Err(HardenError::Root);
    }
    // First of all: from here on no process of the same user reads our memory.
    process::not_dumpable()?;
    process::no_new_privileges()?;
    process::set_limit(Limit::Core(0))?;
    // Secrets and what was not masked yet are in there.
    if let Err(error) = process::lock_memory() {
        eprintln!("robotd-attendant: secrets are not kept out of swap: {error}");
    }
    // A service manager that stops the session's unit signals all of its processes. The session
    // ends the job in order then and needs us to the last; only it, or its end, ends us.
    Signals::new(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP])?;
    // Files are for robotd's group, nothing is for others.
    process::set_umask(0o007);
    let session = process::take_inherited(SESSION)?;
    process::close_fds_except(&[session.as_fd()])?;
    // Last, and before any thread: those that come inherit it.
    Filter::refusing(&[REFUSED], Architecture::own()?)?.apply()?;
    Ok(session)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_list_makes_a_filter_on_every_architecture() {
        for architecture in [Architecture::X86_64, Architecture::Aarch64] {
            assert!(Filter::refusing(&[REFUSED], architecture).is_ok());
        }
    }
}
