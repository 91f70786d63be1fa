//! Garbage and floods on every socket: an answer with a code or a closed connection, and the job
//! that runs goes on.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use sys::fdpass::Seqpacket;
use tests::procs::{JobProcesses, arguments};
use tests::{Host, Options, eventually};

use crate::bad_input::goes_on;

const SLEEPER: &str = "import time\nprint('up', flush=True)\ntime.sleep(1000)\n";

fn sleeping(host: &Host) -> (String, JobProcesses) {
    let package = host.push_python("sleeper", SLEEPER);
    let job = host.submit(&package, &["--stop-grace", "1s"]);
    host.says(&job, "up");
    let processes = JobProcesses::of(&job, "bot.py");
    (job, processes)
}

fn stopped(host: &Host, job: &str) {
    host.ask(&["job", "stop", job]);
    let report = host.report(job);
    assert_eq!(report["outcome"], "STOPPED", "{report:#}");
    assert_eq!(host.stream(job, "stdout"), b"up\n");
    goes_on(host);
}

fn control(host: &Host) -> UnixStream {
    let stream = UnixStream::connect(host.run.join("a/control.sock")).expect("a connection");
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a timeout");
    stream
}

#[test]
fn the_control_socket_answers_garbage_with_a_code_and_survives_a_flood() {
    let host = Host::start(&Options::default());
    let (job, _) = sleeping(&host);
    let garbage: [&[u8]; 5] = [
        b"\n",
        b"{\n",
        b"{\"ask\":\"everything\"}\n",
        b"\xff\xfe\x00\n",
        b"{\"ask\":\"enroll\",\"token\":{}}\n",
    ];
    for bytes in garbage {
        let mut stream = control(&host);
        stream.write_all(bytes).expect("a write");
        let mut answer = String::new();
        BufReader::new(stream)
            .read_line(&mut answer)
            .expect("an answer");
        assert!(answer.contains("ASK_MALFORMED"), "{bytes:?}: {answer:?}");
    }
    let mut stream = control(&host);
    // It may hang up before all of it is written.
    let _ = stream.write_all(&vec![b'x'; 2 << 20]);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.len() < 4096, "no echo of what was sent");
    let silent: Vec<UnixStream> = (0..40).map(|_| control(&host)).collect();
    for _ in 0..1000 {
        drop(control(&host));
    }
    drop(silent);
    assert_eq!(host.status()["jobs"], 1);
    stopped(&host, &job);
}

#[test]
fn the_brokers_sockets_close_on_garbage_and_the_job_goes_on() {
    let host = Host::start(&Options::default());
    let (job, _) = sleeping(&host);
    for name in ["session.sock", "admin.sock", "broker.sock"] {
        let path = host.run.join("b").join(name);
        for bytes in [&b"\xff\xff\xff\xff"[..], b"x", &[0; 60_000]] {
            for _ in 0..20 {
                let socket = Seqpacket::connect(&path).expect("root may connect");
                // broker.sock hangs up at once: root is not robotd.
                let _ = socket.send(bytes, &[]);
                let mut buffer = vec![0; 65_536];
                let answer = socket.recv_within(&mut buffer, Duration::from_secs(30));
                let closed = matches!(answer, Ok(None) | Err(_));
                assert!(closed || name == "admin.sock", "{name}");
            }
        }
        let too_large = Seqpacket::connect(&path).expect("root may connect");
        assert!(
            too_large.send(&vec![0; 2 << 20], &[]).is_err(),
            "{name}: the kernel refuses it"
        );
    }
    host.event(100_401, |event| event.to_string().contains("broker.sock"));
    host.event(100_402, |event| event.to_string().contains("session.sock"));
    stopped(&host, &job);
}

#[test]
fn the_attendants_socket_hears_robotd_alone() {
    let host = Host::start(&Options::default());
    let (job, processes) = sleeping(&host);
    let path: PathBuf = host
        .run
        .join("a/jobs")
        .join(format!("{job}.1"))
        .join("attendant.sock");
    assert!(path.exists(), "{}", path.display());
    for _ in 0..50 {
        let socket = Seqpacket::connect(&path).expect("root passes every mode");
        let _ = socket.send(&[0xff; 1000], &[]);
        let mut buffer = [0; 1024];
        let answer = socket.recv_within(&mut buffer, Duration::from_secs(30));
        assert!(matches!(answer, Ok(None) | Err(_)), "root is not robotd");
    }
    let as_nobody = std::process::Command::new("setpriv")
        .args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "python3", "-c"])
        .arg("import socket,sys\nsocket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect(sys.argv[1])")
        .arg(&path)
        .output()
        .expect("setpriv");
    assert!(
        !as_nobody.status.success(),
        "another account may not connect"
    );
    assert!(
        arguments(processes.attendant).contains("robotd-attendant"),
        "the same attendant"
    );
    stopped(&host, &job);
}

/// Speaks to its socket as no library would.
const SHOUTER: &str = r#"
import json, os, socket
def connect():
    one = socket.socket(socket.AF_UNIX); one.settimeout(60); one.connect(os.environ['ROBOT_SOCKET']); return one
def answer(text):
    one = connect(); one.sendall(text); return json.loads(one.makefile().readline())['code']
print(answer(b'garbage\n'), answer(b'{"call":"nothing"}\n'), answer(b'\xff\xfe\n'), answer(b'{"call":"log","level":"info"}\n'))
one = connect()
try: one.sendall(b'x' * (2 << 20))
except OSError: pass
try: print(json.loads(one.makefile().readline())['code'])
except (OSError, ValueError): print('REQUEST_TOO_LARGE')
one = connect(); lines = one.makefile()
for number in range(10000):
    one.sendall(b'{"call":"params"}\n')
    assert json.loads(lines.readline())['ok']
print('answered')
one = connect(); lines = one.makefile()
one.sendall(b'{"call":"params"}\n' * 1000)
for number in range(1000): assert json.loads(lines.readline())['ok']
many = [connect() for _ in range(16)]
many[0].sendall(b'{"call":"params"}\n'); print(many[0].recv(100)[:10])
for each in many: each.close()
for number in range(2000): connect().close()
print(answer(b'{"call":"param","name":"none"}\n'))
"#;

#[test]
fn a_bots_garbage_and_floods_on_its_own_socket_are_answered_and_harm_nothing() {
    let host = Host::start(&Options::default());
    let package = host.push_python("shouter", SHOUTER);
    let report = host.run_job(&package, &[]);
    let job = report["job_id"].as_str().expect("an id");
    let errors = String::from_utf8_lossy(&host.stream(job, "stderr")).into_owned();
    assert_eq!(report["outcome"], "SUCCEEDED", "{report:#} {errors}");
    assert_eq!(
        String::from_utf8(host.stream(job, "stdout")).expect("text"),
        "REQUEST_MALFORMED REQUEST_MALFORMED REQUEST_MALFORMED REQUEST_MALFORMED\n\
         REQUEST_TOO_LARGE\nanswered\nb'{\"ok\":true'\nPARAM_UNKNOWN\n"
    );
    assert_eq!(report["gaps"], serde_json::json!([]), "{report:#}");
    goes_on(&host);
}

#[test]
fn packages_with_hostile_content_are_refused_at_the_push_with_their_code() {
    let host = Host::start(&Options::default());
    let folder = host.dir.join("zips");
    std::fs::create_dir_all(&folder).expect("a folder");
    let script = "import sys,zipfile,os\nfolder = sys.argv[1]\n\
        def archive(name, entries):\n    with zipfile.ZipFile(os.path.join(folder, name), 'w') as out:\n        \
        for path, mode, data in entries:\n            info = zipfile.ZipInfo(path); info.external_attr = mode << 16\n            \
        info.compress_type = zipfile.ZIP_DEFLATED; out.writestr(info, data)\n\
        bot = ('bot.py', 0o100644, 'print(1)')\n\
        archive('up.zip', [bot, ('../victim', 0o100644, 'x')])\n\
        archive('absolute.zip', [bot, ('/etc/robotd-victim', 0o100644, 'x')])\n\
        archive('link.zip', [bot, ('link', 0o120777, '/etc/shadow')])\n\
        archive('bomb.zip', [bot, ('zeros', 0o100644, b'\\0' * (64 << 20))])\n\
        archive('twice.zip', [bot, ('BOT.py', 0o100644, 'x')])\n\
        archive('good.zip', [bot])\n\
        good = bytearray(open(os.path.join(folder, 'good.zip'), 'rb').read())\n\
        open(os.path.join(folder, 'short.zip'), 'wb').write(good[:-30])\n\
        at = good.find(b'PK\\x01\\x02'); good[6] |= 1; good[at + 8] |= 1\n\
        open(os.path.join(folder, 'encrypted.zip'), 'wb').write(good)\n";
    let made = std::process::Command::new("python3")
        .args(["-W", "ignore", "-c", script])
        .arg(&folder)
        .output();
    let made = made.expect("python3");
    assert!(made.status.success(), "{made:?}");
    let before = host.ask(&["package", "list", "--json"]);
    for (name, code) in [
        ("up.zip", "PACKAGE_PATH_INVALID"),
        ("absolute.zip", "PACKAGE_PATH_INVALID"),
        ("link.zip", "PACKAGE_LINK"),
        ("bomb.zip", "PACKAGE_BOMB"),
        ("twice.zip", "PACKAGE_DUPLICATE"),
        ("encrypted.zip", "PACKAGE_ENCRYPTED"),
        ("short.zip", "PACKAGE_"),
    ] {
        let path = folder.join(name).display().to_string();
        let pushed = host.orchestrator(&["package", "push", &path, "--name", "hostile"]);
        let text = crate::bad_input::said(&pushed);
        assert!(
            !pushed.status.success() && text.contains(code),
            "{name}: {text}"
        );
    }
    assert_eq!(host.ask(&["package", "list", "--json"]), before);
    assert!(!folder.parent().expect("a parent").join("victim").exists());
    assert!(!std::path::Path::new("/etc/robotd-victim").exists());
    let good = folder.join("good.zip").display().to_string();
    host.ask(&["package", "push", &good, "--name", "good"]);
    eventually("the good one", || {
        host.ask(&["package", "list"])
            .contains("good")
            .then_some(())
    });
    goes_on(&host);
}
