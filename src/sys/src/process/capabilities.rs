//! Giving up capabilities (capabilities(7)).

use nix::errno::Errno;

use super::Error;

/// `_LINUX_CAPABILITY_VERSION_3` of linux/capability.h: two words of 32 bits for each set.
const VERSION_3: u32 = 0x2008_0522;

/// Above the last capability of any kernel: each set has 64 bits.
const MOST: u64 = 64;

/// uid 0 has no special rights, a change of user changes none, no ambient ones can be raised,
/// none are kept over a change of user; and all of that locked.
const SECURE_BITS: i32 = libc::SECBIT_NOROOT
    | libc::SECBIT_NOROOT_LOCKED
    | libc::SECBIT_NO_SETUID_FIXUP
    | libc::SECBIT_NO_SETUID_FIXUP_LOCKED
    | libc::SECBIT_KEEP_CAPS_LOCKED
    | libc::SECBIT_NO_CAP_AMBIENT_RAISE
    | libc::SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;

/// Gives up every capability of this process and of all that it will start, whatever its user
/// is and stays: none is left in any set, and no file and no uid 0 can bring one back.
///
/// To change the user as well use [`super::become_user_for_good`]: afterwards it is too late.
///
/// # Errors
///
/// [`Error::Capabilities`] (`EPERM` without `CAP_SETPCAP`) and [`Error::CapabilitiesLeft`].
pub fn drop_capabilities() -> Result<(), Error> {
    forbid_future_ones()?;
    give_up_present_ones()?;
    verify_none()
}

/// A right of root's (capabilities(7)), by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capability(u32);

impl Capability {
    /// Reads, writes and searches whatever the access bits say.
    pub const DAC_OVERRIDE: Self = Self(1);
    /// Does what a file's owner may, in sticky folders too.
    pub const FOWNER: Self = Self(3);
    /// Changes the immutable and append-only marks.
    pub const LINUX_IMMUTABLE: Self = Self(9);
}

/// Gives up every capability of this process but those of `kept` that it has. No program that it
/// starts has any, and what is given up does not come back.
///
/// # Errors
///
/// [`Error::Capabilities`] (`EPERM` without `CAP_SETPCAP`).
pub fn keep_capabilities(kept: &[Capability]) -> Result<(), Error> {
    forbid_future_ones()?;
    let mask = kept
        .iter()
        .fold(0, |mask, capability| mask | 1 << capability.0);
    set_present_ones(mask & present_ones()?[0].permitted)
}

/// Empties the bounding and ambient sets and locks the secure bits. Needs `CAP_SETPCAP`.
pub(super) fn forbid_future_ones() -> Result<(), Error> {
    for capability in 0..MOST {
        match prctl(libc::PR_CAPBSET_DROP, capability, 0) {
            Ok(_) => {}
            // Beyond the last one that this kernel knows.
            Err(Errno::EINVAL) if capability > 0 => break,
            Err(source) => return Err(failed("empty the bounding set", source)),
        }
    }
    prctl(
        libc::PR_CAP_AMBIENT,
        libc::PR_CAP_AMBIENT_CLEAR_ALL as u64,
        0,
    )
    .map_err(|source| failed("empty the ambient set", source))?;
    prctl(libc::PR_SET_SECUREBITS, SECURE_BITS as u64, 0)
        .map_err(|source| failed("lock the secure bits", source))
        .map(drop)
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Empties the effective, permitted and inheritable sets.
pub(super) fn give_up_present_ones() -> Result<(), Error> {
    set_present_ones(0)
}

/// Leaves these of the first 32 in the effective and permitted sets.
fn set_present_ones(mask: u32) -> Result<(), Error> {
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let mut wanted = [Sets::default(); 2];
    (wanted[0].effective, wanted[0].permitted) = (mask, mask);
    // SAFETY: capset(2) reads a header and, for version 3, two records of three words; both are
    // laid out so (repr(C)) and live over the call. pid 0 is the calling thread.
    let outcome = unsafe { libc::syscall(libc::SYS_capset, &raw const header, wanted.as_ptr()) };
    Errno::result(outcome)
        .map(drop)
        .map_err(|source| failed("set the capability sets", source))
}

fn present_ones() -> Result<[Sets; 2], Error> {
    let mut header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let mut sets = [Sets {
        effective: u32::MAX,
        permitted: u32::MAX,
        inheritable: u32::MAX,
    }; 2];
    // SAFETY: capget(2) writes two records for version 3; both arguments live over the call.
    let outcome = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) };
    Errno::result(outcome).map_err(|source| failed("read the capability sets", source))?;
    Ok(sets)
}

pub(super) fn verify_none() -> Result<(), Error> {
    if present_ones()?
        .iter()
        .any(|set| set.effective | set.permitted | set.inheritable != 0)
    {
        return Err(Error::CapabilitiesLeft {
            found: "effective, permitted or inheritable".to_owned(),
        });
    }
    for capability in 0..MOST {
        match prctl(libc::PR_CAPBSET_READ, capability, 0) {
            Ok(0) => {}
            Ok(_) => {
                return Err(Error::CapabilitiesLeft {
                    found: format!("{capability} in the bounding set"),
                });
            }
            Err(_) => break,
        }
    }
    Ok(())
}

fn prctl(option: i32, first: u64, second: u64) -> Result<i32, Errno> {
    // SAFETY: the options used here (PR_CAPBSET_*, PR_CAP_AMBIENT_CLEAR_ALL, PR_SET_SECUREBITS)
    // take numbers only and touch no memory; unused arguments are zero, as PR_CAP_AMBIENT asks.
    Errno::result(unsafe { libc::prctl(option, first, second, 0_u64, 0_u64) })
}

fn failed(operation: &'static str, source: Errno) -> Error {
    Error::Capabilities { operation, source }
}
