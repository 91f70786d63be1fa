//! Processes that swap folders for links to what is precious, by name and by descriptor, while the
//! tree goes (attack 21).

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{RenameFlags, renameat2};
use sys::beneath::{Dir, Mounts};
use sys::process::{Fork, Namespaces, Process, end_now, fork};

use crate::Extent;
use crate::place::Place;

const ATTACKERS: usize = 2;
/// Folders in each folder, each with a link to swap it for.
const PAIRS: usize = 3;
const FILES: usize = 6;
/// Swaps of one pair before the next: a name that is two things in turns, a microsecond each, is
/// another one at its opening than at the look before it every second time.
const BURST: usize = 64;

pub(crate) fn on_tmpfs(extent: Extent) {
    all(&Place::tmpfs(), extent.of((4_000, 50), (300_000, 5_000)));
}

pub(crate) fn on_ext4(extent: Extent) {
    all(&Place::ext4(512), extent.of((2_000, 20), (300_000, 5_000)));
}

/// So many swaps, in so many removals, at least: it is the moment between a look and an opening that
/// has to be hit. Without its checks by openat2(2) the deleter is led astray once in a hundred.
fn all(place: &Place, (wanted, least): (u64, u64)) {
    let (mut swaps, mut removals) = (0, 0);
    while swaps < wanted || removals < least {
        build(&place.tree(), &place.precious());
        let attackers: Vec<_> = (0..ATTACKERS).map(|_| attacker(&place.tree())).collect();
        // Each has swapped once.
        let mut attackers: Vec<_> = attackers
            .into_iter()
            .map(|(process, mut said)| {
                said.read_exact(&mut [0]).unwrap();
                (process, said)
            })
            .collect();
        let outcome = place.remove(removals);
        for (process, said) in &mut attackers {
            let mut count = String::new();
            said.read_to_string(&mut count).unwrap();
            swaps += count.parse::<u64>().unwrap();
            process.wait().unwrap();
        }
        outcome.unwrap_or_else(|error| panic!("removal {removals}: {error:?}"));
        place.check(&format!("removal {removals}"));
        removals += 1;
    }
    place.say(&format!("{swaps} swaps during {removals} removals"));
}

fn build(tree: &Path, precious: &Path) {
    for outer in 0..PAIRS {
        let folder = tree.join(format!("folder{outer}"));
        for inner in 0..PAIRS {
            let folder = folder.join(format!("folder{inner}"));
            fs::create_dir_all(&folder).unwrap();
            for file in 0..FILES {
                fs::write(folder.join(format!("file{file}")), "").unwrap();
            }
            symlink(precious, folder.with_file_name(format!("link{inner}"))).unwrap();
        }
        let target = if outer % 2 == 0 {
            precious.to_owned()
        } else {
            precious.join("sub")
        };
        symlink(target, tree.join(format!("link{outer}"))).unwrap();
    }
}

/// Swaps until nothing is there to be swapped: by descriptors that it opened before, so that it
/// follows folders wherever they are moved.
fn attacker(tree: &Path) -> (Process, std::io::PipeReader) {
    let (read, mut write) = std::io::pipe().unwrap();
    match fork(Namespaces::NONE, None).unwrap() {
        Fork::Parent(process) => (process, read),
        Fork::Child => {
            drop(read);
            let told = std::panic::catch_unwind(move || swap_all(tree, &mut write));
            end_now(u8::from(told.is_err()));
        }
    }
}

fn swap_all(tree: &Path, said: &mut impl Write) {
    let mut folders = vec![Dir::open_root(tree, Mounts::Stay).unwrap()];
    for outer in 0..PAIRS {
        // The other attacker may have swapped it already.
        if let Ok(folder) = folders[0].open_dir(format!("folder{outer}")) {
            folders.push(folder);
        }
    }
    let (mut swaps, mut lost) = (0_u64, 0);
    while lost < 3 {
        let before = swaps;
        for folder in &folders {
            for pair in 0..PAIRS {
                swaps += burst(folder, pair);
                if before == 0 && swaps > 0 && lost == 0 {
                    said.write_all(b"!").unwrap();
                    lost = 1;
                }
            }
        }
        lost = if swaps > before { 1 } else { lost + 1 };
    }
    write!(said, "{swaps}").unwrap();
}

fn burst(folder: &Dir, pair: usize) -> u64 {
    let (one, other) = (format!("folder{pair}"), format!("link{pair}"));
    for swaps in 0..BURST {
        let flags = RenameFlags::RENAME_EXCHANGE;
        match renameat2(folder, one.as_str(), folder, other.as_str(), flags) {
            Ok(()) => {}
            Err(Errno::ENOENT) => return swaps as u64,
            Err(error) => panic!("{error}"),
        }
    }
    BURST as u64
}
