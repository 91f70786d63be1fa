//! The walk: down the manifest's list and the directories side by side.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::stat::{FileStat, fstat};
use nix::unistd::{Gid, Uid, fchown};

use super::metadata::io;
use super::{Owner, VerifyError};
use crate::beneath::{self, Kind};
use crate::digest::Digest;
use crate::manifest::FileEntry;
use crate::path::shown;

/// Permission bits, setuid and its kin included.
const MODE_BITS: u32 = 0o7777;

pub(super) struct Walk {
    owner: Option<Owner>,
}

/// One name of a directory, and the part of the list that lies at or beneath it.
struct Child<'a> {
    name: &'a str,
    path: &'a str,
    files: &'a [FileEntry],
}

impl Child<'_> {
    fn is_file(&self) -> bool {
        self.files[0].path.as_str().len() == self.path.len()
    }
}

impl Walk {
    pub(super) fn new(owner: Option<Owner>) -> Self {
        Self { owner }
    }

    /// Checks one directory; all `files` lie beneath it, `skip` bytes into their paths. The depth
    /// is that of the paths of a manifest, at most 32.
    pub(super) fn directory(
        &mut self,
        dir: BorrowedFd<'_>,
        files: &[FileEntry],
        skip: usize,
    ) -> Result<(), VerifyError> {
        let children = children(files, skip);
        no_extras(dir, &children, &files[0].path.as_str()[..skip])?;
        for child in children {
            if child.is_file() {
                self.file(dir, child.name, &child.files[0])?;
            } else {
                let below = self.open_directory(dir, child.name, child.path)?;
                self.directory(below.as_fd(), child.files, child.path.len() + 1)?;
            }
        }
        Ok(())
    }

    fn file(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &str,
        listed: &FileEntry,
    ) -> Result<(), VerifyError> {
        let path = listed.path.as_str();
        let (file, stat) = self.open_file(dir, name, path, listed.mode())?;
        let size = |found| VerifyError::Size {
            path: shown(path.as_bytes()),
            found,
            expected: listed.size,
        };
        if stat.st_size as u64 != listed.size {
            return Err(size(stat.st_size as u64));
        }
        // One byte more than listed: a file that grows meanwhile is noticed and never read to its end.
        let read = Digest::of_reader(file.take(listed.size.saturating_add(1)));
        let (found, count) = read.map_err(|source| VerifyError::Io {
            action: "read",
            path: shown(path.as_bytes()),
            source,
        })?;
        if count != listed.size {
            return Err(size(count));
        }
        match found == listed.sha256 {
            true => Ok(()),
            false => {
                let path = shown(path.as_bytes());
                Err(VerifyError::Contents {
                    path,
                    found,
                    expected: listed.sha256,
                })
            }
        }
    }

    /// Opens a regular file with one name and the right mode, taken over first where asked.
    pub(super) fn open_file(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &str,
        path: &str,
        mode: u32,
    ) -> Result<(File, FileStat), VerifyError> {
        expect(dir, name, path, Kind::File)?;
        let (file, stat) =
            beneath::open_file(dir, name.as_bytes()).map_err(|errno| io("open", path, errno))?;
        // Before anything is changed: the other name may lie outside, on a file of somebody else.
        if stat.st_nlink != 1 {
            return Err(VerifyError::HardLink {
                path: shown(path.as_bytes()),
                links: stat.st_nlink,
            });
        }
        let stat = self.settle(file.as_fd(), path, mode)?;
        Ok((file, stat))
    }

    /// Opens a directory of mode 0755, taken over first where asked.
    pub(super) fn open_directory(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &str,
        path: &str,
    ) -> Result<OwnedFd, VerifyError> {
        expect(dir, name, path, Kind::Directory)?;
        let below = beneath::open_directory(dir, name.as_bytes())
            .map_err(|errno| io("open", path, errno))?;
        self.settle(below.as_fd(), path, 0o755)?;
        Ok(below)
    }

    /// Owner before mode: a change of owner clears bits, and the old owner could set them again.
    fn settle(&self, fd: BorrowedFd<'_>, path: &str, mode: u32) -> Result<FileStat, VerifyError> {
        if let Some(owner) = self.owner {
            fchown(
                fd,
                Some(Uid::from_raw(owner.uid)),
                Some(Gid::from_raw(owner.gid)),
            )
            .map_err(|errno| io("take over", path, errno))?;
            beneath::set_mode(fd, mode).map_err(|errno| io("set the mode of", path, errno))?;
        }
        let stat = fstat(fd).map_err(|errno| io("inspect", path, errno))?;
        match stat.st_mode & MODE_BITS {
            found if found == mode => Ok(stat),
            found => Err(VerifyError::Mode {
                path: shown(path.as_bytes()),
                found,
                expected: mode,
            }),
        }
    }
}

/// Groups the sorted list by its next component. Paths that share one stand together, because
/// they share a prefix that ends in `/`.
fn children(files: &[FileEntry], skip: usize) -> Vec<Child<'_>> {
    files
        .chunk_by(|a, b| next_name(a, skip) == next_name(b, skip))
        .map(|files| {
            let name = next_name(&files[0], skip);
            Child {
                name,
                path: &files[0].path.as_str()[..skip + name.len()],
                files,
            }
        })
        .collect()
}

fn next_name(file: &FileEntry, skip: usize) -> &str {
    let rest = &file.path.as_str()[skip..];
    rest.split_once('/').map_or(rest, |(name, _)| name)
}

fn no_extras(dir: BorrowedFd<'_>, children: &[Child<'_>], prefix: &str) -> Result<(), VerifyError> {
    let names: BTreeSet<&[u8]> = children.iter().map(|child| child.name.as_bytes()).collect();
    let listed = beneath::each_name(dir, |name| match names.contains(name) {
        true => Ok(()),
        false => Err(VerifyError::Extra {
            path: shown(&[prefix.as_bytes(), name].concat()),
        }),
    });
    listed.map_err(|errno| io("list", if prefix.is_empty() { "." } else { prefix }, errno))?
}

fn expect(dir: BorrowedFd<'_>, name: &str, path: &str, kind: Kind) -> Result<(), VerifyError> {
    let expected = if kind == Kind::File {
        "file"
    } else {
        "directory"
    };
    let shown_path = shown(path.as_bytes());
    match beneath::kind(dir, name.as_bytes()) {
        Ok(found) if found == kind => Ok(()),
        Ok(Kind::Link) => Err(VerifyError::Link { path: shown_path }),
        Ok(Kind::Special) => Err(VerifyError::Kind {
            path: shown_path,
            expected,
            special: true,
        }),
        Ok(_) => Err(VerifyError::Kind {
            path: shown_path,
            expected,
            special: false,
        }),
        Err(Errno::ENOENT) => Err(VerifyError::Missing { path: shown_path }),
        Err(errno) => Err(io("inspect", path, errno)),
    }
}
