//! Which descriptors a process has.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use libc::{c_int, c_uint};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::Error;

/// Takes a descriptor that this program was started with, by its agreed number.
///
/// Everything that a Rust program opens itself closes on exec; a descriptor that came through
/// exec can't have that mark. It gets it here, so that none can be taken twice, none that this
/// program opened can be taken at all, and none leaks into a child.
///
/// # Errors
///
/// [`Error::NotInherited`].
pub fn take_inherited(fd: RawFd) -> Result<OwnedFd, Error> {
    if fd <= 2 {
        return Err(Error::NotInherited { fd });
    }
    // SAFETY: borrow_raw needs the descriptor to stay open while borrowed. It is used for two
    // fcntl(2) calls, which on a closed one fail with EBADF and do no harm.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let flags = fcntl(borrowed, FcntlArg::F_GETFD).map_err(|_| Error::NotInherited { fd })?;
    if FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC) {
        return Err(Error::NotInherited { fd });
    }
    fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(|source| {
        Error::Descriptors {
            operation: "mark",
            source,
        }
    })?;
    // SAFETY: it is open, and nothing else owns it: without the mark it was inherited, and the
    // mark that it has now keeps a second call from getting here.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Marks every descriptor from this number on to be closed by exec.
///
/// # Errors
///
/// [`Error::Descriptors`].
pub fn close_on_exec_from(first: RawFd) -> Result<(), Error> {
    range(
        first.max(0).unsigned_abs(),
        c_uint::MAX,
        libc::CLOSE_RANGE_CLOEXEC as c_int,
    )
    .map_err(|source| Error::Descriptors {
        operation: "mark",
        source,
    })
}

/// Closes every descriptor but these and the standard three.
///
/// For a child that goes on without exec: it must not keep its parent's sockets and pipes open.
/// Call it first thing in the child of [`super::fork`]; whatever value the child still holds of
/// a descriptor that is not in `keep` is dead from then on and must be forgotten, not dropped.
///
/// # Errors
///
/// [`Error::Descriptors`].
pub fn close_fds_except(keep: &[BorrowedFd<'_>]) -> Result<(), Error> {
    let mut kept: Vec<c_uint> = keep
        .iter()
        .map(|fd| fd.as_raw_fd().unsigned_abs())
        .filter(|fd| *fd > 2)
        .collect();
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept {
        if fd > first {
            close(first, fd - 1)?;
        }
        first = fd + 1;
    }
    close(first, c_uint::MAX)
}

fn close(first: c_uint, last: c_uint) -> Result<(), Error> {
    range(first, last, 0).map_err(|source| Error::Descriptors {
        operation: "close",
        source,
    })
}

pub(super) fn range(first: c_uint, last: c_uint, flags: c_int) -> Result<(), Errno> {
    // SAFETY: close_range(2) touches no memory. Closing descriptors of the parent's values is
    // what `close_fds_except` documents; with the flag nothing is closed before exec.
    Errno::result(unsafe { libc::close_range(first, last, flags) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_program_opened_was_not_inherited() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let outcome = take_inherited(file.as_raw_fd());
        assert!(matches!(outcome, Err(Error::NotInherited { .. })));
    }

    #[test]
    fn an_inherited_descriptor_is_taken_once() {
        let file = std::fs::File::open("/dev/null").unwrap();
        // SAFETY: dup(2) makes a new descriptor, without the close-on-exec mark, as exec would leave it.
        let fd = unsafe { libc::dup(file.as_raw_fd()) };
        let taken = take_inherited(fd).unwrap();
        assert!(matches!(
            take_inherited(fd),
            Err(Error::NotInherited { .. })
        ));
        drop(taken);
    }

    #[test]
    fn the_standard_three_can_not_be_taken() {
        assert!(matches!(
            take_inherited(1),
            Err(Error::NotInherited { fd: 1 })
        ));
        assert!(matches!(
            take_inherited(-1),
            Err(Error::NotInherited { fd: -1 })
        ));
    }
}
