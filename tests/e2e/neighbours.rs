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

/// Tenant acme: leaves something of every kind, holds a secret, and stays.
const ACME: &str = r#"
import ctypes, os, subprocess, time, tkinter
secret = subprocess.run(['robotjob', 'credential', 'erp/key'], check=True, stdout=subprocess.PIPE).stdout.decode()
for place in ('/tmp', '/var/tmp', '/dev/shm', os.environ['HOME'], os.environ['XDG_RUNTIME_DIR'], '.'):
    with open(os.path.join(place, 'of-acme'), 'w') as file: file.write(secret)
libc = ctypes.CDLL(None, use_errno=True)
assert libc.shmget(4243, 4096, 0o1666) >= 0
KEYCTL, ADD = 250, 248
libc.syscall(ADD, b'user', b'of-acme', secret.encode(), len(secret), -4)
window = tkinter.Tk(); window.withdraw(); window.clipboard_append(secret); window.update()
os.environ['OF_ACME'] = secret
sleeper = subprocess.Popen(['sleep', '1000'], env=os.environ)
print('up', os.getuid(), flush=True)
while True: window.update(); time.sleep(0.05)
"#;

/// Tenant globex: looks for all of it.
const GLOBEX: &str = r#"
import ctypes, os, subprocess, tkinter
def found():
    for place in ('/tmp', '/var/tmp', '/dev/shm', os.environ['HOME'], '/run', '/home', '/var/lib', '/work'):
        for folder, _, files in os.walk(place):
            if 'of-acme' in files: yield os.path.join(folder, 'of-acme')
print('files', sorted(found()))
libc = ctypes.CDLL(None, use_errno=True)
print('ipc', libc.shmget(4243, 0, 0))
print('keys', libc.syscall(249, b'user', b'of-acme', None, 0) < 0, 'of-acme' in open('/proc/keys').read() if os.path.exists('/proc/keys') else False)
def environment():
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try: yield b'OF_ACME' in open('/proc/%s/environ' % pid, 'rb').read()
        except OSError: pass
print('environment', any(environment()) or 'OF_ACME' in os.environ)
window = tkinter.Tk(); window.withdraw()
try: print('clipboard', window.clipboard_get())
except tkinter.TclError: print('clipboard None')
refused = subprocess.run(['robotjob', 'credential', 'erp/key'], capture_output=True)
print('secret', refused.returncode != 0, refused.stdout == b'')
"#;

#[test]
fn a_second_tenant_finds_nothing_of_the_first_at_the_same_time_and_afterwards_on_its_slot() {
    let host = Host::start(&Options {
        slots: 2,
        licenses: 2,
        ..Options::default()
    });
    crate::secrets::set_secret(&host, "erp/key", "hunter-of-acme-22");
    let acme = host.push_python("acme", ACME);
    let globex = host.push_python("globex", GLOBEX);
    let display = ["--display", "640x480", "--stop-grace", "1s"];
    let own = ["--tenant", "acme", "--secret", "erp/key"];
    let first = host.submit(&acme, &[&display[..], &own].concat());
    host.says(&first, "up");
    let found =
        "files []\nipc -1\nkeys True False\nenvironment False\nclipboard None\nsecret True True\n";
    let look = |more: &[&str]| {
        let report = host.run_job(
            &globex,
            &[&display[..], &["--tenant", "globex"], more].concat(),
        );
        assert_eq!(
            report["outcome"],
            "SUCCEEDED",
            "{report:#}{}",
            host.all_logs()
        );
        let job = report["job_id"].as_str().expect("an id").to_owned();
        let seen = String::from_utf8(host.stream(&job, "stdout")).expect("text");
        assert_eq!(seen, found);
        report
    };
    let beside = look(&[]);
    host.ask(&["job", "stop", &first]);
    let stopped = host.report(&first);
    assert_eq!(stopped["outcome"], "STOPPED", "{stopped:#}");
    assert_ne!(stopped["session"]["uid"], beside["session"]["uid"]);
    // Its slot is the first tenant's until root lets it go.
    let slot = stopped["session"]["account"]
        .as_str()
        .expect("an account")
        .to_owned();
    let refused = host.run_job(
        &globex,
        &[&display[..], &["--tenant", "globex", "--account", &slot]].concat(),
    );
    assert_eq!(refused["code"], "SLOT_NOT_OF_TENANT", "{refused:#}");
    let released = host.control(&["slot", "release-tenant", &slot]);
    assert!(released.status.success(), "{released:?}");
    host.event(100_121, |_| true);
    let after = look(&["--account", &slot]);
    assert_eq!(after["session"]["uid"], stopped["session"]["uid"]);
    host.assert_nothing_left();
}
