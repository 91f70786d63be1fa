//! What a name stands for, in one call: kind, marks, age, and whether something is mounted there.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use nix::errno::Errno;

use crate::beneath::{Dir, Error, Kind, facts};

/// As of one moment; by the next it may be something else.
pub(super) struct Seen {
    pub(super) kind: Kind,
    /// Set-user-id or set-group-id.
    pub(super) set_id: bool,
    pub(super) links: u64,
    /// Immutable or append-only.
    pub(super) protected: bool,
    /// Something is mounted on it.
    pub(super) mounted: bool,
    pub(super) inode: u64,
    /// When it was made, since 1970; some file systems don't know.
    pub(super) born: Option<Duration>,
}

/// Looks at a name without following or mounting anything.
pub(super) fn look(folder: &Dir, name: &OsStr) -> Result<Seen, Error> {
    let failed = |source| Error::Examine {
        name: name.into(),
        source,
    };
    let text = CString::new(name.as_bytes()).map_err(|_| failed(Errno::EINVAL))?;
    // SAFETY: statx is plain data for which all zeroes is a value.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: statx(2) reads one C string and writes one record; both live over the call.
    let outcome = unsafe {
        libc::statx(
            folder.as_fd().as_raw_fd(),
            text.as_ptr(),
            // Of a mount in user space the kernel tells what it knows: its server may never answer.
            libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT | libc::AT_STATX_DONT_SYNC,
            libc::STATX_BASIC_STATS | libc::STATX_BTIME,
            &raw mut found,
        )
    };
    Errno::result(outcome).map_err(failed)?;
    Ok(Seen::new(&found))
}

impl Seen {
    fn new(found: &libc::statx) -> Self {
        const PROTECTED: u64 = (libc::STATX_ATTR_IMMUTABLE | libc::STATX_ATTR_APPEND) as u64;
        let mode = libc::mode_t::from(found.stx_mode);
        let born = (found.stx_mask & libc::STATX_BTIME != 0).then(|| {
            let seconds = u64::try_from(found.stx_btime.tv_sec).unwrap_or(0);
            Duration::new(seconds, found.stx_btime.tv_nsec)
        });
        Self {
            kind: facts::kind(mode),
            set_id: mode & (libc::S_ISUID | libc::S_ISGID) != 0,
            links: u64::from(found.stx_nlink),
            protected: found.stx_attributes & PROTECTED != 0,
            mounted: found.stx_attributes & libc::STATX_ATTR_MOUNT_ROOT as u64 != 0,
            inode: found.stx_ino,
            born,
        }
    }
}
