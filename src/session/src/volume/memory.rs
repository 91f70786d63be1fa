//! A volume in memory.

use std::fs;
use std::path::Path;

use order::AttemptRef;
use privsep::Refusal;
use sys::mount::{Attributes, Filesystem, Unmount};

use super::choice::Memory;
use super::place;

/// What lies under a volume's name in /proc/PID/mountinfo.
fn source_of(attempt: &AttemptRef) -> String {
    format!("robotd-{attempt}")
}

/// Mounts one. `true` when the kernel keeps it out of swap.
pub(super) fn mount(attempt: &AttemptRef, bytes: u64, files: u64) -> Result<(), Refusal> {
    let failed = |error: sys::mount::Error| crate::refusal("VOLUME_FAILED", &error);
    let filesystem = Filesystem::open("tmpfs").map_err(failed)?;
    let options = [
        ("source", source_of(attempt)),
        ("size", bytes.to_string()),
        ("nr_inodes", files.to_string()),
        ("mode", "0711".to_owned()),
    ];
    let filesystem = options
        .iter()
        .try_fold(filesystem, |filesystem, (key, value)| {
            filesystem.set(key, value)
        })
        .map_err(failed)?;
    // Whether it is known was asked before, and counted when the volume was chosen.
    filesystem.try_flag("noswap").map_err(failed)?;
    let tree = filesystem.mount(Attributes::WRITABLE).map_err(failed)?;
    tree.attach(&place::volume()).map_err(failed)
}

/// Gives it back to the kernel, and says what keeps it.
pub(super) fn release(attempt: &AttemptRef) -> Vec<String> {
    let mut leftovers = Vec::new();
    if let Err(error) = sys::mount::unmount(&place::volume(), Unmount::IfUnused) {
        leftovers.push(crate::text(&error));
    }
    leftovers.extend(holders(attempt));
    leftovers
}

/// Every process in whose mount namespace the volume of this attempt still lies. By its name, not
/// by its device: the kernel gives the number of a released volume to the next one.
pub(super) fn holders(attempt: &AttemptRef) -> Vec<String> {
    let source = source_of(attempt);
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut found = Vec::new();
    for process in
        processes.filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit())
    {
        // A process that ended meanwhile holds nothing.
        let Ok(mounts) = fs::read(process.path().join("mountinfo")) else {
            continue;
        };
        let held = match sys::mount::parse(&mounts) {
            Ok(mounts) => mounts.iter().any(|mount| mount.source == *source),
            Err(_) => mounts
                .windows(source.len())
                .any(|part| part == source.as_bytes()),
        };
        if held {
            let pid = process.file_name();
            found.push(format!(
                "the volume is still mounted in process {}",
                pid.display()
            ));
        }
    }
    found
}

/// What the host says about its memory now.
pub(super) fn look() -> Memory {
    let swaps = fs::read_to_string("/proc/swaps").map_or(0, |text| text.lines().skip(1).count());
    Memory {
        swap: swaps > 0,
        noswap: noswap(),
        available: available(Path::new("/proc/meminfo")),
    }
}

/// Asked of the kernel itself: it takes the option or does not know it.
fn noswap() -> bool {
    Filesystem::open("tmpfs").is_ok_and(|tmpfs| matches!(tmpfs.try_flag("noswap"), Ok(true)))
}

fn available(meminfo: &Path) -> u64 {
    let text = fs::read_to_string(meminfo).unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
