//! Pauses: after a secret and when the bot asks for one, nothing is captured.

use std::os::fd::AsFd;
use std::process::Output;

use privsep::attendant::{FromAttendant, ToAttendant};
use wire::v1::{LogSource, ScreenPause, ScreenshotReason};

use crate::lane::stream;
use crate::rig::Rig;
use crate::viewer::Viewer;
use crate::xvfb::{Xvfb, colours, pictures};

const RED: [u8; 3] = [0xff, 0, 0];
const LONG_MS: u64 = 3_600_000;

fn rig(secret_pause_ms: u64) -> Rig {
    Rig::start_with(|begin| {
        begin.secrets = vec!["erp".to_owned()];
        begin.screenshots.live_view = true;
        begin.screenshots.secret_pause_ms = secret_pause_ms;
    })
}

fn run(rig: &Rig, arguments: &[&str]) -> Output {
    rig.robotjob(arguments).output().unwrap()
}

fn done(rig: &Rig, arguments: &[&str]) {
    let output = run(rig, arguments);
    assert!(output.status.success(), "{output:?}");
}

fn bring_secret(rig: &Rig) {
    let memory = sys::memfd::sealed(c"secret", b"hunter2").unwrap();
    let name = "erp".to_owned();
    rig.tell(&ToAttendant::Secret { name }, &[memory.as_fd()]);
}

/// The bot has it when this returns.
fn credential(rig: &Rig, viewer: &Viewer) {
    let asking = rig.robotjob(&["credential", "erp"]).spawn().unwrap();
    assert_eq!(viewer.robotd.wait_for_a_wish(), "erp");
    bring_secret(rig);
    assert_eq!(asking.wait_with_output().unwrap().stdout, b"hunter2");
}

fn assert_paused(rig: &Rig) {
    let refused = run(rig, &["screenshot"]);
    assert_eq!(refused.status.code(), Some(75));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("SCREENSHOT_PAUSED"));
}

/// What stands in the log of ours.
fn said(rig: &Rig) -> String {
    String::from_utf8(stream(&rig.records(), LogSource::Agent)).unwrap()
}

#[test]
fn after_a_secret_nothing_is_seen_until_the_bot_says_so() {
    let xvfb = Xvfb::start(&[]);
    let mut x = xvfb.client();
    let mut rig = rig(LONG_MS);
    xvfb.show_to(&rig);
    let mut viewer = Viewer::new(&rig, 10);
    assert!(viewer.next().keyframe);
    credential(&rig, &viewer);
    let window = x.window(x.root, (0, 0, 50, 50), Some(0xff_0000));
    x.sync();
    let pause = viewer.next();
    assert_eq!(pause.pause(), ScreenPause::Secret);
    assert_paused(&rig);
    rig.tell(&ToAttendant::FailureScreenshot, &[]);
    assert_eq!(rig.hear(), FromAttendant::FailureTaken);
    // The start, and three lines of ours.
    viewer.robotd.picture(4);
    x.unmap(window);
    x.sync();
    done(&rig, &["privacy", "off"]);
    assert!(viewer.next().keyframe);
    assert_eq!(viewer.screen.count(RED), 0);
    done(&rig, &["screenshot"]);
    rig.finish();
    let pictures = pictures(&rig);
    let reasons: Vec<ScreenshotReason> = pictures.iter().map(|own| own.reason()).collect();
    assert_eq!(
        reasons,
        [ScreenshotReason::Start, ScreenshotReason::Request]
    );
    assert!(
        pictures
            .iter()
            .all(|own| colours(&rig, own).count(RED) == 0)
    );
    assert_eq!(
        said(&rig),
        "capture is paused: a secret was handed out\n\
         no picture of the failure: capture is paused\n\
         no picture on request: capture is paused\n\
         capture goes on; 3 pictures were not taken\n"
    );
}

#[test]
fn a_pause_after_a_secret_ends_by_itself() {
    let xvfb = Xvfb::start(&[]);
    let mut rig = rig(3_000);
    xvfb.show_to(&rig);
    let mut viewer = Viewer::new(&rig, 10);
    assert!(viewer.next().keyframe);
    credential(&rig, &viewer);
    assert_eq!(viewer.next().pause(), ScreenPause::Secret);
    assert!(viewer.next().keyframe);
    done(&rig, &["screenshot"]);
    rig.finish();
}

#[test]
fn without_a_pause_in_the_order_capture_goes_on_after_a_secret() {
    let xvfb = Xvfb::start(&[]);
    let mut rig = rig(0);
    xvfb.show_to(&rig);
    let viewer = Viewer::new(&rig, 10);
    credential(&rig, &viewer);
    done(&rig, &["screenshot"]);
    rig.finish();
    assert_eq!(said(&rig), "");
}

#[test]
fn a_bot_that_wants_to_be_alone_is_until_it_says_so_or_its_time_is_over() {
    let xvfb = Xvfb::start(&[]);
    let mut rig = rig(0);
    xvfb.show_to(&rig);
    done(&rig, &["privacy", "on"]);
    // Who begins to look on only now is told so.
    let mut viewer = Viewer::new(&rig, 10);
    assert_eq!(viewer.next().pause(), ScreenPause::Privacy);
    assert_paused(&rig);
    done(&rig, &["privacy", "off"]);
    assert!(viewer.next().keyframe);
    done(&rig, &["privacy", "on", "--seconds", "3"]);
    assert_eq!(viewer.next().pause(), ScreenPause::Privacy);
    assert!(viewer.next().keyframe);
    done(&rig, &["screenshot"]);
    let refused = run(&rig, &["privacy", "on", "--seconds", "3601"]);
    assert_eq!(refused.status.code(), Some(65));
    rig.finish();
}

#[test]
fn pictures_at_an_interval_are_not_taken_in_a_pause_and_counted() {
    let xvfb = Xvfb::start(&[]);
    let mut x = xvfb.client();
    let mut rig = Rig::start_with(|begin| begin.screenshots.every_ms = Some(100));
    xvfb.show_to(&rig);
    done(&rig, &["privacy", "on"]);
    x.window(x.root, (0, 0, 50, 50), Some(0xff_0000));
    x.sync();
    rig.tell(&ToAttendant::Running, &[]);
    let mut robotd = rig.robotd();
    robotd.picture(3);
    done(&rig, &["privacy", "off"]);
    // Start, on, request, off, and then the change is seen.
    robotd.wait_for(5);
    rig.finish();
    assert_eq!(pictures(&rig).len(), 2);
    assert!(said(&rig).contains("no picture on request: capture is paused\ncapture goes on; "));
}

#[test]
fn an_attendant_after_a_lost_one_keeps_the_pause() {
    for secret in [true, false] {
        let xvfb = Xvfb::start(&[]);
        let mut rig = rig(LONG_MS);
        xvfb.show_to(&rig);
        let viewer = Viewer::new(&rig, 10);
        if secret {
            credential(&rig, &viewer);
        } else {
            done(&rig, &["privacy", "on"]);
        }
        rig.child.kill().unwrap();
        rig.start_another(if secret { &["erp"] } else { &[] });
        xvfb.show_to(&rig);
        if secret {
            bring_secret(&rig);
        }
        assert_paused(&rig);
        let mut viewer = Viewer::new(&rig, 10);
        let reason = viewer.next().pause();
        assert_eq!(reason == ScreenPause::Secret, secret);
        done(&rig, &["privacy", "off"]);
        assert!(viewer.next().keyframe);
        rig.finish();
    }
}
