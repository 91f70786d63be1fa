//! In this process; the process apart is tried in `tests/alone`, and both in the campaign.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use std::ffi::OsStr;

use super::*;
use crate::beneath::Kind;

fn tree() -> (tempfile::TempDir, std::path::PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let tree = place.path().join("tree");
    fs::create_dir(&tree).unwrap();
    (place, tree)
}

fn chattr(marks: &str, path: &Path) -> bool {
    let status = std::process::Command::new("chattr")
        .arg(marks)
        .arg(path)
        .status();
    status.is_ok_and(|status| status.success())
}

#[test]
fn a_tree_goes_and_what_its_links_point_to_stays() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("kept"), "x").unwrap();
    let (_place, tree) = tree();
    fs::create_dir_all(tree.join("a/b/c")).unwrap();
    fs::write(tree.join("a/b/c/file"), "x").unwrap();
    fs::set_permissions(tree.join("a/b/c/file"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::hard_link(outside.path().join("kept"), tree.join("a/b/other")).unwrap();
    symlink(outside.path(), tree.join("a/link")).unwrap();
    symlink(outside.path().join("kept"), tree.join("link")).unwrap();
    nix::unistd::mkfifo(&tree.join("a/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let removed = remove_tree(&tree).unwrap();
    assert!(!tree.exists() && outside.path().join("kept").exists());
    let expected = Removed {
        files: 2,
        folders: 4,
        links: 2,
        special: 1,
        linked: 1,
        set_id: 1,
        deepest: 3,
        came_back: removed.came_back,
        ..Removed::default()
    };
    assert_eq!(removed, expected);
    assert_eq!(remove_tree(&tree).unwrap(), Removed::default());
}

#[test]
fn a_very_deep_tree_goes_with_few_descriptors() {
    let (_place, tree) = tree();
    let mut folder = Dir::open_root(&tree, Mounts::Stay).unwrap();
    for _ in 0..3000 {
        folder = folder.create_dir("d".repeat(200), 0o700).unwrap();
    }
    assert_eq!(remove_tree(&tree).unwrap().deepest, 3000);
    assert!(!tree.exists());
}

#[test]
fn where_nothing_can_be_moved_it_goes_from_the_bottom() {
    let (_place, tree) = tree();
    let parent = Dir::open_root(tree.parent().unwrap(), Mounts::Stay).unwrap();
    let mut folder = parent.open_dir("tree").unwrap();
    for level in 0..200 {
        for side in 0..3 {
            let side = folder.create_dir(format!("side{side}"), 0).unwrap();
            side.create_file("file", 0).unwrap();
        }
        folder = folder.create_dir(format!("{level}"), 0o700).unwrap();
    }
    let mut work = Work::new();
    work.dig(&parent, OsStr::new("tree"), 0);
    assert!(!tree.exists());
    assert_eq!((work.removed.files, work.removed.deepest), (600, 200));
}

#[test]
fn an_immutable_file_goes_and_its_name_outside_stays_immutable() {
    let (place, tree) = tree();
    let outside = place.path().join("outside");
    fs::write(&outside, "x").unwrap();
    fs::hard_link(&outside, tree.join("inside")).unwrap();
    fs::create_dir(tree.join("sub")).unwrap();
    fs::write(tree.join("sub/file"), "").unwrap();
    let marked = chattr("+i", &outside) && chattr("+a", &tree.join("sub")) && chattr("+i", &tree);
    if !marked {
        println!("skipped: this file system has no such marks; the campaign makes one that has");
        return;
    }
    let removed = remove_tree(&tree).unwrap();
    assert!(!tree.exists());
    assert_eq!((removed.protected, removed.linked), (3, 1));
    assert!(
        fs::write(&outside, "changed").is_err(),
        "it is immutable no more"
    );
    assert!(chattr("-i", &outside));
    assert_eq!(fs::metadata(&outside).unwrap().nlink(), 1);
}

/// Also root can't stop who makes files faster than they are removed; it can stop trying.
#[test]
fn a_tree_that_is_filled_all_the_time_is_given_up() {
    let place = tempfile::tempdir_in("/dev/shm").unwrap();
    let tree = place.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let stop = AtomicBool::new(false);
    let outcome = std::thread::scope(|scope| {
        for writer in 0..2 {
            let (tree, stop) = (&tree, &stop);
            scope.spawn(move || {
                let mut number = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    number += 1;
                    let folder = tree.join(format!("{writer}"));
                    let _ = fs::create_dir(&folder);
                    let _ = fs::write(folder.join(number.to_string()), "");
                }
            });
        }
        while fs::read_dir(&tree).unwrap().count() < 2 {
            std::thread::yield_now();
        }
        let outcome = work_on(&tree);
        stop.store(true, Ordering::Relaxed);
        outcome
    });
    assert!(
        matches!(outcome, Err(Error::Left { .. })),
        "it was not given up: {outcome:?}"
    );
    remove_tree(&tree).unwrap();
    assert!(!tree.exists());
}

/// Until it is given up: between two rounds the folder can be empty for a moment.
fn work_on(tree: &Path) -> Result<Removed, Error> {
    loop {
        remove_tree(tree)?;
        fs::create_dir(tree).unwrap();
    }
}

#[test]
fn what_is_not_a_folder_is_removed_itself() {
    let (place, tree) = tree();
    let link = place.path().join("link");
    symlink(&tree, &link).unwrap();
    let removed = remove_tree(&link).unwrap();
    assert_eq!((removed.links, removed.entries()), (1, 1));
    let parent = Dir::open_root(place.path(), Mounts::Stay).unwrap();
    assert_eq!(parent.facts("tree").unwrap().kind, Kind::Folder);
}
