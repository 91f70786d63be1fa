//! Random trees, one after the other, each from its seed.

use sys::beneath::Removed;

use crate::Extent;
use crate::place::Place;
use crate::tree::Builder;

/// Seeds count up from here; the date on which the campaign was first run.
const FIRST: u64 = 20_261_122_000_000;

pub(crate) fn on_tmpfs(extent: Extent) {
    all(&Place::tmpfs(), extent, extent.of(250, 10_000));
}

pub(crate) fn on_ext4(extent: Extent) {
    all(&Place::ext4(1_024), extent, extent.of(80, 10_000));
}

fn all(place: &Place, extent: Extent, count: u64) {
    let seeds = match extent {
        Extent::Seed(seed) => seed..seed + 1,
        _ => FIRST..FIRST + count,
    };
    let (first, last) = (seeds.start, seeds.end - 1);
    let mut sum = Removed::default();
    for seed in seeds {
        sum.add(&one(place, seed));
    }
    place.say(&format!("{count} trees, seeds {first} to {last}: {sum}"));
}

/// Built, removed, and counted as it was built.
fn one(place: &Place, seed: u64) -> Removed {
    let expected = Builder::new(seed, &place.precious()).build(&place.base);
    let removed = place.remove(seed);
    let removed = removed.unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
    place.check(&format!("seed {seed}"));
    assert_eq!(removed, expected, "seed {seed}");
    removed
}
