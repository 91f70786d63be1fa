//! One control group.

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::Pid;

use super::limits::value_of;
use super::{Error, path_of, unified_mount};
use crate::clock::boottime;
use crate::poll::{self, Watch};

/// Most groups below one that [`Group::remove`] takes away. Our own jobs make two; a delegated
/// group may have been filled by a bot.
const MOST_BELOW: usize = 4096;

/// The kernel holds back a notification that comes within 10 ms of the last one and forgets it when
/// the group is removed meanwhile; removal itself wakes nobody (seen: systemd starts a unit's stop
/// command in a slice that is being killed).
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A control group that exists; it stays when this value is dropped.
#[derive(Debug)]
pub struct Group {
    path: PathBuf,
    folder: File,
}

impl Group {
    /// The root of the tree.
    ///
    /// # Errors
    ///
    /// [`Error::ReadMounts`], [`Error::NotMounted`] and [`Error::Open`].
    pub fn root() -> Result<Self, Error> {
        Self::open(unified_mount()?)
    }

    /// The group of a process.
    ///
    /// # Errors
    ///
    /// As [`Group::root`], and [`Error::ReadPlace`] and [`Error::NoPlace`].
    pub fn of_process(pid: Pid) -> Result<Self, Error> {
        let place = path_of(pid)?;
        let below = place.strip_prefix("/").unwrap_or(&place).to_owned();
        Self::open(unified_mount()?.join(below))
    }

    /// The group with this path from the root of the tree, such as `user.slice/user-1000.slice`.
    ///
    /// # Errors
    ///
    /// As [`Group::root`], and [`Error::BadName`].
    pub fn at(place: &str) -> Result<Self, Error> {
        if place.split('/').any(is_odd) {
            return Err(Error::BadName {
                name: place.to_owned(),
            });
        }
        Self::open(unified_mount()?.join(place))
    }

    /// Makes a group below `parent`.
    ///
    /// # Errors
    ///
    /// [`Error::BadName`], [`Error::Create`] (`AlreadyExists`) and [`Error::Open`].
    pub fn create(parent: &Self, name: &str) -> Result<Self, Error> {
        let path = parent.child_path(name)?;
        fs::create_dir(&path).map_err(|source| Error::Create {
            path: path.clone(),
            source,
        })?;
        Self::open(path)
    }

    /// The group of that name below this one.
    ///
    /// # Errors
    ///
    /// [`Error::BadName`] and [`Error::Open`].
    pub fn child(&self, name: &str) -> Result<Self, Error> {
        Self::open(self.child_path(name)?)
    }

    fn child_path(&self, name: &str) -> Result<PathBuf, Error> {
        if is_odd(name) || name.contains('/') {
            return Err(Error::BadName {
                name: name.to_owned(),
            });
        }
        Ok(self.path.join(name))
    }

    pub(super) fn open(path: PathBuf) -> Result<Self, Error> {
        match File::open(&path) {
            Ok(folder) => Ok(Self { path, folder }),
            Err(source) => Err(Error::Open { path, source }),
        }
    }

    /// Its path in the file system.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves a process, with all its threads, here.
    ///
    /// # Errors
    ///
    /// [`Error::Write`].
    pub fn add(&self, pid: Pid) -> Result<(), Error> {
        self.write("cgroup.procs", &pid.to_string())
    }

    /// The processes in this very group; those outside of the caller's pid namespace are 0.
    ///
    /// # Errors
    ///
    /// [`Error::Read`].
    pub fn processes(&self) -> Result<Vec<Pid>, Error> {
        let text = self.read("cgroup.procs")?;
        Ok(text
            .lines()
            .filter_map(|line| line.parse().ok())
            .map(Pid::from_raw)
            .collect())
    }

    /// Whether a live process is in this group or below. A group that is gone has none.
    ///
    /// # Errors
    ///
    /// [`Error::Read`].
    pub fn populated(&self) -> Result<bool, Error> {
        match self.read("cgroup.events") {
            Ok(text) => Ok(value_of(&text, "populated") != Some("0")),
            Err(Error::Read { source, .. }) if is_gone(&source) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits until no live process is in this group or below.
    ///
    /// # Errors
    ///
    /// [`Error::NotEmpty`] when `timeout` is over, [`Error::Read`] and [`Error::Wait`].
    pub fn wait_empty(&self, timeout: Duration) -> Result<(), Error> {
        let path = self.path.join("cgroup.events");
        let end = boottime().saturating_add(timeout);
        let mut events = match File::open(&path) {
            Ok(events) => events,
            Err(source) if is_gone(&source) => return Ok(()),
            Err(source) => return Err(Error::Read { path, source }),
        };
        loop {
            // Reading arms the next notification, so nothing is missed in between.
            match read_again(&mut events) {
                Ok(text) if value_of(&text, "populated") == Some("0") => return Ok(()),
                Ok(_) => {}
                Err(source) if is_gone(&source) => return Ok(()),
                Err(source) => return Err(Error::Read { path, source }),
            }
            let left = end.saturating_sub(boottime());
            if left.is_zero() {
                return Err(Error::NotEmpty {
                    path: self.path.clone(),
                    waited: timeout,
                });
            }
            let turn = left.min(LOOK_AGAIN);
            poll::wait(&mut [Watch::changed(&events)], Some(turn)).map_err(|source| {
                Error::Wait {
                    path: self.path.clone(),
                    source,
                }
            })?;
        }
    }

    /// Removes this group and all below it; they must be empty.
    ///
    /// # Errors
    ///
    /// [`Error::Remove`], [`Error::Read`] and [`Error::TooManyBelow`].
    pub fn remove(self) -> Result<(), Error> {
        // From the last found back: each is found before those below it.
        for path in self.with_all_below()?.iter().rev() {
            match fs::remove_dir(path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::Remove {
                        path: path.clone(),
                        source,
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// This group and those below it, each before its own.
    pub(super) fn with_all_below(&self) -> Result<Vec<PathBuf>, Error> {
        let mut found = vec![self.path.clone()];
        let mut next = 0;
        while next < found.len() {
            let below = folders_in(&found[next])?;
            found.extend(below);
            next += 1;
            if found.len() > MOST_BELOW {
                return Err(Error::TooManyBelow {
                    path: self.path.clone(),
                    limit: MOST_BELOW,
                });
            }
        }
        Ok(found)
    }

    pub(super) fn read(&self, file: &str) -> Result<String, Error> {
        let path = self.path.join(file);
        fs::read_to_string(&path).map_err(|source| Error::Read { path, source })
    }

    pub(super) fn write(&self, file: &str, value: &str) -> Result<(), Error> {
        let path = self.path.join(file);
        // Never created: on a file system that is no cgroup this must fail.
        let open = File::options().write(true).open(&path);
        open.and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()))
            .map_err(|source| Error::Write {
                path,
                value: value.to_owned(),
                source,
            })
    }
}

/// The open folder, for [`crate::process::fork`] into this group.
impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

fn folders_in(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let entries = match fs::read_dir(path) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        outcome => outcome.map_err(failed)?,
    };
    let mut folders = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_dir() {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}

pub(super) fn read_again(file: &mut File) -> io::Result<String> {
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    Ok(text)
}

/// The group was removed: its folder is missing, or the open file has lost its group.
pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

fn is_odd(name: &str) -> bool {
    matches!(name, "" | "." | "..") || name.bytes().any(|byte| byte == 0 || byte == b'\n')
}
