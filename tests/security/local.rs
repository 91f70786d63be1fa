//! Other users of the host: what they put in the way, and where they can't get to.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use sys::account::Account;
use sys::fdpass::Seqpacket;
use tests::{AGENT_USER, Host, Options};

use crate::robotd::{Target, as_user, connect};

/// Every claim of this file.
pub(crate) const CLAIMS: &[(&str, fn())] = &[
    (
        "local::no_other_user_gets_to_a_socket_a_key_or_the_state",
        closed,
    ),
    (
        "local::paths_and_links_that_were_made_before_are_not_used",
        pre_created,
    ),
    (
        "local::a_policy_that_somebody_else_could_write_is_refused",
        policy,
    ),
    ("local::nobody_becomes_a_bot_account_by_su", su),
];

fn account(name: &str) -> Account {
    let found = sys::account::by_name(name).expect("a look-up");
    found.expect("the account")
}

/// Everybody who is neither root nor the one that may.
fn others(host: &Host) -> Vec<Account> {
    let names = [host.slots.accounts(), host.slots.attendants()].concat();
    let mut all: Vec<Account> = names.iter().map(|name| account(name)).collect();
    all.push(account("nobody"));
    all.push(account("robotd-unpack"));
    all
}

fn closed() {
    let target = Target::new(&Options::default());
    let _robotd = connect(&target.host);
    let sockets = ["broker.sock", "session.sock", "admin.sock"];
    let state = target.host.dir.join("broker");
    let files = [
        state.join("keys/result.key"),
        state.join("keys/secret.key"),
        state.join("nonces/started"),
        state.join("tenants.json"),
        state.join("store"),
        state.clone(),
    ];
    let robotd = account(AGENT_USER);
    for other in others(&target.host) {
        for name in sockets {
            let path = target.host.run.join("b").join(name);
            let refused = as_user(other.uid, other.gid, || Seqpacket::connect(&path));
            assert!(refused.is_err(), "{} connects to {name}", other.name);
        }
        assert_closed(&other, &files);
    }
    assert_closed(&robotd, &files);
    let spool = target.host.dir.join("agent/spool/of-robotd");
    let made = as_user(robotd.uid, robotd.gid, || fs::create_dir(&spool));
    assert!(made.is_err(), "robotd makes no entry of the spool");
}

fn assert_closed(user: &Account, files: &[PathBuf]) {
    for path in files {
        let opened = as_user(user.uid, user.gid, || fs::File::open(path));
        assert!(opened.is_err(), "{} opens {}", user.name, path.display());
    }
}

fn pre_created() {
    let robotd = account(AGENT_USER);
    for (place, what) in [("run", "jobs"), ("state", "spool")] {
        for kind in ["a link", "a folder", "a file"] {
            let host = Host::prepare(&Options::default());
            let path = match place {
                "run" => host.run.join("a").join(what),
                _ => host.dir.join("agent").join(what),
            };
            let victim = host.dir.join("victim");
            fs::create_dir(&victim).expect("a folder");
            as_user(robotd.uid, robotd.gid, || match kind {
                "a link" => symlink(&victim, &path),
                "a folder" => fs::create_dir(&path),
                _ => fs::write(&path, "x"),
            })
            .expect("robotd owns what is above");
            let log = host.refused_broker();
            let named = path.display().to_string();
            assert!(log.contains(&named), "{place} {kind}: {log}");
            let left = fs::read_dir(&victim).expect("a folder").count();
            assert_eq!(left, 0, "nothing was put behind {kind}");
            let mode = fs::metadata(&victim)
                .expect("a folder")
                .permissions()
                .mode();
            assert_eq!(mode & 0o7777, 0o755, "nothing was changed behind {kind}");
        }
    }
}

fn policy() {
    let robotd = account(AGENT_USER);
    let mode = |path: &Path, mode: u32| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
    };
    type Spoil<'a> = (&'static str, &'a dyn Fn(&Path));
    let spoils: [Spoil<'_>; 6] = [
        ("a policy that its group can write", &|path| {
            mode(path, 0o664)
        }),
        ("a policy that everybody can write", &|path| {
            mode(path, 0o646)
        }),
        ("a policy of robotd's", &|path| {
            chown(path, Some(robotd.uid.as_raw()), None).expect("an owner");
        }),
        ("a folder that its group can write", &|path| {
            mode(path.parent().expect("a folder"), 0o775);
        }),
        ("a folder of robotd's", &|path| {
            let folder = path.parent().expect("a folder");
            chown(folder, Some(robotd.uid.as_raw()), None).expect("an owner");
        }),
        ("a link", &|path| {
            let moved = path.with_extension("moved");
            fs::rename(path, &moved).expect("a rename");
            symlink(&moved, path).expect("a link");
        }),
    ];
    for (what, spoil) in spoils {
        let host = Host::prepare(&Options::default());
        spoil(&host.policy_file());
        let log = host.refused_broker();
        assert!(log.contains("policy"), "{what}: {log}");
        assert!(log.contains("\"code\":100404"), "{what} is an event: {log}");
    }
}

fn su() {
    let host = Host::prepare(&Options::default());
    let bot = &host.slots.accounts()[0];
    let nobody = account("nobody");
    let become_it = |by: Option<&Account>| {
        let mut command = Command::new("su");
        command
            .args(["-", bot, "-c", "id -un"])
            .stdin(std::process::Stdio::null());
        if let Some(by) = by {
            use std::os::unix::process::CommandExt as _;
            command.uid(by.uid.as_raw()).gid(by.gid.as_raw());
        }
        command.output().expect("su starts")
    };
    for (who, by) in [("nobody", Some(&nobody)), ("root", None)] {
        let output = become_it(by);
        assert!(!output.status.success(), "{who}: {output:?}");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!said.contains(bot.as_str()), "{who}: {said}");
    }
}
