//! Removing a tree that a hostile user built.
//!
//! Folders that are not empty are moved up to the top and emptied there: depth costs neither
//! descriptors nor stack nor path length. Nothing is followed: no link, no mount.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use nix::errno::Errno;

use super::{Dir, Error, Kind, Mounts};

/// A tree is given up when a whole pass over its top removed nothing.
///
/// # Errors
///
/// The first thing that could not be removed. A tree that is not there is no error; its parent
/// must be trusted.
pub fn remove_tree(path: &Path) -> Result<(), Error> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::BadName {
            name: path.as_os_str().to_owned(),
        });
    };
    let parent = Dir::open_root(parent, Mounts::Stay)?;
    match parent.facts(name) {
        Ok(facts) if facts.kind == Kind::Folder => {
            empty(&parent.open_dir(name)?)?;
            parent.remove_dir(name)
        }
        Ok(_) => parent.unlink(name),
        Err(Error::Examine {
            source: Errno::ENOENT,
            ..
        }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes everything in `top`.
fn empty(top: &Dir) -> Result<(), Error> {
    let mut number = 0;
    loop {
        let (mut removed, mut failed) = (0_u64, None);
        for entry in top.entries()? {
            match remove_entry(top, &entry?.name, &mut number) {
                Ok(()) => removed += 1,
                Err(error) => failed = Some(error),
            }
        }
        match (removed, failed) {
            (0, Some(error)) => return Err(error),
            (0, None) => return Ok(()),
            _ => {}
        }
    }
}

/// Removes one entry of the top. A folder is emptied first: what is in it goes, folders that are
/// not empty move up.
fn remove_entry(top: &Dir, name: &OsStr, number: &mut u64) -> Result<(), Error> {
    if top.facts(name)?.kind != Kind::Folder {
        return unlink(top, name);
    }
    let folder = top.open_dir(name)?;
    folder.clear_protection()?;
    for entry in folder.entries()? {
        let inner = entry?.name;
        if folder.facts(&inner)?.kind == Kind::Folder {
            if folder.remove_dir(&inner).is_err() {
                move_up(&folder, &inner, top, number)?;
            }
        } else {
            unlink(&folder, &inner)?;
        }
    }
    top.remove_dir(name)
}

fn unlink(folder: &Dir, name: &OsStr) -> Result<(), Error> {
    match folder.unlink(name) {
        Err(Error::Remove {
            source: Errno::EPERM,
            ..
        }) => {
            // Immutable or append-only; only regular files are ever opened for it.
            Dir::clear_protection_of(&folder.open_file(name)?)?;
            folder.unlink(name)
        }
        other => other,
    }
}

fn move_up(folder: &Dir, name: &OsStr, top: &Dir, number: &mut u64) -> Result<(), Error> {
    loop {
        *number += 1;
        let free = OsString::from(format!(".removed-{number}"));
        match folder.rename_new(name, top, &free) {
            Err(Error::Rename {
                source: Errno::EEXIST,
                ..
            }) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_tree_goes_and_what_its_links_point_to_stays() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "x").unwrap();
        let place = tempfile::tempdir().unwrap();
        let tree = place.path().join("tree");
        fs::create_dir_all(tree.join("a/b/c")).unwrap();
        fs::write(tree.join("a/b/c/file"), "x").unwrap();
        fs::write(tree.join(".removed-1"), "a name that is already taken").unwrap();
        symlink(outside.path(), tree.join("a/link")).unwrap();
        symlink(outside.path().join("kept"), tree.join("link")).unwrap();
        nix::unistd::mkfifo(&tree.join("a/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists() && outside.path().join("kept").exists());
        remove_tree(&tree).unwrap();
    }

    #[test]
    fn a_very_deep_tree_goes_with_few_descriptors() {
        let place = tempfile::tempdir().unwrap();
        let tree = place.path().join("tree");
        fs::create_dir(&tree).unwrap();
        let mut folder = Dir::open_root(&tree, Mounts::Stay).unwrap();
        for _ in 0..3000 {
            folder = folder.create_dir("d".repeat(200), 0o700).unwrap();
        }
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
    }
}
