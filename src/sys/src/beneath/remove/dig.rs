//! Emptying a folder where it is, the deepest first, with few descriptors: the last ones on the way
//! down are held; when they are used up the way is gone again from its start. Never by `..`.

use std::collections::{HashSet, VecDeque};
use std::ffi::{OsStr, OsString};

use nix::errno::Errno;

use super::entry::{Taken, Work};
use super::look::look;
use crate::beneath::{Dir, Error};

/// Folders that are held open at once: half of the least that a process may be allowed (64).
const HELD: usize = 32;

/// Folders that can't be emptied and are passed by; with more the rest is left as well.
const STUCK: usize = 65_536;

/// The way down from a folder: its last part.
struct Way {
    held: VecDeque<Dir>,
    level: u64,
}

impl Work {
    /// Removes the folder `name` of `parent` with all that is in it. What stays is noted.
    pub(super) fn dig(&mut self, parent: &Dir, name: &OsStr, depth: u64) {
        if let Err(error) = self.try_dig(parent, name, depth) {
            self.leave(error);
        }
    }

    fn try_dig(&mut self, parent: &Dir, name: &OsStr, depth: u64) -> Result<(), Error> {
        let mut stuck = HashSet::new();
        let mut way = Way::start(parent, name)?;
        loop {
            if self.guard.gives_up() || stuck.len() > STUCK {
                return Err(not_empty(name));
            }
            self.guard.idle();
            let Some(folder) = way.held.back() else {
                // The held ones are used up: again from the start, down to what is left.
                match self.take(parent, name, depth)? {
                    Taken::Gone => return Ok(()),
                    Taken::Folder => way = Way::start(parent, name)?,
                }
                continue;
            };
            match self.scan(folder, depth + way.level, &mut stuck)? {
                Some(deeper) => way.down(&deeper)?,
                None if way.level == 0 => {
                    return match self.take(parent, name, depth)? {
                        Taken::Gone => Ok(()),
                        Taken::Folder => Err(not_empty(name)),
                    };
                }
                None => {
                    // Its parent's next scan removes it, or passes it by.
                    if folder.entries()?.next().is_some() {
                        stuck.insert(folder.own_facts()?.inode);
                    }
                    way.up();
                }
            }
        }
    }

    /// Removes what can be removed in a folder and names the first one in it that is not empty.
    fn scan(
        &mut self,
        folder: &Dir,
        depth: u64,
        stuck: &mut HashSet<u64>,
    ) -> Result<Option<OsString>, Error> {
        let mut names = self.names(folder)?;
        while let Some(name) = names.next(&mut self.guard) {
            let name = name?;
            match self.take(folder, &name, depth + 1) {
                Ok(Taken::Gone) => {}
                Ok(Taken::Folder) => match look(folder, &name) {
                    Ok(seen) if stuck.contains(&seen.inode) => {}
                    Ok(_) => return Ok(Some(name)),
                    Err(error) => self.leave(error),
                },
                Err(error) => self.leave(error),
            }
        }
        Ok(None)
    }
}

impl Way {
    fn start(parent: &Dir, name: &OsStr) -> Result<Self, Error> {
        Ok(Self {
            held: VecDeque::from([parent.open_dir(name)?]),
            level: 0,
        })
    }

    fn down(&mut self, name: &OsStr) -> Result<(), Error> {
        if let Some(folder) = self.held.back() {
            let deeper = folder.open_dir(name)?;
            self.held.push_back(deeper);
            self.level += 1;
        }
        if self.held.len() > HELD {
            self.held.pop_front();
        }
        Ok(())
    }

    fn up(&mut self) {
        self.held.pop_back();
        self.level = self.level.saturating_sub(1);
    }
}

fn not_empty(name: &OsStr) -> Error {
    Error::Remove {
        name: name.into(),
        source: Errno::ENOTEMPTY,
    }
}
