//! What the disk holds. Blocks on it.

use std::path::Path;

use sys::beneath::{Dir, Mounts};

/// Names that are looked at in one folder of an attempt: its attendant can make as many as it likes.
const MAX_NAMES: usize = 65_536;

/// Space that is free for robotd. Unknown counts as full: rather no job than one whose journal
/// can't be kept. So does a disk that has bytes and no more files.
pub(super) fn free_bytes(folder: &Path) -> u64 {
    let Ok(facts) = nix::sys::statvfs::statvfs(folder) else {
        return 0;
    };
    // Some file systems do not count files.
    if facts.files() > 0 && facts.files_available() == 0 {
        return 0;
    }
    let blocks = facts.blocks_available();
    blocks.saturating_mul(facts.fragment_size())
}

/// Files of the attempts' spools; what can't be looked at is not counted.
pub(super) fn used_bytes(spool: &Path) -> u64 {
    let Ok(root) = Dir::open_root(spool, Mounts::Stay) else {
        return 0;
    };
    let mut used = 0_u64;
    for attempt in root.entries().into_iter().flatten().flatten() {
        // The attendant's own: a link there leads nowhere.
        let Ok(folder) = root.open_dir(&attempt.name) else {
            continue;
        };
        used = used.saturating_add(bytes_in(&folder));
        if let Ok(blobs) = folder.open_dir("blobs") {
            used = used.saturating_add(bytes_in(&blobs));
        }
    }
    used
}

fn bytes_in(folder: &Dir) -> u64 {
    let names = folder.entries().into_iter().flatten().take(MAX_NAMES);
    let sizes = names.flatten().map(|entry| {
        let facts = folder.facts(&entry.name);
        // What it takes: a file with holes can claim to be larger than the disk.
        facts.map_or(0, |facts| facts.allocated)
    });
    sizes.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn waiting_output_is_counted_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let spool = folder.path().join("spool");
        let attempt = spool.join("a");
        fs::create_dir_all(attempt.join("blobs")).unwrap();
        let empty = used_bytes(&spool);
        fs::write(attempt.join("1.seg"), [1_u8; 10_000]).unwrap();
        fs::write(attempt.join("blobs/x"), [1_u8; 10_000]).unwrap();
        let used = used_bytes(&spool);
        assert!(used >= empty + 20_000);
        let holes = fs::File::create(attempt.join("2.seg")).unwrap();
        holes.set_len(1 << 40).unwrap();
        assert!(used_bytes(&spool) < used + 100_000);
        let outside = folder.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("large"), vec![1_u8; 5_000_000]).unwrap();
        std::os::unix::fs::symlink(&outside, spool.join("b")).unwrap();
        let other = spool.join("c");
        fs::create_dir(&other).unwrap();
        std::os::unix::fs::symlink(&outside, other.join("blobs")).unwrap();
        assert!(used_bytes(&spool) < used + 1_000_000);
    }

    #[test]
    fn a_folder_that_is_not_there_has_no_space() {
        assert_eq!(free_bytes(Path::new("/nowhere/at/all")), 0);
        assert!(free_bytes(Path::new("/")) > 0);
    }
}
