//! What scratch volumes can be made of.

use std::path::Path;

use privsep::abilities::Ability;
use sys::mount::{Attributes, Tmpfs};

pub(super) fn find() -> Vec<(Ability, u32)> {
    let (fscrypt, dm_crypt) = (fscrypt(), dm_crypt());
    vec![
        (Ability::Fscrypt, fscrypt.into()),
        (Ability::DmCrypt, dm_crypt.into()),
        (Ability::CryptoErase, (fscrypt || dm_crypt).into()),
        (Ability::NoSwap, keeps_out_of_swap().into()),
    ]
}

/// The kernel's ext4 knows it; whether a disk has it switched on is its volume's matter.
fn fscrypt() -> bool {
    Path::new("/sys/fs/ext4/features/encryption").exists()
}

/// The target is there, or the device mapper that would load it.
fn dm_crypt() -> bool {
    Path::new("/sys/module/dm_crypt").is_dir() && Path::new("/dev/mapper/control").exists()
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
