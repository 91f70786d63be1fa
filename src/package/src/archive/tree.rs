//! Writing the tree: every name made new, beneath the given descriptor, one component at a time.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::UnpackError;
use crate::beneath;
use crate::path::shown;

/// Where contents go: to disk, or nowhere when an archive is only checked.
pub(super) enum Target<'a> {
    Nowhere,
    Tree(Tree<'a>),
}

/// A directory being filled in the order of sorted paths.
pub(super) struct Tree<'a> {
    root: BorrowedFd<'a>,
    /// The directories of the file before, outermost first. Sorted paths visit each directory
    /// once, so one that exists already is an attack or a mistake, and refused.
    open: Vec<(String, OwnedFd)>,
}

/// A file being written.
pub(super) struct Output {
    file: Option<File>,
    path: String,
    mode: u32,
}

impl<'a> Target<'a> {
    pub(super) fn empty_directory(root: BorrowedFd<'a>) -> Result<Self, UnpackError> {
        let listed = beneath::each_name(root, |_| Err(UnpackError::TargetNotEmpty));
        listed.map_err(|errno| failed("list", ".", errno))??;
        Ok(Self::Tree(Tree {
            root,
            open: Vec::new(),
        }))
    }

    pub(super) fn create(&mut self, path: &str, mode: u32) -> Result<Output, UnpackError> {
        let file = match self {
            Self::Nowhere => None,
            Self::Tree(tree) => Some(tree.create(path)?),
        };
        Ok(Output {
            file,
            path: path.to_owned(),
            mode,
        })
    }
}

impl Tree<'_> {
    fn create(&mut self, path: &str) -> Result<File, UnpackError> {
        let (folders, name) = match path.rsplit_once('/') {
            Some((folders, name)) => (folders.split('/').collect(), name),
            None => (Vec::new(), path),
        };
        let shared = self
            .open
            .iter()
            .zip(&folders)
            .take_while(|(a, b)| a.0 == **b)
            .count();
        self.open.truncate(shared);
        for folder in &folders[shared..] {
            let made = beneath::create_directory(self.innermost(), folder.as_bytes())
                .map_err(|errno| failed("make a directory for", path, errno))?;
            self.open.push(((*folder).to_owned(), made));
        }
        beneath::create_file(self.innermost(), name.as_bytes())
            .map_err(|errno| failed("create", path, errno))
    }

    fn innermost(&self) -> BorrowedFd<'_> {
        self.open.last().map_or(self.root, |(_, fd)| fd.as_fd())
    }
}

impl Output {
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), UnpackError> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        file.write_all(bytes).map_err(|source| UnpackError::Write {
            action: "write",
            path: shown(self.path.as_bytes()),
            source,
        })
    }

    /// The mode comes last: a file that is only half there can't be run by anybody.
    pub(super) fn finish(self) -> Result<(), UnpackError> {
        let Some(file) = self.file else { return Ok(()) };
        beneath::set_mode(&file, self.mode)
            .map_err(|errno| failed("set the mode of", &self.path, errno))
    }
}

fn failed(action: &'static str, path: &str, errno: Errno) -> UnpackError {
    UnpackError::Write {
        action,
        path: shown(path.as_bytes()),
        source: errno.into(),
    }
}
