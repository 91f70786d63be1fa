//! What is painted over: places of the order, and the windows that it names.

use std::time::Duration;

use order::{Area, Masks};
use wire::v1::{MaskReason, MaskedArea};

use super::client::Client;
use super::frame::{Rect, Shape};
use super::wanted::Wanted;
use super::windows::Place;
use super::wire::DisplayError;

/// A window that has moved or closed may have left its picture behind: a program below that has
/// no background draws only later. So its place stays painted for so long.
pub(super) const LINGER: Duration = Duration::from_secs(2);

/// The masks of an order, and what they covered.
#[derive(Debug)]
pub(super) struct Veil {
    areas: Vec<Area>,
    windows: Wanted,
    /// Places of windows, and since when they are known to be gone from there.
    seen: Vec<(Rect, Option<Duration>)>,
}

/// What is painted over in one capture.
#[derive(Clone, Debug, Default)]
pub(super) struct Veiled {
    pub(super) masked: Vec<MaskedArea>,
    pub(super) rects: Vec<Rect>,
    /// The windows could not be looked through, so all of it is.
    pub(super) blind: bool,
    /// A place is painted that no window is in any more: the screen will look different without
    /// anything being drawn.
    pub(super) lingers: bool,
}

impl Veil {
    pub(super) fn new(masks: Masks) -> Self {
        Self {
            areas: masks.areas,
            windows: Wanted::new(&masks.windows),
            seen: Vec::new(),
        }
    }

    /// Whether windows have to be looked for. The server has to stand still then from here to the
    /// picture: a window could be anywhere else by then.
    pub(super) fn looks_for_windows(&self) -> bool {
        !self.windows.is_empty()
    }

    /// What is to be painted over now.
    pub(super) fn draw(
        &mut self,
        client: &mut Client,
        shape: &Shape,
        now: Duration,
    ) -> Result<Veiled, DisplayError> {
        let mut veiled = Veiled::default();
        for area in &self.areas {
            veiled.add(area_in(*area, shape), MaskReason::Area);
        }
        if self.windows.is_empty() {
            return Ok(veiled);
        }
        match self.windows.search(client)? {
            Some(places) => self.add_windows(&mut veiled, &places, shape, now),
            None => {
                veiled.blind = true;
                veiled.add(whole(shape), MaskReason::Window);
            }
        }
        Ok(veiled)
    }

    fn add_windows(&mut self, veiled: &mut Veiled, places: &[Place], shape: &Shape, now: Duration) {
        let current: Vec<Rect> = places
            .iter()
            .filter_map(|place| place_in(place, shape))
            .collect();
        // From the first look that misses it: between two looks nothing says how long it was there.
        for (_, gone) in self
            .seen
            .iter_mut()
            .filter(|(rect, _)| !current.contains(rect))
        {
            gone.get_or_insert(now);
        }
        let lingers =
            |gone: &Option<Duration>| gone.is_some_and(|gone| now.saturating_sub(gone) < LINGER);
        self.seen
            .retain(|(rect, gone)| !current.contains(rect) && lingers(gone));
        self.seen.truncate(MOST_LINGERING);
        veiled.lingers = !self.seen.is_empty();
        let new = current.into_iter().map(|rect| (rect, None));
        self.seen.splice(..0, new);
        for (rect, _) in &self.seen {
            veiled.add(clip(*rect, shape), MaskReason::Window);
        }
    }
}

/// Places that are kept after their windows; the newest are.
const MOST_LINGERING: usize = 64;

impl Veiled {
    fn add(&mut self, rect: Option<Rect>, reason: MaskReason) {
        let Some(rect) = rect else { return };
        self.rects.push(rect);
        let [x, y, width, height] =
            [rect.x, rect.y, rect.width, rect.height].map(|own| u32::try_from(own).unwrap_or(0));
        self.masked.push(MaskedArea {
            x,
            y,
            width,
            height,
            reason: reason.into(),
        });
    }
}

fn whole(shape: &Shape) -> Option<Rect> {
    Some(Rect {
        x: 0,
        y: 0,
        width: shape.width,
        height: shape.height,
    })
}

fn area_in(area: Area, shape: &Shape) -> Option<Rect> {
    let [x, y, width, height] =
        [area.x, area.y, area.width, area.height].map(|own| usize::try_from(own).unwrap_or(0));
    clip(
        Rect {
            x,
            y,
            width,
            height,
        },
        shape,
    )
}

/// What of it is on the screen; a screen can become smaller.
fn clip(rect: Rect, shape: &Shape) -> Option<Rect> {
    let width = rect.width.min(shape.width.saturating_sub(rect.x));
    let height = rect.height.min(shape.height.saturating_sub(rect.y));
    (width > 0 && height > 0).then_some(Rect {
        width,
        height,
        ..rect
    })
}

fn place_in(place: &Place, shape: &Shape) -> Option<Rect> {
    // What lies to the left of the screen is cut off, not moved onto it.
    let from = |at: i32| usize::try_from(at.max(0)).unwrap_or(0);
    let (x, y) = (from(place.x), from(place.y));
    let (right, bottom) = (from(place.x + place.width), from(place.y + place.height));
    let (width, height) = (right.saturating_sub(x), bottom.saturating_sub(y));
    clip(
        Rect {
            x,
            y,
            width,
            height,
        },
        shape,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::display::pixel::PixelFormat;

    const SHAPE: (usize, usize) = (100, 50);

    fn shape() -> Shape {
        let masks = [0xff_0000, 0xff00, 0xff];
        Shape {
            width: SHAPE.0,
            height: SHAPE.1,
            format: PixelFormat::new(32, 32, masks, false).unwrap(),
        }
    }

    fn rect(x: usize, y: usize, width: usize, height: usize) -> Rect {
        Rect {
            x,
            y,
            width,
            height,
        }
    }

    fn place(x: i32, y: i32, width: i32, height: i32) -> Place {
        Place {
            x,
            y,
            width,
            height,
        }
    }

    #[test]
    fn what_lies_beyond_the_screen_is_cut_off() {
        for (given, inside) in [
            (place(-10, -5, 30, 20), Some(rect(0, 0, 20, 15))),
            (place(90, 40, 30, 20), Some(rect(90, 40, 10, 10))),
            (place(-10, 0, 10, 10), None),
            (place(100, 0, 10, 10), None),
            (
                place(i32::from(i16::MIN), 0, 65535 + 2 * 65535, 9),
                Some(rect(0, 0, 100, 9)),
            ),
        ] {
            assert_eq!(place_in(&given, &shape()), inside, "{given:?}");
        }
        let area = Area {
            x: 99,
            y: 0,
            width: u32::MAX,
            height: u32::MAX,
        };
        assert_eq!(area_in(area, &shape()), Some(rect(99, 0, 1, 50)));
    }

    #[test]
    fn the_place_of_a_window_that_is_gone_stays_painted_for_a_while() {
        let mut veil = Veil::new(Masks::default());
        let mut rects = |places: &[Place], seconds: u64| {
            let mut veiled = Veiled::default();
            veil.add_windows(&mut veiled, places, &shape(), Duration::from_secs(seconds));
            (veiled.rects, veiled.lingers)
        };
        let (old, new) = (place(0, 0, 9, 9), place(20, 0, 9, 9));
        assert_eq!(rects(&[old], 10), (vec![rect(0, 0, 9, 9)], false));
        let both = vec![rect(20, 0, 9, 9), rect(0, 0, 9, 9)];
        // However long it stood still before.
        assert_eq!(rects(&[new], 100), (both.clone(), true));
        assert_eq!(rects(&[new], 101), (both, true));
        assert_eq!(rects(&[new], 102), (vec![rect(20, 0, 9, 9)], false));
        assert_eq!(rects(&[], 200), (vec![rect(20, 0, 9, 9)], true));
        assert_eq!(rects(&[], 202), (vec![], false));
        assert_eq!(rects(&[old], 203), (vec![rect(0, 0, 9, 9)], false));
    }
}
