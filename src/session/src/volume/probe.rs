//! What this host can do, found out by doing it: a tiny volume is made, encrypted and thrown away.
//! It touches no mount namespace and leaves nothing, not even a name.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use order::VolumeBackend;
use sys::loopback::Loop;
use sys::mount::{Filesystem, Tree};

use super::ext4;
use super::image::Store;

/// The least that ext4 likes.
const BYTES: u64 = 2 << 20;
const FILES: u64 = 16;

/// Whether a kind of volume works on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ability {
    /// Which.
    pub(crate) backend: VolumeBackend,
    /// `Err` with the reason why not.
    pub(crate) works: Result<(), String>,
}

/// All kinds, the strongest first. `store` is where images would lie.
pub(crate) fn abilities(store: &Path) -> Vec<Ability> {
    let ability = |backend| Ability {
        backend,
        works: works(backend, store),
    };
    VolumeBackend::ALL.into_iter().map(ability).collect()
}

/// Tries one.
pub(super) fn works(backend: VolumeBackend, store: &Path) -> Result<(), String> {
    let text = |error: &dyn std::error::Error| crate::text(error);
    if backend == VolumeBackend::Tmpfs {
        return Filesystem::open("tmpfs")
            .map(drop)
            .map_err(|error| text(&error));
    }
    let store = Store::open(store).map_err(|refusal| refusal.detail)?;
    let image = store.trial(BYTES)?;
    let name = format!("robotd-trial-{}", std::process::id());
    let lower = Loop::attach(image.as_fd(), &name).map_err(|error| text(&error))?;
    if backend == VolumeBackend::DmCrypt {
        let device = lower.device().map_err(|error| text(&error))?;
        let mapped = sys::dm::encrypt(&name, device, BYTES).map_err(|error| text(&error))?;
        let tried = mounted(&mapped.path()).map(drop);
        sys::dm::remove_when_unused(&name).map_err(|error| text(&error))?;
        return tried;
    }
    let tree = mounted(&lower.path())?;
    if backend == VolumeBackend::Fscrypt {
        return encrypts(&tree);
    }
    Ok(())
}

fn mounted(device: &Path) -> Result<Tree, String> {
    ext4::make(device, FILES, &mut || ()).map_err(|refusal| refusal.detail)?;
    ext4::mount(device).map_err(|error| crate::text(&error))
}

/// A folder of a file system that is attached nowhere takes a key and gives it back.
fn encrypts(tree: &Tree) -> Result<(), String> {
    let failed = |error: nix::errno::Errno| error.desc().to_owned();
    mkdirat(tree.as_fd(), "v", Mode::S_IRWXU).map_err(failed)?;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let folder: OwnedFd = openat(tree.as_fd(), "v", flags, Mode::empty()).map_err(failed)?;
    let text = |error: sys::fscrypt::Error| crate::text(&error);
    let key = sys::fscrypt::add_random_key(folder.as_fd()).map_err(text)?;
    sys::fscrypt::encrypt_folder(folder.as_fd(), key).map_err(text)?;
    let write = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_CLOEXEC;
    let file = openat(&folder, "f", write, Mode::S_IRUSR).map_err(failed)?;
    std::io::Write::write_all(&mut &File::from(file), b"trial")
        .map_err(|error| error.to_string())?;
    drop(folder);
    let top = openat(tree.as_fd(), ".", flags, Mode::empty()).map_err(failed)?;
    let removal = sys::fscrypt::remove_key(top.as_fd(), key).map_err(text)?;
    match removal.flags {
        0 => Ok(()),
        flags => Err(format!("a key could not be taken away (flags {flags})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_backend_works_or_says_why_not_and_nothing_is_left() {
        if !nix::unistd::getuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        for ability in abilities(folder.path()) {
            match ability.works {
                Ok(()) => eprintln!("{} works", ability.backend),
                Err(why) => {
                    eprintln!("{}: {why}", ability.backend);
                    assert!(!why.is_empty() && !why.contains("install -d"), "{why}");
                }
            }
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn without_a_store_all_that_need_none_still_work() {
        let missing = Path::new("/nonexistent/store");
        assert_eq!(works(VolumeBackend::Tmpfs, missing), Ok(()));
        let why = works(VolumeBackend::Plain, missing).unwrap_err();
        assert!(why.contains("install -d"), "{why}");
    }
}
