//! Removing a tree in a process of its own.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::CloneFlags;
use nix::sys::signal::kill;
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use sys::beneath::{Dir, Error, Mounts, Removed, confine_to, remove_tree, remove_tree_apart};
use sys::mount::{Propagation, Reach, Tree, own_mounts, own_namespace};

use crate::Claim;

pub(crate) const CLAIMS: &[Claim] = &[
    (
        "a_tree_goes_in_a_process_apart_with_all_its_counts",
        all_counts,
    ),
    (
        "what_is_mounted_in_a_tree_is_detached_and_not_entered",
        mounts_stay,
    ),
    ("a_mount_of_the_tree_itself_is_detached", mounted_tree),
    ("a_removal_that_takes_too_long_is_ended", too_long),
    (
        "a_process_apart_leaves_no_descriptor_and_no_child",
        leaves_nothing,
    ),
    (
        "a_mount_whose_server_is_dead_or_never_answers_is_detached",
        servers,
    ),
    ("a_full_file_system_is_emptied", full),
    ("more_folders_than_one_bucket_holds_go", wide),
    (
        "the_process_apart_sees_one_mount_and_holds_three_rights",
        confined,
    ),
    (
        "a_mistake_in_the_process_apart_could_do_nothing_else_either",
        only_removes,
    ),
];

const LIMIT: Duration = Duration::from_secs(120);

fn apart(path: &Path) -> Result<Removed, Error> {
    remove_tree_apart(path, LIMIT, &mut || {})
}

/// A mount namespace of the claim's own, in it a tmpfs.
fn place() -> PathBuf {
    own_namespace(Propagation::Private).unwrap();
    let place = PathBuf::from("/mnt");
    tmpfs(&place, "size=64m");
    place
}

fn tmpfs(at: &Path, options: &str) {
    mount(
        Some("claim"),
        at,
        Some("tmpfs"),
        MsFlags::empty(),
        Some(options),
    )
    .unwrap();
}

fn bind(from: &Path, to: &Path) {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
}

/// Others come and go, also from a namespace of one's own, when what they lie on is removed.
fn mounts_here() -> usize {
    let all = own_mounts().unwrap();
    let own = all
        .iter()
        .filter(|mount| mount.mount_point.starts_with("/mnt"));
    own.count()
}

fn precious(place: &Path) -> PathBuf {
    let precious = place.join("precious");
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("kept"), "x").unwrap();
    precious
}

fn untouched(precious: &Path) {
    assert_eq!(fs::read(precious.join("kept")).unwrap(), b"x");
    assert_eq!(fs::read_dir(precious).unwrap().count(), 1);
}

fn all_counts() {
    let place = place();
    let precious = precious(&place);
    let tree = place.join("tree");
    fs::create_dir_all(tree.join("a/b")).unwrap();
    fs::write(tree.join("a/-rf"), "").unwrap();
    fs::write(tree.join("a/b/new\nline"), "").unwrap();
    symlink(&precious, tree.join("a/b/link")).unwrap();
    symlink("/etc", tree.join("etc")).unwrap();
    fs::hard_link(precious.join("kept"), tree.join("hard")).unwrap();
    let removed = apart(&tree).unwrap();
    let expected = Removed {
        files: 3,
        folders: 3,
        links: 2,
        linked: 1,
        deepest: 2,
        came_back: removed.came_back,
        ..Removed::default()
    };
    assert_eq!(removed, expected);
    assert!(!tree.exists());
    untouched(&precious);
    assert_eq!(apart(&tree).unwrap(), Removed::default());
}

fn with_mounts(place: &Path) -> (PathBuf, PathBuf) {
    let (precious, tree) = (precious(place), place.join("tree"));
    for (name, inner) in [("bind", "below"), ("nested", "below/deep")] {
        fs::create_dir_all(tree.join(name).join(inner)).unwrap();
    }
    fs::write(tree.join("file"), "covered").unwrap();
    bind(&precious, &tree.join("bind"));
    bind(&precious.join("kept"), &tree.join("file"));
    tmpfs(&tree.join("nested/below"), "size=1m");
    fs::create_dir(tree.join("nested/below/more")).unwrap();
    bind(&precious, &tree.join("nested/below/more"));
    (precious, tree)
}

fn mounts_stay() {
    let place = place();
    for remove in [apart, remove_tree as fn(&Path) -> Result<Removed, Error>] {
        let before = mounts_here();
        let (precious, tree) = with_mounts(&place);
        let removed = remove(&tree).unwrap();
        assert!(removed.mounts >= 3, "{removed}");
        assert!(!tree.exists());
        untouched(&precious);
        assert_eq!(mounts_here(), before);
        remove_tree(&precious).unwrap();
    }
}

fn mounted_tree() {
    let place = place();
    let (precious, tree) = (precious(&place), place.join("tree"));
    fs::create_dir_all(tree.join("below")).unwrap();
    bind(&precious, &tree);
    tmpfs(&tree, "size=1m");
    fs::write(tree.join("top"), "").unwrap();
    let removed = apart(&tree).unwrap();
    assert_eq!((removed.mounts, removed.folders), (2, 2), "{removed}");
    untouched(&precious);
}

fn too_long() {
    let place = place();
    let tree = place.join("tree");
    fs::create_dir_all(tree.join("a")).unwrap();
    let outcome = remove_tree_apart(&tree, Duration::ZERO, &mut || {});
    assert!(matches!(outcome, Err(Error::Apart { .. })), "{outcome:?}");
    assert!(matches!(
        sys::process::reap_any(),
        Ok(sys::process::Reaped::NoChildren)
    ));
    apart(&tree).unwrap();
}

fn leaves_nothing() {
    let place = place();
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    let before = (descriptors(), mounts_here());
    let mut beats = 0;
    for _ in 0..20 {
        let tree = place.join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        remove_tree_apart(&tree, LIMIT, &mut || beats += 1).unwrap();
    }
    assert!(beats >= 20);
    assert_eq!((descriptors(), mounts_here()), before);
    assert!(matches!(
        sys::process::reap_any(),
        Ok(sys::process::Reaped::NoChildren)
    ));
}

/// Without a free inode no bucket can be made, so nothing can be moved.
fn full() {
    own_namespace(Propagation::Private).unwrap();
    let place = PathBuf::from("/mnt");
    tmpfs(&place, "size=16m,nr_inodes=2000");
    let tree = place.join("tree");
    fs::create_dir(&tree).unwrap();
    let mut folder = Dir::open_root(&tree, Mounts::Stay).unwrap();
    let mut depth = 0;
    while let Ok(deeper) = folder.create_dir(format!("level{depth}"), 0o700) {
        folder = deeper;
        depth += 1;
    }
    assert!(depth > 1500 && Command::new("true").status().is_ok());
    drop(folder);
    let removed = apart(&tree).unwrap();
    assert_eq!((removed.folders, removed.deepest), (depth + 1, depth));
}

/// FUSE. The server is this process, which never reads what it is asked.
fn servers() {
    use std::os::fd::AsRawFd;

    let place = place();
    for remove in [apart, remove_tree as fn(&Path) -> Result<Removed, Error>] {
        for dead in [true, false] {
            let tree = place.join("tree");
            fs::create_dir_all(tree.join("served")).unwrap();
            let mut open = fs::OpenOptions::new();
            let server = open.read(true).write(true).open("/dev/fuse").unwrap();
            let fd = server.as_raw_fd();
            let options = format!("fd={fd},rootmode=40000,user_id=0,group_id=0");
            let (at, options) = (tree.join("served"), Some(options.as_str()));
            mount(Some("claim"), &at, Some("fuse"), MsFlags::empty(), options).unwrap();
            let held = (!dead).then_some(server);
            assert_eq!(remove(&tree).unwrap().mounts, 1);
            assert!(!tree.exists());
            drop(held);
        }
    }
}

fn wide() {
    let tree = place().join("tree");
    for number in 0..31_000 {
        fs::create_dir_all(tree.join(format!("wide/{number}/x"))).unwrap();
    }
    assert_eq!(apart(&tree).unwrap().folders, 62_002);
    assert!(!tree.exists());
}

/// Looked at from outside while it works: it takes a while.
fn confined() {
    let tree = place().join("tree");
    fs::create_dir(&tree).unwrap();
    for number in 0..50_000 {
        fs::write(tree.join(number.to_string()), "").unwrap();
    }
    let mut seen = None;
    remove_tree_apart(&tree, LIMIT, &mut || seen = seen.take().or_else(watched)).unwrap();
    let (status, mounts, descriptors) = seen.expect("it was never seen at work");
    for line in [
        "CapEff:\t000000000000020a",
        "CapBnd:\t0000000000000000",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t1",
    ] {
        assert!(status.contains(line), "{line}: {status}");
    }
    assert_eq!(mounts.lines().count(), 1, "{mounts}");
    assert!(mounts.contains(" /tree / "), "{mounts}");
    // The standard three, the report, the tree, its listing.
    assert!(descriptors <= 8, "{descriptors} descriptors");
}

/// As its code, were it somebody else's. Landlock bounds the network since Linux 6.7, signals since
/// 6.12; before that an empty tree and no capability are what there is.
fn only_removes() {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut parts = release
        .split('.')
        .map_while(|part| part.parse::<u32>().ok());
    let newest_landlock = (parts.next(), parts.next()) >= (Some(6), Some(12));
    let tree = place().join("tree");
    fs::create_dir_all(tree.join("full/inner")).unwrap();
    fs::write(tree.join("file"), "").unwrap();
    let opened = Dir::open_root(&tree, Mounts::Stay).unwrap();
    let copy = Tree::copy_of_fd(opened.as_fd(), Reach::One).unwrap();
    let report = File::options().write(true).open("/dev/null").unwrap();
    std::mem::forget(opened);
    let _top = confine_to(copy, &report).unwrap();
    let mut refused = vec![
        fs::write("/new", "x").err(),
        File::options().append(true).open("/file").err(),
        symlink("/", "/link").err(),
        fs::hard_link("/file", "/hard").err(),
        UnixListener::bind("/socket").err(),
        nix::unistd::mkfifo("/pipe", Mode::S_IRWXU)
            .err()
            .map(Into::into),
        std::os::unix::fs::chown("/file", Some(1), None).err(),
        Command::new("/file").status().err(),
        nix::sched::unshare(CloneFlags::CLONE_NEWNS)
            .err()
            .map(Into::into),
    ];
    if newest_landlock {
        refused.push(TcpListener::bind("127.0.0.1:0").err());
        refused.push(kill(Pid::parent(), None).err().map(Into::into));
    }
    for (number, error) in refused.into_iter().enumerate() {
        let kind = error.map(|error| error.kind());
        assert_eq!(kind, Some(ErrorKind::PermissionDenied), "{number}");
    }
    // No way up, no /proc.
    assert_eq!(fs::read_dir("/../..").unwrap().count(), 2);
    fs::rename("/full/inner", "/up").unwrap();
    fs::remove_dir("/up").unwrap();
    fs::remove_file("/file").unwrap();
}

/// The only child, once it has given up its rights; as long as it lives it is waited for.
fn watched() -> Option<(String, String, usize)> {
    loop {
        let pid = std::process::id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        let child = PathBuf::from("/proc").join(children.trim());
        let status = fs::read_to_string(child.join("status")).ok()?;
        if status.contains("CapPrm:\t000000000000020a") {
            let mounts = fs::read_to_string(child.join("mountinfo")).ok()?;
            let descriptors = fs::read_dir(child.join("fd")).ok()?.count();
            return Some((status, mounts, descriptors));
        }
        if status.contains("State:\tZ") {
            return None;
        }
    }
}
