//! Who still has a device mounted, in any mount namespace of the host.
//!
//! A namespace that was copied while a volume was mounted keeps it mounted; that it is unmounted
//! in one's own proves nothing. So every task's view is read. What stays unseen is a namespace
//! without tasks (kept by a descriptor or a bind mount) and a mount that was detached while in
//! use; both end with the processes that hold them.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;

use super::{DeviceId, Error, parse};

/// A task that sees a mount of the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its thread id; a process's first thread has the process's id.
    pub pid: Pid,
    /// Where it sees it.
    pub mount_point: PathBuf,
}

/// Mount namespace and root: who shares both sees the same mounts. The root belongs to it since
/// mountinfo leaves out what a chroot hides.
type View = (PathBuf, u64, u64);

/// Every mount of this device that any task of the host sees, once for each namespace.
///
/// Tasks that end meanwhile are left out. Needs to see all processes: root, without hidepid, in
/// the first pid namespace.
///
/// # Errors
///
/// [`Error::ListProcesses`], [`Error::ReadMounts`] and [`Error::OddMounts`]: then nothing is proven.
pub fn mounts_of_device(device: DeviceId) -> Result<Vec<Holder>, Error> {
    let mut seen = HashSet::new();
    let mut holders = Vec::new();
    for process in numbered(Path::new("/proc"))? {
        for task in tasks(process)? {
            let folder = PathBuf::from(format!("/proc/{process}/task/{task}"));
            match look(&folder, task, device, &mut seen) {
                Ok(found) => holders.extend(found),
                Err(Error::ReadMounts { source, .. }) if has_ended(&source) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(holders)
}

fn look(
    folder: &Path,
    pid: Pid,
    device: DeviceId,
    seen: &mut HashSet<View>,
) -> Result<Vec<Holder>, Error> {
    let failed = |source| Error::ReadMounts { pid, source };
    let view = view(folder).map_err(failed)?;
    if view.as_ref().is_some_and(|view| seen.contains(view)) {
        return Ok(Vec::new());
    }
    let bytes = fs::read(folder.join("mountinfo")).map_err(failed)?;
    let mounts = parse(&bytes).map_err(|source| Error::OddMounts { pid, source })?;
    // Only now: had the task ended before its mounts were read, another one has to show them.
    seen.extend(view);
    let of_device = mounts.into_iter().filter(|mount| mount.device == device);
    Ok(of_device
        .map(|mount| Holder {
            pid,
            mount_point: mount.mount_point,
        })
        .collect())
}

/// None where a security module keeps even root from asking: then its mounts are simply read.
fn view(folder: &Path) -> io::Result<Option<View>> {
    let ask = || -> io::Result<View> {
        let namespace = fs::read_link(folder.join("ns/mnt"))?;
        let root = fs::metadata(folder.join("root"))?;
        Ok((namespace, root.dev(), root.ino()))
    };
    match ask() {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        outcome => outcome.map(Some),
    }
}

fn tasks(process: Pid) -> Result<Vec<Pid>, Error> {
    match numbered(Path::new(&format!("/proc/{process}/task"))) {
        Err(Error::ListProcesses { source, .. }) if has_ended(&source) => Ok(Vec::new()),
        outcome => outcome,
    }
}

fn numbered(folder: &Path) -> Result<Vec<Pid>, Error> {
    let failed = |source| Error::ListProcesses {
        path: folder.to_owned(),
        source,
    };
    let mut ids = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        ids.extend(
            name.to_str()
                .and_then(|name| name.parse().ok())
                .map(Pid::from_raw),
        );
    }
    Ok(ids)
}

/// A task that is gone, or a zombie, which has no namespaces any more.
fn has_ended(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::ESRCH | libc::EINVAL)
    )
}
