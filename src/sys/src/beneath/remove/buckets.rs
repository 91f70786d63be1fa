//! Folders of our own at the top, into which those that are not empty are moved. Several, since
//! ext4 has room for 65,000 folders in one; a full one, or one that is being read, gets no more.

use std::ffi::{OsStr, OsString};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Range;

use nix::errno::Errno;

use super::reason;
use crate::beneath::{Dir, Error};

/// Half of what ext4 has room for.
const MOST: u64 = 30_000;

/// Names that somebody else took first.
const TAKEN: usize = 8;

pub(super) struct Buckets {
    /// Not to be guessed, so that nobody can have taken the names.
    prefix: String,
    /// Those that are full and wait to be emptied.
    full: Range<u64>,
    /// The one that is filled now, and how much is in it.
    open: Option<(Dir, u64)>,
    moved: u64,
}

impl Buckets {
    pub(super) fn new() -> Self {
        let random = RandomState::new().build_hasher().finish();
        Self {
            prefix: format!(".removed-{random:016x}-"),
            full: 0..0,
            open: None,
            moved: 0,
        }
    }

    /// Moves a folder up. How deep it lay goes along, in its name.
    pub(super) fn add(
        &mut self,
        top: &Dir,
        from: &Dir,
        name: &OsStr,
        depth: u64,
    ) -> Result<(), Error> {
        if self.open.as_ref().is_some_and(|(_, count)| *count >= MOST) {
            self.close();
        }
        for _ in 0..TAKEN {
            self.moved += 1;
            let free = format!("{}.{depth}", self.moved);
            let (bucket, count) = self.opened(top)?;
            match from.rename_new(name, bucket, &free) {
                Ok(()) => {
                    *count += 1;
                    return Ok(());
                }
                Err(error) => match reason(&error) {
                    Some(Errno::EEXIST) => {}
                    // It went away by itself, or is no folder of this tree any more.
                    Some(Errno::ENOENT) => return Ok(()),
                    _ => return Err(error),
                },
            }
        }
        Err(Error::Unsteady { name: name.into() })
    }

    fn opened(&mut self, top: &Dir) -> Result<&mut (Dir, u64), Error> {
        let fresh = match self.open.take() {
            Some(open) => open,
            None => (top.create_dir(self.name(self.full.end), 0o700)?, 0),
        };
        Ok(self.open.insert(fresh))
    }

    /// What is moved from now on goes into another one.
    fn close(&mut self) {
        if self.open.take().is_some() {
            self.full.end += 1;
        }
    }

    fn name(&self, number: u64) -> OsString {
        format!("{}{number}", self.prefix).into()
    }

    /// The next one to be emptied: its name.
    pub(super) fn next(&mut self) -> Option<OsString> {
        if self.full.is_empty() {
            self.close();
        }
        let number = self.full.next()?;
        Some(self.name(number))
    }

    /// Whether this is one that still waits or is filled.
    pub(super) fn holds(&self, name: &OsStr) -> bool {
        let own = name
            .to_str()
            .and_then(|name| name.strip_prefix(&self.prefix));
        own.and_then(|number| number.parse::<u64>().ok())
            .is_some_and(|number| number >= self.full.start && number <= self.full.end)
    }
}

/// How deep a folder lay that has this name in a bucket.
pub(super) fn depth_of(name: &OsStr) -> u64 {
    let depth = name.to_str().and_then(|name| name.split_once('.'));
    depth.and_then(|(_, depth)| depth.parse().ok()).unwrap_or(0)
}
