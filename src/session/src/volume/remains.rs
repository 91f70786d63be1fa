//! What is left of a volume: who holds it, and taking it down when the session that made it is dead.

use std::time::Duration;

use order::{AttemptRef, Canary, KeyReport, VolumeBackend, VolumeReport};
use sys::mount::DeviceId;

use super::image::{self, Store};
use super::{disk, memory};

/// The kernel takes mounts and devices down a little after the last process that used them; udev
/// looks into devices that go.
const GONE: Duration = Duration::from_secs(20);
const AGAIN: Duration = Duration::from_millis(10);

/// Devices of an attempt that are still there.
fn devices(attempt: &AttemptRef) -> Result<Vec<(String, DeviceId)>, String> {
    let name = disk::device_name(attempt);
    let mapped = sys::dm::look(|own| own == name).map_err(|error| crate::text(&error))?;
    let loops = sys::loopback::attached(|file| {
        image::of_name(file).is_some_and(|(own, _)| own == *attempt)
    });
    let loops = loops.map_err(|error| crate::text(&error))?;
    let mapped = mapped
        .into_iter()
        .map(|mapped| (mapped.kernel_name, mapped.device));
    let loops = loops.into_iter().map(|own| (own.name, own.device));
    Ok(mapped.chain(loops).collect())
}

/// Waits until no device of this attempt is there any more: then no mount of it is either, in
/// whatever namespace, and no key. Otherwise who holds it.
pub(super) fn gone(attempt: &AttemptRef, beat: &mut dyn FnMut()) -> Vec<String> {
    let until = sys::clock::boottime() + GONE;
    loop {
        beat();
        let left = match devices(attempt) {
            Ok(left) if left.is_empty() => return vec![],
            Ok(left) => left,
            Err(problem) => return vec![problem],
        };
        if sys::clock::boottime() < until {
            std::thread::sleep(AGAIN);
            continue;
        }
        return left.into_iter().flat_map(held).collect();
    }
}

fn held((name, device): (String, DeviceId)) -> Vec<String> {
    let holders = sys::mount::mounts_of_device(device).unwrap_or_default();
    let mut found: Vec<_> = holders
        .iter()
        .map(|holder| format!("the volume is still mounted in process {}", holder.pid))
        .collect();
    found.push(format!("the volume's device {name} is still in use"));
    found
}

/// Takes down what a dead session left: its processes are gone. Says what it was and what is left.
pub(crate) fn take_down(
    attempt: &AttemptRef,
    store: &str,
    known: Option<VolumeBackend>,
    leftovers: &mut Vec<String>,
) -> Option<VolumeReport> {
    let before = leftovers.len();
    leftovers.extend(memory::holders(attempt));
    // Marked for removal by its session, unless that died just before.
    let name = disk::device_name(attempt);
    if let Ok(mapped) = sys::dm::look(|own| own == name)
        && !mapped.is_empty()
        && let Err(error) = sys::dm::remove_when_unused(&name)
    {
        leftovers.push(crate::text(&error));
    }
    leftovers.extend(gone(attempt, &mut || ()));
    let released = leftovers.len() == before;
    let found = remove_images(attempt, store, released, leftovers);
    let backend = found.or(known)?;
    let clean = leftovers.len() == before;
    Some(report(backend, clean))
}

/// A store that is not there holds none.
fn remove_images(
    attempt: &AttemptRef,
    store: &str,
    released: bool,
    leftovers: &mut Vec<String>,
) -> Option<VolumeBackend> {
    if !std::path::Path::new(store).exists() {
        return None;
    }
    let images = Store::open(store.as_ref())
        .map_err(|refusal| refusal.to_string())
        .and_then(|store| {
            let images = store.images(attempt).map_err(|error| error.to_string())?;
            Ok((store, images))
        });
    let (store, images) = match images {
        Ok(found) => found,
        Err(problem) => {
            leftovers.push(problem);
            return None;
        }
    };
    for (name, _) in images.iter().filter(|_| released) {
        if let Err(error) = store.remove(name) {
            leftovers.push(format!("the image {name}: {error}"));
        }
    }
    images.into_iter().next().map(|(_, backend)| backend)
}

/// The key died with its device or file system; what it was called, and the canary, only the dead
/// session knew.
fn report(backend: VolumeBackend, clean: bool) -> VolumeReport {
    let cipher = match backend {
        VolumeBackend::DmCrypt => Some(sys::dm::CIPHER),
        VolumeBackend::Fscrypt => Some(sys::fscrypt::CIPHER),
        VolumeBackend::Tmpfs | VolumeBackend::Plain => None,
    };
    VolumeReport {
        backend,
        passed_over: vec![],
        key: cipher.map(|cipher| KeyReport {
            cipher: cipher.to_owned(),
            identifier: String::new(),
            created_unix_ms: 0,
            destroyed_unix_ms: if clean { sys::clock::unix_ms() } else { 0 },
            removal_flags: None,
        }),
        files: 0,
        bytes: 0,
        canary: Canary::NotChecked,
        scan: None,
    }
}
