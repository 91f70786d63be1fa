//! What the running kernel has, asked of the kernel itself.

use std::os::fd::{FromRawFd as _, OwnedFd};

use nix::errno::Errno;

/// `LANDLOCK_CREATE_RULESET_VERSION` of linux/landlock.h.
const ASK_VERSION: libc::c_uint = 1;

/// Version of Landlock's interface; 0 where it is missing or not enabled.
#[must_use]
pub fn landlock_version() -> u32 {
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: with this flag landlock_create_ruleset(2) takes no attributes, touches no memory and
    // returns a number, no descriptor.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            none,
            0_usize,
            ASK_VERSION,
        )
    };
    u32::try_from(version).unwrap_or(0)
}

/// Whether memory can be had that the kernel itself does not map: compiled in, and on Linux before
/// 6.5 enabled at boot.
#[must_use]
pub fn has_memfd_secret() -> bool {
    // SAFETY: memfd_secret(2) takes flags and touches no memory.
    let made = unsafe { libc::syscall(libc::SYS_memfd_secret, 0_u32) };
    match Errno::result(made) {
        Ok(raw) => {
            let raw = i32::try_from(raw).unwrap_or(-1);
            // SAFETY: the kernel has just made this descriptor; nothing else owns it.
            drop(unsafe { OwnedFd::from_raw_fd(raw) });
            true
        }
        Err(_) => false,
    }
}
