//! The file systems that a job needs.

use nix::unistd::{Gid, Uid};

use super::{Attributes, Error, Filesystem, Tree};

/// A file system in memory, with bounds: without them it could take half of the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tmpfs {
    /// Most bytes of all files together, rounded up to pages.
    pub bytes: u64,
    /// Most files and folders.
    pub inodes: u64,
    /// Access bits of its root, such as `0o700`.
    pub mode: u32,
    /// Owner of its root.
    pub uid: Uid,
    /// Group of its root.
    pub gid: Gid,
}

/// Makes a tmpfs. The second value says whether the kernel keeps it out of swap (`noswap`,
/// Linux 6.4): if not, its bytes can reach the disk, and the wipe report has to say so.
///
/// # Errors
///
/// [`Error::Prepare`], [`Error::Option`] and [`Error::Create`].
pub fn tmpfs(options: &Tmpfs, attributes: Attributes) -> Result<(Tree, bool), Error> {
    let filesystem = Filesystem::open("tmpfs")?
        .set("size", &options.bytes.to_string())?
        .set("nr_inodes", &options.inodes.to_string())?
        .set("mode", &format!("{:o}", options.mode))?
        .set("uid", &options.uid.to_string())?
        .set("gid", &options.gid.to_string())?;
    let noswap = filesystem.try_flag("noswap")?;
    Ok((filesystem.mount(attributes)?, noswap))
}

/// Which processes show in /proc to those who may not trace them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HidePid {
    /// All, with everything.
    No,
    /// All, but of others' only the number and the owner (`hidepid=1`).
    Content,
    /// Only one's own (`hidepid=2`).
    Processes,
}

/// Makes a /proc of the calling process's pid namespace.
///
/// `only_processes` leaves out everything that is not about a process (`subset=pid`, Linux 5.8).
/// LibreOffice and Java read `/proc/meminfo` and the like and need them.
///
/// # Errors
///
/// [`Error::Prepare`], [`Error::Option`] and [`Error::Create`] (`EPERM` from a user namespace
/// that has no full /proc of its own).
pub fn proc(hide: HidePid, only_processes: bool) -> Result<Tree, Error> {
    let hide = match hide {
        HidePid::No => "0",
        HidePid::Content => "1",
        HidePid::Processes => "2",
    };
    let filesystem = Filesystem::open("proc")?.set("hidepid", hide)?;
    let filesystem = if only_processes {
        filesystem.set("subset", "pid")?
    } else {
        filesystem
    };
    filesystem.mount(Attributes::WRITABLE_NO_EXEC)
}

/// Makes a devpts with terminals of its own; `terminals` is the most that can be open, `group`
/// owns them (the host's `tty`).
///
/// # Errors
///
/// [`Error::Prepare`], [`Error::Option`] and [`Error::Create`].
pub fn devpts(terminals: u32, group: Gid) -> Result<Tree, Error> {
    Filesystem::open("devpts")?
        .set("ptmxmode", "0666")?
        .set("mode", "0620")?
        .set("gid", &group.to_string())?
        .set("max", &terminals.to_string())?
        // Terminals are devices: nodev would make them useless.
        .mount(Attributes {
            no_suid: true,
            no_exec: true,
            ..Attributes::default()
        })
}

/// Makes a view of the POSIX message queues of the calling process's ipc namespace.
///
/// # Errors
///
/// [`Error::Prepare`] and [`Error::Create`].
pub fn mqueue() -> Result<Tree, Error> {
    Filesystem::open("mqueue")?.mount(Attributes::WRITABLE_NO_EXEC)
}
