//! Connecting to a real X server, and to things that only look like one.

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use privsep::attendant::{FromAttendant, ToAttendant};
use wire::v1::LogSource;

use crate::lane::stream;
use crate::rig::Rig;
use crate::xvfb::{COOKIE, SOCKETS, Xvfb, colours, pictures, show};

#[test]
fn without_shared_memory_the_picture_is_the_same() {
    let xvfb = Xvfb::start(&["-extension", "MIT-SHM"]);
    let mut rig = Rig::start();
    xvfb.show_to(&rig);
    rig.robotd().wait_for(1);
    rig.finish();
    let colours = colours(&rig, &pictures(&rig)[0]);
    assert_eq!(colours.count([0xff; 3]), 333 * 222);
}

#[test]
fn a_wrong_cookie_is_a_failed_display() {
    let xvfb = Xvfb::start(&[]);
    let mut rig = Rig::start();
    let FromAttendant::DisplayFailed(refusal) = show(&rig, SOCKETS.as_ref(), xvfb.number, [0; 16])
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
