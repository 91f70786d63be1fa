//! A search of raw disk space for byte strings that must not be there.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

use memchr::memmem::Finder;
use order::ScanReport;
use zeroize::Zeroizing;

/// What is read at once; each needle is shorter by far.
const PIECE: usize = 4 << 20;

/// Shorter ones are found in random bytes by chance: in a TiB once in sixteen million searches for
/// eight bytes, but each time for four.
const SHORTEST: usize = 8;

/// Secrets are at most as long as a packet.
const LONGEST: usize = privsep::MAX_PACKET;

/// What to search for.
#[derive(Default)]
pub(super) struct Needles {
    all: Vec<Zeroizing<Vec<u8>>>,
    secrets: u32,
    too_short: u32,
}

impl Needles {
    /// One more that is no secret.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.all.push(Zeroizing::new(bytes.to_vec()));
    }

    /// The secrets that the job was given, out of their sealed files.
    pub(super) fn add_secrets<'a>(&mut self, secrets: impl Iterator<Item = &'a OwnedFd>) {
        for fd in secrets {
            use std::os::fd::AsFd as _;
            let Ok(bytes) = sys::memfd::read_sealed(fd.as_fd(), LONGEST).map(Zeroizing::new) else {
                continue;
            };
            if bytes.len() < SHORTEST {
                self.too_short += 1;
            } else {
                self.secrets += 1;
                self.all.push(bytes);
            }
        }
    }

    /// Reads all of the file and counts how many needles are in it. `beat` is called for each piece.
    pub(super) fn search(&self, file: &File, mut beat: impl FnMut()) -> io::Result<ScanReport> {
        let finders: Vec<_> = self
            .all
            .iter()
            .map(|needle| Finder::new(&needle[..]))
            .collect();
        let overlap = self
            .all
            .iter()
            .map(|needle| needle.len())
            .max()
            .unwrap_or(1)
            - 1;
        let mut found = vec![false; finders.len()];
        let mut piece = Zeroizing::new(vec![0; overlap + PIECE]);
        let (mut at, mut kept) = (0, 0);
        loop {
            beat();
            let read = match file.read_at(&mut piece[kept..], at) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            at += read as u64;
            let end = kept + read;
            for (finder, found) in finders.iter().zip(&mut found) {
                *found = *found || finder.find(&piece[..end]).is_some();
            }
            // What begins at the end of this piece ends in the next.
            kept = overlap.min(end);
            piece.copy_within(end - kept..end, 0);
        }
        Ok(ScanReport {
            bytes: at,
            secrets: self.secrets,
            too_short: self.too_short,
            found: u32::try_from(found.into_iter().filter(|found| *found).count())
                .unwrap_or(u32::MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    fn search(file: &File, needles: &[&[u8]]) -> ScanReport {
        let mut all = Needles::default();
        needles.iter().for_each(|needle| all.add(needle));
        all.search(file, || ()).unwrap()
    }

    #[test]
    fn a_needle_is_found_wherever_it_lies_also_across_pieces() {
        let file = tempfile::tempfile().unwrap();
        let size = 2 * PIECE as u64 + 100;
        file.set_len(size).unwrap();
        for at in [
            0,
            PIECE as u64 - 5,
            PIECE as u64,
            2 * PIECE as u64 + 88,
            size - 12,
        ] {
            file.write_all_at(b"needle-12345", at).unwrap();
            let found = search(&file, &[b"needle-12345", b"needle-54321"]);
            assert_eq!((found.found, found.bytes), (1, size), "at {at}");
            file.write_all_at(&[0; 12], at).unwrap();
        }
        assert_eq!(search(&file, &[b"needle-12345"]).found, 0);
        assert_eq!(search(&tempfile::tempfile().unwrap(), &[]).bytes, 0);
    }

    #[test]
    fn secrets_come_out_of_sealed_files_and_short_ones_are_counted() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"....hunter2hunter2....abc", 0).unwrap();
        let secret = sys::memfd::sealed(c"x", b"hunter2hunter2").unwrap();
        let short = sys::memfd::sealed(c"x", b"abc").unwrap();
        assert!(sys::memfd::read_sealed(short.as_fd(), 3).is_ok());
        let mut needles = Needles::default();
        needles.add_secrets([&secret, &short].into_iter());
        let report = needles.search(&file, || ()).unwrap();
        assert_eq!((report.secrets, report.too_short, report.found), (1, 1, 1));
    }
}
