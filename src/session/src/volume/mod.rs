//! The scratch volume: all that the bot can write lies on it, and it goes as a whole.
//!
//! A tmpfs, mounted by the monitor in its own mount namespace: the host never sees it. Releasing
//! it is the wipe; that no namespace holds it any more is the proof.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::path::{Path, PathBuf};

use order::{AttemptRef, WipeMethod, WipeReport};
use privsep::Refusal;
use privsep::session::{Account, Swept};
use sys::mount::{Attributes, Filesystem, Unmount};

/// Empty on the host; each monitor mounts over it in its own namespace.
const BASE: &str = "/run/robotd-session";

/// The parts of a volume: name, mode, whether the bot owns it.
const PARTS: [(&str, u32, bool); 9] = [
    ("home", 0o700, true),
    ("run", 0o700, true),
    ("artifacts", 0o700, true),
    ("upper", 0o755, true),
    ("overlay", 0o700, false),
    // Owned by root like the real ones: a bot must not replace the X server's directory.
    ("tmp", 0o1777, false),
    ("tmp/.X11-unix", 0o1777, false),
    ("vartmp", 0o1777, false),
    ("shm", 0o1777, false),
];

/// A mounted volume.
pub(crate) struct Volume {
    path: PathBuf,
    attempt: AttemptRef,
    swap_excluded: bool,
    canary: PathBuf,
    /// Files and bytes that are ours, before the bot made any.
    own: (u64, u64),
}

/// What lies under a volume's name in /proc/PID/mountinfo.
pub(crate) fn source_of(attempt: &AttemptRef) -> String {
    format!("robotd-{attempt}")
}

/// Every process in whose mount namespace the volume of this attempt still lies. By its name, not
/// by its device: the kernel gives the number of a released volume to the next one.
pub(crate) fn holders(attempt: &AttemptRef) -> Vec<String> {
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

impl Volume {
    /// Where the job's root is put together, beside the volume.
    pub(crate) fn root_place() -> PathBuf {
        Path::new(BASE).join("root")
    }

    /// Gives this process a mount namespace of its own and mounts the volume in it. Mounts of the
    /// host go on to show (/run/user/UID comes and goes); ours do not show on the host.
    pub(crate) fn mount(
        attempt: &AttemptRef,
        bytes: u64,
        files: u64,
        bot: &Account,
    ) -> Result<Self, Refusal> {
        let path = Path::new(BASE).join("volume");
        for place in [&path, &Self::root_place()] {
            let made = fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(place);
            made.map_err(|error| crate::refusal("VOLUME_FAILED", &error))?;
        }
        let failed = |error: sys::mount::Error| crate::refusal("VOLUME_FAILED", &error);
        sys::mount::own_namespace(sys::mount::Propagation::Slave).map_err(failed)?;
        let filesystem = Filesystem::open("tmpfs").map_err(failed)?;
        let filesystem = filesystem
            .set("source", &source_of(attempt))
            .map_err(failed)?;
        let filesystem = filesystem.set("size", &bytes.to_string()).map_err(failed)?;
        let filesystem = filesystem
            .set("nr_inodes", &files.to_string())
            .map_err(failed)?;
        let filesystem = filesystem.set("mode", "0711").map_err(failed)?;
        let swap_excluded = filesystem.try_flag("noswap").map_err(failed)?;
        let tree = filesystem.mount(Attributes::WRITABLE).map_err(failed)?;
        tree.attach(&path).map_err(failed)?;
        let volume = Self {
            canary: path.join(".canary"),
            path,
            attempt: *attempt,
            swap_excluded,
            own: (0, 0),
        };
        volume
            .furnish(bot)
            .map_err(|error| crate::refusal("VOLUME_FAILED", &error))?;
        Ok(volume)
    }

    fn furnish(&self, bot: &Account) -> std::io::Result<()> {
        let mut canary = [0; 32];
        getrandom::fill(&mut canary).map_err(std::io::Error::other)?;
        fs::write(&self.canary, canary)?;
        fs::set_permissions(
            &self.canary,
            std::os::unix::fs::PermissionsExt::from_mode(0o600),
        )?;
        for (name, mode, owned) in PARTS {
            let part = self.path.join(name);
            fs::create_dir(&part)?;
            if owned {
                chown(&part, Some(bot.uid), Some(bot.gid))?;
            }
            // After the change of owner, and not cut by the umask.
            fs::set_permissions(&part, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
        }
        Ok(())
    }

    /// A part of the volume, in the monitor's namespace.
    pub(crate) fn part(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Releases the volume and proves that it is gone. Every process of the job has ended.
    pub(crate) fn release(self, mut swept: Swept) -> WipeReport {
        let (files, bytes) = self.usage();
        if let Err(error) = sys::mount::unmount(&self.path, Unmount::IfUnused) {
            swept.leftovers.push(crate::text(&error));
        }
        swept.leftovers.extend(holders(&self.attempt));
        if self.canary.exists() {
            swept
                .leftovers
                .push("the volume's canary is still readable".to_owned());
        }
        WipeReport {
            complete: swept.leftovers.is_empty(),
            method: WipeMethod::TmpfsReleased,
            files,
            bytes,
            swap: self.swap(),
            swept: swept.swept,
            leftovers: swept.leftovers,
        }
    }

    /// What is on it by now is ours: the wipe report counts what the bot adds.
    pub(crate) fn count_as_own(&mut self) {
        self.own = self.used();
    }

    fn usage(&self) -> (u64, u64) {
        let (files, bytes) = self.used();
        (
            files.saturating_sub(self.own.0),
            bytes.saturating_sub(self.own.1),
        )
    }

    /// Files and bytes, counted by the file system and not by walking what a bot built.
    fn used(&self) -> (u64, u64) {
        let Ok(stat) = nix::sys::statvfs::statvfs(&self.path) else {
            return (0, 0);
        };
        let files = stat.files().saturating_sub(stat.files_free());
        let blocks = stat.blocks().saturating_sub(stat.blocks_free());
        (files, blocks * stat.fragment_size())
    }

    fn swap(&self) -> String {
        let devices =
            fs::read_to_string("/proc/swaps").map_or(0, |text| text.lines().skip(1).count());
        match (devices, self.swap_excluded) {
            (0, _) => "none",
            (_, true) => "excluded",
            (_, false) => "possible",
        }
        .to_owned()
    }
}
