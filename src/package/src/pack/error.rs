//! Why a source could not be packed.

use std::io;
use std::path::PathBuf;

use crate::archive::UnpackError;
use crate::code::Code;
use crate::limits::LimitError;
use crate::manifest::ManifestError;
use crate::path::PathError;
use crate::signature::KeyId;

/// A source that was refused, or could not be read. Paths inside it are shown escaped and cut.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The source or a file of it could not be read.
    #[error("could not read \"{path}\"")]
    Read {
        /// Where.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The temporary file could not be made or written.
    #[error("could not keep the package in a temporary file in \"{}\"", folder.display())]
    Staging {
        /// Its folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The package could not be written.
    #[error("could not write the package to its temporary file")]
    Write(#[source] io::Error),
    /// Not something that can be packed.
    #[error("\"{}\" is neither a folder, a zip archive nor a package", path.display())]
    SourceUnknown {
        /// The source.
        path: PathBuf,
    },
    /// An archive larger than any package.
    #[error("\"{}\" is larger than the {limit} bytes allowed for an archive", path.display())]
    SourceTooLarge {
        /// The source.
        path: PathBuf,
        /// Bytes allowed.
        limit: u64,
    },
    /// A file changed between the two readings.
    #[error("\"{path}\" changed while it was being packed; pack again when nothing writes there")]
    SourceChanged {
        /// The file.
        path: String,
    },
    /// A symbolic link.
    #[error("\"{path}\" is a symbolic link; put the file itself there")]
    Link {
        /// Where.
        path: String,
    },
    /// Neither file nor directory.
    #[error("\"{path}\" is a device, pipe or socket; a package holds regular files only")]
    SpecialFile {
        /// Where.
        path: String,
    },
    /// Setuid and the like.
    #[error("\"{path}\" has mode {mode:04o}; remove setuid, setgid and sticky bits")]
    Mode {
        /// Where.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// A path that breaks the rules.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A limit.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The manifest that would result.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The archive, read back or passed on.
    #[error(transparent)]
    Archive(#[from] UnpackError),
    /// `robotd.toml` is wrong.
    #[error("robotd.toml at the root of the source is not valid")]
    Settings(#[source] Box<toml::de::Error>),
    /// `robotd.toml` is not text, or too long.
    #[error("robotd.toml at the root of the source is not UTF-8 text of at most 64 KiB")]
    SettingsNotText,
    /// Nothing says where the bot starts.
    #[error("no entry point: name one, or set `entry` in robotd.toml, or call the file bot.py")]
    EntryUnnamed,
    /// An existing package says otherwise.
    #[error("the package has {what} \"{found}\", not \"{wanted}\"; pack again from its sources")]
    LabelConflict {
        /// Which label.
        what: &'static str,
        /// What the package says.
        found: String,
        /// What the caller says.
        wanted: String,
    },
    /// An existing package is to be signed.
    #[error(
        "\"{}\" is already a package and not signed with key {key_id}; sign when packing the sources",
        path.display()
    )]
    SignedOtherwise {
        /// The source.
        path: PathBuf,
        /// The key asked for.
        key_id: KeyId,
    },
    /// A zip archive without its end.
    #[error("the zip archive has no end; it was not copied completely")]
    ZipTruncated,
    /// Bytes that belong to no entry.
    #[error("the zip archive has {what}; make it anew with an ordinary zip program")]
    ZipTrailing {
        /// What there is.
        what: &'static str,
    },
    /// Entries that share bytes or contradict themselves.
    #[error("the zip archive contradicts itself: {what}")]
    ZipInconsistent {
        /// How.
        what: String,
    },
    /// The same name twice.
    #[error("the zip archive holds a name twice")]
    ZipDuplicate,
    /// An encrypted entry.
    #[error("zip entry \"{path}\" is encrypted; secrets belong in the vault, not in packages")]
    ZipEncrypted {
        /// Which.
        path: String,
    },
    /// An unreadable archive or entry.
    #[error("zip entry \"{path}\" could not be read: {what}")]
    Zip {
        /// Which.
        path: String,
        /// What the reader said.
        what: String,
    },
    /// Compressed beyond belief.
    #[error(
        "zip entry \"{path}\" unpacks to more than {ratio} times its size: a decompression bomb"
    )]
    ZipBomb {
        /// Which.
        path: String,
        /// The ratio allowed.
        ratio: u64,
    },
}

impl PackError {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Read { .. } | Self::Staging { .. } | Self::Write(_) => Code::Io,
            Self::SourceUnknown { .. } => Code::SourceUnknown,
            Self::SourceTooLarge { .. } => Code::TooLarge,
            Self::SourceChanged { .. } => Code::SourceChanged,
            Self::Link { .. } => Code::Link,
            Self::SpecialFile { .. } => Code::SpecialFile,
            Self::Mode { .. } => Code::ModeInvalid,
            Self::Path(error) => error.code(),
            Self::Limit(error) => error.code(),
            Self::Manifest(error) => error.code(),
            Self::Archive(error) => error.code(),
            Self::Settings(_) | Self::SettingsNotText => Code::LabelInvalid,
            Self::EntryUnnamed => Code::EntryMissing,
            Self::LabelConflict { .. } | Self::SignedOtherwise { .. } => Code::LabelConflict,
            Self::ZipTruncated => Code::Truncated,
            Self::ZipTrailing { .. } => Code::TrailingBytes,
            Self::ZipInconsistent { .. } => Code::Overlap,
            Self::ZipDuplicate => Code::Duplicate,
            Self::ZipEncrypted { .. } => Code::Encrypted,
            Self::Zip { .. } => Code::FormatInvalid,
            Self::ZipBomb { .. } => Code::Bomb,
        }
    }
}
