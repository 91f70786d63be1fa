//! Before the first byte from a bot: nobody may look in, and nothing is gained.

use std::os::fd::{AsFd as _, OwnedFd};

use sys::Signal;
use sys::poll::Signals;
use sys::process::{self, Limit};

/// Where the session's end of the conversation is.
const SESSION: i32 = 3;

/// Two for each connection, one for each question, and the sockets themselves.
const OPEN_FILES: u64 = 4096;

/// Started in a way that makes it unsafe.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HardenError {
    /// It has no business being root.
    #[error("the egress never runs as root; robotd-session starts it as a slot's robotd-eNN")]
    Root,
    /// A step failed.
    #[error("the egress can't be hardened")]
    Step(#[from] process::Error),
    /// Signals can't be blocked.
    #[error("the egress can't block signals")]
    Signals(#[from] sys::poll::Error),
}

/// Gives up what is not needed and takes the session's descriptor.
pub(crate) fn harden() -> Result<OwnedFd, HardenError> {
    if nix::unistd::getuid().is_root() || nix::unistd::geteuid().is_root() {
        return Err(HardenError::Root);
    }
    // First of all: from here on no process of the same user reads our memory.
    process::not_dumpable()?;
    process::no_new_privileges()?;
    process::set_limit(Limit::Core(0))?;
    process::limit_to_at_most(Limit::OpenFiles(OPEN_FILES))?;
    // The session's unit has more, for its attendant; nothing here is locked or written to a file.
    process::set_limit(Limit::LockedMemory(0))?;
    process::set_limit(Limit::FileSize(0))?;
    // A service manager that stops the session's unit signals all of its processes. The session
    // ends the job in order then; only it, or its end, ends us.
    Signals::new(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP])?;
    process::set_umask(0o077);
    let session = process::take_inherited(SESSION)?;
    process::close_fds_except(&[session.as_fd()])?;
    Ok(session)
}
