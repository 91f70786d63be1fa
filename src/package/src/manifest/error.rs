//! What can be wrong with a manifest.

use crate::code::Code;
use crate::path::{PackagePath, PathError};

/// A manifest that was refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// More bytes than a manifest may have.
    #[error(
        "manifest.json has {bytes} bytes, more than {}",
        super::MAX_MANIFEST_BYTES
    )]
    TooLong {
        /// Its length.
        bytes: u64,
    },
    /// Not the JSON of a manifest.
    #[error("manifest.json is not the strict JSON of a manifest")]
    Json(#[source] serde_json::Error),
    /// Right contents in another spelling.
    #[error("manifest.json is not in its canonical spelling; make the package with robotctl")]
    NotCanonical,
    /// A version of the format that this program does not know.
    #[error("manifest.json has format {found}, this program reads format 1; update it")]
    Format {
        /// The version found.
        found: u32,
    },
    /// A path that breaks the rules.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A digest that is none.
    #[error("file \"{path}\" of manifest.json has no SHA-256 of 64 lower-case digits")]
    Digest {
        /// The file.
        path: PackagePath,
    },
    /// A name, version, language or automation text outside its rules.
    #[error("{what} \"{shown}\" is not allowed: {rule}")]
    Label {
        /// Which of them.
        what: &'static str,
        /// The text, escaped and cut.
        shown: String,
        /// The rule.
        rule: &'static str,
    },
    /// The list of files is not in the order of the archive.
    #[error("file \"{path}\" of manifest.json is out of order")]
    Unsorted {
        /// The first file that should stand earlier.
        path: PackagePath,
    },
    /// Two files that could be taken for one another.
    #[error("files \"{first}\" and \"{second}\" collide; rename one of them")]
    Collision {
        /// One of them.
        first: PackagePath,
        /// The other.
        second: PackagePath,
    },
    /// The entry point is no file of the package.
    #[error("entry point \"{entry}\" is not among the files of the package; name one that is")]
    EntryMissing {
        /// The entry point.
        entry: PackagePath,
    },
    /// More files than a manifest may list.
    #[error("{count} files, more than a package may have; leave out what the bot does not need")]
    TooManyFiles {
        /// How many.
        count: usize,
    },
    /// A file that no archive header can describe.
    #[error("file \"{path}\" is larger than 8 GiB, more than an archive holds")]
    FileTooLarge {
        /// The file.
        path: PackagePath,
    },
    /// Sizes whose sum does not fit in 64 bits.
    #[error("the sizes in manifest.json add up to more than any file system holds")]
    SizeOverflow,
}

impl ManifestError {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::TooLong { .. } | Self::Json(_) | Self::NotCanonical | Self::Format { .. } => {
                Code::ManifestInvalid
            }
            Self::Digest { .. } | Self::Unsorted { .. } => Code::ManifestInvalid,
            Self::Path(error) => error.code(),
            Self::Label { .. } => Code::LabelInvalid,
            Self::Collision { .. } => Code::Duplicate,
            Self::EntryMissing { .. } => Code::EntryMissing,
            Self::TooManyFiles { .. } | Self::FileTooLarge { .. } | Self::SizeOverflow => {
                Code::TooLarge
            }
        }
    }
}
