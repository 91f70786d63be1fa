//! One name: removed, whatever it is by the time that it is looked at.

use std::ffi::OsStr;

use nix::errno::Errno;

use super::count::Removed;
use super::guard::Guard;
use super::look::{Seen, look};
use super::reason;
use crate::beneath::{Dir, Entries, Error, Kind};

/// How often a name is tried again that becomes something else between look and removal, or from
/// which mounts are taken that lie on top of each other.
const TRIES: usize = 64;

/// What became of a name.
pub(super) enum Taken {
    /// Nothing has it any more.
    Gone,
    /// A folder with something in it.
    Folder,
}

/// One removal under way.
pub(super) struct Work {
    pub(super) removed: Removed,
    pub(super) guard: Guard,
    /// What could not be removed in this round, and the first reason.
    left: u64,
    first: Option<Error>,
}

impl Work {
    pub(super) fn new() -> Self {
        Self {
            removed: Removed::default(),
            guard: Guard::new(),
            left: 0,
            first: None,
        }
    }

    /// Removes a name, a folder only when it is empty.
    pub(super) fn take(&mut self, folder: &Dir, name: &OsStr, depth: u64) -> Result<Taken, Error> {
        let mut last = None;
        for _ in 0..TRIES {
            let seen = match look(folder, name) {
                Err(error) if reason(&error) == Some(Errno::ENOENT) => return Ok(Taken::Gone),
                // A mount whose server is gone can't be looked at, but it can be taken away.
                Err(error) => match folder.detach_mount(name) {
                    Ok(()) => {
                        self.removed.mounts += 1;
                        continue;
                    }
                    Err(_) => return Err(error),
                },
                Ok(seen) => seen,
            };
            match self.try_take(folder, name, &seen) {
                Ok(true) => {
                    self.count(&seen, depth);
                    return Ok(Taken::Gone);
                }
                Ok(false) => {}
                Err(error) => match reason(&error) {
                    Some(Errno::ENOENT) => return Ok(Taken::Gone),
                    Some(Errno::ENOTEMPTY | Errno::EEXIST) => {
                        self.removed.deepest = self.removed.deepest.max(depth);
                        return Ok(Taken::Folder);
                    }
                    // It became something else since it was looked at.
                    Some(Errno::EISDIR | Errno::ENOTDIR | Errno::ELOOP | Errno::EBUSY) => {
                        last = Some(error);
                    }
                    _ => return Err(error),
                },
            }
        }
        Err(last.unwrap_or(Error::Unsteady { name: name.into() }))
    }

    /// `false` when something was in the way, and is so no more.
    fn try_take(&mut self, folder: &Dir, name: &OsStr, seen: &Seen) -> Result<bool, Error> {
        if seen.mounted {
            folder.detach_mount(name)?;
            self.removed.mounts += 1;
            return Ok(false);
        }
        if seen.kind != Kind::Folder {
            return self.unlink(folder, name, seen).map(|()| true);
        }
        if seen.protected && folder.open_dir(name)?.clear_protection()? {
            self.removed.protected += 1;
            return Ok(false);
        }
        folder.remove_dir(name).map(|()| true)
    }

    fn unlink(&mut self, folder: &Dir, name: &OsStr, seen: &Seen) -> Result<(), Error> {
        if !seen.protected {
            match folder.unlink(name) {
                // Not every file system tells of the marks without being asked.
                Err(error) if reason(&error) == Some(Errno::EPERM) => {}
                other => return other,
            }
        }
        // Only regular files are ever opened for it.
        let file = folder.open_file(name)?;
        let marks = Dir::take_marks_of(&file)?;
        let outcome = folder.unlink(name);
        if marks != 0 {
            self.removed.protected += u64::from(outcome.is_ok());
            // The marks are the file's, not the name's: who has another name of it, outside, sees
            // no change. That it can't be marked again is no reason to keep this name.
            if seen.links > 1 {
                let _ = Dir::put_marks_on(&file, marks);
            }
        }
        outcome
    }

    fn count(&mut self, seen: &Seen, depth: u64) {
        self.removed.count(seen);
        if seen.kind == Kind::Folder {
            self.removed.deepest = self.removed.deepest.max(depth);
        }
        self.removed.came_back += u64::from(self.guard.went(seen));
    }

    /// The names in a folder, as long as there are believably many.
    pub(super) fn names(&mut self, folder: &Dir) -> Result<Names, Error> {
        let most = Guard::names_for(folder.own_facts()?.size);
        Ok(Names {
            entries: folder.entries()?,
            most,
        })
    }

    /// Something stays for now.
    pub(super) fn leave(&mut self, error: Error) {
        self.left += 1;
        self.first.get_or_insert(error);
    }

    pub(super) fn begin_round(&mut self) {
        (self.left, self.first) = (0, None);
    }

    /// What the last round could not remove, as an error.
    pub(super) fn left(&mut self) -> Error {
        let first = self
            .first
            .take()
            .unwrap_or(Error::Unsteady { name: ".".into() });
        Error::Left {
            count: self.left.max(1),
            removed: Box::new(self.removed),
            first: Box::new(first),
        }
    }

    /// Removes the tree's own, emptied folder.
    pub(super) fn finish(mut self, parent: &Dir, name: &OsStr) -> Result<Removed, Error> {
        match self.take(parent, name, 0)? {
            Taken::Gone => Ok(self.removed),
            Taken::Folder => Err(self.left()),
        }
    }
}

/// A listing with an end.
pub(super) struct Names {
    entries: Entries,
    most: u64,
}

impl Names {
    pub(super) fn next(&mut self, guard: &mut Guard) -> Option<Result<std::ffi::OsString, Error>> {
        if self.most == 0 {
            guard.overrun();
        }
        if guard.gives_up() {
            return None;
        }
        self.most -= 1;
        Some(self.entries.next()?.map(|entry| entry.name))
    }
}
