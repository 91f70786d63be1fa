//! A key on its way to the kernel: in memory that is never swapped out, is in no core dump and not
//! in a child, and is overwritten before it is given back.

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::atomic::{Ordering, compiler_fence};

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Memory that can't be kept to itself, or no randomness.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No memory could be had.
    #[error("can't map {len} bytes for a key")]
    Map {
        /// How many.
        len: usize,
        /// The kernel's reason.
        source: Errno,
    },
    /// It could be swapped out, dumped or inherited: not used.
    #[error("can't {operation} the memory of a key; see RLIMIT_MEMLOCK")]
    Protect {
        /// What was refused.
        operation: &'static str,
        /// The kernel's reason.
        source: Errno,
    },
    /// The kernel gave no randomness.
    #[error("can't get {len} random bytes for a key")]
    Random {
        /// How many.
        len: usize,
        /// The kernel's reason.
        source: Errno,
    },
}

/// Bytes that nobody else sees. They are readable and writable while this value lives.
pub struct Locked {
    start: NonNull<c_void>,
    len: NonZeroUsize,
}

impl Locked {
    /// This many zeros; at least one.
    ///
    /// # Errors
    ///
    /// [`Error::Map`] and [`Error::Protect`].
    pub fn zeroed(len: usize) -> Result<Self, Error> {
        let size = NonZeroUsize::new(len.max(1)).unwrap_or(NonZeroUsize::MIN);
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: mmap(2) without MAP_FIXED chooses free addresses and so changes no memory that
        // exists; what it returns belongs to this value alone.
        let start = unsafe { mmap_anonymous(None, size, access, MapFlags::MAP_PRIVATE) }
            .map_err(|source| Error::Map { len, source })?;
        let locked = Self { start, len: size };
        locked.protect()?;
        Ok(locked)
    }

    /// This many bytes of getrandom(2).
    ///
    /// # Errors
    ///
    /// As [`Locked::zeroed`], and [`Error::Random`].
    pub fn random(len: usize) -> Result<Self, Error> {
        let mut locked = Self::zeroed(len)?;
        let mut rest = locked.bytes_mut();
        while !rest.is_empty() {
            // SAFETY: getrandom(2) writes at most `rest.len()` bytes into memory that is ours.
            let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
            match Errno::result(got) {
                Ok(got) => rest = &mut rest[got.unsigned_abs()..],
                Err(Errno::EINTR) => {}
                Err(source) => return Err(Error::Random { len, source }),
            }
        }
        Ok(locked)
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping has `len` readable bytes for as long as this value lives; they were
        // made zero by the kernel, and no mutable reference exists while this one does.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.len.get()) }
    }

    /// The bytes, to be changed.
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` makes this the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().cast(), self.len.get()) }
    }

    fn protect(&self) -> Result<(), Error> {
        let advise = |advice| {
            // SAFETY: DONTDUMP and WIPEONFORK change no byte of this process's memory, and the
            // range is exactly this mapping.
            let done = unsafe { libc::madvise(self.start.as_ptr(), self.len.get(), advice) };
            Errno::result(done)
        };
        // SAFETY: mlock(2) changes no memory; the range is exactly this mapping.
        let locked = unsafe { libc::mlock(self.start.as_ptr(), self.len.get()) };
        let failed = |operation| move |source| Error::Protect { operation, source };
        Errno::result(locked).map_err(failed("lock"))?;
        advise(libc::MADV_DONTDUMP).map_err(failed("keep out of core dumps"))?;
        advise(libc::MADV_WIPEONFORK).map_err(failed("keep from children"))?;
        Ok(())
    }
}

impl std::fmt::Debug for Locked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Locked({} bytes)", self.len)
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        for byte in self.bytes_mut() {
            // SAFETY: a valid, aligned, exclusive reference; volatile so that it is not left out
            // although nobody reads it any more.
            unsafe { std::ptr::write_volatile(byte, 0) };
        }
        compiler_fence(Ordering::SeqCst);
        // SAFETY: exactly what mmap(2) returned, which nothing refers to any more; unmapping
        // unlocks. It fails on a range that is none only.
        let _ = unsafe { munmap(self.start, self.len.get()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mapping's lines in /proc/self/smaps.
    fn smaps(address: usize) -> String {
        let all = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut found = String::new();
        let mut inside = false;
        for line in all.lines() {
            if let Some((range, _)) = line.split_once(' ')
                && let Some((from, to)) = range.split_once('-')
                && let (Ok(from), Ok(to)) = (
                    usize::from_str_radix(from, 16),
                    usize::from_str_radix(to, 16),
                )
            {
                inside = (from..to).contains(&address);
            }
            if inside {
                found += line;
                found += "\n";
            }
        }
        found
    }

    #[test]
    fn a_key_is_locked_not_dumped_and_not_inherited() {
        let key = Locked::random(64).unwrap();
        assert_ne!(key.bytes(), [0; 64]);
        let shown = smaps(key.bytes().as_ptr() as usize);
        let flags = shown.lines().find(|line| line.starts_with("VmFlags:"));
        let flags: Vec<_> = flags.unwrap().split_whitespace().collect();
        for flag in ["lo", "dd", "wf"] {
            assert!(flags.contains(&flag), "{flag} in {flags:?}");
        }
    }

    #[test]
    fn two_keys_differ_and_none_shows_itself() {
        let (one, two) = (Locked::random(32).unwrap(), Locked::random(32).unwrap());
        assert_ne!(one.bytes(), two.bytes());
        assert_eq!(format!("{one:?}"), "Locked(32 bytes)");
    }
}
