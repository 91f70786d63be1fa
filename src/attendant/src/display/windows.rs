//! Where the windows are that must not be seen.
//!
//! The tree belongs to the bot and may be anything. The walk has bounds, and when it can't be
//! completed within them nothing at all is shown.

use std::collections::BTreeSet;
use std::time::Duration;

use sys::clock::boottime;

use super::client::{Client, Reply};
use super::wanted::{NOTHING, Text, Wanted};
use super::wire::DisplayError;

const GET_WINDOW_ATTRIBUTES: u8 = 3;
const GET_GEOMETRY: u8 = 14;
const QUERY_TREE: u8 = 15;
const INTERN_ATOM: u8 = 16;
const GET_PROPERTY: u8 = 20;

const WM_NAME: u32 = 39;
const WM_CLASS: u32 = 67;
/// A property's type: Latin 1.
const STRING: u32 = 31;
const VIEWABLE: u8 = 2;

/// Most windows that are looked at for one picture; a desktop has a few hundred.
const MOST_WINDOWS: usize = 4096;

/// Longest time for it: nobody else draws meanwhile.
const LONGEST: Duration = Duration::from_millis(500);

/// Most windows that are masked one by one.
const MOST_PLACES: usize = 64;

/// Windows asked about at a time.
const BATCH: usize = 128;

/// What is read of a title or class; what is longer fits every mask.
const TEXT_BYTES: usize = 4096;

/// All children that a reply can hold: their number has 16 bits.
const TREE_BYTES: usize = 4 << 16;

/// A window's outer edges, in pixels of the root window; it may lie beyond its edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) x: i32,
    pub(super) y: i32,
    pub(super) width: i32,
    pub(super) height: i32,
}

/// A window to look at, and the child of the root that it lies in.
#[derive(Clone, Copy)]
struct Node {
    window: u32,
    frame: u32,
}

impl Wanted {
    /// The frames of all windows that fit and are shown; none when there is no saying.
    pub(super) fn search(&self, client: &mut Client) -> Result<Option<Vec<Place>>, DisplayError> {
        let until = boottime() + LONGEST;
        let net_name = net_wm_name(client)?;
        let (mut level, mut found, mut looked_at) = (Vec::new(), BTreeSet::new(), 0);
        let root = client.screen().root;
        for window in children(client, &[root])?.remove(0) {
            level.push(Node {
                window,
                frame: window,
            });
        }
        while !level.is_empty() {
            looked_at += level.len();
            if looked_at > MOST_WINDOWS {
                return Ok(None);
            }
            let mut below = Vec::new();
            for batch in level.chunks(BATCH) {
                if boottime() > until {
                    return Ok(None);
                }
                below.extend(self.look_at(client, batch, net_name, &mut found)?);
                if below.len() > MOST_WINDOWS {
                    return Ok(None);
                }
            }
            level = below;
        }
        if found.len() > MOST_PLACES {
            return Ok(None);
        }
        places(client, &found).map(Some)
    }

    /// Adds the frames of those that fit; brings the windows below the others.
    fn look_at(
        &self,
        client: &mut Client,
        batch: &[Node],
        net_name: Option<u32>,
        found: &mut BTreeSet<u32>,
    ) -> Result<Vec<Node>, DisplayError> {
        let mut shown = viewable(client, batch)?;
        shown.retain(|node| !found.contains(&node.frame));
        let windows: Vec<u32> = shown.iter().map(|node| node.window).collect();
        let classes = texts(client, &windows, WM_CLASS)?;
        let names = texts(client, &windows, WM_NAME)?;
        let mut titles = match net_name {
            Some(atom) => texts(client, &windows, atom)?,
            None => Vec::new(),
        }
        .into_iter();
        for ((node, class), name) in shown.iter().zip(classes).zip(names) {
            let title = titles.next().flatten().or(name).unwrap_or(NOTHING);
            if self.fits(&class.unwrap_or(NOTHING), &title) {
                found.insert(node.frame);
            }
        }
        shown.retain(|node| !found.contains(&node.frame));
        let windows: Vec<u32> = shown.iter().map(|node| node.window).collect();
        let mut below = Vec::new();
        for (node, children) in shown.iter().zip(children(client, &windows)?) {
            let frame = node.frame;
            below.extend(children.into_iter().map(|window| Node { window, frame }));
        }
        Ok(below)
    }
}

/// One request about each window, one reply each.
fn each<T>(
    client: &mut Client,
    windows: impl IntoIterator<Item = u32>,
    opcode: u8,
    more: &[u8],
    most: usize,
    understand: impl Fn(Reply) -> T,
) -> Result<Vec<T>, DisplayError> {
    let mut asked = Vec::new();
    for window in windows {
        let body = [&window.to_le_bytes()[..], more].concat();
        asked.push(client.post(&[opcode, 0], &body)?);
    }
    let replies = asked.into_iter().map(|asked| client.reply(asked, most));
    replies.map(|reply| reply.map(&understand)).collect()
}

fn viewable(client: &mut Client, batch: &[Node]) -> Result<Vec<Node>, DisplayError> {
    let windows = batch.iter().map(|node| node.window);
    let is_shown = |reply: Reply| reply.head[26] == VIEWABLE;
    let shown = each(client, windows, GET_WINDOW_ATTRIBUTES, &[], 12, is_shown)?;
    let both = batch.iter().zip(shown).filter(|(_, shown)| *shown);
    Ok(both.map(|(node, _)| *node).collect())
}

fn children(client: &mut Client, windows: &[u32]) -> Result<Vec<Vec<u32>>, DisplayError> {
    let understand = |reply: Reply| {
        let windows = reply.rest.as_chunks::<4>().0.iter();
        windows.map(|bytes| u32::from_le_bytes(*bytes)).collect()
    };
    let windows = windows.iter().copied();
    each(client, windows, QUERY_TREE, &[], TREE_BYTES, understand)
}

/// A property of each window, in small letters; none where it is not set.
fn texts(
    client: &mut Client,
    windows: &[u32],
    property: u32,
) -> Result<Vec<Option<Text>>, DisplayError> {
    let words = (TEXT_BYTES / 4) as u32;
    let more: Vec<u8> = [property, 0, 0, words]
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    let windows = windows.iter().copied();
    each(client, windows, GET_PROPERTY, &more, TEXT_BYTES, text)
}

fn text(reply: Reply) -> Option<Text> {
    let (kind, left, length) = (reply.u32(8), reply.u32(12), reply.u32(16) as usize);
    if left > 0 {
        return Some(Text::TooLong);
    }
    // Of any other width it is no text.
    let bytes = match reply.head[1] {
        8 => &reply.rest[..length.min(reply.rest.len())],
        _ => &[],
    };
    let said = match kind {
        STRING => bytes.iter().map(|byte| char::from(*byte)).collect(),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    };
    (!said.is_empty()).then(|| Text::Said(said.to_lowercase()))
}

/// Its number, if any client of this server ever used it.
fn net_wm_name(client: &mut Client) -> Result<Option<u32>, DisplayError> {
    const NAME: &[u8] = b"_NET_WM_NAME";
    const ONLY_IF_EXISTS: u8 = 1;
    let body = [&[12, 0, 0, 0][..], NAME].concat();
    let asked = client.post(&[INTERN_ATOM, ONLY_IF_EXISTS], &body)?;
    let atom = client.reply(asked, 0)?.u32(8);
    Ok((atom != 0).then_some(atom))
}

fn places(client: &mut Client, windows: &BTreeSet<u32>) -> Result<Vec<Place>, DisplayError> {
    let understand = |reply: Reply| {
        let signed = |at: usize| i32::from(reply.u16(at).cast_signed());
        let border = 2 * i32::from(reply.u16(20));
        Place {
            x: signed(12),
            y: signed(14),
            width: i32::from(reply.u16(16)) + border,
            height: i32::from(reply.u16(18)) + border,
        }
    };
    let windows = windows.iter().copied();
    each(client, windows, GET_GEOMETRY, &[], 0, understand)
}
