//! A volume on the disk: an image, a loop device, on some hosts a dm-crypt device, a file system, and
//! one folder of that, which fscrypt encrypts where dm-crypt does not.
//!
//! ```text
//! STORE/JOB.N.BACKEND.img ─► loop (autoclear) ─► [dm-crypt (deferred removal)] ─► ext4 ─► folder ─► volume
//! ```
//!
//! Each arrow is taken down by the kernel when the last one to its right is gone, so a session that
//! is killed leaves the image and nothing else, and of the image nobody has the key.

use std::fs::{DirBuilder, File};
use std::os::fd::AsFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use order::{AttemptRef, VolumeBackend};
use privsep::Refusal;
use privsep::volume::Rules;
use sys::fscrypt::KeyId;
use sys::loopback::Loop;
use sys::mount::{Attributes, Reach};

use super::image::{self, Image, Store};
use super::{ext4, place};

/// The one folder that becomes the volume; above it lies nothing that a job can write.
const FOLDER: &str = "v";

/// A mounted one.
pub(super) struct Disk {
    pub(super) store: Store,
    pub(super) image: Image,
    pub(super) backend: VolumeBackend,
    pub(super) key: Option<Key>,
}

/// The key of an encrypted one, as far as anybody knows it.
pub(super) struct Key {
    pub(super) created_unix_ms: u64,
    /// fscrypt's; dm-crypt's goes with its device.
    pub(super) id: Option<KeyId>,
}

/// The device of the device mapper for an attempt.
pub(super) fn device_name(attempt: &AttemptRef) -> String {
    format!("robotd-{attempt}")
}

/// The folder, seen from the file system's top.
pub(super) fn folder() -> PathBuf {
    place::disk().join(FOLDER)
}

/// Makes and mounts one. What was made of it when it fails is for [`super::remains`].
pub(super) fn make(
    attempt: &AttemptRef,
    backend: VolumeBackend,
    (bytes, files): (u64, u64),
    rules: &Rules,
    beat: &mut dyn FnMut(),
) -> Result<Disk, Refusal> {
    let failed = |error: &dyn std::error::Error| crate::refusal("VOLUME_FAILED", error);
    let store = Store::open(rules.store.as_ref())?;
    let size = ext4::device_bytes(bytes, files);
    let name = image::name(attempt, backend);
    let image = store.create(&name, size, rules.reserve_bytes)?;
    let lower = Loop::attach(image.as_fd(), &name).map_err(|error| failed(&error))?;
    let device = match backend {
        VolumeBackend::DmCrypt => encrypted(attempt, &lower, size)?,
        _ => lower.path(),
    };
    let created_unix_ms = sys::clock::unix_ms();
    ext4::make(&device, files, beat)?;
    let tree = ext4::mount(&device).map_err(|error| failed(&error))?;
    if backend == VolumeBackend::DmCrypt {
        // Asked for while it is in use: it goes with the mount, whatever becomes of this process.
        sys::dm::remove_when_unused(&device_name(attempt)).map_err(|error| failed(&error))?;
    }
    tree.attach(&place::disk())
        .map_err(|error| failed(&error))?;
    let made = DirBuilder::new().mode(0o711).create(folder());
    made.map_err(|error| failed(&error))?;
    let id = match backend {
        VolumeBackend::Fscrypt => Some(lock()?),
        _ => None,
    };
    let shown = sys::mount::bind(
        &folder(),
        &place::volume(),
        Attributes::WRITABLE,
        Reach::One,
    );
    shown.map_err(|error| failed(&error))?;
    let key = (backend != VolumeBackend::Plain).then_some(Key {
        created_unix_ms,
        id,
    });
    Ok(Disk {
        store,
        image,
        backend,
        key,
    })
}

/// A device with a key of its own on top of the image's.
fn encrypted(attempt: &AttemptRef, lower: &Loop, size: u64) -> Result<PathBuf, Refusal> {
    let failed = |error: &dyn std::error::Error| crate::refusal("VOLUME_FAILED", error);
    let lower = lower.device().map_err(|error| failed(&error))?;
    let mapped = sys::dm::encrypt(&device_name(attempt), lower, size);
    Ok(mapped.map_err(|error| failed(&error))?.path())
}

/// Gives the folder a key of its own, before anything is in it.
fn lock() -> Result<KeyId, Refusal> {
    let failed = |error: &dyn std::error::Error| crate::refusal("VOLUME_FAILED", error);
    let folder = File::open(folder()).map_err(|error| failed(&error))?;
    let id = sys::fscrypt::add_random_key(folder.as_fd()).map_err(|error| failed(&error))?;
    sys::fscrypt::encrypt_folder(folder.as_fd(), id).map_err(|error| failed(&error))?;
    Ok(id)
}
