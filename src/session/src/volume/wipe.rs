//! The end of a volume on the disk: key destroyed, unmounted, devices gone, searched, image removed.
//! Each step is proven, and one that fails does not keep the next from being tried.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::time::Duration;

use order::{AttemptRef, Canary as Verdict, KeyReport, ScanReport, VolumeBackend};
use sys::fscrypt::{KeyId, Removal, Status};
use sys::mount::Unmount;
use sys::process::{Fork, Namespaces};

use super::canary::Canary;
use super::disk::{self, Disk};
use super::scan::Needles;
use super::{place, remains};

/// Files of a job are closed when its processes are gone; the kernel does so a little later.
const BUSY: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(20);
/// Between two signs of life.
const STEP: Duration = Duration::from_secs(5);
/// A disk that does not take what was written for so long has failed.
const FLUSH: Duration = Duration::from_secs(600);

/// What the end of a volume on the disk showed.
pub(super) struct Wiped {
    pub(super) key: Option<KeyReport>,
    pub(super) canary: Verdict,
    pub(super) scan: Option<ScanReport>,
    pub(super) leftovers: Vec<String>,
}

/// Ends it. All processes of the job are gone. `needles` is absent when the policy wants no search.
pub(super) fn wipe(
    disk: Disk,
    attempt: &AttemptRef,
    canary: &Canary,
    needles: Option<Needles>,
    beat: &mut dyn FnMut(),
) -> Wiped {
    let mut leftovers = Vec::new();
    flush(&mut leftovers, beat);
    // The folder is in use as long as it is mounted, and its key with it.
    unmount(&place::volume(), &mut leftovers);
    let mut key = destroy_key(&disk, attempt, &mut leftovers, beat);
    // While the file system is still there: an encrypted name is looked at without its key.
    let inside = canary.verdict(&disk::folder());
    unmount(&place::disk(), &mut leftovers);
    leftovers.extend(remains::gone(attempt, beat));
    let seen = match disk.backend {
        VolumeBackend::Fscrypt => inside,
        _ => canary.verdict(&place::volume()),
    };
    if seen == Verdict::Readable {
        leftovers.push("the volume's canary is still readable".to_owned());
    }
    if let Some(key) = &mut key
        && key.destroyed_unix_ms == 0
        && leftovers.is_empty()
    {
        // It was the device's, and that is gone.
        key.destroyed_unix_ms = sys::clock::unix_ms();
    }
    let scan = needles.and_then(|needles| search(&disk, needles, canary, &mut leftovers, beat));
    if leftovers.is_empty()
        && let Err(error) = disk.store.remove(&disk.image.name)
    {
        leftovers.push(format!("the image {}: {error}", disk.image.name));
    }
    Wiped {
        key,
        canary: seen,
        scan,
        leftovers,
    }
}

/// What was written goes to the disk now, which may take longer than a watchdog waits: by a child.
fn flush(leftovers: &mut Vec<String>, beat: &mut dyn FnMut()) {
    let child = match sys::process::fork(Namespaces::NONE, None) {
        Ok(Fork::Parent(child)) => child,
        Ok(Fork::Child) => {
            let synced = File::open(place::disk())
                .map_err(drop)
                .and_then(|disk| nix::unistd::syncfs(disk.as_fd()).map_err(drop));
            crate::leader::leave(i32::from(synced.is_err()))
        }
        Err(error) => return leftovers.push(crate::text(&error)),
    };
    let until = sys::clock::boottime() + FLUSH;
    while sys::clock::boottime() < until {
        beat();
        // One that fails lost what nobody wants any more.
        if !matches!(child.wait_within(STEP), Ok(None)) {
            return;
        }
    }
    leftovers.push("the volume's file system does not take what was written to it".to_owned());
}

fn unmount(place: &std::path::Path, leftovers: &mut Vec<String>) {
    if let Err(error) = sys::mount::unmount(place, Unmount::IfUnused) {
        leftovers.push(crate::text(&error));
    }
}

fn destroy_key(
    disk: &Disk,
    attempt: &AttemptRef,
    leftovers: &mut Vec<String>,
    beat: &mut dyn FnMut(),
) -> Option<KeyReport> {
    let key = disk.key.as_ref()?;
    let mut report = KeyReport {
        cipher: sys::dm::CIPHER.to_owned(),
        identifier: disk::device_name(attempt),
        created_unix_ms: key.created_unix_ms,
        destroyed_unix_ms: 0,
        removal_flags: None,
    };
    let Some(id) = key.id else {
        return Some(report);
    };
    report.cipher = sys::fscrypt::CIPHER.to_owned();
    report.identifier = id.to_string();
    match take_away(id, beat) {
        Ok(removal) => {
            report.removal_flags = Some(removal.flags);
            match removal.flags {
                0 => report.destroyed_unix_ms = sys::clock::unix_ms(),
                flags => leftovers.push(format!(
                    "the volume's key is in use: files are still open (removal flags {flags})"
                )),
            }
        }
        Err(problem) => leftovers.push(problem),
    }
    Some(report)
}

/// Removes the key until the kernel says that nothing that was read with it is left.
fn take_away(id: KeyId, beat: &mut dyn FnMut()) -> Result<Removal, String> {
    let top = File::open(place::disk()).map_err(|error| error.to_string())?;
    let until = sys::clock::boottime() + BUSY;
    loop {
        beat();
        let removal =
            sys::fscrypt::remove_key(top.as_fd(), id).map_err(|error| crate::text(&error))?;
        let busy = removal.flags != 0;
        if busy && sys::clock::boottime() < until {
            std::thread::sleep(AGAIN);
            continue;
        }
        let status =
            sys::fscrypt::key_status(top.as_fd(), id).map_err(|error| crate::text(&error))?;
        return match (busy, status) {
            (false, Status::Absent) | (true, _) => Ok(removal),
            (false, other) => Err(format!("the kernel says of the volume's key: {other:?}")),
        };
    }
}

/// The raw image, when nothing writes to it any more.
fn search(
    disk: &Disk,
    mut needles: Needles,
    canary: &Canary,
    leftovers: &mut Vec<String>,
    beat: &mut dyn FnMut(),
) -> Option<ScanReport> {
    if disk.backend == VolumeBackend::Plain {
        // All of it would be found: that is what plain means.
        return None;
    }
    needles.add(&canary.bytes);
    needles.add(canary.name.as_bytes());
    let report = match needles.search(&disk.image.file, beat) {
        Ok(report) => report,
        Err(error) => {
            leftovers.push(format!("the image can't be searched: {error}"));
            return None;
        }
    };
    let expected = disk.image.bytes().unwrap_or(u64::MAX);
    if report.found > 0 {
        let found = report.found;
        leftovers.push(format!(
            "the raw disk space holds {found} of what was searched for"
        ));
    }
    if report.bytes != expected {
        let read = report.bytes;
        leftovers.push(format!(
            "of the raw disk space {read} of {expected} bytes were read"
        ));
    }
    Some(report)
}
