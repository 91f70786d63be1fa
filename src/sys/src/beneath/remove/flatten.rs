//! The tree as a whole: what lies at the top goes, folders that are not empty are emptied upwards.

use std::ffi::OsStr;

use super::buckets::{Buckets, depth_of};
use super::entry::{Taken, Work};
use crate::beneath::{Dir, Error};

/// Rounds over the top. An honest tree takes one, and a second to see that nothing is left.
const ROUNDS: usize = 64;

/// Rounds one after the other that bring nothing: names that are swapped all the time can escape one.
const VAIN: usize = 8;

impl Work {
    /// Removes everything in `top`.
    pub(super) fn empty(&mut self, top: &Dir) -> Result<(), Error> {
        top.clear_protection()?;
        let mut buckets = Buckets::new();
        let mut vain = 0;
        for _ in 0..ROUNDS {
            let before = self.removed.entries();
            self.begin_round();
            self.top(top, &mut buckets)?;
            self.drain(top, &mut buckets);
            if top.entries()?.next().is_none() {
                return Ok(());
            }
            vain = if self.removed.entries() == before {
                vain + 1
            } else {
                0
            };
            if self.guard.gives_up() || vain == VAIN {
                break;
            }
        }
        Err(self.left())
    }

    fn top(&mut self, top: &Dir, buckets: &mut Buckets) -> Result<(), Error> {
        let mut names = self.names(top)?;
        while let Some(name) = names.next(&mut self.guard) {
            let name = name?;
            if !buckets.holds(&name) {
                self.clear_away(top, buckets, top, &name, 1);
            }
        }
        Ok(())
    }

    /// Empties the buckets, and those that this fills.
    fn drain(&mut self, top: &Dir, buckets: &mut Buckets) {
        while let Some(name) = buckets.next() {
            if let Err(error) = self.drain_one(top, buckets, &name) {
                self.leave(error);
            }
            if self.guard.gives_up() {
                return;
            }
        }
    }

    fn drain_one(&mut self, top: &Dir, buckets: &mut Buckets, name: &OsStr) -> Result<(), Error> {
        let bucket = top.open_dir(name)?;
        let mut names = self.names(&bucket)?;
        while let Some(inner) = names.next(&mut self.guard) {
            let inner = inner?;
            self.clear_away(top, buckets, &bucket, &inner, depth_of(&inner));
        }
        top.remove_dir(name)
    }

    /// Removes a name with all that is below it.
    fn clear_away(
        &mut self,
        top: &Dir,
        buckets: &mut Buckets,
        parent: &Dir,
        name: &OsStr,
        depth: u64,
    ) {
        let outcome = match self.take(parent, name, depth) {
            Ok(Taken::Gone) => return,
            Ok(Taken::Folder) => self.hollow(top, buckets, parent, name, depth),
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            self.leave(error);
        }
    }

    fn hollow(
        &mut self,
        top: &Dir,
        buckets: &mut Buckets,
        parent: &Dir,
        name: &OsStr,
        depth: u64,
    ) -> Result<(), Error> {
        let folder = parent.open_dir(name)?;
        let mut names = self.names(&folder)?;
        while let Some(inner) = names.next(&mut self.guard) {
            let inner = inner?;
            match self.take(&folder, &inner, depth + 1) {
                Ok(Taken::Gone) => {}
                // Where it can't be moved (full disk, quota, no key, another subvolume) it is
                // emptied where it is.
                Ok(Taken::Folder) => {
                    if buckets.add(top, &folder, &inner, depth + 1).is_err() {
                        self.dig(&folder, &inner, depth + 1);
                    }
                }
                Err(error) => self.leave(error),
            }
        }
        match self.take(parent, name, depth)? {
            Taken::Gone => Ok(()),
            Taken::Folder => Err(Error::Remove {
                name: name.into(),
                source: nix::errno::Errno::ENOTEMPTY,
            }),
        }
    }
}
