//! Encryption of a whole block device (dm-crypt), by the device mapper's own calls.
//!
//! The key goes to the kernel as a `logon` key, which nobody can read back, of this thread alone;
//! dm-crypt takes a copy of it when the table is loaded and the key is invalidated at once. So it is
//! neither in a table that `dmsetup --showkeys` prints, nor in a command line, nor in a file.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::locked::{self, Locked};
use crate::loopback;
use crate::mount::DeviceId;

// linux/dm-ioctl.h
const CONTROL: &str = "/dev/mapper/control";
const CREATE: libc::c_ulong = 3;
const REMOVE: libc::c_ulong = 4;
const SUSPEND: libc::c_ulong = 6;
const LOAD: libc::c_ulong = 9;
const SECURE_DATA: u32 = 1 << 15;
const DEFERRED_REMOVE: u32 = 1 << 17;
const HEADER: usize = 312;
const TARGET: usize = 40;
/// Room for one target's parameters.
const PARAMETERS: usize = 512;

// linux/keyctl.h
const THREAD_KEYRING: libc::c_int = -1;
const KEYCTL_INVALIDATE: libc::c_int = 21;

const KEY_SIZE: usize = 64;

/// What the device is encrypted with, as it stands in a wipe report.
pub const CIPHER: &str = "dm-crypt plain: AES-256-XTS";

/// What the kernel did not do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no device mapper.
    #[error("no device mapper at {CONTROL}")]
    Open {
        /// The kernel's reason.
        source: io::Error,
    },
    /// The key could not be made.
    #[error("no key for the device {name}")]
    Key {
        /// Whose.
        name: String,
        /// Why.
        source: locked::Error,
    },
    /// The kernel did not take the key.
    #[error("the kernel takes no key for the device {name}")]
    Keyring {
        /// Whose.
        name: String,
        /// The kernel's reason.
        source: Errno,
    },
    /// The device mapper did not do as asked.
    #[error("can't {operation} the device {name}")]
    Mapper {
        /// What it was asked.
        operation: &'static str,
        /// Which device.
        name: String,
        /// The kernel's reason; `EINVAL` for a table when the module dm-crypt is missing.
        source: Errno,
    },
    /// What it is called could not be learned.
    #[error("can't learn about the devices of the device mapper")]
    Look {
        /// Why.
        source: io::Error,
    },
}

/// A device of the device mapper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// Its own name.
    pub name: String,
    /// The kernel's name, `dm-0`.
    pub kernel_name: String,
    /// Its number.
    pub device: DeviceId,
}

impl Mapped {
    /// Its node.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new("/dev").join(&self.kernel_name)
    }
}

/// Makes a device whose content lies encrypted on `lower`, with a key of its own: random, and in no
/// memory but the kernel's when this returns.
///
/// # Errors
///
/// An [`Error`]; then no device of this name is left.
pub fn encrypt(name: &str, lower: DeviceId, bytes: u64) -> Result<Mapped, Error> {
    let control = control()?;
    call(&control, CREATE, name, 0, None)?;
    let done = load(&control, name, lower, bytes)
        .and_then(|()| call(&control, SUSPEND, name, 0, None))
        .and_then(|_| look(|own| own == name));
    match done.map(|found| found.into_iter().next()) {
        Ok(Some(mapped)) => Ok(mapped),
        other => {
            let _ = call(&control, REMOVE, name, DEFERRED_REMOVE, None);
            Err(other
                .err()
                .unwrap_or_else(|| mapper("find", name, Errno::ENODEV)))
        }
    }
}

/// Removes a device: now, or when its last user is gone, whatever happens to this process. Its key
/// goes with it.
///
/// # Errors
///
/// [`Error::Open`] and [`Error::Mapper`].
pub fn remove_when_unused(name: &str) -> Result<(), Error> {
    match call(&control()?, REMOVE, name, DEFERRED_REMOVE, None) {
        Err(Error::Mapper {
            source: Errno::ENXIO,
            ..
        }) => Ok(()),
        other => other,
    }
}

/// Every device whose name fits.
///
/// # Errors
///
/// [`Error::Look`] when that can't be learned, so nothing is proven.
pub fn look(fits: impl Fn(&str) -> bool) -> Result<Vec<Mapped>, Error> {
    let failed = |source| Error::Look { source };
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/block").map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let kernel_name = entry.file_name().to_string_lossy().into_owned();
        // Gone meanwhile, or none of the device mapper's.
        let Ok(name) = fs::read_to_string(entry.path().join("dm/name")) else {
            continue;
        };
        let name = name.trim_end_matches('\n').to_owned();
        if !fits(&name) {
            continue;
        }
        match loopback::device(&kernel_name) {
            Ok(device) => found.push(Mapped {
                name,
                kernel_name,
                device,
            }),
            Err(_) if !entry.path().exists() => {}
            Err(error) => return Err(failed(io::Error::other(error))),
        }
    }
    Ok(found)
}

fn load(control: &File, name: &str, lower: DeviceId, bytes: u64) -> Result<(), Error> {
    let key = LogonKey::new(name)?;
    let table = format!(
        "aes-xts-plain64 :{KEY_SIZE}:logon:{} 0 {}:{} 0",
        key.description, lower.major, lower.minor
    );
    call(
        control,
        LOAD,
        name,
        SECURE_DATA,
        Some((bytes / 512, &table)),
    )
}

/// A key that the kernel can use and nobody can read; gone when dropped.
struct LogonKey {
    serial: libc::c_long,
    description: String,
}

impl LogonKey {
    fn new(name: &str) -> Result<Self, Error> {
        let description = format!("robotd:{name}");
        let key = Locked::random(KEY_SIZE).map_err(|source| Error::Key {
            name: name.to_owned(),
            source,
        })?;
        let text = format!("{description}\0");
        // SAFETY: add_key(2) reads two C strings and `KEY_SIZE` bytes, which live over the call.
        let serial = unsafe {
            libc::syscall(
                libc::SYS_add_key,
                c"logon".as_ptr(),
                text.as_ptr(),
                key.bytes().as_ptr(),
                key.bytes().len(),
                THREAD_KEYRING,
            )
        };
        let serial = Errno::result(serial).map_err(|source| Error::Keyring {
            name: name.to_owned(),
            source,
        })?;
        Ok(Self {
            serial,
            description,
        })
    }
}

impl Drop for LogonKey {
    fn drop(&mut self) {
        // SAFETY: KEYCTL_INVALIDATE takes the number of a key. It fails only on one that is gone.
        let _ = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_INVALIDATE, self.serial) };
    }
}

fn control() -> Result<File, Error> {
    let opened = OpenOptions::new().read(true).write(true).open(CONTROL);
    opened.map_err(|source| Error::Open { source })
}

/// One call: a `struct dm_ioctl`, and for a table one target behind it.
fn call(
    control: &File,
    command: libc::c_ulong,
    name: &str,
    flags: u32,
    table: Option<(u64, &str)>,
) -> Result<(), Error> {
    let operation = match command {
        CREATE => "make",
        REMOVE => "remove",
        LOAD => "load the table of",
        _ => "start",
    };
    let mut buffer = vec![0; HEADER + TARGET + PARAMETERS];
    let size = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
    let fits = name.len() < 128 && table.is_none_or(|(_, text)| text.len() < PARAMETERS);
    if !fits {
        return Err(mapper(operation, name, Errno::ENAMETOOLONG));
    }
    put(&mut buffer, 0, &4_u32.to_ne_bytes());
    put(&mut buffer, 12, &size.to_ne_bytes());
    put(&mut buffer, 16, &(HEADER as u32).to_ne_bytes());
    put(&mut buffer, 28, &flags.to_ne_bytes());
    put(&mut buffer, 48, name.as_bytes());
    if command == CREATE {
        put(&mut buffer, 176, format!("CRYPT-PLAIN-{name}").as_bytes());
    }
    if let Some((sectors, parameters)) = table {
        put(&mut buffer, 20, &1_u32.to_ne_bytes());
        put(&mut buffer, HEADER + 8, &sectors.to_ne_bytes());
        put(&mut buffer, HEADER + 24, b"crypt");
        put(&mut buffer, HEADER + TARGET, parameters.as_bytes());
    }
    let request = 0xC138_FD00 | command;
    // SAFETY: the call reads and writes `data_size` bytes, which is the buffer's length; it begins
    // with a `struct dm_ioctl` (312 bytes), and texts in it end with a zero, as checked above.
    let done = unsafe { libc::ioctl(control.as_raw_fd(), request, buffer.as_mut_ptr()) };
    Errno::result(done).map_err(|source| mapper(operation, name, source))?;
    Ok(())
}

fn put(buffer: &mut [u8], at: usize, bytes: &[u8]) {
    buffer[at..][..bytes.len()].copy_from_slice(bytes);
}

fn mapper(operation: &'static str, name: &str, source: Errno) -> Error {
    Error::Mapper {
        operation,
        name: name.to_owned(),
        source,
    }
}
