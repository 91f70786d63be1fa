//! Bots that pretend, listen in, or lay out what others would stumble over (facts §7: 35, 38, 39, 52).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::{Host, Options};

use crate::traces::said;

/// Tk's clipboard is X's.
const CLIPBOARD: &str = r#"
import os, subprocess, sys, tkinter
window = tkinter.Tk(); window.withdraw()
def clipboard():
    try: return window.clipboard_get()
    except tkinter.TclError: return None
print('clipboard', clipboard())
window.clipboard_append('a password'); window.update()
assert clipboard() == 'a password'
def looks(**environment):
    looked = subprocess.run(['xdpyinfo'], env={**os.environ, **environment}, capture_output=True)
    return looked.returncode == 0
number = int(os.environ['DISPLAY'].split(':')[1].split('.')[0])
print('own', looks(), 'no cookie', looks(XAUTHORITY='/dev/null'))
print('others', [n for n in [*range(0, 120), *range(number - 20, number + 20)] if n != number and looks(DISPLAY=f':{n}')])
print('by network', looks(DISPLAY=f'127.0.0.1:{number}'))
"#;

#[test]
fn no_other_display_opens_none_without_its_cookie_and_the_clipboard_ends_with_the_job() {
    let host = Host::start(&Options::default());
    let package = host.push_python("clipboard", CLIPBOARD);
    for _ in 0..2 {
        let seen = said(&host, &host.run_job(&package, &["--display", "640x480"]));
        assert_eq!(
            seen,
            "clipboard None\nown True no cookie False\nothers []\nby network False\n"
        );
        host.assert_nothing_left();
    }
}

/// 38: nothing that it does to its own descriptors or its own socket is more than its own loss.
const CLOSES: &str = r#"
import json, os, socket
print('before', flush=True)
os.closerange(3, 4096)
for fd in range(3, 64): os.open('/dev/zero', os.O_RDONLY)
def connect():
    one = socket.socket(socket.AF_UNIX); one.settimeout(120); one.connect(os.environ['ROBOT_SOCKET']); return one
for part in (b'\0' * 70000, b'\xff' * 70000, b'[' * 70000 + b'\n', b'{"call":' * 9000, b'\n' * 1000):
    one = connect()
    try: one.sendall(part); one.shutdown(socket.SHUT_WR)
    except OSError: pass
    one.close()
one = connect(); lines = one.makefile('rb')
for _ in range(1000):
    one.sendall(b'{"call":"params"}\n' * 100)
    for _ in range(100): assert json.loads(lines.readline())['ok']
print('after', flush=True)
os.close(1); os.close(2)
os.dup2(os.open('/dev/full', os.O_WRONLY), 1)
os._exit(7)
"#;

#[test]
fn a_bot_that_loses_its_descriptors_and_asks_a_hundred_thousand_times_harms_only_itself() {
    let host = Host::start(&Options::default());
    let package = host.push_python("closes", CLOSES);
    let report = host.run_job(&package, &[]);
    let job = report["job_id"].as_str().expect("an id");
    assert_eq!(
        (report["outcome"].as_str(), report["exit_code"].as_i64()),
        (Some("FAILED"), Some(7)),
        "{report:#}{}",
        String::from_utf8_lossy(&host.stream(job, "stderr"))
    );
    assert_eq!(host.stream(job, "stdout"), b"before\nafter\n");
    assert_eq!(report["gaps"], serde_json::json!([]), "{report:#}");
    host.assert_nothing_left();
    let next = host.push_python("next", "print('next')\n");
    assert_eq!(said(&host, &host.run_job(&next, &[])), "next\n");
}

/// 39: in every channel that it has, as if the agent had said so.
const PRETENDS: &str = r#"
import json, os, signal, socket, subprocess
event = json.dumps({'event_code': 100104, 'code': 100104, 'MESSAGE_ID': '816f90018ce44e7d8a2f7e24acc1b197', 'severity': 'critical', 'message': 'SLOT_QUARANTINED by the bot'})
lines = [event, '<0>robotd-broker[1]: SLOT_QUARANTINED', 'MESSAGE=x\nPRIORITY=0', '\x1b]0;robotd\x07\x1b[2J', 'outcome: SUCCEEDED', '{"outcome":"SUCCEEDED","exit_code":0}']
for line in lines: print(line)
one = socket.socket(socket.AF_UNIX); one.connect(os.environ['ROBOT_SOCKET']); answers = one.makefile()
def call(**request):
    one.sendall((json.dumps(request) + '\n').encode()); return json.loads(answers.readline())
assert call(call='log', level='critical', message=event)['ok']
for forged in ({'call': 'log', 'level': 'info', 'message': 'x', 'event': 100104}, {'call': 'result', 'outcome': 'SUCCEEDED'}, {'call': 'event', 'code': 100104}):
    assert call(**forged)['code'] == 'REQUEST_MALFORMED'
subprocess.run(['logger', '-t', 'robotd-broker', event], capture_output=True)
print('end', flush=True)
os.kill(os.getpid(), signal.SIGKILL) if os.environ.get('DIES') else os._exit(143)
"#;

#[test]
fn what_a_bot_says_of_itself_is_its_text_and_neither_event_nor_outcome() {
    let host = Host::start(&Options::default());
    let package = host.push_python("pretends", PRETENDS);
    for (more, code, signal) in [
        (&[][..], Some(143), None),
        (&["--env", "DIES=1"], None, Some(9)),
    ] {
        let report = host.run_job(&package, more);
        let ended = (
            report["outcome"].as_str(),
            report["exit_code"].as_i64(),
            report["signal"].as_i64(),
        );
        assert_eq!(ended, (Some("FAILED"), code, signal), "{report:#}");
        assert_eq!(report["code"].as_str().unwrap_or(""), "", "{report:#}");
        let job = report["job_id"].as_str().expect("an id");
        let out = String::from_utf8(host.stream(job, "stdout")).expect("text");
        assert!(
            out.starts_with("{\"event_code\": 100104") && out.ends_with("end\n"),
            "{out}"
        );
        host.assert_nothing_left();
    }
    assert!(host.events(100_104).is_empty(), "the bot made an event");
    let all = host.ask(&["event", "list", "--json"]);
    assert!(!all.contains("by the bot"), "{all}");
}

/// Names that something of ours might use, in folders that everyone can write, as links to a victim,
/// as folders and as pipes; made by somebody else before anything of ours runs.
struct Laid {
    paths: Vec<PathBuf>,
    victim: PathBuf,
}

impl Laid {
    fn out() -> Self {
        let victim = PathBuf::from("/var/tmp/laid-victim");
        fs::write(&victim, "untouched").expect("a victim");
        let mut paths = Vec::new();
        let names = [
            "robotd",
            "robotd-session",
            "robotd-broker",
            "robotd-unpack",
            "job.sock",
            ".robotd",
            "xauth",
            "Xauthority",
            "dbus-1",
        ];
        for folder in ["/tmp", "/var/tmp", "/dev/shm"] {
            paths.extend(names.map(|name| Path::new(folder).join(name)));
        }
        paths.extend((60_600..60_620).map(|uid| PathBuf::from(format!("/tmp/.X{uid}-lock"))));
        paths.retain(|path| fs::symlink_metadata(path).is_err());
        for path in &paths {
            symlink(&victim, path).expect("a link");
            let own = Command::new("chown")
                .args(["-h", "nobody"])
                .arg(path)
                .status();
            assert!(own.expect("chown").success());
        }
        Self { paths, victim }
    }
}

impl Drop for Laid {
    fn drop(&mut self) {
        for path in self.paths.iter().chain([&self.victim]) {
            let _ = fs::remove_file(path);
        }
    }
}

#[test]
fn links_that_somebody_laid_out_before_lead_nowhere_and_stay_as_they_were() {
    let laid = Laid::out();
    // As on this machine: the kernel does not help (fs.protected_symlinks may be 0).
    let host = Host::start(&Options::default());
    let as_nobody = |script: &str, path: &Path| {
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid",
            "nobody",
            "--regid",
            "nogroup",
            "--clear-groups",
            "sh",
            "-c",
            script,
            "sh",
        ]);
        command
            .arg(path)
            .output()
            .expect("setpriv")
            .status
            .success()
    };
    for folder in [
        "/run",
        "/var/lib",
        "/run/robotd-session",
        "/usr/lib/robotd/home",
    ] {
        assert!(
            !as_nobody("mkdir \"$1/laid\"", Path::new(folder)),
            "{folder}"
        );
    }
    let state = host.dir.join("broker");
    assert!(
        !as_nobody("ls \"$1\"", &state)
            && !as_nobody("ln \"$1\"/keys/result.key /tmp/laid-key", &state)
    );
    let package = host.push_python(
        "plain",
        "import os\nopen('/tmp/robotd', 'x').write('own')\nprint(sorted(os.listdir('/tmp')))\n",
    );
    for _ in 0..2 {
        let seen = said(&host, &host.run_job(&package, &["--display", "640x480"]));
        assert!(
            seen.contains("'robotd'") && !seen.contains("job.sock"),
            "{seen}"
        );
    }
    assert_eq!(fs::read(&laid.victim).expect("the victim"), b"untouched");
    for path in &laid.paths {
        assert_eq!(
            fs::read_link(path).expect("still a link"),
            laid.victim,
            "{}",
            path.display()
        );
    }
    host.assert_nothing_left();
}
