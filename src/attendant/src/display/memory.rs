//! Memory that the X server writes its picture into.

use std::fs::File;
use std::os::fd::AsFd;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::Errno;
use sys::memfd::Mapped;

use super::client::Client;
use super::frame::{Band, Shape};
use super::wire::DisplayError;

/// One segment of MIT-SHM, passed as a descriptor: segments by number don't work across users.
#[derive(Debug)]
pub(super) struct Memory {
    opcode: u8,
    segment: u32,
    mapped: Mapped,
    bytes: usize,
}

impl Memory {
    /// Makes one for screens of this shape and shows it to the server.
    pub(super) fn attach(
        client: &mut Client,
        opcode: u8,
        shape: &Shape,
    ) -> Result<Self, DisplayError> {
        let bytes = shape.stride() * shape.height;
        let (file, segment) = (sealed(bytes)?, client.new_id());
        let mapped = Mapped::new(file.as_fd()).map_err(std::io::Error::other)?;
        client.attach(opcode, segment, &file)?;
        Ok(Self {
            opcode,
            segment,
            mapped,
            bytes,
        })
    }

    pub(super) fn detach(self, client: &mut Client) -> Result<(), DisplayError> {
        client.detach(self.opcode, self.segment)
    }

    pub(super) fn fits(&self, shape: &Shape) -> bool {
        self.bytes == shape.stride() * shape.height
    }

    /// Has the server write its whole screen.
    pub(super) fn fill(&self, client: &mut Client, shape: &Shape) -> Result<(), DisplayError> {
        client.picture_into(self.opcode, self.segment, shape)
    }

    /// Copied band by band: the server can write into it at any moment.
    pub(super) fn read(&self, shape: &Shape, band: Band, pixels: &mut [u8]) {
        self.mapped.read(band.bytes(shape).start, pixels);
    }
}

/// Memory whose size nobody can change any more.
fn sealed(bytes: usize) -> Result<File, DisplayError> {
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
    Ok(memory.into())
}
