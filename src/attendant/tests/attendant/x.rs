//! A small X client: windows of one colour, and what they say of themselves.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

pub(crate) const STRING: u32 = 31;
pub(crate) const WM_NAME: u32 = 39;
pub(crate) const WM_CLASS: u32 = 67;

pub(crate) struct X {
    stream: UnixStream,
    pub(crate) root: u32,
    next_id: u32,
    depth: u8,
}

/// Upper left corner and size.
pub(crate) type Place = (i16, i16, u16, u16);

impl X {
    pub(crate) fn connect(path: &Path, cookie: &[u8; 16]) -> Self {
        let mut stream = UnixStream::connect(path).unwrap();
        let hello = [
            &b"l\0\x0b\0\0\0\x12\0\x10\0\0\0MIT-MAGIC-COOKIE-1\0\0"[..],
            cookie,
        ];
        stream.write_all(&hello.concat()).unwrap();
        let mut head = [0; 8];
        stream.read_exact(&mut head).unwrap();
        assert_eq!(head[0], 1, "the server lets us in");
        let mut body = vec![0; 4 * usize::from(u16::from_le_bytes([head[6], head[7]]))];
        stream.read_exact(&mut body).unwrap();
        let u32_at = |at: usize| u32::from_le_bytes(body[at..at + 4].try_into().unwrap());
        let vendor = usize::from(u16::from_le_bytes([body[16], body[17]])).next_multiple_of(4);
        let screen = 32 + vendor + 8 * usize::from(body[21]);
        Self {
            root: u32_at(screen),
            next_id: u32_at(4),
            depth: body[screen + 38],
            stream,
        }
    }

    fn request(&mut self, head: [u8; 2], parts: &[&[u8]]) {
        let mut body = parts.concat();
        body.resize(body.len().next_multiple_of(4), 0);
        let words = u16::try_from(1 + body.len() / 4).unwrap().to_le_bytes();
        let request = [&head[..], &words, &body].concat();
        self.stream.write_all(&request).unwrap();
    }

    fn new_id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id
    }

    /// A window that no window manager touches, shown. Without a colour it has no background.
    pub(crate) fn window(&mut self, parent: u32, place: Place, colour: Option<u32>) -> u32 {
        let id = self.new_id();
        let (x, y, width, height) = place;
        let place = [
            x.to_le_bytes(),
            y.to_le_bytes(),
            width.to_le_bytes(),
            height.to_le_bytes(),
        ];
        let background = match colour {
            Some(_) => 0x2_u32,
            None => 0x1,
        };
        self.request(
            [1, 0],
            &[
                &id.to_le_bytes(),
                &parent.to_le_bytes(),
                &place.concat(),
                &[0; 8],
                &(background | 0x200).to_le_bytes(),
                &colour.unwrap_or(0).to_le_bytes(),
                &1_u32.to_le_bytes(),
            ],
        );
        self.map(id);
        id
    }

    pub(crate) fn map(&mut self, window: u32) {
        self.request([8, 0], &[&window.to_le_bytes()]);
    }

    pub(crate) fn unmap(&mut self, window: u32) {
        self.request([10, 0], &[&window.to_le_bytes()]);
    }

    pub(crate) fn move_to(&mut self, window: u32, x: i32, y: i32) {
        let values = [x.to_le_bytes(), y.to_le_bytes()].concat();
        self.request([12, 0], &[&window.to_le_bytes(), &[3, 0, 0, 0], &values]);
    }

    /// Another colour, at once.
    pub(crate) fn colour(&mut self, window: u32, colour: u32) {
        let mask = 2_u32.to_le_bytes();
        self.request(
            [2, 0],
            &[&window.to_le_bytes(), &mask, &colour.to_le_bytes()],
        );
        self.request([61, 0], &[&window.to_le_bytes(), &[0; 8]]);
    }

    pub(crate) fn say(&mut self, window: u32, property: u32, kind: u32, text: &[u8]) {
        let [window, property, kind, length] =
            [window, property, kind, u32::try_from(text.len()).unwrap()].map(u32::to_le_bytes);
        let head = [&window[..], &property, &kind, &[8, 0, 0, 0], &length].concat();
        self.request([18, 0], &[&head, text]);
    }

    pub(crate) fn class(&mut self, window: u32, class: &str) {
        let text = format!("instance\0{class}\0");
        self.say(window, WM_CLASS, STRING, text.as_bytes());
    }

    /// As programs of today do it.
    pub(crate) fn title(&mut self, window: u32, title: &str) {
        let (name, kind) = (self.atom("_NET_WM_NAME"), self.atom("UTF8_STRING"));
        self.say(window, name, kind, title.as_bytes());
    }

    fn atom(&mut self, name: &str) -> u32 {
        let length = u16::try_from(name.len()).unwrap().to_le_bytes();
        self.request([16, 0], &[&length, &[0, 0], name.as_bytes()]);
        let reply = self.reply();
        u32::from_le_bytes(reply[8..12].try_into().unwrap())
    }

    /// Pixels of the screen's own depth, four bytes each with 24 bits and two with 16.
    pub(crate) fn draw(&mut self, place: Place, pixels: &[u8]) {
        let (gc, (x, y, width, height)) = (self.new_id(), place);
        let (root, depth) = (self.root.to_le_bytes(), self.depth);
        self.request([55, 0], &[&gc.to_le_bytes(), &root, &[0; 4]]);
        let stride = pixels.len() / usize::from(height);
        for (row, pixels) in (y..).zip(pixels.chunks_exact(stride)) {
            let place = [width.to_le_bytes(), 1_u16.to_le_bytes()].concat();
            let corner = [x.to_le_bytes(), row.to_le_bytes()].concat();
            let more = [&gc.to_le_bytes()[..], &place, &corner, &[0, depth, 0, 0]].concat();
            self.request([72, 2], &[&root, &more, pixels]);
        }
    }

    /// All that was asked for is done.
    pub(crate) fn sync(&mut self) {
        self.request([43, 0], &[]);
        self.reply();
    }

    /// Events come to those who ask for them only; an error is a mistake in a test.
    fn reply(&mut self) -> [u8; 32] {
        loop {
            let mut packet = [0; 32];
            self.stream.read_exact(&mut packet).unwrap();
            match packet[0] {
                0 => panic!("X error {} of request {}", packet[1], packet[10]),
                1 => return packet,
                _ => {}
            }
        }
    }
}
