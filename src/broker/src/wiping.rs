//! What wipes leave to the broker: the report of a session that could not make its own, and images
//! of volumes that belong to nobody any more.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use events::{Code, Event};
use order::{Assurance, AttemptRef, VolumeBackend, VolumeReport, WipeReport};
use privsep::session::Swept;

use crate::attempts::Stage;
use crate::broker::Broker;

/// Makes the store of images where the package did not. Whether it can be trusted each session checks
/// anew, and says what to do.
pub(crate) fn make_store(path: &Path) {
    if let Err(error) = DirBuilder::new().mode(0o700).create(path)
        && error.kind() != ErrorKind::AlreadyExists
    {
        let path = path.display();
        eprintln!("robotd-broker: the store of volumes {path} can't be made: {error}");
    }
}

/// The event of a wipe that is proven.
pub(crate) fn wiped(wipe: &WipeReport) -> Event {
    let event = Broker::event_now(Code::Wiped).with("method", wipe.assurance.name());
    let Some(volume) = &wipe.volume else {
        return event.with("files", 0).with("bytes", 0);
    };
    event
        .with("backend", volume.backend.name())
        .with("files", volume.files)
        .with("bytes", volume.bytes)
}

/// The report of a teardown: what was on the volume, its canary and its key's name only the dead
/// session knew.
pub(crate) fn torn_down(swept: &Swept, volume: Option<VolumeReport>) -> WipeReport {
    let complete = swept.leftovers.is_empty();
    let swap = swap_state(volume.as_ref().map(|volume| volume.backend));
    let assurance = match (complete, &volume) {
        (false, _) => Assurance::Failed,
        (true, Some(volume)) if swap == "possible" && volume.backend == VolumeBackend::Tmpfs => {
            Assurance::Unlinked
        }
        (true, Some(volume)) => volume.backend.assurance(),
        // Nobody knows what it was: not more than the least is claimed.
        (true, None) => Assurance::Unlinked,
    };
    WipeReport {
        complete,
        assurance,
        volume,
        swap: swap.to_owned(),
        duration_ms: 0,
        swept: swept.swept.clone(),
        leftovers: swept.leftovers.clone(),
    }
}

/// Whether pages of the volume could have reached a swap device. Whether its tmpfs was kept out of
/// swap only its session knew.
fn swap_state(backend: Option<VolumeBackend>) -> &'static str {
    let devices = fs::read_to_string("/proc/swaps").map_or(0, |text| text.lines().skip(1).count());
    match backend {
        _ if devices == 0 => "none",
        Some(VolumeBackend::DmCrypt | VolumeBackend::Fscrypt | VolumeBackend::Plain) => "excluded",
        Some(VolumeBackend::Tmpfs) | None => "possible",
    }
}

/// The attempt that an image of the store belongs to: `JOB.N.BACKEND.img`.
fn attempt_of(image: &str) -> Option<AttemptRef> {
    let (attempt, backend) = image.strip_suffix(".img")?.rsplit_once('.')?;
    VolumeBackend::from_name(backend)?;
    attempt.parse().ok()
}

impl Broker {
    /// Images of attempts that are over, or that nobody knows: a host lost power in the middle. Keys
    /// died with the kernel that had them. Before the first job is taken.
    pub(crate) fn remove_stray_images(&mut self) {
        let store = self.policy.volume.store.clone();
        for entry in fs::read_dir(&store).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(attempt) = attempt_of(&name).filter(|attempt| !self.may_have_volume(attempt))
            else {
                continue;
            };
            let used = sys::loopback::attached(|file| file == name);
            let removed = match used.map(|used| used.is_empty()) {
                Ok(true) => fs::remove_file(entry.path()).map_err(|error| error.to_string()),
                Ok(false) => Err("a device of this host still uses it".to_owned()),
                Err(error) => Err(crate::text(&error)),
            };
            let event = match removed {
                Ok(()) => Self::event_now(Code::LeftoversRemoved)
                    .with("reason", "the image of a volume whose job is over"),
                Err(why) => {
                    let what = format!("{}: {why}", entry.path().display());
                    self.operator(&format!("the image of a volume can't be removed: {what}"));
                    Self::event_now(Code::WipeFailed).with("reason", what)
                }
            };
            self.event(event, Some(attempt));
        }
    }

    /// Its session may still be there, or its slot is in quarantine with it.
    fn may_have_volume(&self, attempt: &AttemptRef) -> bool {
        let held = self.attempts.get(attempt);
        let live = held.is_some_and(|held| !matches!(held.stage, Stage::Ended { .. }));
        live || self
            .quarantined
            .values()
            .any(|(quarantined, _)| quarantined == attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_image_of_ours_is_never_removed() {
        let attempt = "0199d6a4-0000-7000-8000-000000000001.3";
        let name = format!("{attempt}.dm-crypt.img");
        assert_eq!(attempt_of(&name), attempt.parse().ok());
        for odd in ["lost+found", "x.plain.img", "backup.img", ".img"] {
            assert_eq!(attempt_of(odd), None);
        }
        assert_eq!(attempt_of(&format!("{attempt}.img")), None);
    }

    #[test]
    fn a_teardown_claims_no_more_than_is_known() {
        let clean = Swept::default();
        assert_eq!(torn_down(&clean, None).assurance, Assurance::Unlinked);
        let left = Swept {
            leftovers: vec!["x".to_owned()],
            ..Swept::default()
        };
        assert_eq!(torn_down(&left, None).assurance, Assurance::Failed);
    }
}
