//! Bytes that can't change any more: sealed memory files.
//!
//! An order comes from robotd, which is not trusted. In a memory file that is sealed against
//! writing and resizing it can be checked once and used afterwards: its sender can neither swap
//! its bytes between the two nor make the reader fault.

use std::ffi::{CStr, c_void};
use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mlock, mmap, munmap};
use nix::sys::stat::fstat;

/// A sealed memory file that could not be made or is not one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No memory file could be made.
    #[error("can't make a memory file")]
    Create {
        /// The kernel's reason.
        source: Errno,
    },
    /// Its bytes could not be written.
    #[error("can't write {len} bytes to a memory file")]
    Write {
        /// How many.
        len: usize,
        /// The kernel's reason.
        source: io::Error,
    },
    /// It could not be sealed.
    #[error("can't seal a memory file")]
    Seal {
        /// The kernel's reason.
        source: Errno,
    },
    /// The descriptor is not a memory file, or not sealed against shrinking, growing, writing
    /// and further sealing.
    #[error("the descriptor is not a sealed memory file: its bytes could still change; refused")]
    NotSealed,
    /// It is longer than allowed.
    #[error("the memory file has {len} bytes, at most {max} are allowed")]
    TooLong {
        /// Its length.
        len: u64,
        /// The bound.
        max: usize,
    },
    /// Its bytes could not be read.
    #[error("can't read a sealed memory file")]
    Read {
        /// The kernel's reason.
        source: io::Error,
    },
    /// It could still become shorter: reading it where it is mapped could end the reader.
    #[error("the memory file is not sealed against shrinking, or is empty; it can't be mapped")]
    Shrinks,
    /// Its pages could go to swap.
    #[error("can't lock {len} bytes of a memory file against swapping")]
    Lock {
        /// Its length.
        len: usize,
        /// The kernel's reason.
        source: Errno,
    },
    /// It could not be mapped.
    #[error("can't map {len} bytes of a memory file")]
    Map {
        /// Its length.
        len: usize,
        /// The kernel's reason.
        source: Errno,
    },
}

/// `MFD_NOEXEC_SEAL` of linux/memfd.h: never executable, and that sealed too (Linux 6.3).
const NOEXEC_SEAL: MFdFlags = MFdFlags::from_bits_retain(0x8);

/// What makes the bytes final.
const FINAL: SealFlag = SealFlag::F_SEAL_SHRINK
    .union(SealFlag::F_SEAL_GROW)
    .union(SealFlag::F_SEAL_WRITE)
    .union(SealFlag::F_SEAL_SEAL);

/// A memory file of these bytes, sealed. `name` shows in /proc and in nothing else.
///
/// # Errors
///
/// [`Error::Create`], [`Error::Write`] and [`Error::Seal`].
pub fn sealed(name: &CStr, bytes: &[u8]) -> Result<OwnedFd, Error> {
    let mut file = File::from(create(name).map_err(|source| Error::Create { source })?);
    file.write_all(bytes).map_err(|source| Error::Write {
        len: bytes.len(),
        source,
    })?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(FINAL)).map_err(|source| Error::Seal { source })?;
    Ok(file.into())
}

fn create(name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    match memfd_create(name, flags | NOEXEC_SEAL) {
        Err(Errno::EINVAL) => memfd_create(name, flags),
        outcome => outcome,
    }
}

/// The bytes of a sealed memory file that someone else made.
///
/// # Errors
///
/// [`Error::NotSealed`] and [`Error::TooLong`] are the sender's fault, [`Error::Read`] is not.
pub fn read_sealed(fd: BorrowedFd<'_>, max: usize) -> Result<Vec<u8>, Error> {
    read_from_start(fd, check_sealed(fd, max)?)
}

/// The length of a sealed memory file that someone else made: from now on its bytes stay as they
/// are, to be read by position and in pieces.
///
/// # Errors
///
/// As [`read_sealed`].
pub fn check_sealed(fd: BorrowedFd<'_>, max: usize) -> Result<usize, Error> {
    // Only memory files have seals; on others the call fails, or lacks F_SEAL_WRITE.
    let seals = fcntl(fd, FcntlArg::F_GET_SEALS).map_err(|_| Error::NotSealed)?;
    if !SealFlag::from_bits_retain(seals).contains(FINAL) {
        return Err(Error::NotSealed);
    }
    // After the seals, so that the length is final too.
    let facts = fstat(fd).map_err(|source| Error::Read {
        source: source.into(),
    })?;
    if facts.st_mode & libc::S_IFMT != libc::S_IFREG {
        return Err(Error::NotSealed);
    }
    let len = facts.st_size.unsigned_abs();
    match usize::try_from(len) {
        Ok(len) if len <= max => Ok(len),
        _ => Err(Error::TooLong { len, max }),
    }
}

fn read_from_start(fd: BorrowedFd<'_>, len: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; len];
    // By position: the sender holds the same open file and could move its offset.
    let file = File::from(
        fd.try_clone_to_owned()
            .map_err(|source| Error::Read { source })?,
    );
    file.read_exact_at(&mut bytes, 0)
        .map_err(|source| Error::Read { source })?;
    Ok(bytes)
}

/// A memory file that somebody else writes into, mapped for reading.
#[derive(Debug)]
pub struct Mapped {
    start: NonNull<c_void>,
    len: usize,
}

// SAFETY: a mapping belongs to the process and not to a thread; `start` is used to read and, with
// sole ownership, to unmap.
unsafe impl Send for Mapped {}

impl Mapped {
    /// All of it. Its length is final from here on: it has to be sealed against shrinking.
    ///
    /// # Errors
    ///
    /// [`Error::Shrinks`], [`Error::Read`] and [`Error::Map`].
    pub fn new(file: BorrowedFd<'_>) -> Result<Self, Error> {
        let seals = fcntl(file, FcntlArg::F_GET_SEALS).map_err(|_| Error::Shrinks)?;
        if !SealFlag::from_bits_retain(seals).contains(SealFlag::F_SEAL_SHRINK) {
            return Err(Error::Shrinks);
        }
        // After the seal, so that it does not become less.
        let facts = fstat(file).map_err(|source| Error::Read {
            source: source.into(),
        })?;
        let len = usize::try_from(facts.st_size).unwrap_or(0);
        let length = NonZeroUsize::new(len).ok_or(Error::Shrinks)?;
        // SAFETY: mmap(2) without MAP_FIXED chooses free addresses and so changes no memory that
        // exists. The mapping is only read, and only through `start`.
        let start = unsafe {
            mmap(
                None,
                length,
                ProtFlags::PROT_READ,
                MapFlags::MAP_SHARED,
                file,
                0,
            )
        }
        .map_err(|source| Error::Map { len, source })?;
        Ok(Self { start, len })
    }

    /// Keeps its pages out of swap as long as it is mapped, for whoever else holds the file too.
    ///
    /// # Errors
    ///
    /// [`Error::Lock`].
    pub fn lock(&self) -> Result<(), Error> {
        // SAFETY: the range is what mmap(2) returned; mlock(2) changes where its pages may be and
        // nothing in them.
        unsafe { mlock(self.start, self.len) }.map_err(|source| Error::Lock {
            len: self.len,
            source,
        })
    }

    /// Copies bytes from this place on into the buffer.
    ///
    /// # Panics
    ///
    /// When it has not so many: its length is known to who has made it.
    pub fn read(&self, offset: usize, buffer: &mut [u8]) {
        let end = offset.checked_add(buffer.len());
        assert!(end.is_some_and(|end| end <= self.len), "read past the end");
        // SAFETY: the range lies within the mapping, as just checked, and every page of that is
        // there: the file can't shrink. The buffer is ours alone. Another process may write into
        // the file meanwhile; no reference to the mapped bytes is made, any value is a valid byte,
        // and which of them are copied does not matter.
        unsafe {
            let from = self.start.as_ptr().cast::<u8>().cast_const().add(offset);
            std::ptr::copy_nonoverlapping(from, buffer.as_mut_ptr(), buffer.len());
        }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: exactly what mmap(2) returned, which nothing refers to any more.
        // It fails on a range that is none only.
        let _ = unsafe { munmap(self.start, self.len) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn sealed_bytes_are_read_and_can_not_be_changed() {
        let fd = sealed(c"robotd-test", b"order").unwrap();
        assert_eq!(read_sealed(fd.as_fd(), 5).unwrap(), b"order");
        let file = File::from(fd);
        assert!(file.write_at(b"x", 0).is_err());
        assert!(file.set_len(0).is_err());
        assert!(file.set_len(100).is_err());
    }

    #[test]
    fn the_position_of_the_sender_does_not_matter() {
        let file = File::from(sealed(c"robotd-test", b"order").unwrap());
        std::io::Read::read_to_end(&mut &file, &mut Vec::new()).unwrap();
        assert_eq!(read_sealed(file.as_fd(), 5).unwrap(), b"order");
    }

    #[test]
    fn what_could_still_change_is_refused() {
        let mut file = File::from(create(c"robotd-test").unwrap());
        file.write_all(b"order").unwrap();
        assert!(matches!(
            read_sealed(file.as_fd(), 5),
            Err(Error::NotSealed)
        ));
        let seals = [
            SealFlag::F_SEAL_WRITE,
            SealFlag::F_SEAL_GROW,
            SealFlag::F_SEAL_SHRINK,
        ];
        for seal in seals {
            fcntl(&file, FcntlArg::F_ADD_SEALS(seal)).unwrap();
            assert!(
                matches!(read_sealed(file.as_fd(), 5), Err(Error::NotSealed)),
                "{seal:?}"
            );
        }
        fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SEAL)).unwrap();
        assert_eq!(read_sealed(file.as_fd(), 5).unwrap(), b"order");
    }

    #[test]
    fn what_is_no_memory_file_is_refused() {
        let (reader, _writer) = std::io::pipe().unwrap();
        assert!(matches!(
            read_sealed(reader.as_fd(), 5),
            Err(Error::NotSealed)
        ));
        let file = tempfile::tempfile().unwrap();
        assert!(matches!(
            read_sealed(file.as_fd(), 5),
            Err(Error::NotSealed)
        ));
        // On tmpfs a file has seals of a kind, but can't get the one against writing.
        let file = tempfile::tempfile_in("/dev/shm").unwrap();
        assert!(matches!(
            read_sealed(file.as_fd(), 5),
            Err(Error::NotSealed)
        ));
    }

    #[test]
    fn too_many_bytes_are_refused_before_memory_is_taken() {
        let fd = sealed(c"robotd-test", b"order").unwrap();
        assert!(matches!(
            read_sealed(fd.as_fd(), 4),
            Err(Error::TooLong { len: 5, max: 4 })
        ));
        let huge = File::from(create(c"robotd-test").unwrap());
        huge.set_len(1 << 50).unwrap();
        fcntl(&huge, FcntlArg::F_ADD_SEALS(FINAL)).unwrap();
        assert!(matches!(
            read_sealed(huge.as_fd(), 1 << 20),
            Err(Error::TooLong { .. })
        ));
    }

    #[test]
    fn what_is_mapped_shows_what_is_written_later_and_ends_where_the_file_does() {
        let file = File::from(create(c"robotd-test").unwrap());
        file.set_len(5).unwrap();
        assert!(matches!(Mapped::new(file.as_fd()), Err(Error::Shrinks)));
        fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).unwrap();
        let mapped = Mapped::new(file.as_fd()).unwrap();
        file.write_all_at(b"order", 0).unwrap();
        let mut bytes = [0; 4];
        mapped.read(1, &mut bytes);
        assert_eq!(&bytes, b"rder");
        mapped.read(5, &mut []);
        let past = std::panic::catch_unwind(|| mapped.read(2, &mut [0; 4]));
        assert!(past.is_err());
    }

    #[test]
    fn what_is_empty_or_no_memory_file_is_not_mapped() {
        let empty = File::from(create(c"robotd-test").unwrap());
        fcntl(&empty, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).unwrap();
        assert!(matches!(Mapped::new(empty.as_fd()), Err(Error::Shrinks)));
        let file = tempfile::tempfile().unwrap();
        assert!(matches!(Mapped::new(file.as_fd()), Err(Error::Shrinks)));
    }
}
