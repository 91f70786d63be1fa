//! What one watcher is told: facts as JSON, then the bytes of the pictures in their order.

use std::sync::Arc;

use serde_json::{Value, json};
use wire::v1;

use super::picture::Picture;
use super::screen::Standing;

/// Tiles of one picture.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) picture: Arc<Picture>,
    /// On the screen, growing.
    pub(crate) tiles: Vec<u32>,
    /// In the picture, each where the tile beside it goes.
    pub(crate) places: Vec<u32>,
}

impl Part {
    pub(super) fn of(picture: &Arc<Picture>) -> Self {
        Self {
            picture: Arc::clone(picture),
            tiles: Vec::new(),
            places: Vec::new(),
        }
    }
}

/// All that has changed since a watcher was told last.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) standing: Standing,
    /// What the watcher has seen when it has this.
    pub(super) seen: Option<u64>,
    pub(super) time_unix_ms: u64,
    pub(super) width: u32,
    pub(super) height: u32,
    /// Tiles of the whole screen.
    pub(super) all: u32,
    pub(super) masked: Vec<v1::MaskedArea>,
    pub(super) pause: v1::ScreenPause,
    pub(crate) parts: Vec<Part>,
}

/// Areas that are shown of one picture; of places 32 can be masked, of windows what fits on a screen.
pub(super) const MAX_MASKED: usize = 1024;

/// What was painted over, as it is shown.
pub(crate) fn masked(areas: &[v1::MaskedArea]) -> Value {
    let area = |area: &v1::MaskedArea| {
        json!({
            "x": area.x, "y": area.y, "width": area.width, "height": area.height,
            "reason": name(area.reason().as_str_name(), "MASK_REASON_"),
        })
    };
    areas.iter().take(MAX_MASKED).map(area).collect()
}

fn name(whole: &str, prefix: &str) -> String {
    whole.trim_start_matches(prefix).to_lowercase()
}

impl Change {
    /// Tiles that have changed.
    pub(crate) fn tiles(&self) -> usize {
        self.parts.iter().map(|part| part.tiles.len()).sum()
    }

    /// The facts. Nothing in them is a text of the bot's.
    pub(crate) fn facts(&self) -> Value {
        let (standing, code) = match &self.standing {
            Standing::Asked => ("asked", ""),
            Standing::Shown => ("shown", ""),
            Standing::Away => ("away", ""),
            Standing::Unable(code) => ("unable", code.as_str()),
            Standing::Over(why) => ("over", why.code.as_str()),
        };
        let pause = match self.pause {
            v1::ScreenPause::Unspecified => Value::Null,
            pause => name(pause.as_str_name(), "SCREEN_PAUSE_").into(),
        };
        let part = |part: &Part| {
            json!({
                "bytes": part.picture.webp.len(), "columns": part.picture.columns,
                "tiles": part.tiles, "places": part.places,
            })
        };
        json!({
            "standing": standing, "code": code, "at_unix_ms": self.time_unix_ms,
            "width": self.width, "height": self.height, "pause": pause,
            "whole": self.tiles() == self.all as usize && self.all > 0,
            "changed": self.tiles(),
            "masked": masked(&self.masked),
            "parts": self.parts.iter().map(part).collect::<Vec<_>>(),
        })
    }
}
