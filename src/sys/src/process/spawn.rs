//! Starting a program from a process that has threads, where [`super::fork`] is out of the question.

use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use nix::unistd::Pid;

use super::{Error, Identity, Process};
use crate::clock::boottime;
use crate::poll::Watch;

/// A program to start, with nothing inherited but standard error and what is given here.
#[derive(Debug)]
pub struct Spawn {
    program: PathBuf,
    args: Vec<OsString>,
    identity: Option<Identity>,
    stdin: Option<OwnedFd>,
    pass: Vec<(OwnedFd, RawFd)>,
    new_session: bool,
}

impl Spawn {
    /// The program at this absolute path; PATH is not searched and is all of its environment.
    #[must_use]
    pub fn new(program: &Path) -> Self {
        let program = program.to_owned();
        Self {
            program,
            args: vec![],
            identity: None,
            stdin: None,
            pass: vec![],
            new_session: false,
        }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<T: AsRef<OsStr>>(self, args: impl IntoIterator<Item = T>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    /// Runs it as this user, in its main group only.
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Its standard input; /dev/null otherwise.
    #[must_use]
    pub fn stdin(mut self, fd: OwnedFd) -> Self {
        self.stdin = Some(fd);
        self
    }

    /// A descriptor that it finds under this number, 3 or higher.
    #[must_use]
    pub fn pass(mut self, fd: OwnedFd, number: RawFd) -> Self {
        self.pass.push((fd, number));
        self
    }

    /// In a session of its own: a terminal's signals do not reach it.
    #[must_use]
    pub fn new_session(mut self) -> Self {
        self.new_session = true;
        self
    }

    /// Starts it, without standard output.
    ///
    /// # Errors
    ///
    /// [`Error::Spawn`] when it can't be started, [`Error::Descriptors`].
    pub fn start(self) -> Result<Process, Error> {
        let child = self.spawn(Stdio::null())?;
        Process::open(Pid::from_raw(child.id().cast_signed()))
    }

    /// Starts it, reads at most `limit` bytes of its standard output and waits for its end. What
    /// it printed beyond is lost.
    ///
    /// # Errors
    ///
    /// [`Error::Spawn`], [`Error::Descriptors`] and [`Error::Report`].
    pub fn output(self, limit: usize) -> Result<Vec<u8>, Error> {
        let mut child = self.spawn(Stdio::piped())?;
        let mut output = Vec::new();
        let read = match child.stdout.take() {
            Some(pipe) => pipe.take(limit as u64).read_to_end(&mut output),
            None => Ok(0),
        };
        let ended = child.wait();
        read.and(ended.map(|_| 0)).map_err(|source| Error::Report {
            operation: "read",
            source,
        })?;
        Ok(output)
    }

    /// The same within a time: a program that takes longer is killed, whatever it printed.
    ///
    /// # Errors
    ///
    /// As [`Spawn::output`]; [`Error::Report`] with `TimedOut`.
    pub fn output_within(self, limit: usize, within: Duration) -> Result<Vec<u8>, Error> {
        let until = boottime() + within;
        let (process, pipe) = self.stream()?;
        let mut output = Vec::new();
        let read = read_until(&std::fs::File::from(pipe), limit, until, &mut output);
        let left = until.saturating_sub(boottime());
        let in_time = read.and_then(|()| match process.wait_within(left) {
            Ok(Some(_)) => Ok(()),
            _ => Err(std::io::ErrorKind::TimedOut.into()),
        });
        in_time.map(|()| output).map_err(|source| {
            // It can't refuse to end, and its end is waited for.
            let _ = process.send(nix::sys::signal::Signal::SIGKILL);
            let _ = process.wait();
            Error::Report {
                operation: "read",
                source,
            }
        })
    }

    /// Starts it and hands over the read end of its standard output, for one that prints as long as
    /// it runs. Whoever takes it waits for the process.
    ///
    /// # Errors
    ///
    /// As [`Spawn::start`].
    pub fn stream(self) -> Result<(Process, OwnedFd), Error> {
        let mut child = self.spawn(Stdio::piped())?;
        let process = Process::open(Pid::from_raw(child.id().cast_signed()))?;
        let pipe = child.stdout.take().ok_or_else(|| Error::Report {
            operation: "open",
            source: std::io::ErrorKind::BrokenPipe.into(),
        })?;
        Ok((process, pipe.into()))
    }

    fn spawn(self, stdout: Stdio) -> Result<Child, Error> {
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .stdout(stdout)
            .current_dir("/");
        command.stdin(self.stdin.map_or_else(Stdio::null, Stdio::from));
        if let Some(identity) = &self.identity {
            // std sets no groups but the main one when it changes the user.
            command
                .uid(identity.uid.as_raw())
                .gid(identity.gid.as_raw());
        }
        let _taken = occupy(&self.pass)?;
        let moves = self
            .pass
            .iter()
            .map(|(fd, number)| Ok((above(fd, &self.pass)?, *number)));
        let moves = moves.collect::<Result<Vec<_>, Error>>()?;
        let new_session = self.new_session;
        let place = move || {
            if new_session {
                // SAFETY: setsid(2) has no preconditions; a failure means it leads one already.
                unsafe { libc::setsid() };
            }
            for (fd, number) in &moves {
                // SAFETY: dup2(2) touches no memory; `number` is the child's to replace, and std
                // keeps its own descriptors close-on-exec and below the sources.
                if unsafe { libc::dup2(fd.as_raw_fd(), *number) } < 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        };
        // SAFETY: between fork and exec the closure makes plain system calls on values that it
        // owns; it does not allocate and takes no lock.
        unsafe { command.pre_exec(place) };
        command.spawn().map_err(|source| Error::Spawn {
            program: self.program,
            source,
        })
    }
}

/// Reads to the end of the pipe, to the limit, or until this CLOCK_BOOTTIME.
fn read_until(
    mut pipe: &std::fs::File,
    limit: usize,
    until: Duration,
    output: &mut Vec<u8>,
) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    while output.len() < limit {
        let left = until.saturating_sub(boottime());
        let mut watched = [Watch::readable(&pipe)];
        crate::poll::wait(&mut watched, Some(left)).map_err(std::io::Error::other)?;
        if !watched[0].is_ready() {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        let room = buffer.len().min(limit - output.len());
        match pipe.read(&mut buffer[..room])? {
            0 => return Ok(()),
            count => output.extend_from_slice(&buffer[..count]),
        }
    }
    Ok(())
}

/// Takes all free numbers up to the highest that the program is to find: std reports a failed
/// start over a pipe, which must not lie where the child puts its descriptors.
fn occupy(pass: &[(OwnedFd, RawFd)]) -> Result<Vec<OwnedFd>, Error> {
    let highest = pass.iter().map(|(_, number)| *number).max().unwrap_or(2);
    let mut taken = Vec::new();
    while let Some((fd, _)) = pass.first() {
        let copy = duplicate(fd, 3)?;
        let above = copy.as_raw_fd() > highest;
        taken.push(copy);
        if above {
            break;
        }
    }
    Ok(taken)
}

/// A copy of `fd` above all numbers that are about to be taken.
fn above(fd: &OwnedFd, taken: &[(OwnedFd, RawFd)]) -> Result<OwnedFd, Error> {
    let highest = taken.iter().map(|(_, number)| *number).max().unwrap_or(2);
    duplicate(fd, highest + 16)
}

fn duplicate(fd: &OwnedFd, from: RawFd) -> Result<OwnedFd, Error> {
    let raw = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(from)).map_err(|source| Error::Descriptors {
        operation: "duplicate",
        source,
    })?;
    // SAFETY: fcntl(F_DUPFD_CLOEXEC) has just made this descriptor; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_program_gets_its_descriptors_its_user_and_no_environment() {
        let file = tempfile::tempfile().unwrap();
        let identity = Identity {
            uid: 65534.into(),
            gid: 65534.into(),
            groups: vec![],
        };
        let output = Spawn::new(Path::new("/bin/sh"))
            .arg("-c")
            .arg("id -u; id -G; echo \"${HOME:-none}\"; test -e /proc/self/fd/5 && echo five; cat")
            .identity(identity)
            .stdin(File::open("/dev/null").unwrap().into())
            .pass(file.into(), 5)
            .output(1000)
            .unwrap();
        assert_eq!(
            String::from_utf8(output).unwrap(),
            "65534\n65534\nnone\nfive\n"
        );
    }

    #[test]
    fn a_failed_start_is_told_whatever_numbers_the_program_was_to_find() {
        for number in 3..40 {
            let file = tempfile::tempfile().unwrap();
            let spawn = Spawn::new(Path::new("/nonexistent/program"));
            let outcome = spawn.pass(file.try_clone().unwrap().into(), number).start();
            assert!(matches!(outcome, Err(Error::Spawn { .. })), "{number}");
            assert_eq!(file.metadata().unwrap().len(), 0, "{number}");
        }
    }

    #[test]
    fn a_program_that_takes_too_long_is_killed_though_others_hold_its_pipe() {
        let run = |script: &str, within| {
            let spawn = Spawn::new(Path::new("/bin/sh")).arg("-c").arg(script);
            spawn.output_within(1000, within)
        };
        let long = Duration::from_secs(60);
        assert_eq!(run("echo ran", long).unwrap(), b"ran\n");
        let short = Duration::from_millis(300);
        for script in [
            "exec sleep 1000",
            "sleep 3 & exec sleep 1000",
            "exec >&-; exec sleep 1000",
        ] {
            let error = run(script, short).unwrap_err();
            let Error::Report { source, .. } = error else {
                panic!("{script}: {error}");
            };
            assert_eq!(source.kind(), std::io::ErrorKind::TimedOut, "{script}");
        }
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = Spawn::new(Path::new("/nonexistent/program"))
            .start()
            .unwrap_err();
        assert!(
            error.to_string().contains("/nonexistent/program"),
            "{error}"
        );
    }
}
