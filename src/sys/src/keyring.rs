//! What a user keeps in the kernel's keyrings (keyrings(7)).
//!
//! The user keyring, the user session keyring and the persistent keyring outlive every process
//! of the user; the next job of the same account would read what the last one put there. They
//! can only be reached as that user, so a child becomes it for the few calls that are needed.

use std::fs;
use std::io;

use libc::{c_int, c_long};
use nix::errno::Errno;
use nix::unistd::{Gid, Uid};

use crate::process::{self, Exit};

// linux/keyctl.h
const KEYCTL_CLEAR: c_int = 7;
const KEYCTL_READ: c_int = 11;
const KEYCTL_INVALIDATE: c_int = 21;
const KEYCTL_GET_PERSISTENT: c_int = 22;
const PROCESS_KEYRING: c_int = -2;
const USER_KEYRING: c_int = -4;
const USER_SESSION_KEYRING: c_int = -5;

/// A keyring that could not be cleared or looked into.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Root's keys are the host's.
    #[error("refused to clear the keyrings of root")]
    Root,
    /// The child that becomes the user could not be made or waited for.
    #[error("can't make a process for the keyrings of uid {uid}")]
    Child {
        /// Whose.
        uid: Uid,
        /// What went wrong.
        source: process::Error,
    },
    /// The child could not become the user.
    #[error("can't become uid {uid} to reach its keyrings")]
    Become {
        /// Whose.
        uid: Uid,
    },
    /// A keyring was not cleared, or not read.
    #[error("can't {operation} the {keyring} keyring of uid {uid}")]
    Keyring {
        /// `clear` or `count`.
        operation: &'static str,
        /// Which keyring.
        keyring: &'static str,
        /// Whose.
        uid: Uid,
    },
    /// The child ended in a way that it does not know.
    #[error("the process for the keyrings of uid {uid} ended with {exit:?}")]
    Ended {
        /// Whose.
        uid: Uid,
        /// How.
        exit: Exit,
    },
    /// `/proc/key-users` could not be read.
    #[error("can't read /proc/key-users")]
    Usage {
        /// The kernel's reason.
        source: io::Error,
    },
    /// `/proc/key-users` is not what proc(5) describes.
    #[error("/proc/key-users has a line for uid {uid} that can't be read")]
    OddUsage {
        /// Whose.
        uid: Uid,
    },
}

// How the child ends; below FAILED it is a count.
const FAILED_BECOME: u8 = 251;
const FAILED_USER: u8 = 252;
const FAILED_SESSION: u8 = 253;
const FAILED_PERSISTENT: u8 = 254;
/// The most keys that are told apart.
const MOST: u8 = 250;

/// Clears the user keyring, the user session keyring and the persistent keyring of this user.
/// Kernels without keyrings have nothing to clear.
///
/// # Errors
///
/// All but [`Error::Usage`] and [`Error::OddUsage`].
pub fn clear(uid: Uid, gid: Gid) -> Result<(), Error> {
    as_user(uid, gid, "clear", clear_here).map(drop)
}

/// How many keys and keyrings the user keyring and the user session keyring hold, not counting
/// the one's link to the other; at most 250.
///
/// # Errors
///
/// As [`clear`].
pub fn count(uid: Uid, gid: Gid) -> Result<usize, Error> {
    as_user(uid, gid, "count", count_here).map(usize::from)
}

fn as_user(uid: Uid, gid: Gid, operation: &'static str, work: fn() -> u8) -> Result<u8, Error> {
    if uid.is_root() {
        return Err(Error::Root);
    }
    let failed = |source| Error::Child { uid, source };
    // SAFETY: the closure and `work` make raw system calls only: no allocation, no lock, no
    // panic; errors are told by the exit code.
    let child = unsafe {
        process::fork_for_system_calls(move || {
            if become_it(uid.as_raw(), gid.as_raw()) {
                work()
            } else {
                FAILED_BECOME
            }
        })
    };
    let exit = child.map_err(failed)?.wait().map_err(failed)?;
    let keyring = |keyring| {
        Err(Error::Keyring {
            operation,
            keyring,
            uid,
        })
    };
    match exit {
        Exit::Code(code) => match u8::try_from(code) {
            Ok(FAILED_BECOME) => Err(Error::Become { uid }),
            Ok(FAILED_USER) => keyring("user"),
            Ok(FAILED_SESSION) => keyring("user session"),
            Ok(FAILED_PERSISTENT) => keyring("persistent"),
            Ok(count) if count <= MOST => Ok(count),
            _ => Err(Error::Ended { uid, exit }),
        },
        Exit::Signal { .. } => Err(Error::Ended { uid, exit }),
    }
}

/// By raw system calls: glibc's functions would look for this process's other threads.
fn become_it(uid: u32, gid: u32) -> bool {
    // SAFETY: setgroups(2) with a length of 0 reads no list; the other two take numbers only.
    unsafe {
        libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<u32>()) == 0
            && libc::syscall(libc::SYS_setresgid, gid, gid, gid) == 0
            && libc::syscall(libc::SYS_setresuid, uid, uid, uid) == 0
    }
}

fn clear_here() -> u8 {
    if !cleared(USER_KEYRING) {
        return FAILED_USER;
    }
    if !cleared(USER_SESSION_KEYRING) {
        return FAILED_SESSION;
    }
    // -1 is the caller. Linking it into the process's own keyring gives the rights of a
    // possessor; where there is none it is made, so it is invalidated and not left there.
    match keyctl(KEYCTL_GET_PERSISTENT, -1, c_long::from(PROCESS_KEYRING)) {
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => 0,
        Err(_) => FAILED_PERSISTENT,
        Ok(id)
            if keyctl(KEYCTL_CLEAR, id, 0)
                .and(keyctl(KEYCTL_INVALIDATE, id, 0))
                .is_ok() =>
        {
            0
        }
        Ok(_) => FAILED_PERSISTENT,
    }
}

fn cleared(keyring: c_int) -> bool {
    // ENOKEY: it does not exist. ENOSYS: a kernel without keyrings.
    matches!(
        keyctl(KEYCTL_CLEAR, c_long::from(keyring), 0),
        Ok(_) | Err(Errno::ENOKEY | Errno::ENOSYS)
    )
}

fn count_here() -> u8 {
    let Some(user) = links_in(USER_KEYRING) else {
        return FAILED_USER;
    };
    let Some(session) = links_in(USER_SESSION_KEYRING) else {
        return FAILED_SESSION;
    };
    // The kernel links the user keyring into the user session keyring when it makes them.
    let link = c_long::from(session > 0 && holds_user_keyring());
    u8::try_from(user + session - link)
        .unwrap_or(MOST)
        .min(MOST)
}

/// A keyring reads as the list of the ids in it, each an int.
fn links_in(keyring: c_int) -> Option<c_long> {
    match keyctl(KEYCTL_READ, c_long::from(keyring), 0) {
        Ok(bytes) => Some(bytes / size_of::<c_int>() as c_long),
        Err(Errno::ENOKEY | Errno::ENOSYS) => Some(0),
        Err(_) => None,
    }
}

fn holds_user_keyring() -> bool {
    // Asking for the id with the last argument 0 makes nothing.
    const KEYCTL_GET_KEYRING_ID: c_int = 0;
    let Ok(user) = keyctl(KEYCTL_GET_KEYRING_ID, c_long::from(USER_KEYRING), 0) else {
        return false;
    };
    let mut ids = [0; MOST as usize];
    // SAFETY: KEYCTL_READ writes at most the length given into the buffer, which is that long;
    // only as many bytes as it had are written.
    let read = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_READ,
            USER_SESSION_KEYRING,
            ids.as_mut_ptr(),
            size_of_val(&ids),
        )
    };
    read > 0 && ids.iter().any(|id: &c_int| c_long::from(*id) == user)
}

fn keyctl(operation: c_int, first: c_long, second: c_long) -> Result<c_long, Errno> {
    // SAFETY: the operations used here take numbers; KEYCTL_READ with a null buffer of length 0
    // writes nothing and returns the length.
    Errno::result(unsafe { libc::syscall(libc::SYS_keyctl, operation, first, second, 0, 0) })
}

/// What the kernel accounts to a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Keys and keyrings.
    pub keys: u64,
    /// Those of them that count against the user's quota.
    pub quota_keys: u64,
    /// Bytes that count against the user's quota.
    pub quota_bytes: u64,
}

/// What the kernel accounts to this user; none when it knows nothing of it. Keys that were
/// cleared are collected a moment later.
///
/// # Errors
///
/// [`Error::Usage`] and [`Error::OddUsage`].
pub fn usage(uid: Uid) -> Result<Option<Usage>, Error> {
    let text = match fs::read_to_string("/proc/key-users") {
        Ok(text) => text,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Usage { source }),
    };
    match line_of(&text, uid) {
        None => Ok(None),
        Some(line) => parse(line).map(Some).ok_or(Error::OddUsage { uid }),
    }
}

fn line_of(text: &str, uid: Uid) -> Option<&str> {
    let of_uid = |line: &&str| {
        line.split_once(':')
            .is_some_and(|(id, _)| id.trim().parse() == Ok(uid.as_raw()))
    };
    text.lines().find(of_uid)
}

/// `60600:     3 2/2 2/200 58/20000`: references, keys/those that have a value, then quota keys
/// and quota bytes, each with its bound.
fn parse(line: &str) -> Option<Usage> {
    let mut fields = line.split_once(':')?.1.split_ascii_whitespace().skip(1);
    let mut next = || fields.next()?.split_once('/')?.0.parse().ok();
    Some(Usage {
        keys: next()?,
        quota_keys: next()?,
        quota_bytes: next()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_user_is_not_that_of_a_longer_number() {
        let text = "    0:    97 96/96 52/1000000 984/25000000\n60600:     3 2/2 1/200 58/20000\n";
        let usage = line_of(text, Uid::from_raw(60600)).and_then(parse);
        assert_eq!(
            usage,
            Some(Usage {
                keys: 2,
                quota_keys: 1,
                quota_bytes: 58
            })
        );
        assert_eq!(line_of(text, Uid::from_raw(600)), None);
        assert_eq!(parse("600: x"), None);
    }

    /// In no account database; each test has its own.
    const OWNER: (Uid, Gid) = (Uid::from_raw(3_987_651_001), Gid::from_raw(3_987_651_001));

    fn add_key() -> u8 {
        // SAFETY: add_key(2) reads two C strings and one byte, all static.
        let key = unsafe {
            libc::syscall(
                libc::SYS_add_key,
                c"user".as_ptr(),
                c"robotd-test".as_ptr(),
                c"x".as_ptr(),
                1,
                USER_KEYRING,
            )
        };
        u8::from(key < 0)
    }

    #[test]
    fn what_a_user_put_into_its_keyring_is_counted_and_cleared() {
        let (uid, gid) = OWNER;
        if keyctl(KEYCTL_READ, c_long::from(USER_KEYRING), 0) == Err(Errno::ENOSYS) {
            println!("skipped: this kernel has no keyrings");
            return;
        }
        assert_eq!(as_user(uid, gid, "count", add_key).unwrap(), 0);
        assert_eq!(count(uid, gid).unwrap(), 1);
        assert!(
            usage(uid)
                .unwrap()
                .is_some_and(|usage| usage.quota_bytes > 0)
        );
        clear(uid, gid).unwrap();
        assert_eq!(count(uid, gid).unwrap(), 0);
    }

    #[test]
    fn the_keyrings_of_root_are_left_alone() {
        assert!(matches!(
            clear(Uid::from_raw(0), Gid::from_raw(0)),
            Err(Error::Root)
        ));
    }
}
