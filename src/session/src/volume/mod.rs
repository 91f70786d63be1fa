//! The scratch volume: all that the bot can write lies on it, and it goes as a whole.
//!
//! Mounted by the monitor in its own mount namespace: the host never sees it. Reading order:
//!
//! * `place`: where it lies and what every volume has; `choice`: which kind a job gets; `probe`: what
//!   this host can do
//! * `memory` (tmpfs), `disk` with `image` and `ext4` (dm-crypt, fscrypt, plain): making one
//! * `wipe` with `canary` and `scan`: its end and the proof; `remains`: the end of one whose
//!   session died

mod canary;
mod choice;
mod disk;
mod ext4;
mod image;
mod memory;
mod place;
mod probe;
mod remains;
mod scan;
mod wipe;

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use order::{Assurance, AttemptRef, Canary as Verdict, VolumeBackend, VolumeReport, WipeReport};
use privsep::Refusal;
use privsep::session::{Spec, Swept};

use canary::Canary;
use choice::Memory;
use disk::Disk;
use scan::Needles;
use wipe::Wiped;

pub(crate) use probe::{Ability, abilities};
pub(crate) use remains::take_down;

/// A mounted volume.
pub(crate) struct Volume {
    attempt: AttemptRef,
    backing: Backing,
    passed_over: Vec<String>,
    canary: Canary,
    /// The raw disk space is searched after the wipe.
    deep_scan: bool,
    memory: Memory,
    /// Files and bytes that are ours, before the bot made any.
    own: (u64, u64),
}

enum Backing {
    Memory,
    Disk(Disk),
}

/// A volume's kind and what the host's memory was when it was chosen.
pub(crate) struct Chosen {
    choice: choice::Choice,
    memory: Memory,
}

impl Chosen {
    pub(crate) fn backend(&self) -> VolumeBackend {
        self.choice.backend
    }
}

/// Chooses a kind for this job, by what works on this host now.
pub(crate) fn choose(spec: &Spec) -> Result<Chosen, Refusal> {
    let memory = memory::look();
    let works = |backend| probe::works(backend, spec.volume.store.as_ref());
    let choice = choice::choose(&spec.volume, spec.volume_bytes, memory, works)?;
    Ok(Chosen { choice, memory })
}

impl Volume {
    /// Where the job's root is put together, beside the volume.
    pub(crate) fn root_place() -> PathBuf {
        place::root()
    }

    /// Gives this process a mount namespace of its own and mounts the volume in it. Mounts of the
    /// host go on to show (/run/user/UID comes and goes); ours do not show on the host.
    pub(crate) fn mount(
        spec: &Spec,
        chosen: Chosen,
        beat: &mut dyn FnMut(),
    ) -> Result<Self, Refusal> {
        place::make().map_err(|error| crate::refusal("VOLUME_FAILED", &error))?;
        sys::mount::own_namespace(sys::mount::Propagation::Slave)
            .map_err(|error| crate::refusal("VOLUME_FAILED", &error))?;
        let Chosen { choice, memory } = chosen;
        let made = back(spec, choice.backend, beat).and_then(|backing| {
            let planted = place::furnish(&spec.account)
                .and_then(|()| Canary::plant(&place::volume()))
                .map_err(|error| crate::refusal("VOLUME_FAILED", &error));
            planted.map(|canary| (backing, canary))
        });
        let (backing, canary) = match made {
            Ok(made) => made,
            Err(refusal) => return Err(undo(spec, choice.backend, refusal)),
        };
        Ok(Self {
            attempt: spec.attempt,
            backing,
            passed_over: choice.passed_over,
            canary,
            deep_scan: spec.volume.deep_scan,
            memory,
            own: (0, 0),
        })
    }

    /// A part of the volume, in the monitor's namespace.
    pub(crate) fn part(&self, name: &str) -> PathBuf {
        place::volume().join(name)
    }

    /// What is on it by now is ours: the wipe report counts what the bot adds.
    pub(crate) fn count_as_own(&mut self) {
        self.own = place::used();
    }

    /// Wipes the volume and proves that it is gone. Every process of the job has ended. `secrets`
    /// are what the bot was given.
    pub(crate) fn release<'a>(
        self,
        mut swept: Swept,
        secrets: impl Iterator<Item = &'a OwnedFd>,
        beat: &mut dyn FnMut(),
    ) -> WipeReport {
        let began = sys::clock::boottime();
        let (files, bytes) = place::used();
        let (own_files, own_bytes) = self.own;
        let backend = match &self.backing {
            Backing::Memory => VolumeBackend::Tmpfs,
            Backing::Disk(disk) => disk.backend,
        };
        let needles = self.deep_scan.then(|| {
            let mut needles = Needles::default();
            needles.add_secrets(secrets);
            needles
        });
        let wiped = match self.backing {
            Backing::Memory => release_memory(&self.attempt, &self.canary),
            Backing::Disk(disk) => wipe::wipe(disk, &self.attempt, &self.canary, needles, beat),
        };
        swept.leftovers.extend(wiped.leftovers);
        let volume = VolumeReport {
            backend,
            passed_over: self.passed_over,
            key: wiped.key,
            files: files.saturating_sub(own_files),
            bytes: bytes.saturating_sub(own_bytes),
            canary: wiped.canary,
            scan: wiped.scan,
        };
        // A swap device that was turned on meanwhile counts.
        let memory = Memory {
            swap: self.memory.swap || memory::look().swap,
            ..self.memory
        };
        WipeReport {
            complete: swept.leftovers.is_empty(),
            assurance: assurance(backend, memory, swept.leftovers.is_empty()),
            volume: Some(volume),
            swap: swap_of(backend, memory).to_owned(),
            duration_ms: millis(sys::clock::boottime().saturating_sub(began)),
            swept: swept.swept,
            leftovers: swept.leftovers,
        }
    }
}

fn back(spec: &Spec, backend: VolumeBackend, beat: &mut dyn FnMut()) -> Result<Backing, Refusal> {
    let size = (spec.volume_bytes, spec.volume_files);
    match backend {
        VolumeBackend::Tmpfs => {
            memory::mount(&spec.attempt, size.0, size.1)?;
            Ok(Backing::Memory)
        }
        _ => disk::make(&spec.attempt, backend, size, &spec.volume, beat).map(Backing::Disk),
    }
}

/// Takes down what was made of a volume that could not be finished: no report will tell of it.
fn undo(spec: &Spec, backend: VolumeBackend, refusal: Refusal) -> Refusal {
    for place in [place::volume(), place::disk()] {
        // Not there yet, mostly.
        let _ = sys::mount::unmount(&place, sys::mount::Unmount::IfUnused);
    }
    let mut leftovers = Vec::new();
    take_down(
        &spec.attempt,
        &spec.volume.store,
        Some(backend),
        &mut leftovers,
    );
    if leftovers.is_empty() {
        return refusal;
    }
    let detail = format!(
        "{}; and of it is left: {}",
        refusal.detail,
        leftovers.join("; ")
    );
    Refusal::new(&refusal.code, detail)
}

fn release_memory(attempt: &AttemptRef, canary: &Canary) -> Wiped {
    let mut leftovers = memory::release(attempt);
    let seen = canary.verdict(&place::volume());
    if seen == Verdict::Readable {
        leftovers.push("the volume's canary is still readable".to_owned());
    }
    Wiped {
        key: None,
        canary: seen,
        scan: None,
        leftovers,
    }
}

/// Pages of files on a disk go back to that disk and never to swap.
fn swap_of(backend: VolumeBackend, memory: Memory) -> &'static str {
    match (backend, memory.swap) {
        (VolumeBackend::Tmpfs, _) => memory.swap_state(),
        (_, true) => "excluded",
        (_, false) => "none",
    }
}

/// Memory that could have been swapped out may be on a disk, in the clear.
fn assurance(backend: VolumeBackend, memory: Memory, clean: bool) -> Assurance {
    match backend {
        _ if !clean => Assurance::Failed,
        VolumeBackend::Tmpfs if memory.can_be_swapped() => Assurance::Unlinked,
        backend => backend.assurance(),
    }
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
