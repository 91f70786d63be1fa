use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::errno::Errno;

use super::*;

fn folder() -> (tempfile::TempDir, Dir) {
    let folder = tempfile::tempdir().unwrap();
    let dir = Dir::open_root(folder.path(), Mounts::Stay).unwrap();
    (folder, dir)
}

fn refused(outcome: Result<File, Error>) -> Option<Errno> {
    match outcome {
        Err(Error::Open { source, .. }) => Some(source),
        _ => None,
    }
}

#[test]
fn no_name_leads_out_of_the_folder() {
    let (folder, dir) = folder();
    fs::create_dir(folder.path().join("sub")).unwrap();
    symlink("/etc/passwd", folder.path().join("link")).unwrap();
    symlink("/etc", folder.path().join("to-etc")).unwrap();
    symlink(folder.path(), folder.path().join("to-self")).unwrap();
    assert_eq!(
        refused(dir.open_file("../../etc/passwd")),
        Some(Errno::EXDEV)
    );
    assert_eq!(refused(dir.open_file("/etc/passwd")), Some(Errno::EXDEV));
    assert_eq!(refused(dir.open_file("sub/../../x")), Some(Errno::EXDEV));
    for name in ["link", "to-etc/passwd", "to-self/sub"] {
        assert_eq!(refused(dir.open_file(name)), Some(Errno::ELOOP), "{name}");
    }
    assert!(dir.open_path("link").is_err());
    assert!(dir.open_dir("to-etc").is_err());
}

#[test]
fn magic_links_of_proc_are_not_followed() {
    let proc = Dir::open_root(Path::new("/proc/self"), Mounts::Stay);
    // `self` itself is a link, so the folder has to be named.
    assert!(matches!(
        proc,
        Err(Error::OpenRoot {
            source: Errno::ENOTDIR,
            ..
        })
    ));
    let proc = Dir::open_root(
        Path::new(&format!("/proc/{}", std::process::id())),
        Mounts::Stay,
    )
    .unwrap();
    assert_eq!(refused(proc.open_file("exe")), Some(Errno::ELOOP));
    assert!(proc.open_dir("root").is_err());
}

#[test]
fn another_mount_is_not_entered_unless_allowed() {
    let stay = Dir::open_root(Path::new("/"), Mounts::Stay).unwrap();
    assert!(matches!(
        stay.open_dir("proc"),
        Err(Error::Open {
            source: Errno::EXDEV,
            ..
        })
    ));
    assert!(
        Dir::open_root(Path::new("/"), Mounts::Cross)
            .unwrap()
            .open_dir("proc")
            .is_ok()
    );
}

#[test]
fn only_regular_files_are_opened_to_be_read() {
    let (folder, dir) = folder();
    nix::unistd::mkfifo(&folder.path().join("pipe"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    let _socket = UnixListener::bind(folder.path().join("socket")).unwrap();
    fs::create_dir(folder.path().join("sub")).unwrap();
    for name in ["pipe", "socket", "sub"] {
        assert!(
            matches!(dir.open_file(name), Err(Error::NotAFile { .. })),
            "{name}"
        );
    }
    fs::write(folder.path().join("file"), "x").unwrap();
    let mut text = String::new();
    dir.open_file("file")
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "x");
}

#[test]
fn names_with_a_meaning_of_their_own_are_refused() {
    let (_folder, dir) = folder();
    for name in ["", ".", "..", "a/b", "/", "a\0b"] {
        assert!(
            matches!(dir.unlink(name), Err(Error::BadName { .. })),
            "{name:?}"
        );
        assert!(
            matches!(dir.remove_dir(name), Err(Error::BadName { .. })),
            "{name:?}"
        );
        assert!(
            matches!(dir.facts(name), Err(Error::BadName { .. })),
            "{name:?}"
        );
        assert!(
            matches!(dir.rename_new("x", &dir, name), Err(Error::BadName { .. })),
            "{name:?}"
        );
    }
}

#[test]
fn a_new_file_never_replaces_or_follows_what_is_there() {
    let (folder, dir) = folder();
    dir.create_file("file", 0o600)
        .unwrap()
        .write_all(b"first")
        .unwrap();
    let exists = |name: &str| matches!(dir.create_file(name, 0o600), Err(Error::Create { .. }));
    assert!(exists("file"));
    symlink(folder.path().join("elsewhere"), folder.path().join("link")).unwrap();
    assert!(exists("link"));
    assert!(!folder.path().join("elsewhere").exists());
    assert_eq!(fs::read(folder.path().join("file")).unwrap(), b"first");
}

#[test]
fn renaming_anew_does_not_replace_and_renaming_over_does() {
    let (folder, dir) = folder();
    fs::write(folder.path().join("a"), "a").unwrap();
    fs::write(folder.path().join("b"), "b").unwrap();
    let outcome = dir.rename_new("a", &dir, "b");
    assert!(matches!(
        outcome,
        Err(Error::Rename {
            source: Errno::EEXIST,
            ..
        })
    ));
    dir.rename_over("a", &dir, "b").unwrap();
    assert_eq!(fs::read(folder.path().join("b")).unwrap(), b"a");
    let sub = dir.create_dir("sub", 0o700).unwrap();
    dir.rename_new("b", &sub, "c").unwrap();
    assert_eq!(sub.facts("c").unwrap().size, 1);
}

#[test]
fn a_listing_streams_all_names_twice_the_same() {
    let (folder, dir) = folder();
    let odd = ["-rf", "new\nline", "\u{202e}rtl", "..."];
    for name in odd
        .iter()
        .map(ToString::to_string)
        .chain((0..3000).map(|n| n.to_string()))
    {
        fs::write(folder.path().join(name), "").unwrap();
    }
    let names = || {
        dir.entries()
            .unwrap()
            .map(|entry| entry.unwrap().name)
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(names().len(), 3004);
    assert_eq!(names(), names());
}

#[test]
fn a_link_is_described_and_removed_itself() {
    let (folder, dir) = folder();
    let victim = tempfile::NamedTempFile::new().unwrap();
    symlink(victim.path(), folder.path().join("link")).unwrap();
    fs::hard_link(folder.path().join("link"), folder.path().join("second")).unwrap();
    let facts = dir.facts("link").unwrap();
    assert_eq!((facts.kind, facts.links), (Kind::Link, 2));
    dir.unlink("link").unwrap();
    assert!(victim.path().exists());
    assert!(matches!(
        dir.facts("link"),
        Err(Error::Examine {
            source: Errno::ENOENT,
            ..
        })
    ));
}

#[test]
fn protection_is_taken_off_where_the_file_system_has_it() {
    let (folder, dir) = folder();
    let path = folder.path().join("file");
    fs::write(&path, "").unwrap();
    let marked = std::process::Command::new("chattr")
        .arg("+i")
        .arg(&path)
        .status();
    if !marked.is_ok_and(|status| status.success()) {
        println!("skipped: this file system has no immutable mark");
        return;
    }
    assert!(matches!(
        dir.unlink("file"),
        Err(Error::Remove {
            source: Errno::EPERM,
            ..
        })
    ));
    let file = dir.open_file("file").unwrap();
    assert!(Dir::clear_protection_of(&file).unwrap());
    assert!(!Dir::clear_protection_of(&file).unwrap());
    dir.unlink("file").unwrap();
    assert!(!dir.clear_protection().unwrap());
}

#[test]
fn a_socket_is_reached_and_a_link_to_one_is_not() {
    let (folder, dir) = folder();
    let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
    symlink("socket", folder.path().join("link")).unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let mut stream = dir.connect_stream("socket").unwrap();
    stream.write_all(b"x").unwrap();
    drop(stream);
    let mut text = String::new();
    listener
        .accept()
        .unwrap()
        .0
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "x");
    assert!(matches!(
        dir.connect_stream("link"),
        Err(Error::Open {
            source: Errno::ELOOP,
            ..
        })
    ));
    assert!(matches!(
        dir.connect_stream("file"),
        Err(Error::NotASocket { .. })
    ));
}

#[test]
fn a_folder_is_taken_over_and_a_file_is_not() {
    let (folder, _dir) = folder();
    let taken = Dir::from_fd(File::open(folder.path()).unwrap().into(), Mounts::Stay).unwrap();
    assert_eq!(taken.own_facts().unwrap().kind, Kind::Folder);
    let file = tempfile::tempfile().unwrap();
    assert!(matches!(
        Dir::from_fd(file.into(), Mounts::Stay),
        Err(Error::NotAFolder)
    ));
}
