//! Who looks on: frames come in, a picture of the screen comes of them.

use std::os::fd::AsFd;

use privsep::doorbell::{FromAttendant, MAX_SCREEN, ToAttendant};
use prost::Message;
use wire::v1::{ScreenFrame, ScreenPause};

use crate::rig::{Rig, Robotd};
use crate::xvfb::{Colours, webp};

const TILE: usize = 64;

pub(crate) struct Viewer {
    pub(crate) robotd: Robotd,
    pub(crate) screen: Colours,
    number: u64,
}

impl Viewer {
    pub(crate) fn new(rig: &Rig, most_per_second: u32) -> Self {
        let viewer = Self {
            robotd: rig.robotd(),
            screen: Colours::black(0, 0),
            number: 0,
        };
        viewer.watch(most_per_second);
        viewer
    }

    pub(crate) fn watch(&self, most_per_second: u32) {
        self.robotd.say(&ToAttendant::Watch { most_per_second });
    }

    pub(crate) fn shown(&self) {
        self.robotd.say(&ToAttendant::Shown);
    }

    /// The next frame; it is not said to be shown.
    pub(crate) fn frame(&mut self) -> ScreenFrame {
        let memory = loop {
            if let (FromAttendant::Screen, mut fds) = self.robotd.hear_with_fds() {
                break fds.pop().unwrap();
            }
        };
        let bytes = sys::memfd::read_sealed(memory.as_fd(), MAX_SCREEN).unwrap();
        let frame = ScreenFrame::decode(bytes.as_slice()).unwrap();
        self.number += 1;
        assert_eq!(frame.number, self.number);
        self.apply(&frame);
        frame
    }

    /// The next frame, and it may be followed by another.
    pub(crate) fn next(&mut self) -> ScreenFrame {
        let frame = self.frame();
        self.shown();
        frame
    }

    /// Frames until the screen is like this.
    pub(crate) fn until(&mut self, like: impl Fn(&Colours) -> bool) {
        while !like(&self.screen) {
            self.next();
        }
    }

    fn apply(&mut self, frame: &ScreenFrame) {
        if frame.pause() != ScreenPause::Unspecified {
            assert!(frame.tiles.is_empty() && frame.picture.is_empty() && !frame.keyframe);
            return;
        }
        let size = (frame.width as usize, frame.height as usize);
        let columns = size.0.div_ceil(TILE);
        let all = columns * size.1.div_ceil(TILE);
        if frame.keyframe {
            self.screen = Colours::black(size.0, size.1);
            assert_eq!(frame.tiles.len(), all);
        }
        assert_eq!(size, (self.screen.width, self.screen.height));
        assert!(frame.tiles.is_sorted_by(|one, other| one < other) && !frame.tiles.is_empty());
        let picture = webp(&frame.picture);
        let across = frame.columns as usize;
        let down = frame.tiles.len().div_ceil(across);
        assert_eq!(
            (picture.width, picture.height),
            (TILE * across, TILE * down)
        );
        for (place, tile) in frame.tiles.iter().enumerate() {
            let (column, row) = (*tile as usize % columns, *tile as usize / columns);
            let from = (TILE * (place % across), TILE * (place / across));
            self.put(&picture, from, (TILE * column, TILE * row));
        }
    }

    fn put(&mut self, picture: &Colours, from: (usize, usize), to: (usize, usize)) {
        let screen = &mut self.screen;
        let width = TILE.min(screen.width - to.0);
        for row in 0..TILE.min(screen.height - to.1) {
            let source = 3 * (picture.width * (from.1 + row) + from.0);
            let target = 3 * (screen.width * (to.1 + row) + to.0);
            screen.bytes[target..target + 3 * width]
                .copy_from_slice(&picture.bytes[source..source + 3 * width]);
        }
    }
}
