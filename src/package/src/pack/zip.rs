//! A zip archive as a source. Zip states everything twice and lets both differ, so what is
//! accepted is narrow: one disk, no comment, no zip64, nothing before, between or after.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use super::PackError;
use super::source::{Member, Sink, Source, pour};
use crate::limits::Limits;
use crate::path::{PackagePath, shown};

const END_SIZE: u64 = 22;
const END_MAGIC: &[u8] = b"PK\x05\x06";
/// Where the end record may start when a comment follows it.
const MAX_TAIL: u64 = END_SIZE + 0xFFFF;

const FILE_TYPE: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const DIRECTORY: u32 = 0o040_000;
const SPECIAL_BITS: u32 = 0o7000;
const ANY_EXECUTE: u32 = 0o111;

/// A checked zip archive.
pub(super) struct Zip {
    archive: ZipArchive<File>,
    members: Vec<Member>,
    limits: Limits,
}

impl Zip {
    pub(super) fn open(path: &Path, mut file: File, limits: Limits) -> Result<Self, PackError> {
        let failed = |source| PackError::Read {
            path: path.display().to_string(),
            source,
        };
        let length = file.seek(SeekFrom::End(0)).map_err(failed)?;
        if length > limits.max_packed_bytes {
            let limit = limits.max_packed_bytes;
            return Err(PackError::SourceTooLarge {
                path: path.to_owned(),
                limit,
            });
        }
        let entries = check_end(&mut file, length).map_err(failed)??;
        limits.files(entries)?;
        let mut archive = ZipArchive::new(file).map_err(|error| unreadable("", &error))?;
        check_layout(&mut archive, entries)?;
        let mut zip = Self {
            archive,
            members: Vec::new(),
            limits,
        };
        for place in 0..zip.archive.len() {
            zip.entry(place)?;
        }
        zip.members.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(zip)
    }

    fn entry(&mut self, place: usize) -> Result<(), PackError> {
        let entry = self
            .archive
            .by_index_raw(place)
            .map_err(|error| unreadable("", &error))?;
        let name = entry.name_raw();
        let path = PackagePath::parse_bytes(name.strip_suffix(b"/").unwrap_or(name))?;
        if entry.encrypted() {
            return Err(PackError::ZipEncrypted {
                path: path.to_string(),
            });
        }
        // The raw bits: the reader's own view of the mode hides setuid, and links made on DOS.
        let mode = entry.external_attributes() >> 16;
        check_mode(mode, name, &path)?;
        if name.ends_with(b"/") {
            return empty_directory(entry.size(), &path);
        }
        if !matches!(
            entry.compression(),
            CompressionMethod::Stored | CompressionMethod::Deflated
        ) {
            let what = "its compression is neither stored nor deflate".into();
            return Err(PackError::Zip {
                path: path.to_string(),
                what,
            });
        }
        self.limits.file(path.as_str(), entry.size())?;
        self.members.push(Member {
            path,
            executable: mode & ANY_EXECUTE != 0,
            place,
        });
        Ok(())
    }
}

fn empty_directory(size: u64, path: &PackagePath) -> Result<(), PackError> {
    match size {
        0 => Ok(()),
        _ => Err(PackError::Zip {
            path: path.to_string(),
            what: "a directory with contents".into(),
        }),
    }
}

fn check_mode(mode: u32, name: &[u8], path: &PackagePath) -> Result<(), PackError> {
    if mode & SPECIAL_BITS != 0 {
        return Err(PackError::Mode {
            path: path.to_string(),
            mode: mode & 0o7777,
        });
    }
    match mode & FILE_TYPE {
        // Zips made elsewhere than on Unix say nothing.
        0 | REGULAR => Ok(()),
        DIRECTORY if name.ends_with(b"/") => Ok(()),
        LINK => Err(PackError::Link { path: shown(name) }),
        _ => Err(PackError::SpecialFile { path: shown(name) }),
    }
}

/// The end record must be the last 22 bytes, and agree with the length of the file. Gives the
/// number of entries.
fn check_end(file: &mut File, length: u64) -> std::io::Result<Result<u64, PackError>> {
    let mut tail = vec![0; length.min(MAX_TAIL) as usize];
    file.seek(SeekFrom::Start(length - tail.len() as u64))?;
    file.read_exact(&mut tail)?;
    file.rewind()?;
    let end = tail
        .len()
        .checked_sub(END_SIZE as usize)
        .map(|start| &tail[start..]);
    let last = tail
        .windows(END_MAGIC.len())
        .rposition(|window| window == END_MAGIC);
    let behind = last.map_or(0, |at| tail.len() - at);
    Ok(match end.filter(|end| end.starts_with(END_MAGIC)) {
        Some(end) => end_record(end, length),
        None if behind > END_SIZE as usize => Err(PackError::ZipTrailing {
            what: "a comment or bytes after its end",
        }),
        None => Err(PackError::ZipTruncated),
    })
}

fn end_record(end: &[u8], length: u64) -> Result<u64, PackError> {
    let short = |at: usize| u64::from(u16::from_le_bytes([end[at], end[at + 1]]));
    let long = |at: usize| short(at) | short(at + 2) << 16;
    let (disks, entries_here, entries) = (short(4) | short(6), short(8), short(10));
    let (directory_size, directory_start) = (long(12), long(16));
    // All ones stand for zip64, which nothing within our limits needs.
    if disks != 0 || entries_here != entries || entries == 0xFFFF {
        return Err(PackError::ZipInconsistent {
            what: "several disks or zip64".into(),
        });
    }
    if directory_start + directory_size + END_SIZE != length || short(20) != 0 {
        return Err(PackError::ZipTrailing {
            what: "bytes before its start or around its directory",
        });
    }
    Ok(entries)
}

fn check_layout(archive: &mut ZipArchive<File>, entries: u64) -> Result<(), PackError> {
    if archive.has_duplicate_names() {
        return Err(PackError::ZipDuplicate);
    }
    if archive.offset() != 0 || archive.len() as u64 != entries {
        return Err(PackError::ZipInconsistent {
            what: "its directory and its end differ".into(),
        });
    }
    archive
        .validate_header_consistency()
        .map_err(|error| match error {
            ZipError::Io(_) | ZipError::UnsupportedArchive(_) => unreadable("", &error),
            error => PackError::ZipInconsistent {
                what: error.to_string(),
            },
        })
}

impl Source for Zip {
    fn members(&self) -> &[Member] {
        &self.members
    }

    fn read(&mut self, member: &Member, sink: &mut Sink<'_>) -> Result<(), PackError> {
        let limits = self.limits;
        let path = member.path.as_str();
        let entry = self
            .archive
            .by_index(member.place)
            .map_err(|error| unreadable(path, &error))?;
        let packed = entry.compressed_size();
        let mut unpacked = 0;
        let mut judge = |part: &[u8]| {
            unpacked += part.len() as u64;
            match limits.is_bomb(packed, unpacked) {
                true => Err(PackError::ZipBomb {
                    path: path.to_owned(),
                    ratio: limits.max_ratio,
                }),
                false => sink(part),
            }
        };
        // A bad checksum or a damaged stream comes as an error of this reader.
        pour(entry, &member.path, &limits, &mut judge).map_err(|error| match error {
            PackError::Read { path, source } => PackError::Zip {
                path,
                what: source.to_string(),
            },
            other => other,
        })
    }
}

fn unreadable(path: &str, error: &ZipError) -> PackError {
    PackError::Zip {
        path: path.to_owned(),
        what: error.to_string(),
    }
}
