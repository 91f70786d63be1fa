//! Stills: when, of what, and in which format.

use order::PictureFormat;
use privsep::attendant::{FromAttendant, ToAttendant};
use wire::v1::{Screenshot, ScreenshotReason};

use crate::rig::Rig;
use crate::x::X;
use crate::xvfb::{Colours, Xvfb, colours, pictures};

const WHITE: [u8; 3] = [0xff; 3];

/// Pixels of which no two neighbours are alike.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

/// What noise of 24 bits has to look like.
fn expected(pixels: &[u8], width: usize, height: usize) -> Colours {
    let colours = pixels
        .chunks_exact(4)
        .flat_map(|own| [own[2], own[1], own[0]]);
    Colours {
        width,
        height,
        bytes: colours.collect(),
    }
}

#[test]
fn a_picture_is_taken_for_each_reason() {
    let xvfb = Xvfb::start(&[]);
    let mut x = xvfb.client();
    let mut rig = Rig::start_with(|begin| begin.screenshots.every_ms = Some(100));
    let mut robotd = rig.robotd();
    xvfb.show_to(&rig);
    robotd.wait_for(1);
    robotd.picture(2);
    rig.tell(&ToAttendant::Running, &[]);
    let window = x.window(x.root, (0, 0, 9, 9), Some(0xff_0000));
    x.sync();
    robotd.wait_for(3);
    x.unmap(window);
    x.sync();
    robotd.wait_for(4);
    let asked = rig.robotjob(&["screenshot"]).output().unwrap();
    assert!(asked.status.success());
    rig.tell(&ToAttendant::FailureScreenshot, &[]);
    assert_eq!(rig.hear(), FromAttendant::FailureTaken);
    let totals = rig.finish();
    let pictures = pictures(&rig);
    assert_eq!(totals.screenshots as usize, pictures.len());
    let numbers: Vec<u32> = pictures.iter().map(|picture| picture.seq).collect();
    assert_eq!(numbers, (1..=totals.screenshots).collect::<Vec<u32>>());
    let reasons: Vec<ScreenshotReason> = pictures.iter().map(Screenshot::reason).collect();
    use ScreenshotReason::{Failure, Interval, Request, Start};
    assert_eq!(
        reasons,
        [Start, Request, Interval, Interval, Request, Failure]
    );
    let whites: Vec<usize> = pictures
        .iter()
        .map(|picture| colours(&rig, picture).count(WHITE))
        .collect();
    let all = 333 * 222;
    assert_eq!(whites, [all, all, all - 81, all, all, all]);
    assert!(pictures.iter().all(|picture| picture.masked.is_empty()));
}

#[test]
fn at_an_interval_only_what_changed_is_pictured() {
    let xvfb = Xvfb::start(&[]);
    let mut x = xvfb.client();
    let mut rig = Rig::start_with(|begin| begin.screenshots.every_ms = Some(100));
    let mut robotd = rig.robotd();
    xvfb.show_to(&rig);
    rig.tell(&ToAttendant::Running, &[]);
    for number in 0..3 {
        x.window(x.root, (10 * number, 0, 9, 9), Some(0xff_0000));
        x.sync();
        robotd.wait_for(number as u64 + 2);
    }
    // It is looked at again and again.
    let before = rig.sleeps_of_the_display();
    while rig.sleeps_of_the_display() < before + 5 {
        std::thread::yield_now();
    }
    let totals = rig.finish();
    // The start and three changes.
    assert_eq!(totals.screenshots, 4);
}

/// The picture of a screen full of noise.
fn of_noise(screen: &str, pixels: &[u8], format: PictureFormat) -> (Screenshot, Colours) {
    let xvfb = Xvfb::with_screen(screen, &[]);
    let mut x: X = xvfb.client();
    x.draw((0, 0, 333, 222), pixels);
    x.sync();
    let mut rig = Rig::start_with(|begin| begin.screenshots.format = format);
    let mut robotd = rig.robotd();
    xvfb.show_to(&rig);
    robotd.wait_for(1);
    rig.finish();
    let picture = pictures(&rig).remove(0);
    let colours = colours(&rig, &picture);
    (picture, colours)
}

#[test]
fn a_picture_has_the_same_pixels_in_both_formats() {
    let pixels = noise(4 * 333 * 222);
    let expected = expected(&pixels, 333, 222);
    for (format, media_type) in [
        (PictureFormat::Png, "image/png"),
        (PictureFormat::Webp, "image/webp"),
    ] {
        let (picture, colours) = of_noise("333x222x24", &pixels, format);
        assert_eq!(picture.media_type, media_type);
        assert!(colours == expected, "{media_type}");
    }
}

#[test]
fn a_screen_of_16_bits_is_pictured_in_its_colours() {
    // Rows are filled up to four bytes: 333 pixels of two bytes and two more.
    let pixels = noise((2 * 333 + 2) * 222);
    let (_, colours) = of_noise("333x222x16", &pixels, PictureFormat::Webp);
    for (y, row) in pixels.chunks_exact(2 * 333 + 2).enumerate() {
        for (x, pixel) in row.as_chunks::<2>().0.iter().take(333).enumerate() {
            let value = u32::from(u16::from_le_bytes(*pixel));
            let stretched = |value: u32, most: u32| ((value * 255 + most / 2) / most) as u8;
            let expected = [
                stretched(value >> 11, 31),
                stretched(value >> 5 & 63, 63),
                stretched(value & 31, 31),
            ];
            assert_eq!(colours.at(x, y), expected, "{x},{y}");
        }
    }
}
