//! The cgroup that holds a job: the account's slice where logind runs, a group of our own elsewhere.

use std::path::PathBuf;
use std::time::Duration;

use order::AttemptRef;
use privsep::session::Backend;
use sys::cgroup::{Error, Group};

/// The kernel kills a group in milliseconds; a process that does not end is stuck in a driver.
pub(crate) const KILL: Duration = Duration::from_secs(10);

/// Name of a job's own group, below the group of whoever started the session.
fn name(attempt: &AttemptRef) -> String {
    format!("robotd-{attempt}")
}

/// A group of our own, for sessions without logind. `None` on a host without cgroup v2: the pid
/// namespace and the account then hold the job together.
pub(crate) fn make(attempt: &AttemptRef) -> Result<Option<Group>, Error> {
    let parent = match Group::of_process(nix::unistd::getpid()) {
        Err(Error::NotMounted) => return Ok(None),
        parent => parent?,
    };
    Group::create(&parent, &name(attempt)).map(Some)
}

/// The slice of an account, while it exists.
pub(crate) fn slice(uid: u32) -> Option<Group> {
    Group::at(&format!("user.slice/user-{uid}.slice")).ok()
}

/// Where systemd keeps what was set for the slice of an account until the next start of the host.
fn settings(uid: u32) -> PathBuf {
    format!("/run/systemd/system.control/user-{uid}.slice.d").into()
}

/// Removes them: they would bound the account's next job.
pub(crate) fn forget_settings(uid: u32, leftovers: &mut Vec<String>) {
    let Some(place) = has_settings(uid) else {
        return;
    };
    if let Err(error) = sys::beneath::remove_tree(&place) {
        leftovers.push(format!("{}: {}", place.display(), crate::text(&error)));
    }
}

/// Whether there are any.
pub(crate) fn has_settings(uid: u32) -> Option<PathBuf> {
    Some(settings(uid)).filter(|place| place.exists())
}

/// The group that an attempt may have left, while it exists.
pub(crate) fn left(attempt: &AttemptRef) -> Option<Group> {
    Group::of_process(nix::unistd::getpid())
        .ok()?
        .child(&name(attempt))
        .ok()
}

/// Kills whatever is in the account's slice: the user manager and what it started.
pub(crate) fn kill_slice(backend: Backend, uid: u32) -> Result<(), Error> {
    match (backend, slice(uid)) {
        (Backend::Logind, Some(slice)) => slice.kill_and_wait(KILL),
        _ => Ok(()),
    }
}
