//! The package of a bot: one canonical `tar.zst` with a manifest, a publisher's signature over the
//! manifest, and the files that the manifest lists.
//!
//! A package is made once ([`pack`](pack())), travels as opaque bytes named by their SHA-256, is opened by
//! a throw-away process (`robotd-unpack`), and is believed only after the root broker has checked
//! the tree on disk against the signed manifest ([`verify`]). The manifest comes first and fixes
//! every header that may follow, so for given contents there is exactly one acceptable archive:
//! the opener compares, it does not interpret.
//!
//! ```text
//!  folder | zip | package ─► pack ─► tar.zst ─► unpack (no privileges) ─► tree ─► verify (root) ─► store
//! ```
//!
//! Without features the crate holds what the root broker needs and can't read an archive. The
//! feature `signing` adds private keys, `archive` adds `pack` and `unpack`.

#[cfg(feature = "archive")]
mod archive;
mod beneath;
mod code;
mod collision;
mod digest;
mod limits;
mod manifest;
#[cfg(feature = "archive")]
mod pack;
mod path;
mod report;
mod signature;
#[cfg(feature = "signing")]
mod signing;
pub mod verify;

pub use code::Code;
pub use digest::{Digest, InvalidDigest};
pub use limits::{LimitError, Limits};
pub use manifest::{
    Automation, Draft, FileEntry, MAX_MANIFEST_BYTES, Manifest, ManifestError, check_name,
    check_version,
};
pub use path::{PackagePath, PathError, PathFault};
pub use report::{MAX_REPORT_BYTES, Report, ReportError};
pub use signature::{KeyError, KeyId, PublicKey, Signature, SignatureError, verify_any};

#[cfg(feature = "archive")]
pub use archive::{UnpackError, Unpacked, check, unpack};
#[cfg(feature = "archive")]
pub use pack::{Labels, PackError, Packed, Packing, pack};
#[cfg(feature = "signing")]
pub use signing::{PrivateKey, PrivateKeyError};

/// Name of the first entry of a package, and of its copy in the unpacked tree.
pub const MANIFEST_NAME: &str = "manifest.json";
/// Name of the second entry of a signed package.
pub const SIGNATURE_NAME: &str = "manifest.sig";
/// Directory, in the archive and in the tree, that holds the files of the bot.
pub const FILES_NAME: &str = "files";
