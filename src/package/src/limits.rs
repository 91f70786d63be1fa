//! How large a package may be.

use crate::code::Code;
use crate::manifest::Manifest;

const MIB: u64 = 1024 * 1024;

/// Bounds on what is read and written for one package; every default is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Files in a package. The manifest itself never lists more than 50 000.
    pub max_files: u64,
    /// Bytes of all files together, unpacked.
    pub max_total_bytes: u64,
    /// Bytes of one file, unpacked.
    pub max_file_bytes: u64,
    /// Bytes of the compressed archive: a stream of empty blocks would else be read for ever.
    pub max_packed_bytes: u64,
    /// Unpacked bytes per packed byte, once `ratio_from_bytes` were unpacked.
    pub max_ratio: u64,
    /// Small packages of repetitive text may compress better than `max_ratio`.
    pub ratio_from_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_files: 50_000,
            max_total_bytes: 1024 * MIB,
            max_file_bytes: 512 * MIB,
            max_packed_bytes: 1024 * MIB + 64 * MIB,
            max_ratio: 200,
            ratio_from_bytes: 10 * MIB,
        }
    }
}

impl Limits {
    /// Whether a tree of this manifest may be written at all.
    ///
    /// # Errors
    /// The first bound that the manifest exceeds.
    pub fn admit(&self, manifest: &Manifest) -> Result<(), LimitError> {
        self.files(manifest.files().len() as u64)?;
        for file in manifest.files() {
            self.file(file.path.as_str(), file.size)?;
        }
        self.total(manifest.total_bytes())
    }

    pub(crate) fn files(&self, count: u64) -> Result<(), LimitError> {
        match count > self.max_files {
            true => Err(LimitError::Files {
                count,
                limit: self.max_files,
            }),
            false => Ok(()),
        }
    }

    pub(crate) fn file(&self, path: &str, bytes: u64) -> Result<(), LimitError> {
        match bytes > self.max_file_bytes {
            true => Err(LimitError::File {
                path: path.to_owned(),
                limit: self.max_file_bytes,
            }),
            false => Ok(()),
        }
    }

    pub(crate) fn total(&self, bytes: u64) -> Result<(), LimitError> {
        match bytes > self.max_total_bytes {
            true => Err(LimitError::Total {
                limit: self.max_total_bytes,
            }),
            false => Ok(()),
        }
    }

    /// Whether this much output from this much input is beyond what honest files compress to.
    #[cfg(feature = "archive")]
    pub(crate) fn is_bomb(&self, packed: u64, unpacked: u64) -> bool {
        unpacked > self.ratio_from_bytes && unpacked > packed.saturating_mul(self.max_ratio)
    }
}

/// A bound that was exceeded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// Too many files.
    #[error("{count} files, more than the {limit} allowed; leave out what the bot does not need")]
    Files {
        /// How many there are.
        count: u64,
        /// How many there may be.
        limit: u64,
    },
    /// One file is too large.
    #[error("file \"{path}\" is larger than the {limit} bytes allowed for one file")]
    File {
        /// Its path in the package.
        path: String,
        /// Bytes allowed.
        limit: u64,
    },
    /// All files together are too large.
    #[error("the files are larger than the {limit} bytes allowed for a package")]
    Total {
        /// Bytes allowed.
        limit: u64,
    },
}

impl LimitError {
    /// The stable code.
    pub fn code(&self) -> Code {
        Code::TooLarge
    }
}
