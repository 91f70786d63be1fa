//! Becoming a user, and what is left of root's rights.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;

use sys::process::{
    Identity, Launch, Namespaces, Program, become_user, become_user_for_good, drop_capabilities,
    no_new_privileges, not_dumpable,
};
use sys::{Gid, Uid};

use crate::Claim;
use crate::claims::{GROUP, NOBODY_ELSE, child, status};

pub(crate) const CLAIMS: &[Claim] = &[
    (
        "identity: all four ids and the groups are the user's",
        becomes,
    ),
    ("identity: root is never become", never_root),
    (
        "identity: who has become a user can't become another",
        can_not_change_again,
    ),
    (
        "identity: for good leaves no capability in any set, also over exec",
        for_good,
    ),
    (
        "identity: uid 0 without capabilities can do nothing that root can",
        powerless_root,
    ),
    (
        "identity: no new privileges and not dumpable hold",
        attributes,
    ),
    (
        "identity: what a user left in shared memory, queues and semaphores is removed",
        leftovers,
    ),
];

fn bot() -> Identity {
    Identity {
        uid: NOBODY_ELSE,
        gid: GROUP,
        groups: vec![GROUP, Gid::from_raw(3_987_652_002)],
    }
}

fn becomes() {
    become_user(&bot()).unwrap();
    let id = NOBODY_ELSE.to_string();
    assert_eq!(status("Uid"), [&*id; 4].join("\t"));
    assert_eq!(status("Gid"), [&*id; 4].join("\t"));
    assert_eq!(status("Groups"), "3987652001 3987652002");
    assert_eq!(status("CapEff"), "0000000000000000");
    assert!(File::open("/etc/shadow").is_err());
}

fn never_root() {
    let root = Identity {
        uid: Uid::from_raw(0),
        gid: Gid::from_raw(0),
        groups: vec![],
    };
    assert!(matches!(
        become_user(&root),
        Err(sys::process::Error::BecomeRoot)
    ));
    assert!(matches!(
        become_user_for_good(&root),
        Err(sys::process::Error::BecomeRoot)
    ));
}

fn can_not_change_again() {
    become_user(&bot()).unwrap();
    let other = Identity {
        uid: Uid::from_raw(12345),
        ..bot()
    };
    assert!(matches!(
        become_user(&other),
        Err(sys::process::Error::Become { .. })
    ));
    become_user(&bot()).expect_err("setgroups needs a right that is gone");
}

fn capability_sets(status: &str) -> Vec<&str> {
    status
        .lines()
        .filter(|line| line.starts_with("Cap"))
        .filter_map(|line| line.split('\t').nth(1))
        .collect()
}

fn for_good() {
    become_user_for_good(&bot()).unwrap();
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    assert_eq!(capability_sets(&own), ["0000000000000000"; 5]);
    let after = output_of_launch(
        &[c"cat".to_owned(), c"/proc/self/status".to_owned()],
        c"/bin/cat",
    );
    assert_eq!(capability_sets(&after), ["0000000000000000"; 5]);
    assert!(after.contains(&format!("Uid:\t{NOBODY_ELSE}\t")));
}

fn output_of_launch(argv: &[CString], program: &std::ffi::CStr) -> String {
    let null = File::open("/dev/null").unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let started = child(Namespaces::NONE, || {
        let fds = [null.as_fd(), writer.as_fd(), writer.as_fd()];
        panic!(
            "{:?}",
            Launch {
                program: Program::Path(program),
                argv,
                env: &[],
                fds: &fds,
                report: None
            }
            .exec()
        );
    });
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert!(started.wait().unwrap().is_success(), "{text}");
    text
}

fn powerless_root() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::os::unix::fs::chown(file.path(), Some(12345), None).unwrap();
    std::fs::set_permissions(
        file.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    assert!(File::open(file.path()).is_ok());
    drop_capabilities().unwrap();
    assert_eq!(Uid::current(), Uid::from_raw(0));
    assert!(
        File::open(file.path()).is_err(),
        "read a file of another user"
    );
    assert!(std::os::unix::fs::chown(file.path(), Some(0), None).is_err());
    assert!(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).is_err());
    let after = output_of_launch(
        &[c"cat".to_owned(), c"/proc/self/status".to_owned()],
        c"/bin/cat",
    );
    assert_eq!(
        capability_sets(&after),
        ["0000000000000000"; 5],
        "exec as uid 0 brought some back"
    );
    // The temporary folder is root's, so it can still be removed.
}

fn attributes() {
    no_new_privileges().unwrap();
    not_dumpable().unwrap();
    assert_eq!(status("NoNewPrivs"), "1");
    let fresh = output_of_launch(
        &[
            c"grep".to_owned(),
            c"NoNewPrivs".to_owned(),
            c"/proc/self/status".to_owned(),
        ],
        c"/bin/grep",
    );
    assert_eq!(fresh, "NoNewPrivs:\t1\n");
}

fn leftovers() {
    let uid = NOBODY_ELSE;
    let path = std::path::Path::new("/dev/shm").join(format!("robotd-test-{}", std::process::id()));
    let planted = path.clone();
    // A namespace of its own for the System V objects; /dev/shm is the host's.
    crate::claims::in_child(
        Namespaces {
            ipc: true,
            ..Namespaces::NONE
        },
        move || {
            let maker = child(Namespaces::NONE, || {
                become_user(&bot()).unwrap();
                std::fs::write(&planted, "left behind").unwrap();
                std::fs::create_dir(planted.with_extension("d")).unwrap();
                for script in ["ipcmk -M 4096", "ipcmk -S 2", "ipcmk -Q"] {
                    let words: Vec<&str> = script.split(' ').collect();
                    assert!(
                        std::process::Command::new(words[0])
                            .args(&words[1..])
                            .output()
                            .unwrap()
                            .status
                            .success()
                    );
                }
            });
            assert!(maker.wait().unwrap().is_success());
            let found = sys::ipc::count(uid).unwrap();
            assert_eq!(
                (
                    found.segments,
                    found.semaphores,
                    found.queues,
                    found.shared_files
                ),
                (1, 1, 1, 2)
            );
            assert_eq!(sys::ipc::remove(uid).unwrap(), found);
            assert!(sys::ipc::count(uid).unwrap().is_empty());
        },
    );
    assert!(!path.exists());
}
