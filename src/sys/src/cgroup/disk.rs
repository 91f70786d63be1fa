//! Which disk a directory lies on: bounds of bytes per second are set for whole disks.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A block device by its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Of its driver.
    pub major: u64,
    /// Of the device.
    pub minor: u64,
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// The whole disk below a directory; none where no single one is (memory, overlays, some file systems
/// that span disks, the network).
#[must_use]
pub fn disk_of(directory: &Path) -> Option<Disk> {
    let device = fs::metadata(directory).ok()?.dev();
    let (major, minor) = (libc::major(device), libc::minor(device));
    let own = format!("/sys/dev/block/{major}:{minor}");
    // A partition's folder lies in that of its disk. Without one it is no disk.
    let folder = match Path::new(&own).join("partition").exists() {
        true => fs::canonicalize(&own).ok()?.parent()?.to_owned(),
        false => own.into(),
    };
    parse(&fs::read_to_string(folder.join("dev")).ok()?)
}

fn parse(text: &str) -> Option<Disk> {
    let (major, minor) = text.trim().split_once(':')?;
    let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
    Some(Disk { major, minor })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_pseudo_file_systems_lie_on_no_disk() {
        assert_eq!(disk_of(Path::new("/proc")), None);
        assert_eq!(disk_of(Path::new("/does/not/exist")), None);
    }

    #[test]
    fn a_disk_that_is_found_is_a_whole_one() {
        // A host whose root lies on no block device has none to look at.
        if let Some(disk) = disk_of(Path::new("/")) {
            assert!(Path::new(&format!("/sys/dev/block/{disk}")).exists());
            assert!(!Path::new(&format!("/sys/dev/block/{disk}/partition")).exists());
        }
    }

    #[test]
    fn numbers_are_read_as_the_kernel_writes_them() {
        assert_eq!(
            parse("259:3\n"),
            Some(Disk {
                major: 259,
                minor: 3
            })
        );
        assert_eq!(parse("259\n"), None);
    }
}
