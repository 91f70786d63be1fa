use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::TILE;
use super::super::check::check;
use super::super::picture::tests::outside;
use super::*;

/// A frame of a screen of 3x2 tiles.
fn frame(number: u64, keyframe: bool, tiles: Vec<u32>) -> v1::ScreenFrame {
    let rows = u32::try_from(tiles.len()).unwrap().div_ceil(4).max(1);
    v1::ScreenFrame {
        number,
        width: 3 * TILE - 1,
        height: 2 * TILE,
        keyframe,
        picture: match tiles.is_empty() {
            true => Vec::new().into(),
            false => outside(4 * TILE, rows * TILE).into(),
        },
        tiles,
        columns: 4,
        ..v1::ScreenFrame::default()
    }
}

fn pause(number: u64) -> v1::ScreenFrame {
    let mut pause = frame(number, false, vec![]);
    pause.pause = v1::ScreenPause::Privacy.into();
    pause
}

const ALL: [u32; 6] = [0, 1, 2, 3, 4, 5];

/// Where each tile lies, for one who looks on.
type Seen = BTreeMap<u32, (*const Picture, u32)>;

fn look(seen: &mut Seen, change: &Change) {
    for part in &change.parts {
        for (tile, place) in part.tiles.iter().zip(&part.places) {
            seen.insert(*tile, (Arc::as_ptr(&part.picture), *place));
        }
    }
}

#[derive(Clone, Debug)]
enum Act {
    Whole,
    Some(Vec<u32>),
    Pause,
    Look(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        1 => Just(Act::Whole),
        6 => proptest::sample::subsequence(ALL.to_vec(), 0..=6).prop_map(Act::Some),
        1 => Just(Act::Pause),
        4 => (0..3_usize).prop_map(Act::Look),
    ]
}

proptest! {
    #[test]
    fn however_seldom_somebody_looks_he_sees_the_newest(acts in proptest::collection::vec(act(), 0..80)) {
        let mut screen = Screen::new();
        let mut people: [(Option<u64>, Seen); 3] = Default::default();
        for (number, act) in (1..).zip(acts) {
            let shown = match act {
                Act::Whole => frame(number, true, ALL.to_vec()),
                Act::Some(tiles) => frame(screen.number + 1, false, tiles),
                Act::Pause => pause(number),
                Act::Look(who) => {
                    let (version, seen) = &mut people[who];
                    let change = screen.since(*version);
                    *version = change.seen;
                    look(seen, &change);
                    if screen.pause == v1::ScreenPause::Unspecified {
                        let now = (0..).zip(&screen.tiles);
                        let newest: Seen = now.map(|(at, tile)| (at, (Arc::as_ptr(&tile.picture), tile.at))).collect();
                        prop_assert_eq!(&*seen, &newest);
                    } else {
                        prop_assert!(change.parts.is_empty(), "shown while paused");
                    }
                    continue;
                }
            };
            prop_assert!(check(&shown).is_ok());
            let taken = screen.take(shown.clone());
            let whole = shown.keyframe || shown.pause != 0;
            prop_assert!(!whole || taken == Taken::Next);
        }
    }
}

#[test]
fn only_a_whole_picture_begins_and_what_does_not_follow_is_asked_for_anew() {
    let mut screen = Screen::new();
    assert_eq!(screen.take(frame(1, false, vec![0])), Taken::Anew);
    assert!(screen.since(None).parts.is_empty());
    assert_eq!(screen.take(frame(1, true, ALL.to_vec())), Taken::Next);
    assert_eq!(screen.take(frame(2, false, vec![0])), Taken::Next);
    assert_eq!(screen.take(frame(4, false, vec![1])), Taken::Anew);
    assert_eq!(screen.take(frame(5, false, vec![1])), Taken::Anew);
    assert_eq!(screen.since(Some(0)).tiles(), 6, "the gap is not shown");
    assert_eq!(screen.take(frame(1, true, ALL.to_vec())), Taken::Next);
    let mut smaller = frame(2, false, vec![0]);
    smaller.width = TILE;
    assert_eq!(screen.take(smaller), Taken::Anew);
}

#[test]
fn a_screen_that_lies_in_too_many_pictures_is_asked_for_anew() {
    let all: Vec<u32> = (0..100).collect();
    let wide = |number, keyframe, tiles: Vec<u32>| v1::ScreenFrame {
        width: 100 * TILE,
        height: TILE,
        ..frame(number, keyframe, tiles)
    };
    let mut screen = Screen::new();
    assert_eq!(screen.take(wide(1, true, all.clone())), Taken::Next);
    let mut number = 1;
    let asked = all.iter().find(|tile| {
        number += 1;
        screen.take(wide(number, false, vec![**tile])) == Taken::Anew
    });
    assert_eq!(asked, Some(&63), "64 small pictures and the whole one");
    assert_eq!(screen.take(wide(number + 1, false, vec![99])), Taken::Anew);
    assert_eq!(screen.take(wide(number + 2, true, all)), Taken::Next);
    assert_eq!(screen.since(None).parts.len(), 1);
}

#[test]
fn a_pause_hides_the_picture_also_from_who_comes_then() {
    let mut screen = Screen::new();
    assert_eq!(screen.take(pause(1)), Taken::Next);
    assert_eq!(screen.take(frame(2, true, ALL.to_vec())), Taken::Next);
    let seen = screen.since(None).seen;
    assert_eq!(screen.take(pause(3)), Taken::Next);
    let paused = screen.since(None);
    assert!(paused.parts.is_empty() && paused.seen.is_none());
    assert_eq!(screen.take(frame(4, false, vec![2])), Taken::Next);
    assert_eq!(screen.since(paused.seen).tiles(), 6);
    assert_eq!(screen.since(seen).tiles(), 1);
}

#[test]
fn what_no_agent_of_ours_shows_is_refused_with_a_code() {
    let good = || frame(1, true, ALL.to_vec());
    check(&good()).unwrap();
    type Wrong = fn(&mut v1::ScreenFrame);
    let wrong: [(&str, Wrong); 16] = [
        ("SCREEN_MALFORMED", |frame| frame.number = 0),
        ("SCREEN_MALFORMED", |frame| frame.pause = 99),
        ("SCREEN_SIZE_INVALID", |frame| frame.width = 0),
        ("SCREEN_SIZE_INVALID", |frame| frame.width = 7681),
        ("SCREEN_SIZE_INVALID", |frame| frame.height = u32::MAX),
        ("SCREEN_TILES_INVALID", |frame| frame.tiles[1] = 0),
        ("SCREEN_TILES_INVALID", |frame| frame.tiles.reverse()),
        ("SCREEN_TILES_INVALID", |frame| frame.tiles[5] = 6),
        ("SCREEN_TILES_INVALID", |frame| frame.tiles.truncate(5)),
        ("SCREEN_PICTURE_INVALID", |frame| frame.columns = 0),
        ("SCREEN_PICTURE_INVALID", |frame| frame.columns = u32::MAX),
        ("SCREEN_PICTURE_INVALID", |frame| frame.columns = 3),
        ("SCREEN_PICTURE_INVALID", |frame| {
            frame.picture = b"<svg onload=alert(1)>".to_vec().into();
        }),
        ("SCREEN_PICTURE_INVALID", |frame| {
            frame.picture = vec![].into()
        }),
        ("SCREEN_MASKS_INVALID", |frame| {
            frame.masked = vec![v1::MaskedArea::default(); 1025];
        }),
        ("SCREEN_NOT_PAUSED", |frame| {
            frame.pause = v1::ScreenPause::Secret.into();
        }),
    ];
    for (code, change) in wrong {
        let mut frame = good();
        change(&mut frame);
        assert_eq!(check(&frame).unwrap_err().code, code, "{frame:?}");
    }
    let mut area = v1::MaskedArea {
        width: 1,
        ..v1::MaskedArea::default()
    };
    area.x = u32::MAX;
    let mut frame = good();
    frame.masked = vec![area];
    assert_eq!(check(&frame).unwrap_err().code, "SCREEN_MASKS_INVALID");
}
