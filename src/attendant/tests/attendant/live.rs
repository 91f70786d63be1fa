//! The live view, as robotd gets it over the doorbell.

use std::time::{Duration, Instant};

use privsep::doorbell::{FromAttendant, ToAttendant};
use wire::v1::LogSource;

use crate::lane::stream;
use crate::rig::Rig;
use crate::viewer::Viewer;
use crate::xvfb::{Xvfb, colours, pictures};

const RED: [u8; 3] = [0xff, 0, 0];

fn rig() -> Rig {
    Rig::start_with(|begin| begin.screenshots.live_view = true)
}

/// That the attendant has nothing to show: for a while it answers and sends no frame.
fn assert_nothing_comes(viewer: &Viewer, rig: &Rig) {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(400) {
        let answered = rig.robotjob(&["log", "x"]).output().unwrap();
        assert!(answered.status.success());
        let heard = viewer.robotd.hear();
        assert!(matches!(heard, FromAttendant::Written { .. }), "{heard:?}");
    }
}

fn of_depth(screen: &str, more: &[&str]) {
    let xvfb = Xvfb::with_screen(screen, more);
    let mut x = xvfb.client();
    let mut rig = rig();
    xvfb.show_to(&rig);
    let mut viewer = Viewer::new(&rig, 10);
    assert!(viewer.next().keyframe);
    for number in 0..10 {
        let place = (33 * number, 22 * number, 70, 20);
        x.window(x.root, place, Some(0x1234 * (number as u32 + 1)));
        x.sync();
        let frame = viewer.next();
        assert!(
            frame.keyframe || frame.tiles.len() <= 6,
            "{:?}",
            frame.tiles
        );
    }
    viewer.robotd.picture(2);
    rig.finish();
    let still = pictures(&rig).pop().unwrap();
    assert!(colours(&rig, &still) == viewer.screen);
}

#[test]
fn what_comes_in_tiles_is_the_same_as_the_still() {
    of_depth("333x222x24", &[]);
}

#[test]
fn what_comes_in_tiles_of_16_bits_is_the_same_as_the_still() {
    of_depth("333x222x16", &[]);
}

#[test]
fn without_shared_memory_and_damage_the_live_view_is_the_same() {
    of_depth(
        "333x222x24",
        &["-extension", "MIT-SHM", "-extension", "DAMAGE"],
    );
}

#[test]
fn while_nothing_changes_nothing_is_captured_and_nothing_sent() {
    let xvfb = Xvfb::start(&[]);
    let mut x = xvfb.client();
    let mut rig = rig();
    xvfb.show_to(&rig);
    let mut viewer = Viewer::new(&rig, 10);
    viewer.next();
    let window = x.window(x.root, (0, 0, 50, 50), Some(0xff_0000));
    x.sync();
    viewer.until(|screen| screen.count(RED) == 2500);
    assert_nothing_comes(&viewer, &rig);
    let before = rig.sleeps_of_the_display();
    // Not to wait for something: this is how long it is watched doing nothing.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(rig.sleeps_of_the_display(), before);
    assert_nothing_comes(&viewer, &rig);
    // What is drawn and looks as before is looked at, and not sent.
    x.colour(window, 0xff_0000);
    x.sync();
    assert_nothing_comes(&viewer, &rig);
    x.colour(window, 0x00_00ff);
    x.sync();
    viewer.next();
    assert_eq!(viewer.screen.count(RED), 0);
    rig.finish();
}

#[test]
fn without_damage_nothing_is_sent_while_nothing_changes() {
    let xvfb = Xvfb::start(&["-extension", "DAMAGE"]);
    let mut rig = rig();
    xvfb.show_to(&rig);
    let mut viewer = Viewer::new(&rig, 10);
    viewer.next();
    let before = rig.sleeps_of_the_display();
    while rig.sleeps_of_the_display() == before {
        std::thread::yield_now();
    }
    assert_nothing_comes(&viewer, &rig);
    rig.finish();
}

#[test]
fn who_looks_slowly_sees_the_newest_and_no_queue() {
    let xvfb = Xvfb::start(&[]);
    let mut x = xvfb.client();
    let mut rig = rig();
    xvfb.show_to(&rig);
    let mut viewer = Viewer::new(&rig, 10);
    viewer.frame();
    let window = x.window(x.root, (0, 0, 50, 50), None);
    for number in 1..=50 {
        x.colour(window, number);
        x.sync();
        // Each change could have been a frame: the attendant looks at all that it is asked.
        viewer.robotd.picture(u64::from(number) + 1);
    }
    x.colour(window, 0xff_0000);
    x.sync();
    viewer.shown();
    let frame = viewer.frame();
    assert_eq!((frame.number, viewer.screen.count(RED)), (2, 2500));
    rig.finish();
}

#[test]
fn said_again_watch_brings_all_of_it_again_and_so_does_a_new_robotd() {
    let xvfb = Xvfb::start(&[]);
    let mut rig = rig();
    // Before there is anything to be seen.
    let mut viewer = Viewer::new(&rig, 10);
    xvfb.show_to(&rig);
    assert!(viewer.next().keyframe);
    viewer.watch(10);
    assert!(viewer.next().keyframe);
    let mut second = Viewer::new(&rig, 10);
    assert!(second.next().keyframe);
    second.robotd.say(&ToAttendant::Unwatch);
    let mut x = xvfb.client();
    x.window(x.root, (0, 0, 50, 50), Some(0xff_0000));
    x.sync();
    assert_nothing_comes(&second, &rig);
    rig.finish();
}

#[test]
fn a_live_view_that_the_order_does_not_allow_shows_nothing() {
    let xvfb = Xvfb::start(&[]);
    let mut rig = Rig::start();
    xvfb.show_to(&rig);
    let mut viewer = Viewer::new(&rig, 10);
    viewer.robotd.wait_for(1);
    assert_nothing_comes(&viewer, &rig);
    rig.finish();
}

#[test]
fn a_server_that_stops_or_ends_while_somebody_looks_on_does_not_hold_up_the_output() {
    use rustix::process::{Pid, Signal, kill_process};
    use std::io::Write;

    let xvfb = Xvfb::start(&[]);
    let mut rig = rig();
    xvfb.show_to(&rig);
    let mut viewer = Viewer::new(&rig, 10);
    viewer.next();
    let pid = Pid::from_raw(xvfb.pid()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    viewer.watch(10);
    let said = |rig: &mut Rig, viewer: &mut Viewer, text: &[u8], records| {
        rig.stdout.as_mut().unwrap().write_all(text).unwrap();
        viewer.robotd.wait_for(records);
    };
    said(&mut rig, &mut viewer, b"one\n", 2);
    kill_process(pid, Signal::CONT).unwrap();
    assert!(viewer.next().keyframe);
    drop(xvfb);
    said(&mut rig, &mut viewer, b"two\n", 3);
    rig.finish();
    assert_eq!(stream(&rig.records(), LogSource::Stdout), b"one\ntwo\n");
}
