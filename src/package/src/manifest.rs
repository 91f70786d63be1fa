//! The manifest: what a package is called, where it starts, and every file that it consists of.
//!
//! A manifest has exactly one spelling. [`Manifest::parse`] refuses bytes that [`Manifest::encode`]
//! would not produce, so no two parsers can read different things out of signed bytes, and
//! nothing can be hidden in white space, key order or repeated keys.

mod error;
mod rules;

use serde::{Deserialize, Serialize, Serializer};

pub use error::ManifestError;
pub use rules::{check_name, check_version};

use crate::digest::Digest;
use crate::path::PackagePath;

/// Largest manifest. 50 000 files at some 250 bytes each fit; the broker parses it as root.
pub const MAX_MANIFEST_BYTES: u64 = 16 * 1024 * 1024;
/// The only version of the format.
const FORMAT: u32 = 1;
/// No limit set by an administrator goes above this.
const MAX_FILES: usize = 50_000;

/// A manifest that keeps every rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Manifest {
    format: u32,
    #[serde(flatten)]
    draft: Draft,
    #[serde(skip)]
    entry_at: usize,
}

/// The contents of a manifest before they are checked; [`Manifest::new`] checks them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Draft {
    /// Name of the package; see [`check_name`].
    pub name: String,
    /// Version of the package; see [`check_version`].
    pub version: String,
    /// The file that starts the bot.
    #[serde(serialize_with = "as_text")]
    pub entry: PackagePath,
    /// Language of the entry point, such as `python`; for people and for statistics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// The business automation that the package belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub automation: Option<Automation>,
    /// Every file, sorted by the bytes of its path.
    pub files: Vec<FileEntry>,
}

/// What the people who ordered the bot call it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Automation {
    /// Free text up to 128 characters, on one line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Free text up to 128 characters, on one line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// One file of the package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileEntry {
    /// Where it lies below `files/`.
    #[serde(serialize_with = "as_text")]
    pub path: PackagePath,
    /// Its length in bytes.
    pub size: u64,
    /// Whether its mode is 0755 rather than 0644.
    pub executable: bool,
    /// SHA-256 of its contents.
    #[serde(serialize_with = "as_text")]
    pub sha256: Digest,
}

impl FileEntry {
    /// The mode that the file has on disk and in the archive.
    pub fn mode(&self) -> u32 {
        if self.executable { 0o755 } else { 0o644 }
    }
}

fn as_text<T: std::fmt::Display, S: Serializer>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

impl Manifest {
    /// Checks every rule on contents that did not come from JSON.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn new(draft: Draft) -> Result<Self, ManifestError> {
        let entry_at = rules::check(&draft)?;
        Ok(Self {
            format: FORMAT,
            draft,
            entry_at,
        })
    }

    /// Reads a manifest as it stands in a package.
    ///
    /// # Errors
    /// When the bytes are too many, not the strict JSON of a manifest, break a rule, or are not
    /// in the canonical spelling.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooLong {
                bytes: bytes.len() as u64,
            });
        }
        let raw: Raw = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        let manifest = Self::new(raw.into_draft()?)?;
        match manifest.encode()? == bytes {
            true => Ok(manifest),
            false => Err(ManifestError::NotCanonical),
        }
    }

    /// The canonical bytes: JSON without white space, fields in the order of [`Draft`].
    ///
    /// # Errors
    /// When they would be more than [`MAX_MANIFEST_BYTES`].
    pub fn encode(&self) -> Result<Vec<u8>, ManifestError> {
        let bytes = serde_json::to_vec(self).map_err(ManifestError::Json)?;
        match bytes.len() as u64 > MAX_MANIFEST_BYTES {
            true => Err(ManifestError::TooLong {
                bytes: bytes.len() as u64,
            }),
            false => Ok(bytes),
        }
    }

    /// Name of the package.
    pub fn name(&self) -> &str {
        &self.draft.name
    }

    /// Version of the package.
    pub fn version(&self) -> &str {
        &self.draft.version
    }

    /// The file that starts the bot; always one of [`files`](Self::files).
    pub fn entry(&self) -> &FileEntry {
        &self.draft.files[self.entry_at]
    }

    /// Language of the entry point, if declared.
    pub fn language(&self) -> Option<&str> {
        self.draft.language.as_deref()
    }

    /// The automation that the package belongs to, if declared.
    pub fn automation(&self) -> Option<&Automation> {
        self.draft.automation.as_ref()
    }

    /// Every file, sorted by the bytes of its path; never empty.
    pub fn files(&self) -> &[FileEntry] {
        &self.draft.files
    }

    /// Sum of the sizes of all files.
    pub fn total_bytes(&self) -> u64 {
        self.draft.files.iter().map(|file| file.size).sum()
    }
}

/// The JSON as written, before paths and digests are checked: so that a bad path is reported as
/// one, with its own code.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    format: u32,
    name: String,
    version: String,
    entry: String,
    language: Option<String>,
    automation: Option<Automation>,
    files: Vec<RawFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    path: String,
    size: u64,
    executable: bool,
    sha256: String,
}

impl Raw {
    fn into_draft(self) -> Result<Draft, ManifestError> {
        if self.format != FORMAT {
            return Err(ManifestError::Format { found: self.format });
        }
        if self.files.len() > MAX_FILES {
            return Err(ManifestError::TooManyFiles {
                count: self.files.len(),
            });
        }
        Ok(Draft {
            name: self.name,
            version: self.version,
            entry: PackagePath::parse(&self.entry)?,
            language: self.language,
            automation: self.automation,
            files: self
                .files
                .into_iter()
                .map(RawFile::into_entry)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl RawFile {
    fn into_entry(self) -> Result<FileEntry, ManifestError> {
        let path = PackagePath::parse(&self.path)?;
        match Digest::parse(&self.sha256) {
            Ok(sha256) => Ok(FileEntry {
                path,
                size: self.size,
                executable: self.executable,
                sha256,
            }),
            Err(_) => Err(ManifestError::Digest { path }),
        }
    }
}

#[cfg(test)]
mod tests;
