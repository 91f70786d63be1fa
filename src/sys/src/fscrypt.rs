//! Encryption of a folder by its file system (fscrypt): giving it a key, and taking the key away
//! so that nobody can read the folder any more.
//!
//! The key is known to the kernel alone from then on; it belongs to the mounted file system and
//! goes with it at the latest. See Documentation/filesystems/fscrypt.rst.

use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

use crate::locked::{self, Locked};

// linux/fscrypt.h
const ADD_KEY: libc::c_ulong = 0xC050_6617;
const REMOVE_KEY: libc::c_ulong = 0xC040_6618;
const KEY_STATUS: libc::c_ulong = 0xC080_661A;
const SET_POLICY: libc::c_ulong = 0x800C_6613;
const KEY_SPEC_IDENTIFIER: u32 = 2;
const POLICY_V2: u8 = 2;
const MODE_AES_256_XTS: u8 = 1;
const MODE_AES_256_CTS: u8 = 4;
/// Names are padded to 32 bytes: their length tells as little as it can.
const FLAGS_PAD_32: u8 = 3;
const KEY_SIZE: usize = 64;

/// What the files are encrypted with, as it stands in a wipe report.
pub const CIPHER: &str = "fscrypt v2: AES-256-XTS, names AES-256-CTS";

/// What the kernel did not do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The key could not be made.
    #[error("no key for a volume")]
    Key {
        /// Why.
        source: locked::Error,
    },
    /// The file system did not do as asked.
    #[error("the file system can't {operation}")]
    Kernel {
        /// What it was asked.
        operation: &'static str,
        /// The kernel's reason; `EOPNOTSUPP` and `ENOTTY` where it can't encrypt.
        source: Errno,
    },
    /// What it answered makes no sense.
    #[error("the file system names a key status {0} that is not known")]
    Status(u32),
}

/// The name of a key: derived from it by the kernel (HKDF-SHA512), it tells nothing about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyId([u8; 16]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What became of a key that was taken away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Removal {
    /// `removal_status_flags`; 0 = the key and all that was read with it is gone.
    pub flags: u32,
}

impl Removal {
    /// Files are still in use, and readable for those who use them.
    pub const FILES_BUSY: u32 = 1;
    /// Another user added the key too.
    pub const OTHER_USERS: u32 = 2;
}

/// Whether the kernel has a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// No, and nothing that was read with it.
    Absent,
    /// Yes.
    Present,
    /// No, but files are still in use.
    IncompletelyRemoved,
}

#[repr(C)]
struct KeySpecifier {
    kind: u32,
    reserved: u32,
    identifier: [u8; 32],
}

impl KeySpecifier {
    fn of(key: KeyId) -> Self {
        let mut identifier = [0; 32];
        identifier[..16].copy_from_slice(&key.0);
        Self {
            kind: KEY_SPEC_IDENTIFIER,
            reserved: 0,
            identifier,
        }
    }
}

/// Where the fields of `struct fscrypt_add_key_arg` lie.
mod add_key {
    pub(super) const KIND: usize = 0;
    pub(super) const IDENTIFIER: usize = 8;
    pub(super) const RAW_SIZE: usize = 40;
    pub(super) const RAW: usize = 80;
}

/// Gives the file system that `on` lies on a key of its own: random, and in no memory but the
/// kernel's when this returns.
///
/// # Errors
///
/// [`Error::Key`] and [`Error::Kernel`].
pub fn add_random_key(on: BorrowedFd<'_>) -> Result<KeyId, Error> {
    let key = Locked::random(KEY_SIZE).map_err(|source| Error::Key { source })?;
    // The argument ends with the key itself, so it lies in such memory too.
    let mut argument =
        Locked::zeroed(add_key::RAW + KEY_SIZE).map_err(|source| Error::Key { source })?;
    let bytes = argument.bytes_mut();
    bytes[add_key::KIND..][..4].copy_from_slice(&KEY_SPEC_IDENTIFIER.to_ne_bytes());
    bytes[add_key::RAW_SIZE..][..4].copy_from_slice(&(KEY_SIZE as u32).to_ne_bytes());
    bytes[add_key::RAW..].copy_from_slice(key.bytes());
    drop(key);
    // SAFETY: ADD_KEY reads and writes a `struct fscrypt_add_key_arg` (80 bytes) with `raw_size`
    // bytes behind it; the buffer has 80 + 64, is page-aligned and ours alone.
    let added = unsafe { libc::ioctl(on.as_raw_fd(), ADD_KEY, bytes.as_mut_ptr()) };
    check(added, "take a key")?;
    let mut id = [0; 16];
    id.copy_from_slice(&argument.bytes()[add_key::IDENTIFIER..][..16]);
    Ok(KeyId(id))
}

/// Has everything that will be in an empty folder encrypted with this key.
///
/// # Errors
///
/// [`Error::Kernel`].
pub fn encrypt_folder(folder: BorrowedFd<'_>, key: KeyId) -> Result<(), Error> {
    #[repr(C)]
    struct Policy {
        version: u8,
        contents: u8,
        names: u8,
        flags: u8,
        reserved: [u8; 4],
        identifier: [u8; 16],
    }
    let policy = Policy {
        version: POLICY_V2,
        contents: MODE_AES_256_XTS,
        names: MODE_AES_256_CTS,
        flags: FLAGS_PAD_32,
        reserved: [0; 4],
        identifier: key.0,
    };
    // SAFETY: SET_POLICY reads a `struct fscrypt_policy_v2` (24 bytes) when its first byte is 2;
    // `policy` is one and lives over the call.
    let set = unsafe { libc::ioctl(folder.as_raw_fd(), SET_POLICY, &raw const policy) };
    check(set, "encrypt a folder")
}

/// Takes a key away and evicts what was read with it. Only with [`Removal::flags`] 0 it is gone.
///
/// # Errors
///
/// [`Error::Kernel`].
pub fn remove_key(on: BorrowedFd<'_>, key: KeyId) -> Result<Removal, Error> {
    #[repr(C)]
    struct RemoveKey {
        key: KeySpecifier,
        flags: u32,
        reserved: [u32; 5],
    }
    let mut argument = RemoveKey {
        key: KeySpecifier::of(key),
        flags: 0,
        reserved: [0; 5],
    };
    // SAFETY: REMOVE_KEY reads and writes a `struct fscrypt_remove_key_arg` (64 bytes), which
    // `argument` is.
    let removed = unsafe { libc::ioctl(on.as_raw_fd(), REMOVE_KEY, &raw mut argument) };
    match check(removed, "take a key away") {
        // Removed before, with files still in use that are not any more.
        Err(Error::Kernel {
            source: Errno::ENOKEY,
            ..
        }) => Ok(Removal { flags: 0 }),
        other => other.map(|()| Removal {
            flags: argument.flags,
        }),
    }
}

/// Whether the file system has this key.
///
/// # Errors
///
/// [`Error::Kernel`] and [`Error::Status`].
pub fn key_status(on: BorrowedFd<'_>, key: KeyId) -> Result<Status, Error> {
    #[repr(C)]
    struct KeyStatus {
        key: KeySpecifier,
        reserved: [u32; 6],
        status: u32,
        flags: u32,
        users: u32,
        more: [u32; 13],
    }
    let mut argument = KeyStatus {
        key: KeySpecifier::of(key),
        reserved: [0; 6],
        status: 0,
        flags: 0,
        users: 0,
        more: [0; 13],
    };
    // SAFETY: KEY_STATUS reads and writes a `struct fscrypt_get_key_status_arg` (128 bytes), which
    // `argument` is.
    let asked = unsafe { libc::ioctl(on.as_raw_fd(), KEY_STATUS, &raw mut argument) };
    check(asked, "say whether it has a key")?;
    match argument.status {
        1 => Ok(Status::Absent),
        2 => Ok(Status::Present),
        3 => Ok(Status::IncompletelyRemoved),
        other => Err(Error::Status(other)),
    }
}

fn check(outcome: libc::c_int, operation: &'static str) -> Result<(), Error> {
    Errno::result(outcome)
        .map(drop)
        .map_err(|source| Error::Kernel { operation, source })
}
