//! Bounds on what one process may use (setrlimit(2)).

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::Error;

/// A bound, with its unit. The soft and the hard one are set alike: what a bot could raise
/// again would bound nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Bytes of a core dump.
    Core(u64),
    /// Open descriptors.
    OpenFiles(u64),
    /// Bytes of one file.
    FileSize(u64),
    /// Bytes of memory locked against swapping.
    LockedMemory(u64),
    /// Processes of the user, counted over the whole host.
    Processes(u64),
    /// Bytes in POSIX message queues of the user.
    MessageQueues(u64),
    /// How far `nice` may go down: 20 less the value.
    Nice(u64),
    /// Real-time priority.
    RealTimePriority(u64),
}

impl Limit {
    fn parts(self) -> (&'static str, Resource, u64) {
        match self {
            Self::Core(bytes) => ("the core size", Resource::RLIMIT_CORE, bytes),
            Self::OpenFiles(count) => ("open descriptors", Resource::RLIMIT_NOFILE, count),
            Self::FileSize(bytes) => ("the file size", Resource::RLIMIT_FSIZE, bytes),
            Self::LockedMemory(bytes) => ("locked memory", Resource::RLIMIT_MEMLOCK, bytes),
            Self::Processes(count) => ("processes", Resource::RLIMIT_NPROC, count),
            Self::MessageQueues(bytes) => ("message queues", Resource::RLIMIT_MSGQUEUE, bytes),
            Self::Nice(value) => ("niceness", Resource::RLIMIT_NICE, value),
            Self::RealTimePriority(value) => {
                ("the real-time priority", Resource::RLIMIT_RTPRIO, value)
            }
        }
    }
}

/// Bounds the calling process and everything that it starts: as given, or as tightly as it is bounded
/// already where it may not raise that (a container without `CAP_SYS_RESOURCE`).
///
/// # Errors
///
/// [`Error::SetLimit`].
pub fn limit_to_at_most(limit: Limit) -> Result<(), Error> {
    match set_limit(limit) {
        Err(Error::SetLimit {
            source: Errno::EPERM,
            limit: what,
            value,
        }) => {
            let (_, resource, _) = limit.parts();
            let tighter = getrlimit(resource).and_then(|(_, hard)| setrlimit(resource, hard, hard));
            tighter.map_err(|source| Error::SetLimit {
                limit: what,
                value,
                source,
            })
        }
        outcome => outcome,
    }
}

/// Bounds the calling process and everything that it starts.
///
/// # Errors
///
/// [`Error::SetLimit`].
pub fn set_limit(limit: Limit) -> Result<(), Error> {
    let (limit, resource, value) = limit.parts();
    setrlimit(resource, value, value).map_err(|source| Error::SetLimit {
        limit,
        value,
        source,
    })
}
