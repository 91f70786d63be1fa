//! A file as a block device (loop): made so that the kernel takes it down by itself when the last
//! user is gone, also after a kill -9 of whoever made it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::mount::DeviceId;

// linux/loop.h
const CONTROL: &str = "/dev/loop-control";
const GET_FREE: libc::c_ulong = 0x4C82;
const CONFIGURE: libc::c_ulong = 0x4C0A;
const AUTOCLEAR: u32 = 4;
const DIRECT_IO: u32 = 16;
const NAME_SIZE: usize = 64;

/// Between asking for a free device and taking it somebody else can be faster; not for ever.
const TRIES: u32 = 64;

/// A loop device that can't be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A device node could not be opened.
    #[error("can't open {}; is the module loop there?", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The kernel names no free device.
    #[error("no loop device is free")]
    Free {
        /// The kernel's reason.
        source: Errno,
    },
    /// The file could not be made a device.
    #[error("can't make {name} the loop device {number}")]
    Configure {
        /// The file's name.
        name: String,
        /// The device's number.
        number: u32,
        /// The kernel's reason.
        source: Errno,
    },
    /// Its number could not be read.
    #[error("can't read {}", path.display())]
    Number {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// An attached device. It lives on as long as something uses it, such as a mount; dropping this
/// ends one use.
#[derive(Debug)]
pub struct Loop {
    file: File,
    number: u32,
}

#[repr(C)]
struct Facts {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; NAME_SIZE],
    crypt_name: [u8; NAME_SIZE],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    facts: Facts,
    reserved: [u64; 8],
}

impl Loop {
    /// Makes an image a block device. `name` is what [`attached`] finds it by.
    ///
    /// # Errors
    ///
    /// An [`Error`].
    pub fn attach(image: BorrowedFd<'_>, name: &str) -> Result<Self, Error> {
        let control = open(Path::new(CONTROL))?;
        let mut last = Errno::EBUSY;
        for _ in 0..TRIES {
            // SAFETY: GET_FREE takes no argument and returns a number.
            let free = unsafe { libc::ioctl(control.as_raw_fd(), GET_FREE) };
            let number = Errno::result(free).map_err(|source| Error::Free { source })?;
            let number = number.unsigned_abs();
            let file = open(Path::new(&format!("/dev/loop{number}")))?;
            match configure(&file, image, name) {
                Ok(()) => return Ok(Self { file, number }),
                // Taken by somebody else meanwhile.
                Err(Errno::EBUSY) => last = Errno::EBUSY,
                Err(source) => {
                    return Err(Error::Configure {
                        name: name.to_owned(),
                        number,
                        source,
                    });
                }
            }
        }
        Err(Error::Free { source: last })
    }

    /// Its node.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/dev/loop{}", self.number))
    }

    /// Its device number.
    ///
    /// # Errors
    ///
    /// [`Error::Number`].
    pub fn device(&self) -> Result<DeviceId, Error> {
        device(&format!("loop{}", self.number))
    }
}

impl AsFd for Loop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn open(path: &Path) -> Result<File, Error> {
    let opened = OpenOptions::new().read(true).write(true).open(path);
    opened.map_err(|source| Error::Open {
        path: path.to_owned(),
        source,
    })
}

fn configure(device: &File, image: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    let mut file_name = [0; NAME_SIZE];
    let length = name.len().min(NAME_SIZE - 1);
    file_name[..length].copy_from_slice(&name.as_bytes()[..length]);
    let config = Config {
        fd: image.as_raw_fd().unsigned_abs(),
        block_size: 0,
        facts: Facts {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            // Direct where the file system below can: else each byte is cached twice.
            flags: AUTOCLEAR | DIRECT_IO,
            file_name,
            crypt_name: [0; NAME_SIZE],
            encrypt_key: [0; 32],
            init: [0; 2],
        },
        reserved: [0; 8],
    };
    // SAFETY: CONFIGURE reads a `struct loop_config` (304 bytes), which `config` is.
    let done = unsafe { libc::ioctl(device.as_raw_fd(), CONFIGURE, &raw const config) };
    Errno::result(done).map(drop)
}

/// A block device that is attached to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The kernel's name, `loop3`.
    pub name: String,
    /// Its device number.
    pub device: DeviceId,
    /// Its file, as the kernel names it.
    pub file: PathBuf,
}

/// Every loop device whose file has a name that fits, also one that was unlinked meanwhile. None:
/// then nothing on the host uses such a file as a device, in whatever namespace.
///
/// # Errors
///
/// [`Error::Number`] when that can't be learned, so nothing is proven.
pub fn attached(fits: impl Fn(&str) -> bool) -> Result<Vec<Attached>, Error> {
    let folder = Path::new("/sys/block");
    let failed = |source| Error::Number {
        path: folder.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let Some(name) = name.to_str().filter(|name| name.starts_with("loop")) else {
            continue;
        };
        // Not there when nothing is attached, or not any more.
        let Ok(path) = fs::read_to_string(folder.join(name).join("loop/backing_file")) else {
            continue;
        };
        let path = path.trim_end_matches('\n');
        let path = path.strip_suffix(" (deleted)").unwrap_or(path);
        if fits(path.rsplit('/').next().unwrap_or_default()) {
            found.push(Attached {
                name: name.to_owned(),
                device: device(name)?,
                file: path.into(),
            });
        }
    }
    Ok(found)
}

/// The number of a block device by the kernel's name for it.
pub(crate) fn device(name: &str) -> Result<DeviceId, Error> {
    let path = Path::new("/sys/block").join(name).join("dev");
    let failed = |source| Error::Number {
        path: path.clone(),
        source,
    };
    let text = fs::read_to_string(&path).map_err(failed)?;
    let number = text.trim().split_once(':').and_then(|(major, minor)| {
        Some(DeviceId {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
        })
    });
    number.ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_arguments_are_as_long_as_the_kernels() {
        assert_eq!(size_of::<super::Facts>(), 232);
        assert_eq!(size_of::<super::Config>(), 304);
    }
}
