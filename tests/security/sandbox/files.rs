//! What a bot can read and write: attacks 8, 16, 17, 19.

use std::fs;
use std::path::{Path, PathBuf};

use super::{host, run, run_on};

pub(super) const CLAIMS: &[(&str, fn())] = &[
    (
        "sandbox::every_mount_but_the_volume_is_read_only_without_rights_and_devices",
        mounts,
    ),
    (
        "sandbox::a_bot_can_not_move_itself_to_another_cgroup",
        other_cgroup,
    ),
    ("sandbox::nothing_of_the_host_can_be_read", host_files),
    (
        "sandbox::no_set_user_id_program_and_no_file_capability_changes_who_a_bot_is",
        escalation,
    ),
];

const MOUNTS: &str = r#"
home = os.environ['HOME']
own = {home, '/tmp', '/var/tmp', '/dev/shm', '/work', '/run/robot/artifacts',
       '/run/user/%d' % os.getuid(), '/dev/pts'}
nodes = {'/dev/' + name for name in ('null', 'zero', 'full', 'random', 'urandom', 'tty')}
for line in open('/proc/self/mountinfo'):
    words = line.split()
    place, flags = words[4], words[5].split(',')
    missing = [flag for flag in ('nosuid', 'nodev') if flag not in flags]
    if place in nodes or place == '/dev/pts':
        missing.remove('nodev')
    if place not in own and 'ro' not in flags:
        missing.append('ro')
    say('flags:' + place, 'lacks ' + ','.join(missing) if missing else 'fine')
    if place in own or place in nodes:
        continue
    def write():
        if os.path.isdir(place):
            os.close(os.open(place + '/.robotd-try', os.O_CREAT | os.O_WRONLY, 0o600))
        else:
            os.close(os.open(place, os.O_WRONLY))
    attempt('write:' + place, write)
def below(path):
    return lambda: os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o666))
for path in ('/usr/x', '/etc/x', '/x', '/run/x', '/run/robot/x', '/run/robot/params.json',
             '/run/robot/bin/robotjob', '/opt/x', '/var/x', '/dev/x', SUBMOUNT + '/x'):
    attempt('write:' + path + '(new)', below(path))
"#;

/// A mount of the host below what jobs see read-only, which everybody may write: a read-only
/// remount that does not reach down would leave it so.
fn mounts() {
    let place = PathBuf::from(format!("/opt/robotd-test-{}", std::process::id()));
    let mut host = host("");
    host.small_disk(&place, 1 << 20);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(&place, mode).expect("a mode");
    let code = format!("SUBMOUNT = {:?}\n{MOUNTS}", place.display().to_string());
    let tried = run_on(host, "script", &code, &[]);
    let entries = tried.lines.iter();
    let (flags, writes): (Vec<_>, Vec<_>) =
        entries.partition(|(name, _)| name.starts_with("flags:"));
    assert!(
        flags.len() > 20 && writes.len() > 20,
        "{flags:?} {writes:?}"
    );
    for (name, verdict) in flags {
        assert_eq!(verdict, "fine", "{name}");
    }
    for (name, verdict) in writes {
        // Landlock answers before the mount is asked; in /proc nothing can be made at all.
        let refused = ["EROFS", "EACCES", "EPERM"].contains(&verdict.as_str())
            || (name.starts_with("write:/proc") && verdict == "ENOENT");
        assert!(refused, "{name}: {verdict}");
    }
    let sub = format!("flags:{}", place.display());
    assert_eq!(tried.of(&sub), "fine", "the host's own mount is shown");
    drop(tried);
    let _ = fs::remove_dir(&place);
}

const CGROUP: &str = r#"
say('own', open('/proc/self/cgroup').read().split(':')[-1].strip())
found = [line.split()[4] for line in open('/proc/self/mountinfo') if ' - cgroup' in line]
say('shown', len(found))
for path in ('/sys/fs/cgroup/cgroup.procs', '/sys/fs/cgroup/unified/cgroup.procs',
             '/proc/1/root/sys/fs/cgroup/cgroup.procs'):
    attempt(path, lambda: open(path, 'w').write('0'))
def mount(kind):
    def work():
        ctypes.set_errno(0)
        if libc.mount(b'x', b'/tmp', kind, 0, None) != 0:
            raise OSError(ctypes.get_errno(), '')
    return work
attempt('mount-cgroup2', mount(b'cgroup2'))
attempt('mount-cgroup', mount(b'cgroup'))
"#;

fn other_cgroup() {
    for profile in ["script", "browser"] {
        let tried = run(profile, CGROUP);
        assert_eq!(tried.of("own"), "/");
        assert_eq!(tried.of("shown"), "0");
        for (name, verdict) in tried.lines.iter().skip(2) {
            let refused = ["ENOENT", "EACCES", "EPERM"].contains(&verdict.as_str());
            assert!(refused, "{name}: {verdict}");
        }
    }
}

fn host_files() {
    let host = host("");
    let secret = host.dir.join("secret");
    fs::write(&secret, "x").expect("a write");
    let paths: Vec<PathBuf> = [
        "/etc/robotd/policy.toml",
        "/etc/robotd/trust.d",
        "/etc/shadow",
        "/etc/sudoers",
        "/var/lib/robotd",
        "/var/lib/robotd-broker",
        "/var/lib/robotd-broker/keys/result.key",
        "/run/robotd",
        "/run/robotd-broker",
        "/run/robotd-session",
        "/var/log",
        "/var/spool",
        "/root",
        "/sys",
        "/boot",
        "/proc/1/environ",
        "/proc/1/cmdline",
        "/proc/1/mem",
        "/proc/1/maps",
        "/proc/1/fd",
        "/proc/1/root/etc",
        "/proc/1/cwd",
    ]
    .iter()
    .map(PathBuf::from)
    .chain([
        host.policy_file(),
        host.dir.clone(),
        host.run.clone(),
        secret,
    ])
    .collect();
    let paths: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let code = format!(
        r#"
for path in {paths:?}:
    def look():
        if os.path.isdir(path):
            return len(os.listdir(path)) > 0
        return len(open(path, 'rb').read(64)) > 0
    attempt(path, look)
for name in ('cmdline', 'kallsyms', 'modules', 'keys', 'kcore', 'diskstats', 'interrupts',
             'timer_list', 'swaps', 'partitions', 'bus', 'irq', 'fs', 'sysrq-trigger'):
    path = '/proc/' + name
    def masked():
        return len(os.listdir(path) if os.path.isdir(path) else open(path, 'rb').read(64)) > 0
    attempt('masked:' + name, masked)
others = []
for name in os.listdir('/proc'):
    if name.isdigit() and os.stat('/proc/' + name).st_uid != os.getuid():
        others.append(name)
say('others', ' '.join(others) or 'none')
say('seen', ' '.join(sorted(name for name in os.listdir('/proc') if name.isdigit())))
say('name', os.uname().nodename)
say('needed', all(open('/proc/' + name).read() for name in ('meminfo', 'cpuinfo', 'stat', 'version', 'uptime')))
"#
    );
    let tried = run_on(host, "script", &code, &[]);
    for (name, verdict) in &tried.lines {
        let expected: &[&str] = match name.as_str() {
            "others" => &["none"],
            "needed" => &["True"],
            "seen" | "name" => continue,
            _ => &["ENOENT", "EACCES", "EPERM", "nothing"],
        };
        assert!(expected.contains(&verdict.as_str()), "{name}: {verdict}");
    }
    assert!(
        tried.of("name").starts_with("robot-"),
        "{}",
        tried.of("name")
    );
    assert!(
        !tried.of("seen").split(' ').any(|pid| pid == "1"),
        "init is seen"
    );
    assert!(
        Path::new("/proc/1/environ").exists(),
        "what was asked for exists"
    );
}

const ESCALATION: &str = r#"
import shutil, stat
shutil.copy('/usr/bin/id', '/tmp/id')
attempt('chmod', lambda: os.chmod('/tmp/id', 0o4755))
said = subprocess.run(['/tmp/id', '-u'], capture_output=True, text=True).stdout.strip()
say('own-set-user-id', said == str(os.getuid()))
for name, command in (('sudo', ['sudo', '-n', 'id', '-u']), ('su', ['su', '-c', 'id -u']),
                      ('pkexec', ['pkexec', 'id', '-u']), ('mount', ['mount', '-t', 'tmpfs', 'x', '/tmp']),
                      ('newuidmap', ['newuidmap', str(os.getpid()), '0', '0', '1']),
                      ('passwd', ['passwd', '-S', 'root']), ('ping', ['ping', '-c1', '127.0.0.1'])):
    try:
        ran = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=20)
        say(name, 'root' if ran.returncode == 0 and ran.stdout.strip() == '0' else 'refused')
    except (FileNotFoundError, PermissionError, subprocess.TimeoutExpired):
        say(name, 'refused')
for uid in (0, os.getuid() + 1):
    attempt('setuid:%d' % uid, lambda: os.setresuid(uid, uid, uid))
attempt('setgroups', lambda: os.setgroups([0]))
def capability():
    os.setxattr('/tmp/id', 'security.capability', bytes.fromhex('0100000200000020000000000000000000000000'))
attempt('file-capability', capability)
status = dict(line.split(':\t', 1) for line in open('/proc/self/status') if ':\t' in line)
for name in ('CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'):
    say(name, int(status[name], 16))
say('NoNewPrivs', status['NoNewPrivs'].strip())
say('Seccomp', status['Seccomp'].strip())
PR_GET_SECUREBITS = 27
say('securebits', libc.prctl(PR_GET_SECUREBITS, 0, 0, 0, 0) & 0xff)
"#;

fn escalation() {
    let tried = run("script", ESCALATION);
    assert_eq!(tried.of("own-set-user-id"), "True");
    for name in ["sudo", "su", "pkexec", "mount", "newuidmap", "passwd"] {
        assert_eq!(tried.of(name), "refused", "{name}");
    }
    for (name, verdict) in &tried.lines {
        if name.starts_with("setuid:") || name == "setgroups" || name == "file-capability" {
            assert_eq!(verdict, "EPERM", "{name}");
        }
        if name.starts_with("Cap") {
            assert_eq!(verdict, "0", "{name}");
        }
    }
    assert_eq!(tried.of("NoNewPrivs"), "1");
    assert_eq!(tried.of("Seccomp"), "2");
    // noroot, no-setuid-fixup, no-ambient-raise, each locked, and keep-caps locked.
    assert_eq!(tried.of("securebits"), "239");
}
