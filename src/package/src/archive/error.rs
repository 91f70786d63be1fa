//! Why an archive was refused.

use crate::code::Code;
use crate::limits::LimitError;
use crate::manifest::ManifestError;
use crate::path::PathError;
use crate::signature::SignatureError;

/// An archive that was refused, or could not be written out. The target directory may hold a part
/// of the tree; the caller, who owns it, wipes it.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The stream stops in the middle.
    #[error("the archive ends early; it was not copied completely")]
    Truncated,
    /// The stream goes on after its end.
    #[error("bytes follow the end of the {of}; a package is one zstd frame with one tar stream")]
    TrailingBytes {
        /// What had ended.
        of: &'static str,
    },
    /// Not zstd at all.
    #[error("not a package: it does not start with a zstd frame")]
    NotZstd,
    /// zstd refused it.
    #[error("the compressed data is damaged or needs a window above 8 MiB")]
    Corrupt(#[source] std::io::Error),
    /// A tar header whose checksum is wrong.
    #[error("tar header {entry} is damaged")]
    HeaderCorrupt {
        /// Number of the entry, from 1.
        entry: u64,
    },
    /// Readable, but not what this program writes.
    #[error(
        "tar entry {entry}, \"{name}\", is not canonical: {what}; make the package with robotctl"
    )]
    NotCanonical {
        /// Number of the entry, from 1.
        entry: u64,
        /// Its name, escaped and cut.
        name: String,
        /// What is different.
        what: &'static str,
    },
    /// A link.
    #[error("tar entry \"{name}\" is a link; a package holds regular files only")]
    Link {
        /// Its name, escaped and cut.
        name: String,
    },
    /// A device, pipe or sparse file.
    #[error("tar entry \"{name}\" is {kind}; a package holds regular files only")]
    SpecialFile {
        /// Its name, escaped and cut.
        name: String,
        /// What it is.
        kind: &'static str,
    },
    /// Setuid and the like.
    #[error("tar entry \"{name}\" has mode {mode:o}; only 0644 and 0755 are allowed")]
    Mode {
        /// Its name, escaped and cut.
        name: String,
        /// Its mode.
        mode: u64,
    },
    /// The same file twice.
    #[error("tar entry \"{name}\" occurs twice, or in two spellings")]
    Duplicate {
        /// Its name, escaped and cut.
        name: String,
    },
    /// A path that breaks the rules.
    #[error(transparent)]
    Path(#[from] PathError),
    /// More bytes than the caller allows.
    #[error("the archive is larger than the {limit} bytes allowed")]
    TooLarge {
        /// Bytes allowed.
        limit: u64,
    },
    /// More files or file bytes than the caller allows.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// Compressed beyond belief.
    #[error(
        "{packed} bytes unpack to more than {unpacked}: a decompression bomb, or files that are mostly empty"
    )]
    Bomb {
        /// Bytes read.
        packed: u64,
        /// Bytes that they gave.
        unpacked: u64,
    },
    /// No manifest where it must be.
    #[error(
        "the first entry is \"{name}\" instead of manifest.json; make the package with robotctl"
    )]
    NoManifest {
        /// Name of the first entry, escaped and cut.
        name: String,
    },
    /// A manifest that breaks its rules.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A signature file that breaks its rules.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// A listed file that is not in the archive.
    #[error("\"{path}\" is in manifest.json but not at its place in the archive")]
    Missing {
        /// Its path.
        path: String,
    },
    /// A file that is not listed.
    #[error("\"{name}\" is in the archive but not in manifest.json")]
    Extra {
        /// Its name, escaped and cut.
        name: String,
    },
    /// A listed file with another size, mode or contents.
    #[error("\"{path}\" has another {what} in the archive than in manifest.json")]
    Differs {
        /// Its path.
        path: String,
        /// What is different.
        what: &'static str,
    },
    /// The directory to unpack into.
    #[error("the directory to unpack into is not empty")]
    TargetNotEmpty,
    /// The archive could not be read.
    #[error("the archive could not be read")]
    Read(#[source] std::io::Error),
    /// The tree could not be written.
    #[error("could not {action} \"{path}\"")]
    Write {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl UnpackError {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Truncated => Code::Truncated,
            Self::TrailingBytes { .. } => Code::TrailingBytes,
            Self::NotZstd | Self::Corrupt(_) | Self::HeaderCorrupt { .. } => Code::FormatInvalid,
            Self::NotCanonical { .. } => Code::NotCanonical,
            Self::Link { .. } => Code::Link,
            Self::SpecialFile { .. } => Code::SpecialFile,
            Self::Mode { .. } => Code::ModeInvalid,
            Self::Duplicate { .. } => Code::Duplicate,
            Self::Path(error) => error.code(),
            Self::TooLarge { .. } => Code::TooLarge,
            Self::Limit(error) => error.code(),
            Self::Bomb { .. } => Code::Bomb,
            Self::NoManifest { .. } => Code::ManifestInvalid,
            Self::Manifest(error) => error.code(),
            Self::Signature(error) => error.code(),
            Self::Missing { .. } | Self::Extra { .. } | Self::Differs { .. } => {
                Code::ManifestMismatch
            }
            Self::TargetNotEmpty => Code::TargetInvalid,
            Self::Read(_) | Self::Write { .. } => Code::Io,
        }
    }
}
