//! What robotctl prints, word by word. `UPDATE_GOLDEN=1 cargo test -p ctl` writes the files anew.

#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What it wrote to both outputs, and its exit code.
fn robotctl(arguments: &[&str]) -> String {
    let ran = Command::new(env!("CARGO_BIN_EXE_robotctl"))
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (out, err) = (text(&ran.stdout), text(&ran.stderr));
    format!("{out}{err}[{}]\n", ran.status.code().unwrap())
}

fn golden(name: &str, found: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let path = folder.join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, found).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, expected, "{}", path.display());
}

#[test]
fn every_help_text_reads_as_reviewed() {
    for words in [
        "",
        "enroll",
        "status",
        "jobs",
        "drain",
        "resume",
        "validate",
        "slot",
        "slot list",
        "slot recover",
        "slot release-tenant",
        "remains",
        "trust",
        "trust list",
        "trust apply",
    ] {
        let mut arguments: Vec<&str> = words.split_whitespace().collect();
        arguments.push("--help");
        let name = format!("help {words}").trim_end().replace(' ', "-");
        golden(&name, &robotctl(&arguments));
    }
}

/// A robotd that gives one answer.
fn answering(folder: &Path, answer: &str) -> PathBuf {
    use std::io::{BufRead as _, BufReader, Write as _};
    let socket = folder.join("control.sock");
    let _ = fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).unwrap();
    let answer = answer.to_owned();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut line = String::new();
        BufReader::new(stream.try_clone().unwrap())
            .read_line(&mut line)
            .unwrap();
        writeln!(stream, "{answer}").unwrap();
    });
    socket
}

#[test]
fn typical_errors_say_what_failed_on_what_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let socket = |answer| {
        answering(folder.path(), answer)
            .to_string_lossy()
            .into_owned()
    };
    golden(
        "error-not-running",
        &robotctl(&["--control", "/nowhere/control.sock", "status"]),
    );
    golden(
        "error-no-token",
        &robotctl(&["enroll", "--token", "/nowhere/token.json"]),
    );
    golden("error-unknown-command", &robotctl(&["restart"]));
    golden(
        "error-no-broker",
        &robotctl(&["slot", "list", "--admin", "/nowhere/admin.sock"]),
    );
    golden(
        "error-no-configuration",
        &robotctl(&["validate", "/nowhere/robotd.toml"]),
    );
    let no_root = r#"{"reply":"refused","code":"NOT_ROOT","detail":"only root may ask for this; run it with sudo"}"#;
    golden(
        "error-not-root",
        &robotctl(&["--control", &socket(no_root), "drain"]),
    );
    golden(
        "error-not-root-json",
        &robotctl(&["--control", &socket(no_root), "--json", "drain"]),
    );
    let other = r#"{"reply":"from-another-version"}"#;
    golden(
        "error-another-version",
        &robotctl(&["--control", &socket(other), "status"]),
    );
}

#[test]
fn a_host_that_takes_no_jobs_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let status = r#"{"reply":"status","status":{"version":"0.1.0","state":"unhealthy","blockers":["BROKER_UNREACHABLE","DISK_FULL"],"slots":0,"free-slots":0,"jobs":0,"link":{"state":"not-enrolled","reason":"run `robotctl enroll --token FILE` as root","agent-id":null,"url":null,"certificate-until-unix-ms":null,"session-epoch":0},"spool-used-bytes":0,"spool-limit-bytes":4294967296}}"#;
    let socket = answering(folder.path(), status);
    golden(
        "status-unhealthy",
        &robotctl(&["--control", &socket.to_string_lossy(), "status"]),
    );
}

/// A broker that gives one answer with a document.
fn broker_with(folder: &Path, remains: &[privsep::admin::Remain]) -> PathBuf {
    let socket = folder.join("admin.sock");
    let listener = sys::fdpass::Listener::bind(&socket, 0o600).unwrap();
    let document = privsep::encode_document(&remains.to_vec()).unwrap();
    std::thread::spawn(move || {
        use std::os::fd::AsFd as _;
        for _ in 0..2 {
            let peer = listener.accept().unwrap();
            peer.recv(&mut vec![0; privsep::MAX_PACKET]).unwrap();
            let memory = sys::memfd::sealed(c"remains", &document).unwrap();
            let reply = privsep::encode(&privsep::admin::Reply::Remains).unwrap();
            peer.send(&reply, &[memory.as_fd()]).unwrap();
        }
    });
    socket
}

#[test]
fn what_remains_is_told_with_how_it_is_kept_and_what_ends_it() {
    use privsep::admin::{Remain, RemainKind as Kind};
    let remain = |kind, name: &str, tenant: Option<&str>, bytes, why: &str| Remain {
        kind,
        name: name.into(),
        tenant: tenant.map(str::to_owned),
        path: "/var/lib/x".into(),
        files: 1,
        bytes,
        partial: kind == Kind::OwnLanes,
        until_unix_ms: (kind == Kind::Package).then_some(1_800_000_000_000),
        why: why.into(),
    };
    let job = "01929c3e-0000-7000-8000-000000000001.1";
    let all = [
        remain(Kind::Job, job, Some("acme"), 0, "account robot01"),
        remain(Kind::Lane, job, Some("acme"), 1536, ""),
        remain(Kind::Sockets, job, Some("acme"), 0, ""),
        remain(Kind::Result, job, Some("acme"), 4096, ""),
        remain(
            Kind::Quarantine,
            "robot02",
            Some("globex"),
            512,
            "a process is left (NOT_PROVEN_CLEAN)",
        ),
        remain(Kind::Package, &"ab".repeat(32), None, 3 << 20, ""),
        remain(Kind::Staging, job, None, 8192, ""),
        remain(Kind::Outbox, "", None, 512, ""),
        remain(Kind::Replay, "", None, 4096, ""),
        remain(Kind::Tenants, "", None, 512, ""),
        remain(Kind::Journal, "", None, 4096, ""),
        remain(Kind::OwnLanes, "", None, 1 << 20, ""),
        remain(Kind::Fetched, "", None, 4096, ""),
    ];
    let folder = tempfile::tempdir().unwrap();
    let socket = broker_with(folder.path(), &all);
    let socket = socket.to_string_lossy();
    golden("remains", &robotctl(&["remains", "--admin", &socket]));
    golden(
        "remains-json",
        &robotctl(&["remains", "--json", "--admin", &socket]),
    );
    let folder = tempfile::tempdir().unwrap();
    let socket = broker_with(folder.path(), &[]);
    golden(
        "remains-nothing",
        &robotctl(&["remains", "--admin", &socket.to_string_lossy()]),
    );
}
