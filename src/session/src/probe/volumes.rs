//! What scratch volumes can be made of.

use std::path::Path;

use order::VolumeBackend;
use privsep::abilities::Ability;
use sys::mount::{Attributes, Tmpfs};

/// As a job's volume is made, on the disk where it would lie.
pub(super) fn find(store: &Path) -> Vec<(Ability, u32)> {
    let tried = crate::volume::abilities(store);
    let works = |backend| {
        tried
            .iter()
            .any(|own| own.backend == backend && own.works.is_ok())
    };
    let (fscrypt, dm_crypt) = (works(VolumeBackend::Fscrypt), works(VolumeBackend::DmCrypt));
    vec![
        (Ability::Fscrypt, fscrypt.into()),
        (Ability::DmCrypt, dm_crypt.into()),
        (Ability::CryptoErase, (fscrypt || dm_crypt).into()),
        (Ability::NoSwap, keeps_out_of_swap().into()),
    ]
}

/// No swap at all, or a tmpfs that the kernel keeps out of it.
fn keeps_out_of_swap() -> bool {
    let swaps = std::fs::read_to_string("/proc/swaps");
    swaps.is_ok_and(|text| text.lines().count() <= 1) || excludes_tmpfs()
}

fn excludes_tmpfs() -> bool {
    let small = Tmpfs {
        bytes: 65_536,
        inodes: 16,
        mode: 0o700,
        uid: sys::Uid::from_raw(0),
        gid: sys::Gid::from_raw(0),
    };
    // Never attached: it is gone with the descriptor.
    matches!(
        sys::mount::tmpfs(&small, Attributes::WRITABLE),
        Ok((_, true))
    )
}
