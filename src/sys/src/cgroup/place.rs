//! Where version 2 is mounted, and where in it a process is.

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;

use super::Error;
use crate::mount::{MountInfo, own_mounts};

/// The folder on which version 2 is mounted: `/sys/fs/cgroup`, or on hybrid hosts a folder in it.
///
/// # Errors
///
/// [`Error::ReadMounts`] and [`Error::NotMounted`].
pub fn unified_mount() -> Result<PathBuf, Error> {
    let mounts = own_mounts().map_err(|source| Error::ReadMounts { source })?;
    choose(&mounts).ok_or(Error::NotMounted)
}

/// Not a bind mount of a part of it: those are other people's sandboxes.
fn choose(mounts: &[MountInfo]) -> Option<PathBuf> {
    let whole = mounts
        .iter()
        .filter(|mount| mount.kind == "cgroup2" && mount.root == Path::new("/"));
    whole
        .map(|mount| mount.mount_point.clone())
        .min_by_key(|path| path.components().count())
}

/// The group of a process, as a path from the mount's root (`/user.slice/user-1000.slice/...`).
///
/// # Errors
///
/// [`Error::ReadPlace`] and [`Error::NoPlace`].
pub fn path_of(pid: Pid) -> Result<PathBuf, Error> {
    let text = fs::read(format!("/proc/{pid}/cgroup"))
        .map_err(|source| Error::ReadPlace { pid, source })?;
    parse(&text).ok_or(Error::NoPlace { pid })
}

fn parse(text: &[u8]) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let path = text
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(b"0::"))?;
    path.starts_with(b"/")
        .then(|| PathBuf::from(std::ffi::OsStr::from_bytes(path)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount::parse as parse_mounts;

    #[test]
    fn the_line_of_version_2_is_found_among_those_of_version_1() {
        let text = b"4:memory:/x\n1:name=systemd:/y\n0::/user.slice/a b\n";
        assert_eq!(parse(text), Some("/user.slice/a b".into()));
        assert_eq!(parse(b"4:memory:/x\n"), None);
    }

    #[test]
    fn a_bind_mount_of_a_part_is_not_taken_for_the_tree() {
        let mounts = parse_mounts(
            b"1 0 0:1 /part /a rw - cgroup2 none rw\n2 0 0:1 / /sys/fs/cgroup/unified rw - cgroup2 none rw\n",
        );
        assert_eq!(
            choose(&mounts.unwrap()),
            Some("/sys/fs/cgroup/unified".into())
        );
    }

    #[test]
    fn this_process_has_a_place() {
        let path = path_of(Pid::this()).unwrap();
        assert!(
            unified_mount()
                .unwrap()
                .join(path.strip_prefix("/").unwrap())
                .is_dir()
        );
    }
}
