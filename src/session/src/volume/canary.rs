//! A file of random bytes under a random name, put on each volume before the job. When the volume is
//! gone it must not be readable, and neither its bytes nor its name may be found on the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirEntryExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use order::Canary as Verdict;

/// Random bytes of its content.
const BYTES: usize = 32;

/// What was planted.
pub(super) struct Canary {
    pub(super) name: String,
    pub(super) bytes: [u8; BYTES],
    inode: u64,
}

impl Canary {
    /// Plants one in the top folder of a volume, where no job sees it.
    pub(super) fn plant(folder: &Path) -> io::Result<Self> {
        let (mut bytes, mut name) = ([0; BYTES], [0; 16]);
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        getrandom::fill(&mut name).map_err(io::Error::other)?;
        let name = name.iter().fold("canary-".to_owned(), |name, byte| {
            name + &format!("{byte:02x}")
        });
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(folder.join(&name))?;
        file.write_all(&bytes)?;
        // On the disk before the job begins: else a search would prove nothing.
        file.sync_all()?;
        let inode = file.metadata()?.ino();
        Ok(Self { name, bytes, inode })
    }

    /// Whether it can be read at this place, by its name or by what stands for its name now.
    pub(super) fn verdict(&self, folder: &Path) -> Verdict {
        let by_name = self.reads(&folder.join(&self.name));
        let mut entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let by_number = entries.any(|entry| entry.ino() == self.inode && self.reads(&entry.path()));
        if by_name || by_number {
            Verdict::Readable
        } else {
            Verdict::Gone
        }
    }

    fn reads(&self, path: &Path) -> bool {
        let mut found = Vec::new();
        let read =
            File::open(path).and_then(|file| file.take(BYTES as u64).read_to_end(&mut found));
        read.is_ok() && !found.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_is_found_under_any_name_until_it_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let canary = Canary::plant(folder.path()).unwrap();
        assert_eq!(canary.verdict(folder.path()), Verdict::Readable);
        let other = folder.path().join("x");
        fs::rename(folder.path().join(&canary.name), &other).unwrap();
        assert_eq!(canary.verdict(folder.path()), Verdict::Readable);
        fs::remove_file(other).unwrap();
        assert_eq!(canary.verdict(folder.path()), Verdict::Gone);
    }

    #[test]
    fn no_two_are_alike() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (Canary::plant(folder.path()), Canary::plant(folder.path()));
        let (one, two) = (one.unwrap(), two.unwrap());
        assert!(one.name != two.name && one.bytes != two.bytes);
    }
}
