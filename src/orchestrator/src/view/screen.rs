//! The newest state of one watched screen.

use std::collections::HashSet;
use std::sync::Arc;

use wire::v1;

use super::change::{Change, Part};
use super::check::tiles_of;
use super::picture::Picture;
use crate::refused::Refused;

/// Pictures that a screen may lie in, and bytes beside those of its last whole picture. Beyond that a
/// whole picture is asked for, which takes the place of all.
const MOST_PICTURES: usize = 64;
const MOST_BYTES: usize = 8 << 20;

/// Where the view itself stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The agent is asked.
    Asked,
    /// It shows.
    Shown,
    /// It is not connected.
    Away,
    /// It says that it can't, and is asked again.
    Unable(String),
    /// Nothing more will come.
    Over(Refused),
}

/// What is wanted after a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// What changes.
    Next,
    /// A whole picture.
    Anew,
}

#[derive(Clone, Debug)]
struct Tile {
    picture: Arc<Picture>,
    /// Its place in the picture.
    at: u32,
    version: u64,
}

/// A screen. Changes are numbered by `version`, so that each watcher can be told what it has not seen.
#[derive(Debug)]
pub(crate) struct Screen {
    pub(crate) standing: Standing,
    version: u64,
    /// Of the agent's last frame.
    number: u64,
    time_unix_ms: u64,
    width: u32,
    height: u32,
    tiles: Vec<Tile>,
    /// Version and bytes of the last whole picture.
    whole: u64,
    whole_bytes: usize,
    masked: Vec<v1::MaskedArea>,
    pause: v1::ScreenPause,
    /// Only a whole picture is taken.
    anew: bool,
}

impl Screen {
    /// Nothing is known yet.
    pub(crate) fn new() -> Self {
        Self {
            standing: Standing::Asked,
            version: 0,
            number: 0,
            time_unix_ms: 0,
            width: 0,
            height: 0,
            tiles: Vec::new(),
            whole: 0,
            whole_bytes: 0,
            masked: Vec::new(),
            pause: v1::ScreenPause::Unspecified,
            anew: true,
        }
    }

    /// Another stream of frames begins, with a whole picture. Until then the old one is shown.
    pub(crate) fn begin(&mut self) {
        self.anew = true;
    }

    /// Takes a checked frame.
    pub(crate) fn take(&mut self, frame: v1::ScreenFrame) -> Taken {
        let paused = frame.pause() != v1::ScreenPause::Unspecified;
        if !paused && !frame.keyframe && !self.follows(&frame) {
            // Not a lie: it may have left before the request for a whole picture arrived.
            self.anew = true;
            return Taken::Anew;
        }
        self.standing = Standing::Shown;
        self.version += 1;
        self.number = frame.number;
        self.time_unix_ms = frame.time_unix_nano / 1_000_000;
        self.pause = frame.pause();
        if !paused {
            self.put(frame);
        }
        // A pause is followed by nothing until it is over: a whole picture is asked for then.
        self.anew |= self.is_heavy();
        match self.anew && !paused {
            true => Taken::Anew,
            false => Taken::Next,
        }
    }

    fn follows(&self, frame: &v1::ScreenFrame) -> bool {
        !self.anew
            && frame.number == self.number + 1
            && (frame.width, frame.height) == (self.width, self.height)
    }

    fn put(&mut self, frame: v1::ScreenFrame) {
        let picture = Arc::new(Picture {
            webp: frame.picture,
            columns: frame.columns,
        });
        let version = self.version;
        let placed = (0_u32..).zip(&frame.tiles).map(|(at, number)| {
            let tile = Tile {
                picture: Arc::clone(&picture),
                at,
                version,
            };
            (*number as usize, tile)
        });
        if frame.keyframe {
            self.tiles = placed.map(|(_, tile)| tile).collect();
            (self.width, self.height) = (frame.width, frame.height);
            (self.whole, self.whole_bytes) = (version, picture.webp.len());
            self.anew = false;
        } else {
            for (number, tile) in placed {
                self.tiles[number] = tile;
            }
        }
        self.masked = frame.masked;
    }

    fn is_heavy(&self) -> bool {
        let mut seen = HashSet::new();
        let mut bytes = 0;
        for tile in &self.tiles {
            if seen.insert(Arc::as_ptr(&tile.picture)) {
                bytes += tile.picture.webp.len();
            }
        }
        seen.len() > MOST_PICTURES || bytes > self.whole_bytes + MOST_BYTES
    }

    /// What has changed since this version; everything for who has seen nothing yet.
    pub(crate) fn since(&self, seen: Option<u64>) -> Change {
        let shows = self.pause == v1::ScreenPause::Unspecified;
        let seen_tiles = seen.filter(|seen| *seen >= self.whole);
        let mut parts: Vec<Part> = Vec::new();
        for (number, tile) in (0_u32..).zip(&self.tiles) {
            if shows && seen_tiles.is_none_or(|seen| tile.version > seen) {
                let known = parts
                    .iter()
                    .position(|part| Arc::ptr_eq(&part.picture, &tile.picture));
                let at = known.unwrap_or_else(|| {
                    parts.push(Part::of(&tile.picture));
                    parts.len() - 1
                });
                parts[at].tiles.push(number);
                parts[at].places.push(tile.at);
            }
        }
        Change {
            standing: self.standing.clone(),
            // What is not shown while paused is still unseen then.
            seen: if shows { Some(self.version) } else { seen },
            time_unix_ms: self.time_unix_ms,
            width: self.width,
            height: self.height,
            all: tiles_of(self.width, self.height),
            masked: self.masked.clone(),
            pause: self.pause,
            parts,
        }
    }
}

#[cfg(test)]
#[path = "screen/tests.rs"]
mod tests;
