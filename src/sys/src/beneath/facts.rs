//! What is known about a file without opening it.

use nix::sys::stat::{FileStat, major, minor};
use nix::unistd::{Gid, Uid};

use crate::mount::DeviceId;

/// What kind of thing a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A Unix socket.
    Socket,
    /// A named pipe.
    Pipe,
    /// A character or block device.
    Device,
}

/// Facts as of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// What it is.
    pub kind: Kind,
    /// Access bits with set-user-id, set-group-id and sticky (the low 12 bits).
    pub mode: u32,
    /// Its owner.
    pub uid: Uid,
    /// Its group.
    pub gid: Gid,
    /// Its length in bytes.
    pub size: u64,
    /// Bytes that it takes on the device (its blocks of 512).
    pub allocated: u64,
    /// How many names it has.
    pub links: u64,
    /// The device on which it lies.
    pub device: DeviceId,
    /// Its number on that device.
    pub inode: u64,
    /// Seconds of its last change since 1970.
    pub modified: i64,
}

impl Facts {
    pub(super) fn new(facts: &FileStat) -> Self {
        Self {
            kind: kind(facts.st_mode),
            mode: facts.st_mode & 0o7777,
            uid: Uid::from_raw(facts.st_uid),
            gid: Gid::from_raw(facts.st_gid),
            size: facts.st_size.unsigned_abs(),
            allocated: facts.st_blocks.unsigned_abs().saturating_mul(512),
            links: widen(facts.st_nlink),
            device: DeviceId {
                major: major(facts.st_dev),
                minor: minor(facts.st_dev),
            },
            inode: facts.st_ino,
            modified: facts.st_mtime,
        }
    }
}

/// 32 bits on some machines, 64 on others.
fn widen(links: impl Into<u64>) -> u64 {
    links.into()
}

pub(super) fn kind(mode: libc::mode_t) -> Kind {
    match mode & libc::S_IFMT {
        libc::S_IFREG => Kind::File,
        libc::S_IFDIR => Kind::Folder,
        libc::S_IFLNK => Kind::Link,
        libc::S_IFSOCK => Kind::Socket,
        libc::S_IFIFO => Kind::Pipe,
        _ => Kind::Device,
    }
}
