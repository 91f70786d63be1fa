//! Mounts: what is seen where, and the proof that a volume is gone.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use sys::beneath::{Dir, Error as BeneathError, Mounts};
use sys::mount::{
    Attributes, DeviceId, HidePid, Propagation, Reach, Tmpfs, Tree, Unmount, bind, devpts,
    enter_root, mounts_of_device, mqueue, own_mounts, own_namespace, proc, tmpfs, unmount,
};
use sys::process::{
    Fork, Identity, Namespaces, Process, become_user, die_with_parent, fork, join_namespaces,
};
use sys::{Errno, Gid, Signal};

use crate::Claim;
use crate::claims::{GROUP, NOBODY_ELSE, in_child};

pub(crate) const CLAIMS: &[Claim] = &[
    (
        "mounts: a volume in a namespace of one's own is never seen by the host",
        unseen,
    ),
    (
        "mounts: a volume is bounded and forbids what it should",
        bounded,
    ),
    (
        "mounts: a copy of the namespace keeps a volume, and is found until it ends",
        kept_by_a_copy,
    ),
    (
        "mounts: a chroot hides a volume from mountinfo but not from the search",
        behind_a_chroot,
    ),
    (
        "mounts: a read-only bind is read-only all the way down",
        read_only_below,
    ),
    (
        "mounts: a tree is attached onto a descriptor and not through a link",
        attached,
    ),
    (
        "mounts: the old root can't be reached from the new one",
        new_root,
    ),
    (
        "mounts: a new /proc shows the pid namespace, and hides others' processes",
        new_proc,
    ),
    (
        "mounts: terminals and queues have mounts of their own",
        terminals_and_queues,
    ),
    (
        "mounts: a mount in a hostile tree is not entered and can be detached",
        hostile_mount,
    ),
    ("mounts: another process's namespace can be joined", joined),
    (
        "mounts: unmounting what is in use is refused, and gone when it is not",
        in_use,
    ),
];

const MOUNT: Namespaces = Namespaces {
    mount: true,
    ..Namespaces::NONE
};
const VOLUME: Tmpfs = Tmpfs {
    bytes: 1 << 20,
    inodes: 100,
    mode: 0o700,
    uid: NOBODY_ELSE,
    gid: GROUP,
};

/// A folder that is seen by all, and this process in a namespace of its own.
fn place() -> PathBuf {
    let place = tempfile::tempdir().unwrap().keep();
    own_namespace(Propagation::Slave).unwrap();
    place
}

/// Mounts a volume there and returns its device.
fn volume(place: &Path) -> DeviceId {
    let (tree, _) = tmpfs(&VOLUME, Attributes::WRITABLE).unwrap();
    tree.attach(place).unwrap();
    DeviceId::of(place).unwrap()
}

fn clean(place: &Path) {
    fs::remove_dir(place).unwrap();
}

fn unseen() {
    let place = place();
    let device = volume(&place);
    fs::write(place.join("secret"), "x").unwrap();
    let holders = mounts_of_device(device).unwrap();
    assert_eq!(holders.len(), 1);
    assert_eq!(
        (holders[0].pid, &holders[0].mount_point),
        (sys::Pid::this(), &place)
    );
    let of_parent = fs::read_to_string(format!(
        "/proc/{}/mountinfo",
        std::os::unix::process::parent_id()
    ))
    .unwrap();
    assert!(!of_parent.contains(place.to_str().unwrap()));
    unmount(&place, Unmount::IfUnused).unwrap();
    assert_eq!(mounts_of_device(device).unwrap(), []);
    clean(&place);
}

fn bounded() {
    let place = place();
    let (tree, noswap) = tmpfs(&VOLUME, Attributes::WRITABLE_NO_EXEC).unwrap();
    tree.attach(&place).unwrap();
    drop(tree);
    let mounts = own_mounts().unwrap();
    let mount = mounts
        .iter()
        .find(|mount| mount.mount_point == place)
        .unwrap();
    for option in ["nosuid", "nodev", "noexec"] {
        assert!(
            mount
                .options
                .to_str()
                .unwrap()
                .split(',')
                .any(|has| has == option),
            "{mount:?}"
        );
    }
    assert_eq!(
        mount.super_options.to_str().unwrap().contains("noswap"),
        noswap
    );
    assert!(fs::write(place.join("big"), vec![0; 2 << 20]).is_err());
    fs::remove_file(place.join("big")).unwrap();
    assert!(
        (0..200).any(|n| fs::write(place.join(n.to_string()), "").is_err()),
        "inodes are not bounded"
    );
    let facts = Dir::open_root(&place, Mounts::Stay)
        .unwrap()
        .own_facts()
        .unwrap();
    assert_eq!(
        (facts.mode, facts.uid, facts.gid),
        (0o700, NOBODY_ELSE, GROUP)
    );
    unmount(&place, Unmount::IfUnused).unwrap();
    clean(&place);
}

/// A child in a copy of the mount namespace that holds on until it is killed.
fn holding_child(namespaces: Namespaces, before: impl FnOnce()) -> Process {
    let (mut ready, tell) = std::io::pipe().unwrap();
    match fork(namespaces, None).unwrap() {
        Fork::Parent(child) => {
            drop(tell);
            std::io::Read::read(&mut ready, &mut [0]).unwrap();
            child
        }
        Fork::Child => {
            die_with_parent(Signal::SIGKILL, nix::unistd::getppid()).unwrap();
            before();
            drop((ready, tell));
            loop {
                nix::unistd::pause();
            }
        }
    }
}

fn end(process: &Process) {
    process.send(Signal::SIGKILL).unwrap();
    process.wait().unwrap();
}

fn kept_by_a_copy() {
    let place = place();
    let device = volume(&place);
    let copy = holding_child(MOUNT, || {});
    unmount(&place, Unmount::IfUnused).unwrap();
    assert!(
        !own_mounts()
            .unwrap()
            .iter()
            .any(|mount| mount.device == device),
        "ours is gone"
    );
    let holders = mounts_of_device(device).unwrap();
    assert_eq!(
        holders.iter().map(|holder| holder.pid).collect::<Vec<_>>(),
        [copy.pid()]
    );
    end(&copy);
    assert_eq!(mounts_of_device(device).unwrap(), []);
    clean(&place);
}

fn behind_a_chroot() {
    let place = place();
    let device = volume(&place);
    // Made first, so that the search meets it before the one that sees the volume.
    let hidden = holding_child(Namespaces::NONE, || {
        std::os::unix::fs::chroot("/usr").unwrap();
        std::env::set_current_dir("/").unwrap();
    });
    let mounts = fs::read(format!("/proc/{}/mountinfo", hidden.pid())).unwrap();
    assert!(
        !sys::mount::parse(&mounts)
            .unwrap()
            .iter()
            .any(|mount| mount.device == device)
    );
    assert!(!mounts_of_device(device).unwrap().is_empty());
    end(&hidden);
    unmount(&place, Unmount::IfUnused).unwrap();
    clean(&place);
}

fn read_only_below() {
    let place = place();
    volume(&place);
    for folder in ["source/below", "target"] {
        fs::create_dir_all(place.join(folder)).unwrap();
    }
    let (inner, _) = tmpfs(&VOLUME, Attributes::WRITABLE).unwrap();
    inner.attach(&place.join("source/below")).unwrap();
    fs::write(place.join("source/below/file"), "x").unwrap();
    bind(
        &place.join("source"),
        &place.join("target"),
        Attributes::READ_ONLY,
        Reach::Recursive,
    )
    .unwrap();
    let refused = |path: &str| fs::write(place.join(path), "y").unwrap_err().raw_os_error();
    assert_eq!(refused("target/new"), Some(Errno::EROFS as i32));
    assert_eq!(refused("target/below/file"), Some(Errno::EROFS as i32));
    assert_eq!(fs::read(place.join("target/below/file")).unwrap(), b"x");
    fs::write(place.join("source/below/file"), "the source is as it was").unwrap();
    unmount(&place, Unmount::Detach).unwrap();
    clean(&place);
}

fn attached() {
    let place = place();
    volume(&place);
    fs::create_dir(place.join("real")).unwrap();
    std::os::unix::fs::symlink("real", place.join("link")).unwrap();
    let (tree, _) = tmpfs(&VOLUME, Attributes::WRITABLE).unwrap();
    let outcome = tree.attach(&place.join("link"));
    assert!(outcome.is_err(), "attached through a link");
    let target = Dir::open_root(&place, Mounts::Stay)
        .unwrap()
        .open_path("real")
        .unwrap();
    tree.attach_onto(target.as_fd()).unwrap();
    assert_ne!(
        DeviceId::of(&place).unwrap(),
        DeviceId::of(&place.join("real")).unwrap()
    );
    let file = fs::File::create(place.join("real/file")).unwrap();
    let copy = Tree::copy_of_fd(file.as_fd(), Reach::One).unwrap();
    fs::write(place.join("onto"), "").unwrap();
    copy.set_attributes(Attributes::READ_ONLY, Reach::One)
        .unwrap();
    copy.attach(&place.join("onto")).unwrap();
    assert!(fs::write(place.join("onto"), "x").is_err());
    drop(file);
    unmount(&place, Unmount::Detach).unwrap();
    clean(&place);
}

fn new_root() {
    let place = place();
    in_child(MOUNT, || {
        volume(&place);
        fs::create_dir(place.join("usr")).unwrap();
        bind(
            Path::new("/usr"),
            &place.join("usr"),
            Attributes::READ_ONLY,
            Reach::Recursive,
        )
        .unwrap();
        let before = fs::File::open("/").unwrap();
        enter_root(&place).unwrap();
        assert!(Path::new("/usr/bin").is_dir());
        assert!(!Path::new("/etc").exists() && !Path::new("/proc").exists());
        assert_eq!(fs::read_dir("/").unwrap().count(), 1);
        assert_eq!(fs::canonicalize("/..").unwrap(), Path::new("/"));
        drop(before);
    });
    clean(&place);
}

fn new_proc() {
    let place = place();
    let namespaces = Namespaces { pid: true, ..MOUNT };
    in_child(namespaces, || {
        proc(HidePid::Processes, false)
            .unwrap()
            .attach(&place)
            .unwrap();
        let pids = || {
            let names = fs::read_dir(&place)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names
                .filter(|name| name.parse::<u32>().is_ok())
                .collect::<Vec<_>>()
        };
        assert_eq!(pids(), ["1"]);
        assert!(place.join("meminfo").exists());
        become_user(&Identity {
            uid: NOBODY_ELSE,
            gid: GROUP,
            groups: vec![],
        })
        .unwrap();
        in_child(Namespaces::NONE, || {
            // Not dumpable since the change of user, so even its own are hidden but for the one that asks.
            assert!(!pids().contains(&"1".to_owned()));
        });
    });
    in_child(namespaces, || {
        proc(HidePid::No, true).unwrap().attach(&place).unwrap();
        assert!(!place.join("meminfo").exists() && place.join("1").exists());
    });
    clean(&place);
}

fn terminals_and_queues() {
    let place = place();
    in_child(Namespaces { ipc: true, ..MOUNT }, || {
        devpts(4, Gid::from_raw(5)).unwrap().attach(&place).unwrap();
        assert!(place.join("ptmx").exists());
        assert_eq!(
            fs::read_dir(&place).unwrap().count(),
            1,
            "others' terminals show"
        );
        unmount(&place, Unmount::IfUnused).unwrap();
        mqueue().unwrap().attach(&place).unwrap();
        fs::write(place.join("queue"), "").unwrap();
        unmount(&place, Unmount::IfUnused).unwrap();
    });
    clean(&place);
}

fn hostile_mount() {
    let place = place();
    volume(&place);
    let precious = tempfile::tempdir().unwrap();
    fs::write(precious.path().join("kept"), "x").unwrap();
    fs::create_dir_all(place.join("a/trap")).unwrap();
    bind(
        precious.path(),
        &place.join("a/trap"),
        Attributes::default(),
        Reach::One,
    )
    .unwrap();
    let dir = Dir::open_root(&place, Mounts::Stay)
        .unwrap()
        .open_dir("a")
        .unwrap();
    assert!(matches!(
        dir.open_dir("trap"),
        Err(BeneathError::Open {
            source: Errno::EXDEV,
            ..
        })
    ));
    assert!(matches!(
        dir.open_file("trap/kept"),
        Err(BeneathError::Open {
            source: Errno::EXDEV,
            ..
        })
    ));
    assert!(matches!(
        dir.remove_dir("trap"),
        Err(BeneathError::Remove {
            source: Errno::EBUSY,
            ..
        })
    ));
    dir.detach_mount("trap").unwrap();
    assert!(matches!(
        dir.detach_mount("trap"),
        Err(BeneathError::Detach {
            source: Errno::EINVAL,
            ..
        })
    ));
    dir.remove_dir("trap").unwrap();
    assert!(precious.path().join("kept").exists());
    drop(dir);
    unmount(&place, Unmount::IfUnused).unwrap();
    clean(&place);
}

fn joined() {
    let place = tempfile::tempdir().unwrap().keep();
    let there = holding_child(Namespaces::NONE, || {
        own_namespace(Propagation::Slave).unwrap();
        volume(&place);
        fs::write(place.join("artifact"), "x").unwrap();
    });
    assert!(!place.join("artifact").exists());
    in_child(Namespaces::NONE, || {
        join_namespaces(&there, MOUNT).unwrap();
        assert_eq!(fs::read(place.join("artifact")).unwrap(), b"x");
    });
    end(&there);
    clean(&place);
}

fn in_use() {
    let place = place();
    volume(&place);
    let open = fs::File::create(place.join("file")).unwrap();
    let busy = unmount(&place, Unmount::IfUnused);
    assert!(matches!(
        busy,
        Err(sys::mount::Error::Unmount {
            source: Errno::EBUSY,
            ..
        })
    ));
    drop(open);
    unmount(&place, Unmount::IfUnused).unwrap();
    let nothing = unmount(&place, Unmount::IfUnused);
    assert!(matches!(
        nothing,
        Err(sys::mount::Error::Unmount {
            source: Errno::EINVAL,
            ..
        })
    ));
    clean(&place);
}
