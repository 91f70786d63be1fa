//! Going where another process is.

use std::os::fd::AsFd;

use nix::sched::{CloneFlags, setns};

use super::fork::refuse_threads;
use super::{Error, Namespaces};

/// Joins the chosen namespaces of the process behind this pidfd ([`super::Process`]), or the one
/// namespace behind an open `/proc/PID/ns/NAME`. For [`Namespaces::pid`] only later children are
/// in it; with [`Namespaces::mount`] root and working directory become that namespace's root.
///
/// # Errors
///
/// [`Error::HasThreads`], [`Error::CountThreads`] and [`Error::Join`].
pub fn join_namespaces(fd: &impl AsFd, namespaces: Namespaces) -> Result<(), Error> {
    refuse_threads()?;
    let flags = i32::try_from(namespaces.flags()).unwrap_or(0);
    setns(fd.as_fd(), CloneFlags::from_bits_retain(flags)).map_err(|source| Error::Join { source })
}
