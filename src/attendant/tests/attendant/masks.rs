//! What the order masks is in no picture and no frame.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use order::{Area, Masks, WindowMask};
use wire::v1::{MaskReason, MaskedArea};

use crate::rig::Rig;
use crate::viewer::Viewer;
use crate::x::{STRING, WM_NAME, X};
use crate::xvfb::{Colours, Xvfb, colours, pictures};

const HIDDEN: u32 = 0xff_00ff;
const HIDDEN_COLOUR: [u8; 3] = [0xff, 0, 0xff];
const BLACK: [u8; 3] = [0; 3];

fn of_class(class: &str) -> WindowMask {
    WindowMask {
        class: Some(class.to_owned()),
        title: None,
    }
}

fn of_title(title: &str) -> WindowMask {
    WindowMask {
        class: None,
        title: Some(title.to_owned()),
    }
}

fn rig(areas: Vec<Area>, windows: Vec<WindowMask>) -> Rig {
    Rig::start_with(|begin| {
        begin.screenshots.masks = Masks { areas, windows };
        begin.screenshots.live_view = true;
    })
}

fn masked(x: u32, y: u32, width: u32, height: u32, reason: MaskReason) -> MaskedArea {
    MaskedArea {
        x,
        y,
        width,
        height,
        reason: reason.into(),
    }
}

/// A window inside of a frame, as a window manager leaves it.
fn framed(x: &mut X, place: (i16, i16, u16, u16)) -> (u32, u32) {
    let frame = x.window(x.root, place, Some(0x00_00ff));
    let inner = (2, 2, place.2 - 4, place.3 - 4);
    let window = x.window(frame, inner, Some(HIDDEN));
    (frame, window)
}

fn is_black(colours: &Colours, area: &MaskedArea) -> bool {
    let rows = area.y as usize..(area.y + area.height) as usize;
    rows.into_iter().all(|y| {
        (area.x as usize..(area.x + area.width) as usize).all(|x| colours.at(x, y) == BLACK)
    })
}

#[test]
fn areas_and_windows_are_painted_over_in_stills_and_in_the_live_view() {
    let xvfb = Xvfb::start(&[]);
    let mut x = xvfb.client();
    let (_, by_class) = framed(&mut x, (10, 10, 40, 30));
    let (_, by_title) = framed(&mut x, (300, 200, 80, 80));
    x.class(by_class, "KeePassXC");
    x.title(by_title, "My Vault – open");
    let (hidden, _) = framed(&mut x, (100, 100, 30, 30));
    x.class(hidden, "KeePassXC");
    x.unmap(hidden);
    let (_, seen) = framed(&mut x, (150, 10, 20, 20));
    x.class(seen, "KeePassXC2");
    x.title(seen, "Another");
    x.sync();
    let area = Area {
        x: 320,
        y: 0,
        width: 100,
        height: 5,
    };
    let windows = vec![of_class("keepassxc"), of_title("my vault")];
    let mut rig = rig(vec![area], windows);
    xvfb.show_to(&rig);
    let mut viewer = Viewer::new(&rig, 10);
    let frame = viewer.next();
    let live = viewer.screen.clone();
    rig.finish();
    let picture = pictures(&rig).remove(0);
    let still = colours(&rig, &picture);
    let expected = [
        masked(320, 0, 13, 5, MaskReason::Area),
        masked(10, 10, 40, 30, MaskReason::Window),
        masked(300, 200, 33, 22, MaskReason::Window),
    ];
    for (colours, masked) in [(&still, &picture.masked), (&live, &frame.masked)] {
        assert_eq!(masked.as_slice(), expected);
        assert!(masked.iter().all(|area| is_black(colours, area)));
        assert_eq!(colours.count(HIDDEN_COLOUR), 16 * 16);
        assert_eq!(colours.count(BLACK), 13 * 5 + 40 * 30 + 33 * 22);
    }
}

#[test]
fn a_masked_window_that_moves_is_never_seen() {
    let xvfb = Xvfb::start(&[]);
    let mut x = xvfb.client();
    let (frame, window) = framed(&mut x, (0, 0, 60, 60));
    x.class(window, "vault");
    x.sync();
    let mut rig = rig(Vec::new(), vec![of_class("vault")]);
    xvfb.show_to(&rig);
    let over = Arc::new(AtomicBool::new(false));
    let mover = std::thread::spawn({
        let over = Arc::clone(&over);
        move || {
            let mut step = 0_i32;
            while !over.load(Ordering::Relaxed) {
                step += 1;
                x.move_to(frame, step * 37 % 300, step * 23 % 180);
                if step % 50 == 0 {
                    x.sync();
                }
            }
        }
    });
    let mut viewer = Viewer::new(&rig, 10);
    let mut painted = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let frame = viewer.next();
        painted.extend(frame.masked.iter().map(|area| (area.x, area.y)));
        assert_eq!(viewer.screen.count(HIDDEN_COLOUR), 0);
    }
    for number in 0..60 {
        viewer.robotd.picture(number + 2);
    }
    over.store(true, Ordering::Relaxed);
    mover.join().unwrap();
    rig.finish();
    assert!(painted.len() > 10, "it did not move: {painted:?}");
    for picture in pictures(&rig) {
        assert_eq!(colours(&rig, &picture).count(HIDDEN_COLOUR), 0);
    }
}

#[test]
fn when_there_are_too_many_windows_to_look_through_all_is_masked() {
    let xvfb = Xvfb::start(&[]);
    let mut x = xvfb.client();
    for _ in 0..5000 {
        x.window(x.root, (0, 0, 1, 1), Some(HIDDEN));
    }
    x.sync();
    let mut rig = rig(Vec::new(), vec![of_class("vault")]);
    xvfb.show_to(&rig);
    let mut viewer = Viewer::new(&rig, 10);
    let frame = viewer.next();
    rig.finish();
    let picture = pictures(&rig).remove(0);
    let all = [masked(0, 0, 333, 222, MaskReason::Window)];
    assert_eq!(
        (picture.masked.as_slice(), frame.masked.as_slice()),
        (&all[..], &all[..])
    );
    assert_eq!(colours(&rig, &picture).count(BLACK), 333 * 222);
    assert_eq!(viewer.screen.count(BLACK), 333 * 222);
}

#[test]
fn windows_inside_of_windows_without_end_mask_all() {
    let xvfb = Xvfb::start(&[]);
    let mut x = xvfb.client();
    // The server draws the deepest last; 255 levels are more than any program has.
    let mut parent = x.root;
    for _ in 0..255 {
        parent = x.window(parent, (0, 0, 100, 100), Some(HIDDEN));
    }
    for _ in 0..4500 {
        x.window(parent, (0, 0, 1, 1), Some(HIDDEN));
    }
    x.sync();
    let mut rig = rig(Vec::new(), vec![of_class("vault")]);
    xvfb.show_to(&rig);
    rig.robotd().wait_for(1);
    rig.finish();
    let picture = pictures(&rig).remove(0);
    assert_eq!(colours(&rig, &picture).count(BLACK), 333 * 222);
}

#[test]
fn a_title_too_long_to_be_read_is_taken_for_a_masked_one() {
    let xvfb = Xvfb::start(&[]);
    let mut x = xvfb.client();
    let (_, long) = framed(&mut x, (0, 0, 50, 50));
    for _ in 0..16 {
        x.say(long, WM_NAME, STRING, &vec![b'x'; 200_000]);
    }
    let (_, short) = framed(&mut x, (100, 0, 50, 50));
    x.say(short, WM_NAME, STRING, b"xxx");
    x.sync();
    let mut rig = rig(Vec::new(), vec![of_title("secret")]);
    xvfb.show_to(&rig);
    rig.robotd().wait_for(1);
    rig.finish();
    let picture = pictures(&rig).remove(0);
    assert_eq!(picture.masked, [masked(0, 0, 50, 50, MaskReason::Window)]);
    assert_eq!(colours(&rig, &picture).count(HIDDEN_COLOUR), 46 * 46);
}
