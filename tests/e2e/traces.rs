//! Attacks that try to outlive their job: what would start again, and what would be found again
//! (facts §7: 9 to 12; what programs of the host write for an account).

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::Value;
use tests::{Host, Options, eventually};

const WAITS: &str = "import time\nprint('up', flush=True)\ntime.sleep(1000)\n";

pub(crate) fn said(host: &Host, report: &Value) -> String {
    let job = report["job_id"].as_str().expect("an id");
    assert_eq!(
        report["outcome"],
        "SUCCEEDED",
        "{report:#}{}",
        String::from_utf8_lossy(&host.stream(job, "stderr"))
    );
    String::from_utf8(host.stream(job, "stdout")).expect("text")
}

/// What was tried is told on one line each; how many worked on the last.
const PERSISTS: &str = r#"
import os, subprocess, pathlib
home, name, uid = os.environ['HOME'], os.environ['USER'], os.getuid()
def write(path):
    try:
        pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
        with open(path, 'a') as file: file.write('* * * * * touch /tmp/marker\n')
        return True
    except OSError: return False
def run(*args, **more):
    try: return subprocess.run(args, capture_output=True, timeout=60, **more).returncode == 0
    except OSError: return False
for path in ('.bashrc', '.profile', '.config/autostart/x.desktop', '.config/systemd/user/x.service', '.xsession', '.pam_environment', '.ssh/authorized_keys'):
    assert not os.path.exists(f'{home}/{path}'), path
    print(path, write(f'{home}/{path}'))
worked = [what for what, did in {
    'crontab': run('crontab', '-', input=b'* * * * * touch /tmp/marker\n'),
    'at': run('at', 'now', '+', '1', 'minute', input=b'touch /tmp/marker\n'),
    'systemctl': run('systemctl', '--user', 'start', 'x'), 'systemd-run': run('systemd-run', '--user', '--on-active=60', 'touch', '/tmp/marker'),
    'linger': run('loginctl', 'enable-linger'), 'sudo': run('sudo', '-n', 'true'), 'su': run('su', '-c', 'true', input=b''),
    **{path: write(path) for path in (f'/var/spool/cron/crontabs/{name}', f'/var/spool/cron/{name}', '/var/spool/cron/atjobs/a1',
        '/etc/cron.d/x', '/etc/systemd/system/x.service', '/etc/udev/rules.d/x.rules', '/etc/profile.d/x.sh', '/etc/ld.so.preload',
        '/usr/lib/systemd/user/x.service', f'/var/lib/systemd/linger/{name}', '/etc/xdg/autostart/x.desktop', f'/var/mail/{name}')},
}.items() if did]
print('worked', worked)
"#;

#[test]
fn nothing_that_would_start_again_outlives_a_job() {
    let host = Host::start(&Options::default());
    let package = host.push_python("persists", PERSISTS);
    // The second job of the account sees that nothing of the first is in its home.
    for round in 0..2 {
        let seen = said(&host, &host.run_job(&package, &[]));
        assert!(seen.contains(".bashrc True"), "{seen}");
        assert!(seen.ends_with("worked []\n"), "round {round}: {seen}");
        host.assert_nothing_left();
    }
    let account = &host.slots.accounts()[0];
    for folder in [
        "/var/spool/cron/crontabs",
        "/var/lib/systemd/linger",
        "/var/mail",
    ] {
        assert!(!Path::new(folder).join(account).exists(), "{folder}");
    }
    let home = fs::read_dir("/usr/lib/robotd/home").expect("the home on the host");
    assert_eq!(home.count(), 0);
}

const LITTERS: &str = r#"
import os, pathlib
def here(folder):
    return [str(path) for path in pathlib.Path(folder).rglob('litter*')]
places = ['/tmp', '/var/tmp', '/dev/shm', '/run', '/run/lock', '/var/lock', '/run/user', os.environ['XDG_RUNTIME_DIR'], '/dev/mqueue', '/var/crash', '.']
print('found', sum((here(place) for place in places), []))
wrote = []
for place in places:
    try:
        pathlib.Path(place, 'litter').write_text('of this job')
        wrote.append(place)
    except OSError: pass
assert {'/tmp', '/var/tmp', '/dev/shm', '.'} <= set(wrote), wrote
"#;

#[test]
fn what_a_job_leaves_in_shared_folders_no_other_job_and_no_host_sees() {
    let host = Host::start(&Options::default());
    let package = host.push_python("litters", LITTERS);
    for _ in 0..2 {
        assert_eq!(said(&host, &host.run_job(&package, &[])), "found []\n");
        host.assert_nothing_left();
    }
    for folder in [
        "/tmp",
        "/var/tmp",
        "/dev/shm",
        "/run/lock",
        "/var/crash",
        "/dev/mqueue",
    ] {
        assert!(!Path::new(folder).join("litter").exists(), "{folder}");
    }
}

/// System V by number, POSIX by name (mq_open(3) is a system call with a name without its slash).
const TALKS: &str = r#"
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
MQ_OPEN, CREAT, RDWR = 240, 0o100, 2
def number(made): return made >= 0
print('found', [number(libc.shmget(7001, 0, 0)), number(libc.semget(7001, 0, 0)), number(libc.msgget(7001, 0)),
    number(libc.syscall(MQ_OPEN, b'left', RDWR, 0, None)), os.path.exists('/dev/shm/left')])
made = [number(libc.shmget(7001, 4096, 0o1666)), number(libc.semget(7001, 1, 0o1666)), number(libc.msgget(7001, 0o1666))]
queue = libc.syscall(MQ_OPEN, b'left', RDWR | CREAT, 0o666, None)
with open('/dev/shm/left', 'w') as file: file.write('of this job')
print('made', made, 'queue', queue >= 0)
"#;

#[test]
fn shared_memory_semaphores_and_queues_of_both_kinds_are_absent_to_the_next_job() {
    let host = Host::start(&Options::default());
    let package = host.push_python("talks", TALKS);
    for _ in 0..2 {
        let seen = said(&host, &host.run_job(&package, &[]));
        let nothing = "found [False, False, False, False, False]\nmade [True, True, True] queue";
        assert!(seen.starts_with(nothing), "{seen}");
        host.assert_nothing_left();
    }
}

/// keyctl(2): 0 session or user keyring's number, 11 read, 10 search, 22 the persistent one.
const KEYS: &str = r#"
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
ADD, REQUEST, KEYCTL = 248, 249, 250
found = []
for ring in (-3, -4, -5):
    if libc.syscall(KEYCTL, 10, ring, b'user', b'planted', 0) > 0: found.append(ring)
persistent = libc.syscall(KEYCTL, 22, -1, -4)
if persistent > 0 and libc.syscall(KEYCTL, 10, persistent, b'user', b'planted', 0) > 0: found.append('persistent')
if libc.syscall(REQUEST, b'user', b'planted', None, 0) > 0: found.append('requested')
print('found', found)
for ring in (-3, -4, -5, persistent): libc.syscall(ADD, b'user', b'planted', b'secret', 6, ring)
"#;

#[test]
fn keys_in_no_keyring_of_an_account_are_there_for_its_next_job() {
    let host = Host::start(&Options::default());
    let package = host.push_python("keys", KEYS);
    for _ in 0..2 {
        assert_eq!(said(&host, &host.run_job(&package, &[])), "found []\n");
        host.assert_nothing_left();
    }
}

/// A tree of an account on the host, as a program with rights there could make it, with all that
/// stops an ordinary removal; on one of its folders lies a mount of something precious.
struct Planted {
    tree: PathBuf,
    precious: PathBuf,
    files: Vec<PathBuf>,
    /// Folders that this host did not have.
    made: Vec<PathBuf>,
}

impl Planted {
    fn for_account(name: &str, precious: PathBuf) -> Self {
        let account = sys::account::by_name(name).expect("a look-up").expect("it");
        let (uid, gid) = (account.uid.as_raw(), account.gid.as_raw());
        let tree = PathBuf::from(format!("/var/tmp/planted-{name}"));
        fs::create_dir_all(tree.join("mounted")).expect("folders");
        fs::create_dir(&precious).expect("a folder");
        fs::write(precious.join("kept"), "x").expect("a file");
        symlink(&precious, tree.join("link")).expect("a link");
        fs::write(tree.join("marked"), "x").expect("a file");
        chown(&tree, Some(uid), Some(gid)).expect("an owner");
        let none = None::<&str>;
        mount(
            Some(&precious),
            &tree.join("mounted"),
            none,
            MsFlags::MS_BIND,
            none,
        )
        .expect("a mount");
        for marked in [tree.join("marked"), tree.clone()] {
            let done = Command::new("chattr").arg("+i").arg(&marked).status();
            assert!(done.expect("chattr").success());
        }
        let files = [
            format!("/var/spool/cron/crontabs/{name}"),
            format!("/var/lib/systemd/coredump/core.python3.{uid}.{name}.1.2.zst"),
            format!("/var/crash/_usr_bin_{name}.{uid}.crash"),
            format!("/var/mail/{name}"),
        ];
        let files: Vec<PathBuf> = files.map(PathBuf::from).into();
        let folders = files.iter().filter_map(|file| file.parent());
        let missing = folders.filter(|folder| !folder.exists());
        let made: Vec<PathBuf> = missing.map(Path::to_owned).collect();
        for file in &files {
            fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
            fs::write(file, "of the account").expect("a file");
        }
        Self {
            tree,
            precious,
            files,
            made,
        }
    }
}

impl Drop for Planted {
    /// Also when the claim fails: a mount must not stay on the machine.
    fn drop(&mut self) {
        let _ = umount2(&self.tree.join("mounted"), MntFlags::MNT_DETACH);
        let _ = sys::beneath::remove_tree(&self.tree);
        for file in &self.files {
            let _ = fs::remove_file(file);
        }
        for folder in &self.made {
            let _ = fs::remove_dir(folder);
        }
    }
}

#[test]
fn what_programs_of_the_host_wrote_for_an_account_goes_with_its_job() {
    let host = Host::start(&Options::default());
    let package = host.push_python("waits", WAITS);
    let job = host.submit(&package, &["--stop-grace", "1s"]);
    host.says(&job, "up");
    let planted = Planted::for_account(&host.slots.accounts()[0], host.dir.join("precious"));
    host.ask(&["job", "stop", &job]);
    let report = host.report(&job);
    assert_eq!(report["wipe"]["complete"], true, "{report:#}");
    let swept = report["wipe"]["swept"].to_string();
    for line in [
        // Whether the session's own namespace sees the mount too depends on the host.
        "/var/tmp: 1 (1 files, 2 folders, 1 links, 2 immutable",
        "cron: 1",
        "dump: 1",
        "mail: 1",
    ] {
        assert!(swept.contains(line), "{line}: {swept}");
    }
    assert!(!planted.tree.exists());
    assert!(planted.files.iter().all(|file| !file.exists()));
    assert_eq!(fs::read(planted.precious.join("kept")).expect("kept"), b"x");
    let mounts = sys::mount::own_mounts().expect("mounts");
    assert!(
        !mounts
            .iter()
            .any(|mount| mount.mount_point.starts_with(&planted.tree))
    );
    host.assert_nothing_left();
}

/// No process of the job is left that could do this; the hook is one of root.
#[test]
fn a_slot_whose_files_come_back_all_the_time_goes_into_quarantine_and_comes_out_of_it() {
    let host = Host::start(&Options::default());
    let package = host.push_python("waits", WAITS);
    let job = host.submit(&package, &["--stop-grace", "1s"]);
    host.says(&job, "up");
    let name = host.slots.accounts()[0].clone();
    let account = sys::account::by_name(&name)
        .expect("a look-up")
        .expect("it");
    let tree = PathBuf::from(format!("/dev/shm/again-{name}"));
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = fs::create_dir(&tree);
                let _ = chown(&tree, Some(account.uid.as_raw()), None);
                for number in 0..100 {
                    let _ = fs::write(tree.join(number.to_string()), "");
                }
            }
        });
        host.ask(&["job", "stop", &job]);
        let report = host.report(&job);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(report["outcome"], "STOPPED", "{report:#}");
        assert_eq!(report["wipe"]["complete"], false, "{report:#}");
        assert!(
            report["wipe"]["leftovers"].to_string().contains("again-"),
            "{report:#}"
        );
    });
    host.event(100_104, |event| event.to_string().contains(&name));
    let broker = host.run.join("b/admin.sock").display().to_string();
    let answer = host.control(&["slot", "--admin", &broker, "recover", &name]);
    assert!(answer.status.success(), "{answer:?}");
    assert!(!tree.exists());
    let after = host.push_python("after", "print('after')\n");
    eventually("a job in the slot", || {
        let report = host.run_job(&after, &[]);
        (report["outcome"] == "SUCCEEDED").then_some(())
    });
    host.assert_nothing_left();
}
