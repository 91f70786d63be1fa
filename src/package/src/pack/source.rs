//! What can be packed, and reading it twice: once to list and hash it, once to write it.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::path::Path;

use super::PackError;
use crate::digest::Running;
use crate::limits::Limits;
use crate::manifest::FileEntry;
use crate::path::PackagePath;

const CHUNK: usize = 64 * 1024;

/// A source, opened.
pub(super) enum Kind {
    Folder(OwnedFd),
    Zip(File),
    Package(File),
}

/// One file of a source.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) path: PackagePath,
    pub(super) executable: bool,
    /// What the source needs to find it again.
    pub(super) place: usize,
}

/// Takes the bytes of a file piece by piece.
pub(super) type Sink<'a> = dyn FnMut(&[u8]) -> Result<(), PackError> + 'a;

/// A folder or a zip archive.
pub(super) trait Source {
    /// Its files, sorted by the bytes of their paths.
    fn members(&self) -> &[Member];

    /// Reads one file to its end, or until the limit on one file is exceeded.
    fn read(&mut self, member: &Member, sink: &mut Sink<'_>) -> Result<(), PackError>;
}

pub(super) fn open(path: &Path) -> Result<Kind, PackError> {
    let failed = |source| PackError::Read {
        path: path.display().to_string(),
        source,
    };
    let mut file = File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if meta.is_dir() {
        return Ok(Kind::Folder(file.into()));
    }
    let mut magic = [0; 4];
    let count = if meta.is_file() {
        start(&mut file, &mut magic).map_err(failed)?
    } else {
        0
    };
    match &magic[..count] {
        [0x28, 0xB5, 0x2F, 0xFD] => Ok(Kind::Package(file)),
        [b'P', b'K', 3, 4] | [b'P', b'K', 5, 6] => Ok(Kind::Zip(file)),
        _ => Err(PackError::SourceUnknown {
            path: path.to_owned(),
        }),
    }
}

fn start(file: &mut File, magic: &mut [u8; 4]) -> io::Result<usize> {
    let mut read = Vec::with_capacity(magic.len());
    file.take(magic.len() as u64).read_to_end(&mut read)?;
    file.rewind()?;
    magic[..read.len()].copy_from_slice(&read);
    Ok(read.len())
}

/// First reading: sizes and digests of all files.
pub(super) fn inventory(
    source: &mut dyn Source,
    limits: &Limits,
) -> Result<Vec<FileEntry>, PackError> {
    let mut total = 0u64;
    let mut files = Vec::with_capacity(source.members().len());
    for at in 0..source.members().len() {
        let member = source.members()[at].clone();
        let mut running = Running::default();
        source.read(&member, &mut |part| {
            running.add(part);
            total = total.saturating_add(part.len() as u64);
            Ok(limits.total(total)?)
        })?;
        let (sha256, size) = running.finish();
        files.push(FileEntry {
            path: member.path,
            size,
            executable: member.executable,
            sha256,
        });
    }
    Ok(files)
}

/// Reads a file in pieces, and gives up as soon as it exceeds the limit on one file.
pub(super) fn pour(
    mut from: impl Read,
    path: &PackagePath,
    limits: &Limits,
    sink: &mut Sink<'_>,
) -> Result<(), PackError> {
    let mut chunk = vec![0; CHUNK];
    let mut count = 0u64;
    loop {
        let read = match from.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => {
                return Err(PackError::Read {
                    path: path.to_string(),
                    source,
                });
            }
        };
        count += read as u64;
        limits.file(path.as_str(), count)?;
        sink(&chunk[..read])?;
    }
}
