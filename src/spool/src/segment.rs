//! One segment file, as a reader sees it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::dir::LaneDir;
use crate::dir_error::DirError;
use crate::key::LaneKey;
use crate::limits::MAX_SEGMENT_BYTES;
use crate::name::SegmentName;
use crate::seal::{SALT_BYTES, SegmentKey, TAG_BYTES};

const MAGIC: [u8; 8] = *b"rbtspool";
const VERSION: u32 = 1;
const IDENTITY_BYTES: usize = 76;
const CHECKSUM_AT: usize = IDENTITY_BYTES + TAG_BYTES;

pub(crate) const HEADER_BYTES: usize = CHECKSUM_AT + 4;
/// The nonce of the tag in the header; frames count from 1.
pub(crate) const HEADER_COUNTER: u64 = 0;

/// What went wrong with one segment.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// Opening it.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// Reading it.
    #[error("can't read the segment {path}")]
    Read {
        /// The segment.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Its header is damaged, so that nothing in it can be opened.
    #[error("the header of the segment {path} is damaged: its records are lost")]
    Header {
        /// The segment.
        path: PathBuf,
    },
    /// A later robotd wrote it.
    #[error(
        "the segment {path} has format version {version}, known is {VERSION}: read it with the robotd that wrote it"
    )]
    Version {
        /// The segment.
        path: PathBuf,
        /// What its header says.
        version: u32,
    },
    /// The header is whole, but was made with another key.
    #[error(
        "the segment {path} was sealed with another key than this lane's: find that key before anything is removed"
    )]
    WrongKey {
        /// The segment.
        path: PathBuf,
    },
}

impl SegmentError {
    /// No later try will read this one.
    pub(crate) fn is_lost(&self) -> bool {
        match self {
            Self::Header { .. } => true,
            Self::Dir(error) => error.is_foreign() || error.is_gone(),
            _ => false,
        }
    }
}

/// All that the header says of a segment: its name, and where its key comes from.
fn identity(name: &SegmentName, salt: &[u8; SALT_BYTES]) -> [u8; IDENTITY_BYTES] {
    let mut out = [0; IDENTITY_BYTES];
    out[0..8].copy_from_slice(&MAGIC);
    out[8..12].copy_from_slice(&VERSION.to_le_bytes());
    out[12..28].copy_from_slice(name.epoch.as_bytes());
    out[28..36].copy_from_slice(&name.number.to_le_bytes());
    out[36..44].copy_from_slice(&name.first_seq.get().to_le_bytes());
    out[44..76].copy_from_slice(salt);
    out
}

/// A new segment's header and key.
pub(crate) fn seal_header(
    name: &SegmentName,
    key: &LaneKey,
) -> Result<([u8; HEADER_BYTES], SegmentKey), getrandom::Error> {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt)?;
    let identity = identity(name, &salt);
    let key = SegmentKey::derive(key, &salt, &identity);
    let mut out = [0; HEADER_BYTES];
    out[..IDENTITY_BYTES].copy_from_slice(&identity);
    out[IDENTITY_BYTES..CHECKSUM_AT].copy_from_slice(&key.seal(HEADER_COUNTER, &identity, &mut []));
    let checksum = crc32c::crc32c(&out[..CHECKSUM_AT]);
    out[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
    Ok((out, key))
}

/// A segment opened for reading.
pub(crate) struct Segment {
    pub(crate) name: SegmentName,
    pub(crate) key: SegmentKey,
    pub(crate) file: File,
    path: PathBuf,
}

impl Segment {
    pub(crate) fn open(
        dir: &LaneDir,
        name: SegmentName,
        key: &LaneKey,
    ) -> Result<Self, SegmentError> {
        let file_name = name.to_string();
        let file = dir.open_regular(&file_name)?;
        let path = dir.file_path(&file_name);
        let mut header = [0; HEADER_BYTES];
        match file.read_exact_at(&mut header, 0) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(SegmentError::Header { path });
            }
            Err(source) => return Err(SegmentError::Read { path, source }),
        }
        let key = open_header(&header, &name, key, &path)?;
        Ok(Self {
            name,
            key,
            file,
            path,
        })
    }

    /// Bytes that there are to read now.
    pub(crate) fn len(&self) -> Result<u64, SegmentError> {
        let found = self
            .file
            .metadata()
            .map_err(|source| self.read_failed(source))?;
        Ok(found.len().min(MAX_SEGMENT_BYTES))
    }

    /// Fills `buffer`, or returns false where the file ends: it may have been cut since [`len`].
    ///
    /// [`len`]: Self::len
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<bool, SegmentError> {
        match self.file.read_exact_at(buffer, offset) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(source) => Err(self.read_failed(source)),
        }
    }

    fn read_failed(&self, source: io::Error) -> SegmentError {
        SegmentError::Read {
            path: self.path.clone(),
            source,
        }
    }
}

fn open_header(
    header: &[u8; HEADER_BYTES],
    name: &SegmentName,
    key: &LaneKey,
    path: &std::path::Path,
) -> Result<SegmentKey, SegmentError> {
    let damaged = || SegmentError::Header {
        path: path.to_owned(),
    };
    let checksum = crc32c::crc32c(&header[..CHECKSUM_AT]).to_le_bytes();
    if header[..8] != MAGIC || header[CHECKSUM_AT..] != checksum {
        return Err(damaged());
    }
    let mut version = [0; 4];
    version.copy_from_slice(&header[8..12]);
    let version = u32::from_le_bytes(version);
    if version != VERSION {
        return Err(SegmentError::Version {
            path: path.to_owned(),
            version,
        });
    }
    let mut salt = [0; SALT_BYTES];
    salt.copy_from_slice(&header[IDENTITY_BYTES - SALT_BYTES..IDENTITY_BYTES]);
    let identity = identity(name, &salt);
    // A whole header under another name: somebody renamed or copied the file.
    if header[..IDENTITY_BYTES] != identity {
        return Err(damaged());
    }
    let key = SegmentKey::derive(key, &salt, &identity);
    let mut tag = header[IDENTITY_BYTES..CHECKSUM_AT].to_vec();
    if !key.open(HEADER_COUNTER, &identity, &mut tag) {
        return Err(SegmentError::WrongKey {
            path: path.to_owned(),
        });
    }
    Ok(key)
}
