//! Objects that are files: POSIX shared memory, semaphores and queues.

use std::ffi::OsString;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::Uid;

use super::Error;
use crate::beneath::{self, Dir, Kind, Mounts};

pub(super) fn count(folder: &Path, uid: Uid) -> Result<usize, Error> {
    let Some(dir) = open(folder)? else {
        return Ok(0);
    };
    owned(&dir, uid)
        .map(|names| names.len())
        .map_err(|source| error(folder, source))
}

pub(super) fn remove(folder: &Path, uid: Uid) -> Result<usize, Error> {
    let Some(dir) = open(folder)? else {
        return Ok(0);
    };
    let failed = |source| error(folder, source);
    let mut removed = 0;
    for (name, kind) in owned(&dir, uid).map_err(failed)? {
        let outcome = if kind == Kind::Folder {
            dir.remove_dir(&name)
        } else {
            dir.unlink(&name)
        };
        match outcome {
            Ok(()) => removed += 1,
            Err(beneath::Error::Remove {
                source: Errno::ENOENT,
                ..
            }) => {}
            Err(beneath::Error::Remove {
                source: Errno::ENOTEMPTY,
                ..
            }) if kind == Kind::Folder => {}
            Err(source) => return Err(failed(source)),
        }
    }
    Ok(removed)
}

fn open(folder: &Path) -> Result<Option<Dir>, Error> {
    match Dir::open_root(folder, Mounts::Stay) {
        Ok(dir) => Ok(Some(dir)),
        Err(beneath::Error::OpenRoot {
            source: Errno::ENOENT,
            ..
        }) => Ok(None),
        Err(source) => Err(error(folder, source)),
    }
}

fn owned(dir: &Dir, uid: Uid) -> Result<Vec<(OsString, Kind)>, beneath::Error> {
    let mut names = Vec::new();
    for entry in dir.entries()? {
        let name = entry?.name;
        match dir.facts(&name) {
            Ok(facts) if facts.uid == uid => names.push((name, facts.kind)),
            Ok(_)
            | Err(beneath::Error::Examine {
                source: Errno::ENOENT,
                ..
            }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(names)
}

fn error(folder: &Path, source: beneath::Error) -> Error {
    Error::Folder {
        path: folder.to_owned(),
        source,
    }
}
