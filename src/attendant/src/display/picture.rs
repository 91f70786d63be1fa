//! A picture of the screen: pixels to PNG, a band at a time.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use png::{BitDepth, ColorType, Compression, Encoder};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::Errno;

use super::client::{Area, Client};
use super::setup::Pixel;
use super::wire::DisplayError;

/// No screen is larger; a server that says so wants our memory.
const MAX_PIXELS: u64 = 8192 * 8192;

/// Nor does a picture of a real screen take more.
const MAX_PNG: usize = 64 << 20;

/// Pixels that are in memory at a time.
const BAND_BYTES: usize = 4 << 20;

/// A picture of the root window.
#[derive(Debug)]
pub(crate) struct Picture {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) png: Vec<u8>,
}

/// A connection and how it takes pictures.
#[derive(Debug)]
pub(super) struct Camera {
    client: Client,
    /// Opcode of MIT-SHM, where it works.
    shared: Option<u8>,
    memory: Option<Memory>,
    next_id: u32,
}

#[derive(Debug)]
struct Memory {
    file: File,
    segment: u32,
    bytes: usize,
}

impl Camera {
    pub(super) fn new(mut client: Client) -> Result<Self, DisplayError> {
        let shared = client.shared_memory()?;
        let next_id = client.screen().first_id;
        Ok(Self {
            client,
            shared,
            memory: None,
            next_id,
        })
    }

    pub(super) fn take(&mut self, deadline: Duration) -> Result<Picture, DisplayError> {
        self.client.wire.set_deadline(deadline);
        let (width, height) = self.client.size()?;
        if width == 0 || height == 0 || u64::from(width) * u64::from(height) > MAX_PIXELS {
            return Err(DisplayError::Unsupported(format!(
                "it says that it has {width}x{height} pixels"
            )));
        }
        let whole = Area {
            y: 0,
            width,
            height,
        };
        let shared = self.take_shared(whole)?;
        let png = self.encode(whole, shared)?;
        Ok(Picture {
            width: width.into(),
            height: height.into(),
            png,
        })
    }

    /// Has the server write the screen into shared memory; false where it has to be read.
    fn take_shared(&mut self, area: Area) -> Result<bool, DisplayError> {
        let Some(opcode) = self.shared else {
            return Ok(false);
        };
        match self.write_shared(opcode, area) {
            Ok(()) => Ok(true),
            // It says that it has it and can't: over the socket from now on.
            Err(DisplayError::Request(_)) => {
                self.shared = None;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn write_shared(&mut self, opcode: u8, area: Area) -> Result<(), DisplayError> {
        if self
            .memory
            .as_ref()
            .is_none_or(|memory| memory.bytes != area.bytes())
        {
            if let Some(old) = self.memory.take() {
                self.client.detach(opcode, old.segment)?;
            }
            let (file, segment) = (memory(area.bytes())?, self.next_id);
            self.next_id = self.next_id.wrapping_add(1);
            self.client.attach(opcode, segment, &file)?;
            self.memory = Some(Memory {
                file: file.into(),
                segment,
                bytes: area.bytes(),
            });
        }
        let segment = self.memory.as_ref().map_or(0, |memory| memory.segment);
        self.client.picture_into(opcode, segment, area)
    }

    fn encode(&mut self, whole: Area, shared: bool) -> Result<Vec<u8>, DisplayError> {
        let mut out = Bounded(Vec::new());
        let mut encoder = Encoder::new(&mut out, whole.width.into(), whole.height.into());
        encoder.set_color(ColorType::Rgb);
        encoder.set_depth(BitDepth::Eight);
        encoder.set_compression(Compression::Fast);
        let mut header = encoder.write_header().map_err(not_encoded)?;
        let mut writer = header.stream_writer().map_err(not_encoded)?;
        let mut colours = Vec::new();
        for band in bands(whole) {
            let mut pixels = vec![0; band.bytes()];
            self.read_band(band, shared, &mut pixels)?;
            colours_of(&pixels, self.client.screen().pixel, &mut colours);
            std::io::Write::write_all(&mut writer, &colours)?;
        }
        writer.finish().map_err(not_encoded)?;
        header.finish().map_err(not_encoded)?;
        Ok(out.0)
    }

    fn read_band(
        &mut self,
        band: Area,
        shared: bool,
        pixels: &mut [u8],
    ) -> Result<(), DisplayError> {
        match &self.memory {
            // Read, not mapped: the server can write into it at any moment, and could have cut it
            // short before the seal.
            Some(memory) if shared => {
                let row = 4 * u64::from(band.width);
                Ok(memory.file.read_exact_at(pixels, row * u64::from(band.y))?)
            }
            _ => self.client.picture(band, pixels),
        }
    }
}

fn bands(whole: Area) -> impl Iterator<Item = Area> {
    let rows = (BAND_BYTES / (4 * usize::from(whole.width))).clamp(1, usize::from(u16::MAX));
    (0..whole.height).step_by(rows).map(move |y| {
        let left = whole.height - y;
        Area {
            y,
            height: left.min(u16::try_from(rows).unwrap_or(u16::MAX)),
            ..whole
        }
    })
}

fn colours_of(pixels: &[u8], pixel: Pixel, colours: &mut Vec<u8>) {
    colours.clear();
    colours.reserve(pixels.len() / 4 * 3);
    for bytes in pixels.chunks_exact(4) {
        colours.extend_from_slice(&[bytes[pixel.red], bytes[pixel.green], bytes[pixel.blue]]);
    }
}

/// Memory whose size nobody can change any more.
fn memory(bytes: usize) -> Result<OwnedFd, DisplayError> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = match memfd_create("picture", flags | MemfdFlags::NOEXEC_SEAL) {
        // Before Linux 6.3.
        Err(Errno::INVAL) => memfd_create("picture", flags)?,
        made => made?,
    };
    ftruncate(&memory, bytes as u64)?;
    fcntl_add_seals(
        &memory,
        SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL,
    )?;
    Ok(memory)
}

struct Bounded(Vec<u8>);

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_PNG {
            return Err(std::io::Error::other("the picture is larger than 64 MiB"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn not_encoded(error: png::EncodingError) -> DisplayError {
    DisplayError::Io(std::io::Error::other(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_cover_the_screen_once() {
        for (width, height) in [(1, 1), (1280, 800), (8192, 8192), (65535, 3), (3, 65535)] {
            let whole = Area {
                y: 0,
                width,
                height,
            };
            let mut next = 0_u32;
            for band in bands(whole) {
                assert_eq!(u32::from(band.y), next);
                assert!(band.bytes() <= BAND_BYTES && band.height > 0);
                next += u32::from(band.height);
            }
            assert_eq!(next, u32::from(height));
        }
    }

    #[test]
    fn colours_come_out_in_the_order_of_a_png() {
        let mut colours = Vec::new();
        colours_of(
            &[1, 2, 3, 0, 4, 5, 6, 0],
            Pixel {
                red: 2,
                green: 1,
                blue: 0,
            },
            &mut colours,
        );
        assert_eq!(colours, [3, 2, 1, 6, 5, 4]);
    }
}
