//! Small attributes of the calling process.

use nix::errno::Errno;
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Pid, getppid, setsid};

use super::Error;

/// Orphans among this process's descendants become its children, so that it can wait for them.
///
/// # Errors
///
/// [`Error::Attribute`].
pub fn set_child_subreaper() -> Result<(), Error> {
    prctl::set_child_subreaper(true).map_err(named("the adoption of orphans"))
}

/// No other process of the same user may trace this one or read its memory. exec resets it.
///
/// # Errors
///
/// [`Error::Attribute`].
pub fn not_dumpable() -> Result<(), Error> {
    prctl::set_dumpable(false).map_err(named("dumpable"))
}

/// No page of this process, present or future, goes to swap. For whoever holds secrets; a fork does
/// not inherit it. Pages are locked as they are used: nothing is read in only to be locked.
///
/// # Errors
///
/// [`Error::Attribute`]: without `CAP_IPC_LOCK` the limit of locked memory holds.
pub fn lock_memory() -> Result<(), Error> {
    // linux/mman.h; nix has the two others only.
    const MCL_ONFAULT: i32 = 4;
    let flags = MlockAllFlags::MCL_CURRENT
        | MlockAllFlags::MCL_FUTURE
        | MlockAllFlags::from_bits_retain(MCL_ONFAULT);
    mlockall(flags).map_err(named("memory locked against swapping"))
}

/// No program that is started from here gains rights by its set-user-id bit or file
/// capabilities. It can't be undone.
///
/// # Errors
///
/// [`Error::Attribute`].
pub fn no_new_privileges() -> Result<(), Error> {
    prctl::set_no_new_privs().map_err(named("no-new-privileges"))
}

/// Memory of this process and of all that it starts can never be executed once it was writable
/// (`PR_SET_MDWE`, Linux 6.3). It can't be undone. For a child between fork and exec too.
///
/// # Errors
///
/// [`Error::Attribute`]; `EINVAL` before Linux 6.3: see [`can_deny_exec_gain`].
pub fn deny_exec_gain() -> Result<(), Error> {
    let flags = libc::c_ulong::from(libc::PR_MDWE_REFUSE_EXEC_GAIN);
    mdwe(libc::PR_SET_MDWE, flags)
        .map(drop)
        .map_err(named("no execution of memory that was written"))
}

/// Whether this kernel has [`deny_exec_gain`].
#[must_use]
pub fn can_deny_exec_gain() -> bool {
    mdwe(libc::PR_GET_MDWE, 0).is_ok()
}

fn mdwe(option: i32, flags: libc::c_ulong) -> Result<i32, Errno> {
    // SAFETY: both options take numbers only and touch no memory; the kernel wants the unused
    // arguments to be zero.
    Errno::result(unsafe { libc::prctl(option, flags, 0_u64, 0_u64, 0_u64) })
}

/// Sends `signal` to this process when its parent ends.
///
/// Changing the user resets it, so it is called after that; grandchildren do not inherit it.
/// `parent` is who should still be there (0 from inside a new pid namespace): it may have ended
/// before the call, and then nothing would ever be sent.
///
/// # Errors
///
/// [`Error::Orphaned`] and [`Error::Attribute`].
pub fn die_with_parent(signal: Signal, parent: Pid) -> Result<(), Error> {
    prctl::set_pdeathsig(signal).map_err(named("the signal at the parent's end"))?;
    if getppid() == parent {
        Ok(())
    } else {
        Err(Error::Orphaned { expected: parent })
    }
}

/// Starts a terminal session of its own, so that no signal to the parent's group reaches it.
///
/// # Errors
///
/// [`Error::Attribute`]; `EPERM` when it leads a group already.
pub fn set_session() -> Result<Pid, Error> {
    setsid().map_err(named("a session of its own"))
}

/// Access bits that new files do not get; returns the former ones.
pub fn set_umask(bits: u32) -> u32 {
    umask(Mode::from_bits_truncate(bits)).bits()
}

/// Names the host, as seen in this process's UTS namespace.
///
/// # Errors
///
/// [`Error::Attribute`].
pub fn set_hostname(name: &str) -> Result<(), Error> {
    nix::unistd::sethostname(name).map_err(named("the host name"))
}

/// Gives every signal its default effect and blocks none, as a program expects to be started.
///
/// Both are inherited over exec, and a Rust program ignores `SIGPIPE`, which makes pipelines of
/// its children run for ever.
///
/// # Errors
///
/// [`Error::Attribute`].
pub fn restore_signals() -> Result<(), Error> {
    for number in 1..=libc::SIGRTMAX() {
        restore_effect(number);
    }
    SigSet::empty()
        .thread_set_mask()
        .map_err(named("the signal mask"))
}

/// By the raw system call: glibc's function refuses its own two signals, which a careless parent
/// may have had ignored all the same.
fn restore_effect(number: i32) {
    // The kernel's own struct sigaction: handler, flags, restorer and a mask of 64 signals. All
    // zeroes is the default effect.
    let default = [0_u64; 4];
    // SAFETY: rt_sigaction(2) reads the struct above, which lives over the call, installs no code,
    // and writes nothing since there is no place for the old one. KILL and STOP are refused.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            number,
            default.as_ptr(),
            std::ptr::null::<u64>(),
            size_of::<u64>(),
        )
    };
}

fn named(attribute: &'static str) -> impl FnOnce(Errno) -> Error {
    move |source| Error::Attribute { attribute, source }
}
