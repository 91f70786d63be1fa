//! A folder as a source: walked by descriptor, never through a link.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::FileStat;

use super::PackError;
use super::source::{Member, Sink, Source, pour};
use crate::beneath::{self, Kind};
use crate::limits::Limits;
use crate::path::{PackagePath, shown};

const SPECIAL_BITS: u32 = 0o7000;
const ANY_EXECUTE: u32 = 0o111;

/// An open folder and the files found in it. Empty directories leave no trace in a package.
pub(super) struct Folder {
    root: OwnedFd,
    members: Vec<Member>,
    limits: Limits,
}

impl Folder {
    pub(super) fn open(path: &Path, root: OwnedFd, limits: Limits) -> Result<Self, PackError> {
        let mut found = Self {
            root,
            members: Vec::new(),
            limits,
        };
        let root = beneath::open_directory(found.root.as_fd(), b".")
            .map_err(|errno| failed(&path.display().to_string(), errno))?;
        found.walk(root.as_fd(), &mut Vec::new())?;
        found.members.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// The path rules end the recursion at 32 levels, the limit on files its breadth.
    fn walk(&mut self, dir: BorrowedFd<'_>, prefix: &mut Vec<u8>) -> Result<(), PackError> {
        let mut names: Vec<Vec<u8>> = Vec::new();
        let listed = beneath::each_name(dir, |name| {
            names.push(name.to_vec());
            self.limits
                .files(names.len() as u64)
                .map_err(PackError::from)
        });
        listed.map_err(|errno| failed(&shown(prefix), errno))??;
        // So that of several faults always the same one is reported.
        names.sort();
        for name in names {
            let outer = prefix.len();
            prefix.extend_from_slice(&name);
            self.visit(dir, &name, prefix)?;
            prefix.truncate(outer);
        }
        Ok(())
    }

    fn visit(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        path: &mut Vec<u8>,
    ) -> Result<(), PackError> {
        let checked = PackagePath::parse_bytes(path)?;
        match beneath::kind(dir, name).map_err(|errno| failed(checked.as_str(), errno))? {
            Kind::Link => Err(PackError::Link { path: shown(path) }),
            Kind::Special => Err(PackError::SpecialFile { path: shown(path) }),
            Kind::File => self.file(dir, name, checked),
            Kind::Directory => {
                let below = beneath::open_directory(dir, name)
                    .map_err(|errno| failed(checked.as_str(), errno))?;
                path.push(b'/');
                self.walk(below.as_fd(), path)
            }
        }
    }

    fn file(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        path: PackagePath,
    ) -> Result<(), PackError> {
        let (_, stat) =
            beneath::open_file(dir, name).map_err(|errno| failed(path.as_str(), errno))?;
        plain(&stat, &path)?;
        self.limits.file(path.as_str(), stat.st_size as u64)?;
        self.limits.files(self.members.len() as u64 + 1)?;
        let executable = stat.st_mode & ANY_EXECUTE != 0;
        self.members.push(Member {
            path,
            executable,
            place: 0,
        });
        Ok(())
    }
}

fn plain(stat: &FileStat, path: &PackagePath) -> Result<(), PackError> {
    match stat.st_mode & SPECIAL_BITS {
        0 => Ok(()),
        _ => Err(PackError::Mode {
            path: path.to_string(),
            mode: stat.st_mode & 0o7777,
        }),
    }
}

impl Source for Folder {
    fn members(&self) -> &[Member] {
        &self.members
    }

    fn read(&mut self, member: &Member, sink: &mut Sink<'_>) -> Result<(), PackError> {
        let failed = |errno| failed(member.path.as_str(), errno);
        let names: Vec<&str> = member.path.components().collect();
        let (name, folders) = names.split_last().ok_or(failed(Errno::ENOENT))?;
        let mut dir = beneath::open_directory(self.root.as_fd(), b".").map_err(failed)?;
        for folder in folders {
            dir = beneath::open_directory(dir.as_fd(), folder.as_bytes()).map_err(failed)?;
        }
        let (file, _) = beneath::open_file(dir.as_fd(), name.as_bytes()).map_err(failed)?;
        pour(file, &member.path, &self.limits, sink)
    }
}

fn failed(path: &str, errno: Errno) -> PackError {
    PackError::Read {
        path: shown(path.as_bytes()),
        source: errno.into(),
    }
}
