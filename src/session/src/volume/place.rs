//! Where a volume lies in its session's own mount namespace, and the parts that every one has.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use privsep::session::Account;

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

/// All that the job writes.
pub(super) fn volume() -> PathBuf {
    Path::new(BASE).join("volume")
}

/// The file system that an image holds; the volume is one folder of it.
pub(super) fn disk() -> PathBuf {
    Path::new(BASE).join("disk")
}

/// Where the job's root is put together.
pub(super) fn root() -> PathBuf {
    Path::new(BASE).join("root")
}

/// The mount points, empty on the host.
pub(super) fn make() -> io::Result<()> {
    for place in [volume(), disk(), root()] {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(place)?;
    }
    Ok(())
}

/// Makes what every volume has.
pub(super) fn furnish(bot: &Account) -> io::Result<()> {
    for (name, mode, owned) in PARTS {
        let part = volume().join(name);
        fs::create_dir(&part)?;
        if owned {
            chown(&part, Some(bot.uid), Some(bot.gid))?;
        }
        // After the change of owner, and not cut by the umask.
        fs::set_permissions(&part, Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// Files and bytes on it, counted by the file system and not by walking what a bot built.
pub(super) fn used() -> (u64, u64) {
    let Ok(stat) = nix::sys::statvfs::statvfs(&volume()) else {
        return (0, 0);
    };
    let files = stat.files().saturating_sub(stat.files_free());
    let blocks = stat.blocks().saturating_sub(stat.blocks_free());
    (files, blocks * stat.fragment_size())
}
