//! What pictures and live view of a real desktop cost: CPU time of the real attendant, read from
//! outside, and bytes. Needs root, xvfb, openbox, xterm and a release build:
//!
//! ```text
//! cargo build --release -p attendant && cargo bench -p tests --bench screen
//! ```

mod attendant;
mod desktop;

use std::time::{Duration, Instant};

use order::PictureFormat;
use privsep::doorbell::ToAttendant;

use attendant::Attendant;
use desktop::Desktop;

/// Frames of each kind; what is told is their median.
const FRAMES: usize = 41;

/// How long the live view is watched.
const WATCHED: Duration = Duration::from_secs(30);

fn main() {
    let desktop = Desktop::start();
    println!("1920x1080x24, openbox, {} xterms\n", desktop::XTERMS);
    stills(&desktop, PictureFormat::Png);
    stills(&desktop, PictureFormat::Webp);
    unchanged(&desktop);
    keyframes(&desktop);
    watched(&desktop, "nothing changes");
    let line = desktop.types_a_line_each_second();
    watched(&desktop, "a terminal scrolls by a line a second");
    drop(line);
    let page = desktop.fills_a_terminal_each_second();
    watched(&desktop, "a terminal shows another page each second");
    drop(page);
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn ms(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}

/// Capture, compare and encode of the whole screen.
fn stills(desktop: &Desktop, format: PictureFormat) {
    let mut attendant = Attendant::start(desktop, |shots| shots.format = format);
    attendant.picture();
    let (mut display, mut all) = (Vec::new(), Vec::new());
    for _ in 0..FRAMES {
        let before = (attendant.display_ns(), attendant.all_ns());
        attendant.picture();
        display.push(ms(attendant.display_ns() - before.0));
        all.push(ms(attendant.all_ns() - before.1));
    }
    println!(
        "still {format:?}: capture, compare, encode {:.2} ms; with keeping it {:.2} ms; {} KiB",
        median(display),
        median(all),
        attendant.largest_blob() / 1024,
    );
}

/// Capture and compare alone: pictures at an interval of a screen that stays as it is.
fn unchanged(desktop: &Desktop) {
    let mut attendant = Attendant::start(desktop, |shots| shots.every_ms = Some(100));
    attendant.picture();
    let before = (attendant.display_ns(), Instant::now());
    attendant.runs();
    std::thread::sleep(Duration::from_secs(5));
    let spent = ms(attendant.display_ns() - before.0);
    let frames = (before.1.elapsed().as_secs_f64() / 0.1).floor();
    println!(
        "nothing new at an interval: capture, compare {:.2} ms",
        spent / frames
    );
}

/// Whole frames of the live view.
fn keyframes(desktop: &Desktop) {
    let mut attendant = Attendant::start(desktop, |shots| shots.live_view = true);
    let most_per_second = 10;
    let (mut spent, mut bytes) = (Vec::new(), Vec::new());
    for _ in 0..FRAMES {
        let before = attendant.display_ns();
        attendant.say(&ToAttendant::Watch { most_per_second });
        bytes.push(attendant.frame(None).expect("a frame").bytes as f64);
        spent.push(ms(attendant.display_ns() - before));
        attendant.say(&ToAttendant::Shown);
    }
    println!(
        "keyframe: capture, compare, encode {:.2} ms; {:.0} KiB",
        median(spent),
        median(bytes) / 1024.0
    );
}

/// The live view at one frame a second.
fn watched(desktop: &Desktop, what: &str) {
    let mut attendant = Attendant::start(desktop, |shots| shots.live_view = true);
    attendant.say(&ToAttendant::Watch { most_per_second: 1 });
    attendant.frame(None).expect("a keyframe");
    attendant.say(&ToAttendant::Shown);
    let (begun, before) = (Instant::now(), attendant.all_ns());
    let (mut deltas, mut tiles, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(frame) = attendant.frame(Some(WATCHED.saturating_sub(begun.elapsed()))) {
        attendant.say(&ToAttendant::Shown);
        if frame.whole {
            whole.push(frame.bytes as f64);
        } else {
            deltas.push(frame.bytes as f64);
            tiles.push(frame.tiles as f64);
        }
    }
    let share = ms(attendant.all_ns() - before) / 10.0 / begun.elapsed().as_secs_f64();
    print!(
        "live view at 1 fps, {what}: {share:.3} % of a core; {} keyframes",
        whole.len()
    );
    if !deltas.is_empty() {
        let (count, size) = (deltas.len(), median(deltas) / 1024.0);
        print!(
            ", {count} deltas of {size:.1} KiB and {:.0} tiles",
            median(tiles)
        );
    }
    println!();
}
