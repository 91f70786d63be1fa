//! Other processes, mounts, buses and clocks: attacks 14, 15, 18, 36, 37.

use super::{run, run_outside};

pub(super) const CLAIMS: &[(&str, fn())] = &[
    ("sandbox::a_crash_leaves_no_core_anywhere", core_dumps),
    ("sandbox::no_process_looks_into_another", other_processes),
    (
        "sandbox::devices_mounts_roots_and_namespaces_are_refused",
        mounting,
    ),
    ("sandbox::no_bus_of_the_host_is_there", buses),
    ("sandbox::clock_time_zone_and_host_name_stay", clocks),
];

const CORES: &str = r#"
import glob, resource
say('limit', '%d %d' % resource.getrlimit(resource.RLIMIT_CORE))
try:
    resource.setrlimit(resource.RLIMIT_CORE, (1 << 30, 1 << 30))
    say('raise', 'worked')
except (ValueError, OSError):
    say('raise', 'refused')
os.makedirs('/tmp/crash', exist_ok=True)
for place in ('/tmp/crash', '/work', os.environ['HOME']):
    os.chdir(place)
    pid = os.fork()
    if pid == 0:
        secret = 'canary-of-a-crash' * 1000
        os.abort()
    _, status = os.waitpid(pid, 0)
    say('dumped:' + place, os.WCOREDUMP(status))
found = [path for place in ('/tmp', '/work', os.environ['HOME'], '/var/tmp', '/dev/shm')
         for path, _, names in os.walk(place) for name in names if name.startswith('core')]
say('found', len(found))
"#;

fn core_dumps() {
    let tried = run("script", CORES);
    assert_eq!(tried.of("limit"), "0 0");
    assert_eq!(tried.of("raise"), "refused");
    assert_eq!(tried.of("found"), "0");
    let dumped = |line: &&(String, String)| line.0.starts_with("dumped:");
    let dumps: Vec<_> = tried.lines.iter().filter(dumped).collect();
    assert!(
        dumps.len() == 3 && dumps.iter().all(|(_, verdict)| verdict == "False"),
        "{dumps:?}"
    );
}

const OTHERS: &str = r#"
import platform
arm = platform.machine() == 'aarch64'
PTRACE, READV, GETFD, OPEN = (117, 270, 438, 434) if arm else (101, 310, 438, 434)
ATTACH, SEIZE = 16, 0x4206
child = subprocess.Popen(['sleep', '60'])
for name, pid in (('init', 1), ('own-child', child.pid), ('parent', os.getppid())):
    attempt('ptrace:' + name, lambda: call(PTRACE, ATTACH, pid, 0, 0))
    attempt('seize:' + name, lambda: call(PTRACE, SEIZE, pid, 0, 0))
    buffer = ctypes.create_string_buffer(64)
    attempt('readv:' + name, lambda: call(READV, pid, ctypes.byref(buffer), 1, ctypes.byref(buffer), 1, 0))
    def getfd():
        pidfd = os.pidfd_open(pid)
        call(GETFD, pidfd, 1, 0)
    attempt('getfd:' + name, getfd)
for name in ('mem', 'environ', 'maps', 'fd', 'stack', 'syscall'):
    path = '/proc/1/' + name
    attempt('proc:' + name, lambda: len(os.listdir(path)) if name == 'fd' else len(open(path, 'rb').read(1)))
attempt('kill-init', lambda: os.kill(1, signal.SIGKILL))
child.kill()
child.wait()
"#;

fn other_processes() {
    let tried = run("script", OTHERS);
    for (name, verdict) in &tried.lines {
        let expected: &[&str] = match name.as_str() {
            // Sent, and without effect: pid 1 of a namespace takes no signal from inside.
            "kill-init" => &["worked", "EPERM"],
            _ => &["EPERM", "EACCES", "ENOENT", "ESRCH"],
        };
        assert!(expected.contains(&verdict.as_str()), "{name}: {verdict}");
    }
    assert_eq!(tried.of("ptrace:own-child"), "EPERM");
}

const MOUNTING: &str = r#"
import stat
attempt('block-device', lambda: os.mknod('/tmp/disk', 0o600 | stat.S_IFBLK, os.makedev(8, 0)))
attempt('character-device', lambda: os.mknod('/tmp/mem', 0o600 | stat.S_IFCHR, os.makedev(1, 1)))
def libc_call(name, *arguments):
    def work():
        ctypes.set_errno(0)
        if getattr(libc, name)(*arguments) != 0:
            raise OSError(ctypes.get_errno(), '')
    return work
for kind in (b'tmpfs', b'proc', b'sysfs', b'overlay', b'devpts', b'mqueue', b'fuse'):
    attempt('mount:' + kind.decode(), libc_call('mount', b'x', b'/tmp', kind, 0, None))
attempt('bind', libc_call('mount', b'/tmp', b'/usr', None, 4096, None))
attempt('remount', libc_call('mount', None, b'/usr', None, 32, None))
attempt('unmount-mask', libc_call('umount2', b'/proc/kcore', 2))
attempt('unmount-etc', libc_call('umount2', b'/etc', 2))
attempt('pivot_root', lambda: call(155 if os.uname().machine == 'x86_64' else 41, b'/tmp', b'/tmp'))
attempt('chroot', lambda: os.chroot('/tmp'))
for name in ('mnt', 'pid', 'net', 'user', 'uts', 'ipc', 'cgroup'):
    def join():
        fd = os.open('/proc/1/ns/' + name, os.O_RDONLY)
        if libc.setns(fd, 0) != 0:
            raise OSError(ctypes.get_errno(), '')
    attempt('setns:' + name, join)
handle = ctypes.create_string_buffer(bytes([8, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]) + bytes(128))
attempt('by-handle', lambda: call(304 if os.uname().machine == 'x86_64' else 265, -100, handle, 0))
attempt('escape', lambda: os.listdir('/proc/self/root/../../var/lib/robotd-broker'))
"#;

fn mounting() {
    for profile in ["script", "browser"] {
        let tried = run(profile, MOUNTING);
        assert!(tried.lines.len() > 20);
        tried.all_are(&["EPERM", "EACCES", "ENOENT"]);
    }
}

const BUSES: &str = r#"
for path in ('/run/dbus/system_bus_socket', '/var/run/dbus/system_bus_socket', '/run/systemd/private',
             '/run/systemd/journal/socket', '/run/systemd/notify', '/run/user/%d/systemd/private' % os.getuid(),
             '/run/user/%d/bus' % os.getuid(), '/run/systemd/userdb/io.systemd.DynamicUser'):
    def join():
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
            end.connect(path)
    attempt(path, join)
def abstract():
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
        end.connect('\0' + NAME)
attempt('abstract', abstract)
say('addresses', ' '.join(name for name in os.environ if name.startswith('DBUS_')) or 'none')
for command in (['busctl', 'call', 'org.freedesktop.systemd1', '/org/freedesktop/systemd1',
                 'org.freedesktop.systemd1.Manager', 'StartTransientUnit', 'ssa(sv)a(sa(sv))', 'x.service', 'fail', '0', '0'],
                ['systemd-run', '--user', 'true'], ['loginctl', 'enable-linger'], ['systemctl', 'start', 'x']):
    try:
        ran = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=20)
        say(command[0], 'worked' if ran.returncode == 0 else 'refused')
    except (FileNotFoundError, subprocess.TimeoutExpired):
        say(command[0], 'refused')
"#;

/// With the host's network, where abstract names are the host's: Landlock's scope keeps them away.
fn buses() {
    use std::os::linux::net::SocketAddrExt as _;
    let name = format!("robotd-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("a name");
    let _listener = std::os::unix::net::UnixListener::bind_addr(&address).expect("a socket");
    let tried = run_outside("script", &format!("NAME = {name:?}\n{BUSES}"));
    for (name, verdict) in &tried.lines {
        let expected: &[&str] = match name.as_str() {
            "addresses" => &["none"],
            _ => &["ENOENT", "EACCES", "EPERM", "ECONNREFUSED", "refused"],
        };
        assert!(expected.contains(&verdict.as_str()), "{name}: {verdict}");
    }
    let scoped = tried
        .sandbox("landlock")
        .as_u64()
        .is_some_and(|version| version >= 6);
    if scoped {
        assert_eq!(tried.of("abstract"), "EPERM");
    }
}

const CLOCKS: &str = r#"
attempt('clock_settime', lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()))
def libc_call(name, *arguments):
    def work():
        ctypes.set_errno(0)
        if getattr(libc, name)(*arguments) != 0:
            raise OSError(ctypes.get_errno(), '')
    return work
now = (ctypes.c_long * 2)(int(time.time()), 0)
attempt('settimeofday', libc_call('settimeofday', now, None))
zone = (ctypes.c_int * 2)(60, 0)
attempt('time-zone', libc_call('settimeofday', None, zone))
attempt('adjtimex', libc_call('adjtimex', ctypes.create_string_buffer(256)))
attempt('sethostname', lambda: socket.sethostname('changed'))
attempt('setdomainname', libc_call('setdomainname', b'changed', 7))
attempt('localtime', lambda: os.symlink('/usr/share/zoneinfo/UTC', '/etc/localtime'))
attempt('hostname-file', lambda: open('/etc/hostname', 'w'))
attempt('hostname-sysctl', lambda: open('/proc/sys/kernel/hostname', 'w').write('changed'))
attempt('wake-alarm', lambda: call(283 if os.uname().machine == 'x86_64' else 85, 9, 0))
"#;

fn clocks() {
    for profile in ["script", "browser"] {
        let before = nix::unistd::gethostname().expect("a name");
        let tried = run(profile, CLOCKS);
        tried.all_are(&["EPERM", "EACCES", "EROFS", "EEXIST", "ENOENT"]);
        assert_eq!(nix::unistd::gethostname().expect("a name"), before);
    }
}
