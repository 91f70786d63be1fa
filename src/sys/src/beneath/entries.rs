//! The content of a folder, as a stream: a bot can make ten million files.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use nix::dir::OwningIter;

use super::Error;

/// One name in a folder. What it stands for is asked of [`super::Dir::facts`]: the kind that a
/// listing shows may have changed since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name: any bytes but a slash.
    pub name: OsString,
    /// The number of its file.
    pub inode: u64,
}

/// The names in a folder, without `.` and `..`. Names that come or go meanwhile may be missing.
#[derive(Debug)]
pub struct Entries {
    stream: OwningIter,
}

impl Entries {
    pub(super) fn new(stream: OwningIter) -> Self {
        Self { stream }
    }
}

impl Iterator for Entries {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let entry = match self.stream.next()? {
                Ok(entry) => entry,
                Err(source) => return Some(Err(Error::List { source })),
            };
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                let name = OsStr::from_bytes(name).to_owned();
                return Some(Ok(Entry {
                    name,
                    inode: entry.ino(),
                }));
            }
        }
    }
}
