//! What can be wrong with a tree.

use crate::code::Code;
use crate::digest::Digest;
use crate::limits::LimitError;
use crate::manifest::ManifestError;
use crate::signature::SignatureError;

/// A tree that is not what its manifest says. Paths are shown escaped and cut.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A listed file or its directory is not there.
    #[error("\"{path}\" is missing from the unpacked package")]
    Missing {
        /// Where.
        path: String,
    },
    /// Something that the manifest does not list.
    #[error("\"{path}\" is in the unpacked package but not in its manifest")]
    Extra {
        /// Where.
        path: String,
    },
    /// A symbolic link.
    #[error("\"{path}\" is a symbolic link")]
    Link {
        /// Where.
        path: String,
    },
    /// A file with another name somewhere.
    #[error("\"{path}\" has {links} hard links, so it can be changed from elsewhere")]
    HardLink {
        /// Where.
        path: String,
        /// How many.
        links: u64,
    },
    /// Neither the file nor the directory that belongs there.
    #[error("\"{path}\" is not the {expected} that the manifest lists")]
    Kind {
        /// Where.
        path: String,
        /// What belongs there.
        expected: &'static str,
        /// Whether it is something else than a file or directory.
        special: bool,
    },
    /// Other permission bits.
    #[error("\"{path}\" has mode {found:04o} instead of {expected:04o}")]
    Mode {
        /// Where.
        path: String,
        /// Its mode.
        found: u32,
        /// The mode of the manifest.
        expected: u32,
    },
    /// Another length.
    #[error("\"{path}\" has {found} bytes instead of {expected}")]
    Size {
        /// Where.
        path: String,
        /// Its length, as far as it was read.
        found: u64,
        /// The length of the manifest.
        expected: u64,
    },
    /// Other contents.
    #[error("\"{path}\" has SHA-256 {found} instead of {expected}")]
    Contents {
        /// Where.
        path: String,
        /// Its digest.
        found: Digest,
        /// The digest of the manifest.
        expected: Digest,
    },
    /// The manifest itself.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The signature file itself.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// More than the caller allows.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The operating system.
    #[error("could not {action} \"{path}\" in the unpacked package")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl VerifyError {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Link { .. } | Self::HardLink { .. } => Code::Link,
            Self::Kind { special: true, .. } => Code::SpecialFile,
            Self::Mode { .. } => Code::ModeInvalid,
            Self::Missing { .. } | Self::Extra { .. } | Self::Kind { .. } => Code::ManifestMismatch,
            Self::Size { .. } | Self::Contents { .. } => Code::ManifestMismatch,
            Self::Manifest(error) => error.code(),
            Self::Signature(error) => error.code(),
            Self::Limit(error) => error.code(),
            Self::Io { .. } => Code::Io,
        }
    }
}
