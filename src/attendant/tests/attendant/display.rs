//! Pictures of a real X server, and of things that only look like one.

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use privsep::attendant::{FromAttendant, ToAttendant};
use privsep::doorbell;
use privsep::encode;
use wire::v1::{LogSource, Screenshot, ScreenshotReason, record::Body};

use crate::lane::stream;
use crate::rig::Rig;

const COOKIE: [u8; 16] = *b"sixteen secrets!";

struct Xvfb {
    child: Child,
    number: u32,
    _folder: tempfile::TempDir,
}

impl Xvfb {
    /// White from edge to edge, so that a picture can be checked.
    fn start(more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let auth = folder.path().join("auth");
        fs::write(&auth, xauthority()).unwrap();
        let mut child = Command::new("Xvfb")
            .args([
                "-displayfd",
                "1",
                "-wr",
                "-screen",
                "0",
                "333x222x24",
                "-nolisten",
                "tcp",
                "-noreset",
                "-auth",
            ])
            .arg(&auth)
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Xvfb is installed (package xvfb)");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        Self {
            child,
            number: line.trim().parse().unwrap(),
            _folder: folder,
        }
    }
}

impl Drop for Xvfb {
    fn drop(&mut self) {
        // SIGTERM, so that it removes its socket and lock.
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

/// One cookie for any display.
fn xauthority() -> Vec<u8> {
    let mut bytes = vec![0xff, 0xff, 0, 0, 0, 0, 0, 18];
    bytes.extend_from_slice(b"MIT-MAGIC-COOKIE-1");
    bytes.extend_from_slice(&[0, 16]);
    bytes.extend_from_slice(&COOKIE);
    bytes
}

fn show(rig: &Rig, folder: &Path, number: u32, cookie: [u8; 16]) -> FromAttendant {
    let folder = File::open(folder).unwrap();
    rig.tell(
        &ToAttendant::Display {
            number,
            cookie,
            vnc: false,
        },
        &[folder.as_fd()],
    );
    rig.hear()
}

fn pictures(rig: &Rig) -> Vec<Screenshot> {
    let only = |body| {
        if let Body::Screenshot(picture) = body {
            Some(picture)
        } else {
            None
        }
    };
    rig.records().into_iter().filter_map(only).collect()
}

fn is_white(rig: &Rig, picture: &Screenshot) {
    let sha256 = order::Sha256Hex(picture.sha256.as_ref().try_into().unwrap());
    let bytes = fs::read(rig.spool().join("blobs").join(sha256.to_string())).unwrap();
    assert_eq!(
        (bytes.len() as u64, picture.media_type.as_str()),
        (picture.size_bytes, "image/png")
    );
    let mut reader = png::Decoder::new(std::io::Cursor::new(bytes))
        .read_info()
        .unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!(
        (info.width, info.height, picture.width, picture.height),
        (333, 222, 333, 222)
    );
    assert_eq!(pixels.len(), 3 * 333 * 222);
    assert!(pixels.iter().all(|byte| *byte == 0xff));
}

#[test]
fn a_picture_is_taken_for_each_reason() {
    let xvfb = Xvfb::start(&[]);
    let mut rig = Rig::start_with(|begin| begin.screenshots.every_ms = Some(100));
    let mut robotd = rig.robotd();
    assert_eq!(
        show(&rig, "/tmp/.X11-unix".as_ref(), xvfb.number, COOKIE),
        FromAttendant::DisplayConnected
    );
    robotd.wait_for(1);
    robotd
        .socket
        .send(&encode(&doorbell::ToAttendant::Screenshot).unwrap(), &[])
        .unwrap();
    robotd.wait_for(2);
    rig.tell(&ToAttendant::Running, &[]);
    robotd.wait_for(4);
    assert!(
        rig.robotjob(&["screenshot"])
            .output()
            .unwrap()
            .status
            .success()
    );
    rig.tell(&ToAttendant::FailureScreenshot, &[]);
    assert_eq!(rig.hear(), FromAttendant::FailureTaken);
    let totals = rig.finish();
    let pictures = pictures(&rig);
    assert_eq!(totals.screenshots as usize, pictures.len());
    let numbers: Vec<u32> = pictures.iter().map(|picture| picture.seq).collect();
    assert_eq!(numbers, (1..=totals.screenshots).collect::<Vec<u32>>());
    let reasons: Vec<ScreenshotReason> = pictures.iter().map(Screenshot::reason).collect();
    assert_eq!(
        reasons[..3],
        [
            ScreenshotReason::Start,
            ScreenshotReason::Request,
            ScreenshotReason::Interval
        ]
    );
    assert!(reasons.contains(&ScreenshotReason::Failure));
    assert_eq!(
        reasons
            .iter()
            .filter(|reason| **reason == ScreenshotReason::Request)
            .count(),
        2
    );
    pictures.iter().for_each(|picture| is_white(&rig, picture));
}

#[test]
fn without_shared_memory_the_picture_is_the_same() {
    let xvfb = Xvfb::start(&["-extension", "MIT-SHM"]);
    let mut rig = Rig::start();
    assert_eq!(
        show(&rig, "/tmp/.X11-unix".as_ref(), xvfb.number, COOKIE),
        FromAttendant::DisplayConnected
    );
    rig.robotd().wait_for(1);
    rig.finish();
    is_white(&rig, &pictures(&rig)[0]);
}

#[test]
fn a_wrong_cookie_is_a_failed_display() {
    let xvfb = Xvfb::start(&[]);
    let mut rig = Rig::start();
    let FromAttendant::DisplayFailed(refusal) =
        show(&rig, "/tmp/.X11-unix".as_ref(), xvfb.number, [0; 16])
    else {
        panic!("let in");
    };
    assert_eq!(refusal.code, "DISPLAY_FAILED");
    assert!(
        refusal.detail.contains("refused the connection"),
        "{}",
        refusal.detail
    );
    rig.finish();
}

/// A directory that the attendant can enter, with a socket in it.
fn impostor(
    serve: impl FnOnce(std::os::unix::net::UnixStream) + Send + 'static,
) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let listener = UnixListener::bind(folder.path().join("X7")).unwrap();
    fs::set_permissions(folder.path().join("X7"), Permissions::from_mode(0o666)).unwrap();
    std::thread::spawn(move || serve(listener.accept().unwrap().0));
    folder
}

#[test]
fn a_display_that_never_answers_does_not_hold_up_the_output() {
    let (stop, wait) = std::sync::mpsc::channel::<()>();
    let folder = impostor(move |_silent| {
        let _ = wait.recv();
    });
    let mut rig = Rig::start();
    let mut robotd = rig.robotd();
    let directory = File::open(folder.path()).unwrap();
    rig.tell(
        &ToAttendant::Display {
            vnc: false,
            number: 7,
            cookie: COOKIE,
        },
        &[directory.as_fd()],
    );
    rig.stdout
        .as_mut()
        .unwrap()
        .write_all(b"goes on\n")
        .unwrap();
    robotd.wait_for(1);
    let FromAttendant::DisplayFailed(refusal) = rig.hear() else {
        panic!("connected")
    };
    assert!(
        refusal.detail.contains("did not answer in time"),
        "{}",
        refusal.detail
    );
    rig.finish();
    assert_eq!(stream(&rig.records(), LogSource::Stdout), b"goes on\n");
    drop(stop);
}

#[test]
fn a_display_that_lies_about_everything_is_a_failed_display() {
    for answer in [
        vec![0xff; 4096],
        [
            &[1, 0, 11, 0, 0, 0, 0xff, 0xff][..],
            &vec![0xff; 4 * 0xffff],
        ]
        .concat(),
        [&[1, 0, 11, 0, 0, 0, 8, 0][..], &[0; 32]].concat(),
        b"GET / HTTP/1.1".to_vec(),
        Vec::new(),
    ] {
        let folder = impostor(move |mut stream| {
            let _ = stream.read(&mut [0; 64]);
            let _ = stream.write_all(&answer);
        });
        let mut rig = Rig::start();
        let FromAttendant::DisplayFailed(refusal) = show(&rig, folder.path(), 7, COOKIE) else {
            panic!("connected")
        };
        assert_eq!(refusal.code, "DISPLAY_FAILED");
        rig.finish();
    }
}

#[test]
fn a_link_in_the_place_of_the_socket_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let _other = UnixListener::bind(folder.path().join("other")).unwrap();
    std::os::unix::fs::symlink("other", folder.path().join("X7")).unwrap();
    let mut rig = Rig::start();
    let FromAttendant::DisplayFailed(refusal) = show(&rig, folder.path(), 7, COOKIE) else {
        panic!("connected")
    };
    assert!(
        refusal.detail.contains("not a socket"),
        "{}",
        refusal.detail
    );
    rig.finish();
}
