//! A mount namespace of one's own, its root, and taking mounts away.

use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{chdir, pivot_root};

use super::Error;
use crate::process::is_single_threaded;

/// How mounts that come and go at one place show at its copies in other namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// What the host mounts shows here, what is mounted here stays here. The monitor needs it:
    /// /run/user/UID comes and goes while it runs.
    Slave,
    /// Neither way.
    Private,
}

/// Gives this process a mount namespace of its own, in which all mounts spread as told: so what
/// is mounted here is never seen by the host.
///
/// # Errors
///
/// [`Error::Threads`], [`Error::Namespace`] and [`Error::Propagation`].
pub fn own_namespace(propagation: Propagation) -> Result<(), Error> {
    let alone = is_single_threaded().map_err(|source| Error::Threads {
        source: Box::new(source),
    })?;
    if !alone {
        let source = crate::process::Error::HasThreads { threads: 2 };
        return Err(Error::Threads {
            source: Box::new(source),
        });
    }
    unshare(CloneFlags::CLONE_NEWNS).map_err(|source| Error::Namespace { source })?;
    set_propagation(Path::new("/"), propagation)
}

/// Sets how the mount at `path` and all below it spread.
///
/// # Errors
///
/// [`Error::Propagation`].
pub fn set_propagation(path: &Path, propagation: Propagation) -> Result<(), Error> {
    let kind = match propagation {
        Propagation::Slave => MsFlags::MS_SLAVE,
        Propagation::Private => MsFlags::MS_PRIVATE,
    };
    mount(
        None::<&str>,
        path,
        None::<&str>,
        kind | MsFlags::MS_REC,
        None::<&str>,
    )
    .map_err(|source| Error::Propagation {
        path: path.to_owned(),
        source,
    })
}

/// Makes the mount at `path` the root of this mount namespace and lets go of the old one, which
/// then can't be reached by any path. The working directory is the new root.
///
/// The namespace must be the caller's own: all its processes whose root is the old one move along.
///
/// # Errors
///
/// [`Error::Root`].
pub fn enter_root(path: &Path) -> Result<(), Error> {
    let failed = |operation| {
        move |source| Error::Root {
            operation,
            path: path.to_owned(),
            source,
        }
    };
    chdir(path).map_err(failed("enter"))?;
    // With "." for both the old root comes to lie on top of the new one, where "." still finds
    // it: no folder has to be made for it (pivot_root(2), "pivot_root(".", ".")").
    pivot_root(".", ".").map_err(failed("set"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(failed("let go of the old one below"))?;
    chdir("/").map_err(failed("settle in"))
}

/// How to take a mount away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmount {
    /// Only if nothing uses it.
    IfUnused,
    /// Out of the tree at once; it is gone when nothing uses it any more, which
    /// [`super::mounts_of_device`] does not see. Never a proof.
    Detach,
}

/// Takes the topmost mount at `path` away. The last part of the path is not followed if it is a
/// symbolic link.
///
/// # Errors
///
/// [`Error::Unmount`], with `EBUSY` when it is in use and `EINVAL` when nothing is mounted there.
pub fn unmount(path: &Path, how: Unmount) -> Result<(), Error> {
    let flags = match how {
        Unmount::IfUnused => MntFlags::UMOUNT_NOFOLLOW,
        Unmount::Detach => MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH,
    };
    loop {
        match umount2(path, flags) {
            Ok(()) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(source) => {
                return Err(Error::Unmount {
                    path: path.to_owned(),
                    source,
                });
            }
        }
    }
}
