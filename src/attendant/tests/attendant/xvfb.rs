//! A real X server for a test, its pictures, and what is in them.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Cursor};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use privsep::attendant::{FromAttendant, ToAttendant};
use wire::v1::{Screenshot, record::Body};

use crate::rig::Rig;
use crate::x::X;

pub(crate) const COOKIE: [u8; 16] = *b"sixteen secrets!";

/// Where every server's socket is.
pub(crate) const SOCKETS: &str = "/tmp/.X11-unix";

pub(crate) struct Xvfb {
    child: Child,
    pub(crate) number: u32,
    _folder: tempfile::TempDir,
}

impl Xvfb {
    /// White from edge to edge, so that a picture can be checked.
    pub(crate) fn start(more: &[&str]) -> Self {
        Self::with_screen("333x222x24", more)
    }

    pub(crate) fn with_screen(screen: &str, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let auth = folder.path().join("auth");
        fs::write(&auth, xauthority()).unwrap();
        let mut child = Command::new("Xvfb")
            .args(["-displayfd", "1", "-wr", "-screen", "0", screen])
            .args(["-nolisten", "tcp", "-noreset", "-auth"])
            .arg(&auth)
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Xvfb is installed (package xvfb)");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        Self {
            child,
            number: line.trim().parse().unwrap(),
            _folder: folder,
        }
    }

    pub(crate) fn pid(&self) -> i32 {
        rustix::process::Pid::from_child(&self.child)
            .as_raw_nonzero()
            .get()
    }

    /// A client of it.
    pub(crate) fn client(&self) -> X {
        X::connect(
            &Path::new(SOCKETS).join(format!("X{}", self.number)),
            &COOKIE,
        )
    }

    /// Tells the attendant of it, which has to like it.
    pub(crate) fn show_to(&self, rig: &Rig) {
        let answer = show(rig, SOCKETS.as_ref(), self.number, COOKIE);
        assert_eq!(answer, FromAttendant::DisplayConnected);
    }
}

impl Drop for Xvfb {
    fn drop(&mut self) {
        // SIGTERM, so that it removes its socket and lock.
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

/// One cookie for any display.
fn xauthority() -> Vec<u8> {
    let mut bytes = vec![0xff, 0xff, 0, 0, 0, 0, 0, 18];
    bytes.extend_from_slice(b"MIT-MAGIC-COOKIE-1");
    bytes.extend_from_slice(&[0, 16]);
    bytes.extend_from_slice(&COOKIE);
    bytes
}

pub(crate) fn show(rig: &Rig, folder: &Path, number: u32, cookie: [u8; 16]) -> FromAttendant {
    let folder = File::open(folder).unwrap();
    rig.tell(
        &ToAttendant::Display {
            number,
            cookie,
            vnc: false,
        },
        &[folder.as_fd()],
    );
    rig.hear()
}

pub(crate) fn pictures(rig: &Rig) -> Vec<Screenshot> {
    let only = |body| {
        if let Body::Screenshot(picture) = body {
            Some(picture)
        } else {
            None
        }
    };
    rig.records().into_iter().filter_map(only).collect()
}

/// Colours of a picture, three bytes each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Colours {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) bytes: Vec<u8>,
}

impl Colours {
    pub(crate) fn black(width: usize, height: usize) -> Self {
        let bytes = vec![0; 3 * width * height];
        Self {
            width,
            height,
            bytes,
        }
    }

    pub(crate) fn at(&self, x: usize, y: usize) -> [u8; 3] {
        let start = 3 * (self.width * y + x);
        self.bytes[start..start + 3].try_into().unwrap()
    }

    pub(crate) fn count(&self, colour: [u8; 3]) -> usize {
        let colours = self.bytes.chunks_exact(3);
        colours.filter(|own| *own == colour).count()
    }
}

/// What a still shows.
pub(crate) fn colours(rig: &Rig, picture: &Screenshot) -> Colours {
    let sha256 = order::Sha256Hex(picture.sha256.as_ref().try_into().unwrap());
    let bytes = fs::read(rig.spool().join("blobs").join(sha256.to_string())).unwrap();
    assert_eq!(bytes.len() as u64, picture.size_bytes);
    let colours = match picture.media_type.as_str() {
        "image/png" => png(bytes),
        "image/webp" => webp(&bytes),
        other => panic!("{other}"),
    };
    let size = (picture.width as usize, picture.height as usize);
    assert_eq!((colours.width, colours.height), size);
    colours
}

fn png(bytes: Vec<u8>) -> Colours {
    let mut reader = png::Decoder::new(Cursor::new(bytes)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!(pixels.len(), 3 * info.width as usize * info.height as usize);
    Colours {
        width: info.width as usize,
        height: info.height as usize,
        bytes: pixels,
    }
}

pub(crate) fn webp(bytes: &[u8]) -> Colours {
    let mut decoder = image_webp::WebPDecoder::new(Cursor::new(bytes)).unwrap();
    assert!(!decoder.is_lossy() && !decoder.has_alpha());
    let (width, height) = decoder.dimensions();
    let mut pixels = vec![0; decoder.output_buffer_size().unwrap()];
    decoder.read_image(&mut pixels).unwrap();
    Colours {
        width: width as usize,
        height: height as usize,
        bytes: pixels,
    }
}
