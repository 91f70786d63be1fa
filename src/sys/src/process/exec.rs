//! Becoming another program.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use libc::c_char;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::{Error, fds, restore_signals};

/// What to run.
#[derive(Debug, Clone, Copy)]
pub enum Program<'a> {
    /// By absolute path; PATH is never searched.
    Path(&'a CStr),
    /// An open file, so that what was checked is what runs. Not for scripts: their interpreter
    /// gets `/dev/fd/N`, and N is closed by then.
    Fd(BorrowedFd<'a>),
}

/// A program with all that it is given: nothing is inherited but what stands here, the working
/// directory, ids, limits and namespaces.
#[derive(Debug)]
pub struct Launch<'a> {
    /// What to run.
    pub program: Program<'a>,
    /// Its arguments; the first is its name.
    pub argv: &'a [CString],
    /// Its environment, `NAME=value`.
    pub env: &'a [CString],
    /// Its descriptors: the first becomes 0, the second 1 and so on. All others close.
    pub fds: &'a [BorrowedFd<'a>],
    /// Where to tell the kernel's reason if it can't be started: see [`exec_report`].
    pub report: Option<BorrowedFd<'a>>,
}

impl Launch<'_> {
    /// Turns this process into the program; signals are at their defaults and unblocked.
    ///
    /// Once descriptors have been moved this process can't go on: if the program then can't be
    /// started, the reason goes to `report` and the process ends with code 127. It is meant for
    /// the child of [`super::fork`].
    ///
    /// # Errors
    ///
    /// [`Error::Descriptors`] and [`Error::Attribute`], while nothing is changed yet.
    pub fn exec(&self) -> Result<Infallible, Error> {
        let count = i32::try_from(self.fds.len()).unwrap_or(i32::MAX);
        // Everything that is still needed goes above the numbers that are about to be taken.
        let sources = self
            .fds
            .iter()
            .map(|fd| above(*fd, count))
            .collect::<Result<Vec<_>, _>>()?;
        let report = self.report.map(|fd| above(fd, count)).transpose()?;
        let program = match self.program {
            Program::Path(path) => Target::Path(path),
            Program::Fd(fd) => Target::Fd(above(fd, count)?),
        };
        let argv = pointers(self.argv);
        let env = pointers(self.env);
        restore_signals()?;
        let errno = place_and_start(&sources, &program, &argv, &env);
        end_unstarted(errno, report.as_ref().map(|fd| fd.as_fd()))
    }
}

enum Target<'a> {
    Path(&'a CStr),
    Fd(OwnedFd),
}

fn above(fd: BorrowedFd<'_>, count: RawFd) -> Result<OwnedFd, Error> {
    let raw = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(count.max(3))).map_err(|source| {
        Error::Descriptors {
            operation: "duplicate",
            source,
        }
    })?;
    // SAFETY: fcntl(F_DUPFD_CLOEXEC) has just made this descriptor; nothing else owns it.
    Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(raw) })
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings
        .iter()
        .map(|string| string.as_ptr())
        .chain([std::ptr::null()])
        .collect()
}

/// From the first dup2 on there is no way back, so it returns the reason and nothing else.
fn place_and_start(
    fds: &[OwnedFd],
    target: &Target<'_>,
    argv: &[*const c_char],
    env: &[*const c_char],
) -> Errno {
    for (number, fd) in (0..).zip(fds) {
        // SAFETY: dup2(2) touches no memory. It replaces descriptor `number`, whoever owned it:
        // this process either becomes the program or ends, and runs nothing else in between.
        if let Err(errno) = Errno::result(unsafe { libc::dup2(fd.as_raw_fd(), number) }) {
            return errno;
        }
    }
    let first_closed = u32::try_from(fds.len()).unwrap_or(u32::MAX);
    if let Err(errno) = fds::range(first_closed, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as i32) {
        return errno;
    }
    match target {
        // SAFETY: the path is a C string, and both lists are null-terminated arrays of pointers
        // to C strings that `Launch` borrows over the call; execve(2) only reads them.
        Target::Path(path) => unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) },
        // SAFETY: as above; the path is the empty string that AT_EMPTY_PATH asks for.
        Target::Fd(fd) => unsafe {
            libc::execveat(
                fd.as_raw_fd(),
                c"".as_ptr(),
                // Declared as lists of mutable strings; the kernel does not write to them.
                argv.as_ptr().cast(),
                env.as_ptr().cast(),
                libc::AT_EMPTY_PATH,
            )
        },
    };
    Errno::last()
}

/// Ends a child that can't become its program, and says why where its parent watches
/// ([`exec_report`]).
pub fn end_unstarted(errno: Errno, report: Option<BorrowedFd<'_>>) -> ! {
    if let Some(report) = report {
        // Nobody is left to be told if this fails; the exit code still says it.
        let _ = nix::unistd::write(report, &(errno as i32).to_ne_bytes());
    }
    // The shell's code for "could not be started".
    super::end_now(127)
}

/// The parent's end of a report.
#[derive(Debug)]
pub struct ExecWatch {
    reader: File,
}

/// Tells a parent whether its child's program started: the end to keep and the one for
/// [`Launch::report`], which the parent must drop after the fork.
///
/// # Errors
///
/// [`Error::Report`].
pub fn exec_report() -> Result<(ExecWatch, OwnedFd), Error> {
    let (reader, writer) =
        nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|source| Error::Report {
            operation: "make",
            source: source.into(),
        })?;
    Ok((
        ExecWatch {
            reader: reader.into(),
        },
        writer,
    ))
}

impl ExecWatch {
    /// Waits until the program has started, or the child has ended without starting it and
    /// without a reason (which the parent learns by waiting for it).
    ///
    /// # Errors
    ///
    /// [`Error::Exec`] with the kernel's reason, [`Error::Report`].
    pub fn wait(mut self, program: &CStr) -> Result<(), Error> {
        let mut errno = Vec::new();
        let read = (&mut self.reader).take(4).read_to_end(&mut errno);
        read.map_err(|source| Error::Report {
            operation: "read",
            source,
        })?;
        let Ok(errno) = <[u8; 4]>::try_from(errno) else {
            return Ok(());
        };
        let source = Errno::from_raw(i32::from_ne_bytes(errno));
        Err(Error::Exec {
            program: program.to_owned(),
            source,
        })
    }
}

impl AsFd for ExecWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}
