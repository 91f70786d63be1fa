//! What each process of a job may use by itself; what all may use together is the group's matter.

use privsep::session::Spec;
use sys::process::Limit;

/// The kernel's own default. The session's unit has more, for its attendant.
const LOCKED: u64 = 8 << 20;

/// POSIX queues: the kernel's default.
const QUEUE_BYTES: u64 = 819_200;

/// Never the address space (RLIMIT_AS): a browser reserves terabytes and dies without them.
pub(super) fn of(spec: &Spec) -> [Limit; 8] {
    [
        // What a crashed process held is in no file.
        Limit::Core(0),
        Limit::OpenFiles(spec.open_files),
        // No sparse file looks larger than the volume could hold.
        Limit::FileSize(spec.volume_bytes),
        Limit::LockedMemory(LOCKED),
        // Of the account, which has one job at a time. The group's bound is met first and counts; on a
        // host without that controller this one holds alone.
        Limit::Processes(spec.resources.processes),
        Limit::MessageQueues(QUEUE_BYTES),
        // Nobody gets ahead of others on this host.
        Limit::Nice(0),
        Limit::RealTimePriority(0),
    ]
}
