//! The file system of a volume on the disk: ext4 without a journal, since nothing of it is ever
//! recovered, with as many bytes and files as the job may have.

use std::path::Path;
use std::time::Duration;

use privsep::Refusal;
use sys::mount::{Attributes, Filesystem, Tree};
use sys::process::{Exit, Spawn};

/// Debian's e2fsprogs.
const MKFS: &str = "/usr/sbin/mkfs.ext4";

/// It writes a few blocks; a disk under load answers late.
const TIME: Duration = Duration::from_secs(120);
/// Between two signs of life.
const STEP: Duration = Duration::from_secs(5);

const BLOCK: u64 = 4096;
const BYTES_PER_INODE: u64 = 256;
/// Superblock, group descriptors, bitmaps, the first folders.
const FIXED: u64 = 2 << 20;

/// What a device must have for the job to have so many bytes and files: what the file system needs
/// for itself comes on top.
pub(super) fn device_bytes(bytes: u64, files: u64) -> u64 {
    let inodes = files.saturating_mul(BYTES_PER_INODE);
    let all = bytes
        .saturating_add(inodes)
        .saturating_add(bytes / 256)
        .saturating_add(FIXED);
    all.div_ceil(BLOCK).saturating_mul(BLOCK)
}

/// Makes one on a block device. `beat` is called while it takes its time.
pub(super) fn make(device: &Path, files: u64, beat: &mut dyn FnMut()) -> Result<(), Refusal> {
    let failed = |what: String| Refusal::new("VOLUME_FAILED", format!("{MKFS}: {what}"));
    let spawn = Spawn::new(Path::new(MKFS))
        .arg("-q")
        .arg("-F")
        .args(["-b", &BLOCK.to_string()])
        .args(["-I", &BYTES_PER_INODE.to_string()])
        // Folders of our own and the first eleven that ext4 keeps.
        .args(["-N", &files.saturating_add(32).to_string()])
        // No blocks for root alone: the job has what its order says.
        .args(["-m", "0"])
        // Said here, and not by the host's mke2fs.conf.
        .args(["-O", FEATURES])
        // The image's space is taken and stays so; its blocks read as zeros already.
        .args(["-E", "nodiscard,lazy_itable_init=1,root_owner=0:0"])
        .arg(device);
    let process = spawn
        .start()
        .map_err(|error| failed(format!("{}; is e2fsprogs installed?", crate::text(&error))))?;
    let until = sys::clock::boottime() + TIME;
    loop {
        beat();
        match process.wait_within(STEP) {
            Ok(Some(Exit::Code(0))) => return Ok(()),
            Ok(Some(exit)) => return Err(failed(format!("ended with {exit:?}"))),
            Ok(None) if sys::clock::boottime() < until => {}
            Ok(None) => {
                let _ = process.send(sys::Signal::SIGKILL);
                return Err(failed(format!("takes longer than {} s", TIME.as_secs())));
            }
            Err(error) => return Err(failed(crate::text(&error))),
        }
    }
}

const FEATURES: &str = "none,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,\
                        huge_file,dir_nlink,extra_isize,metadata_csum,encrypt";

/// Mounts one, attached to nowhere yet.
pub(super) fn mount(device: &Path) -> Result<Tree, sys::mount::Error> {
    let filesystem = Filesystem::open("ext4")?
        .set("source", &device.display().to_string())?
        .set("errors", "remount-ro")?;
    // Nothing is to survive a power loss, so nothing waits for the disk.
    for flag in ["noinit_itable", "nobarrier"] {
        filesystem.try_flag(flag)?;
    }
    filesystem.mount(Attributes::WRITABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_room_for_what_the_job_may_have_and_for_the_file_system() {
        assert!(device_bytes(4 << 20, 20_000) > (4 << 20) + 20_000 * 256);
        assert_eq!(device_bytes(1 << 30, 65_536) % 4096, 0);
        assert!(device_bytes(u64::MAX, u64::MAX) >= 1 << 40);
    }
}
