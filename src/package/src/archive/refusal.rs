//! Naming what is wrong with a header block that is not the expected one.

use std::collections::BTreeSet;

use super::UnpackError;
use super::ustar::{BLOCK, Foreign};
use crate::manifest::{FileEntry, Manifest};
use crate::path::{PackagePath, PathError, PathFault, shown};
use crate::{FILES_NAME, MANIFEST_NAME, SIGNATURE_NAME};

/// Permission bits that a package may carry.
const PLAIN_MODE: u64 = 0o777;

/// Where the reader stands when it meets the block.
pub(super) struct Place<'a> {
    /// Number of the entry, from 1.
    pub(super) entry: u64,
    /// The manifest, once it was read.
    pub(super) manifest: Option<&'a Manifest>,
    /// How many of its files were read.
    pub(super) done: usize,
}

impl Place<'_> {
    pub(super) fn not_canonical(&self, name: &[u8], what: &'static str) -> UnpackError {
        UnpackError::NotCanonical {
            entry: self.entry,
            name: shown(name),
            what,
        }
    }
}

/// Always an error: the block is not what this place requires.
pub(super) fn explain(block: &[u8; BLOCK], place: &Place<'_>) -> UnpackError {
    let header = Foreign(block);
    let name = header.name();
    let expected = place
        .manifest
        .and_then(|manifest| manifest.files().get(place.done));
    if block.iter().all(|byte| *byte == 0) {
        return match expected {
            Some(file) => UnpackError::Missing {
                path: shown(file.path.as_str().as_bytes()),
            },
            None => UnpackError::NoManifest {
                name: String::new(),
            },
        };
    }
    if !header.checksum_is_right() {
        return UnpackError::HeaderCorrupt { entry: place.entry };
    }
    wrong_kind(&header, &name, place)
        .or_else(|| wrong_mode(&header, &name))
        .or_else(|| wrong_name(&header, &name, place))
        .or_else(|| expected.and_then(|file| wrong_fields(&header, file)))
        .unwrap_or_else(|| place.not_canonical(&name, "its header fields"))
}

fn wrong_kind(header: &Foreign<'_>, name: &[u8], place: &Place<'_>) -> Option<UnpackError> {
    let special = |kind| {
        Some(UnpackError::SpecialFile {
            name: shown(name),
            kind,
        })
    };
    match header.kind() {
        b'0' => None,
        b'1' | b'2' => Some(UnpackError::Link { name: shown(name) }),
        b'3' => special("a character device"),
        b'4' => special("a block device"),
        b'6' => special("a named pipe"),
        b'S' => special("a sparse file"),
        b'5' => Some(place.not_canonical(name, "directories follow from the paths of files")),
        b'x' | b'g' | b'L' | b'K' => Some(place.not_canonical(name, "an extended header")),
        _ => Some(place.not_canonical(name, "its type")),
    }
}

fn wrong_mode(header: &Foreign<'_>, name: &[u8]) -> Option<UnpackError> {
    let mode = header.mode().filter(|mode| mode & !PLAIN_MODE != 0)?;
    Some(UnpackError::Mode {
        name: shown(name),
        mode,
    })
}

fn wrong_name(header: &Foreign<'_>, name: &[u8], place: &Place<'_>) -> Option<UnpackError> {
    if header.name_hides_bytes() {
        return Some(PathError::new(name, PathFault::Control).into());
    }
    let Some(manifest) = place.manifest else {
        return (name != MANIFEST_NAME.as_bytes())
            .then(|| UnpackError::NoManifest { name: shown(name) });
    };
    if [MANIFEST_NAME, SIGNATURE_NAME]
        .iter()
        .any(|taken| taken.as_bytes() == name)
    {
        return Some(UnpackError::Duplicate { name: shown(name) });
    }
    match below_files(name) {
        Err(error) => Some(error.into()),
        Ok(path) => misplaced(&path, manifest, place.done),
    }
}

fn below_files(name: &[u8]) -> Result<PackagePath, PathError> {
    let whole = PackagePath::parse_bytes(name)?;
    let below = whole
        .as_str()
        .strip_prefix(FILES_NAME)
        .and_then(|rest| rest.strip_prefix('/'));
    PackagePath::parse(below.ok_or_else(|| PathError::new(name, PathFault::OutsideFiles))?)
}

/// The path is sound, so it is one that was there already, one that nobody listed, or one that
/// stands where another should.
fn misplaced(path: &PackagePath, manifest: &Manifest, done: usize) -> Option<UnpackError> {
    let files = manifest.files();
    let name = || shown(path.as_str().as_bytes());
    if files.get(done).is_some_and(|file| file.path == *path) {
        return None;
    }
    let before: BTreeSet<_> = files[..done].iter().map(|file| &file.path).collect();
    if before.contains(path) || collides(path, &files[..done]) {
        return Some(UnpackError::Duplicate { name: name() });
    }
    match files[done..].iter().any(|file| file.path == *path) {
        true => Some(UnpackError::Missing {
            path: shown(files[done].path.as_str().as_bytes()),
        }),
        false => Some(UnpackError::Extra { name: name() }),
    }
}

fn collides(path: &PackagePath, before: &[FileEntry]) -> bool {
    let paths: Vec<_> = before.iter().map(|file| &file.path).chain([path]).collect();
    crate::collision::first(&paths).is_some()
}

/// Right name, other fields.
fn wrong_fields(header: &Foreign<'_>, file: &FileEntry) -> Option<UnpackError> {
    let differs = |what| {
        Some(UnpackError::Differs {
            path: shown(file.path.as_str().as_bytes()),
            what,
        })
    };
    if header.size() != Some(file.size) {
        return differs("size");
    }
    match header.mode() {
        Some(mode) if mode == u64::from(file.mode()) => None,
        _ => differs("mode"),
    }
}
