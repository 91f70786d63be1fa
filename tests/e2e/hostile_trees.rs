//! What a bot builds in its own volume to be unremovable (facts §7: 21 to 24).

use tests::{Host, Options};

use crate::traces::said;

fn leaves(name: &str, code: &str, says: &str) {
    let host = Host::start(&Options::default());
    let package = host.push_python(name, code);
    for round in 0..2 {
        let report = host.run_job(&package, &["--volume", "256MiB"]);
        assert_eq!(said(&host, &report), says, "round {round}");
        assert_eq!(report["wipe"]["complete"], true, "{report:#}");
        assert_eq!(
            report["wipe"]["leftovers"],
            serde_json::json!([]),
            "{report:#}"
        );
        host.assert_nothing_left();
    }
    assert!(host.events(100_104).is_empty(), "no slot in quarantine");
}

/// The swapping processes outlive the bot and are at it while the job closes.
const SWAPS: &str = r#"
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
assert os.listdir(os.environ['HOME']) == []
os.chdir(os.environ['HOME'])
for n in range(50):
    os.makedirs(f'folder{n}/deep')
    open(f'folder{n}/file', 'w').close()
    os.symlink('/etc' if n % 2 else '/', f'link{n}')
for _ in range(2):
    if os.fork() == 0:
        os.setsid()
        while True:
            for n in range(50): libc.renameat2(-100, b'folder%d' % n, -100, b'link%d' % n, 2)
print('swapping', flush=True)
os._exit(0)
"#;

#[test]
fn folders_that_are_swapped_for_links_while_the_job_closes_lead_nowhere() {
    leaves("swaps", SWAPS, "swapping\n");
}

/// Deeper than a path is long, more names than a folder is wide, and names that mean something.
const LARGE: &str = r#"
import os
assert os.listdir(os.environ['HOME']) == [] and not os.path.exists('/var/tmp/wide')
os.chdir(os.environ['HOME'])
for _ in range(5000):
    os.mkdir('d' * 200); os.chdir('d' * 200)
os.mkdir('/var/tmp/wide')
for n in range(5000): open(f'/var/tmp/wide/{n}', 'w').close()
for name in (b'-rf', b'new\nline', b'\xff\xfe', b'x' * 255, '\u202e'.encode(), b'$(reboot)', b'*'): os.mkdir(b'/tmp/' + name)
print('built')
"#;

#[test]
fn a_tree_deeper_than_any_path_and_names_that_mean_something_go_with_the_volume() {
    leaves("large", LARGE, "built\n");
}

/// What the kernel refuses of it to a bot (devices, marks) is as good as made: it is told apart in
/// the campaign, which makes all of it as root.
const ODD: &str = r#"
import fcntl, mmap, os, socket, stat
os.chdir(os.environ['HOME'])
assert os.listdir('.') == []
os.mkfifo('pipe'); socket.socket(socket.AF_UNIX).bind('socket')
for kind in (stat.S_IFCHR, stat.S_IFBLK):
    try: os.mknod('device', kind | 0o666, os.makedev(1, 3)); print('a device')
    except PermissionError: pass
with open('marked', 'w') as file:
    try: fcntl.ioctl(file, 0x40086602, b'\x30\0\0\0\0\0\0\0'); print('marked')
    except OSError: pass
os.mkdir('closed', 0); os.mkdir('half'); open('half/file', 'w').close(); os.chmod('half', 0)
with open('sparse', 'w') as file:
    # Beyond what the volume could hold it is refused (RLIMIT_FSIZE).
    try: file.truncate(1 << 62); print('endless')
    except OSError: file.truncate(1 << 28)
held = open('mapped', 'w+b'); held.truncate(1 << 20); seen = mmap.mmap(held.fileno(), 1 << 20); seen[:6] = b'secret'
leased = open('leased', 'w'); fcntl.fcntl(leased, fcntl.F_SETLEASE, fcntl.F_WRLCK); fcntl.lockf(leased, fcntl.LOCK_EX)
nameless = os.open('.', os.O_TMPFILE | os.O_RDWR, 0o600); os.write(nameless, b'secret')
gone = open('gone', 'w+'); gone.write('secret'); gone.flush(); os.unlink('gone')
if os.fork() == 0:
    # Holds all of it open after the bot's end.
    os.setsid()
    while True: seen[0] ^= 1
print('built', flush=True)
os._exit(0)
"#;

#[test]
fn pipes_sockets_closed_folders_sparse_leased_mapped_and_nameless_files_go_with_the_volume() {
    leaves("odd", ODD, "built\n");
}

/// With a user namespace of its own, where its profile grants one, a bot can mount; else it can't.
const MOUNTS: &str = r#"
import os, subprocess
os.chdir(os.environ['HOME'])
assert os.listdir('.') == []
for name in ('bind', 'memory', 'over'): os.makedirs(f'{name}/below')
script = 'mount --bind /etc bind; mount -t tmpfs none memory/below && echo x >memory/below/file; mount -t overlay none -o lowerdir=bind,upperdir=over,workdir=memory over; echo in >&2; sleep 1000'
inside = subprocess.Popen(['unshare', '-Urm', 'sh', '-c', script], stderr=subprocess.PIPE, text=True, start_new_session=True)
for line in inside.stderr:
    if line == 'in\n': break
direct = subprocess.run(['mount', '--bind', '/etc', 'bind'], capture_output=True).returncode
print('mounted', direct == 0)
"#;

#[test]
fn mounts_that_a_bot_makes_inside_its_volume_are_detached_with_it_and_never_entered() {
    leaves("mounts", MOUNTS, "mounted False\n");
}
