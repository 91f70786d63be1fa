//! Two jobs at once on one host know nothing of each other.

use tests::procs::JobProcesses;
use tests::{Host, Options};

/// Leaves something of every kind and says so.
const OWNER: &str = r#"
import ctypes, os, time
for place in ('/tmp', '/var/tmp', '/dev/shm', os.environ['HOME'], os.environ['XDG_RUNTIME_DIR'], '.'):
    with open(os.path.join(place, 'of-the-owner'), 'w') as file: file.write('private')
libc = ctypes.CDLL(None, use_errno=True)
assert libc.shmget(4242, 4096, 0o1666) >= 0
assert libc.semget(4242, 1, 0o1666) >= 0
assert libc.msgget(4242, 0o1666) >= 0
print('up', os.getuid(), flush=True)
time.sleep(1000)
"#;

/// Looks for all of it. Its arguments are pids of the other job as the host counts them.
const NEIGHBOUR: &str = r#"
import ctypes, os, socket, subprocess, sys
def found():
    for place in ('/tmp', '/var/tmp', '/dev/shm', os.environ['HOME'], '/run', '/home', '/var/lib', '/work'):
        for folder, _, files in os.walk(place):
            if 'of-the-owner' in files: yield os.path.join(folder, 'of-the-owner')
print('files', sorted(found()))
libc = ctypes.CDLL(None, use_errno=True)
print('ipc', libc.shmget(4242, 0, 0), libc.semget(4242, 0, 0), libc.msgget(4242, 0))
def signals(pid):
    try: os.kill(pid, 0); return True
    except OSError: return False
mine = {int(name) for name in os.listdir('/proc') if name.isdigit()}
uids = {os.stat('/proc/%d' % pid).st_uid for pid in mine}
print('processes', uids == {os.getuid()}, [pid for pid in map(int, sys.argv[1:]) if pid not in mine and signals(pid)])
# Servers of the host with other numbers are nobody's business here.
own = 'X' + os.environ['DISPLAY'][1:]
print('x sockets', os.listdir('/tmp/.X11-unix') == [own])
def connects(path):
    try: socket.socket(socket.AF_UNIX).connect(path); return True
    except OSError: return False
print('abstract', connects('\0/tmp/.X11-unix/' + own))
def poses(number):
    try: socket.socket(socket.AF_UNIX).bind('\0/tmp/.X11-unix/X%d' % number); return True
    except OSError: return False
print('poses as the display of', [n for n in range(1000, int(own[1:]) + 1) if poses(n)])
def tcp(port):
    with socket.socket() as one: one.settimeout(1); return one.connect_ex(('127.0.0.1', port)) == 0
print('tcp', [n for n in range(10) if tcp(6000 + n)])
print('own display', subprocess.run(['xdpyinfo'], capture_output=True).returncode)
print('sockets', sorted(os.listdir('/run/robot')), os.path.exists('/run/robotd-test'))
"#;

#[test]
fn one_job_finds_no_file_process_display_ipc_object_or_socket_of_the_other() {
    let host = Host::start(&Options {
        slots: 2,
        licenses: 2,
        ..Options::default()
    });
    let owner = host.push_python("owner", OWNER);
    let display = ["--display", "640x480", "--stop-grace", "1s"];
    let first = host.submit(&owner, &display);
    host.says(&first, "up");
    let theirs = JobProcesses::of(&first, "bot.py");
    let pids =
        [theirs.bot, theirs.init, theirs.attendant, theirs.monitor].map(|pid| pid.to_string());
    let package = host.push_python("neighbour", NEIGHBOUR);
    let arguments: Vec<&str> = pids
        .iter()
        .flat_map(|pid| ["--arg", pid.as_str()])
        .collect();
    let report = host.run_job(&package, &[&display[..], &arguments].concat());
    assert_eq!(report["outcome"], "SUCCEEDED", "{report:#}");
    let job = report["job_id"].as_str().expect("an id");
    let seen = String::from_utf8(host.stream(job, "stdout")).expect("text");
    assert_eq!(
        seen,
        "files []\nipc -1 -1 -1\nprocesses True []\nx sockets True\nabstract False\nposes as the display of []\ntcp []\n\
         own display 0\nsockets ['artifacts', 'bin', 'display', 'job.sock', 'params.json'] False\n"
    );
    let other = host.show(&first);
    assert!(
        other["outcome"].is_null(),
        "the first one runs on: {other:#}"
    );
    host.ask(&["job", "stop", &first]);
    let stopped = host.report(&first);
    assert_eq!(stopped["outcome"], "STOPPED", "{stopped:#}");
    assert_ne!(stopped["session"]["uid"], report["session"]["uid"]);
    host.assert_nothing_left();
}
