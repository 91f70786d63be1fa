//! The claims of the fuzz targets, on their seeds and on all that fuzzing found worth keeping, without
//! libFuzzer: so every test run makes them.

mod claims;
mod seeds;

use std::fs;
use std::path::{Path, PathBuf};

type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 5] = [
    ("decoder", claims::decoder),
    ("policy", claims::policy),
    ("order", claims::order),
    ("archive", claims::archive),
    ("mountinfo", claims::mountinfo),
];

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target)
}

/// `ROBOTD_FUZZ_SEEDS=FOLDER` writes the seeds there, for libFuzzer to start from.
#[test]
fn every_claim_holds_on_its_seeds() {
    let wanted = std::env::var_os("ROBOTD_FUZZ_SEEDS");
    for ((target, seeds), (name, claim)) in seeds::all().into_iter().zip(TARGETS) {
        assert_eq!(target, name);
        for (number, seed) in seeds.iter().enumerate() {
            claim(seed);
            if let Some(folder) = &wanted {
                let folder = Path::new(folder).join(target);
                fs::create_dir_all(&folder).unwrap();
                fs::write(folder.join(format!("seed-{number:02}")), seed).unwrap();
            }
        }
    }
}

/// `ROBOTD_FUZZ_PACK=FOLDER` packs what libFuzzer's `-set_cover_merge=1` left in FOLDER/TARGET.
#[test]
fn every_claim_holds_on_what_fuzzing_found() {
    let wanted = std::env::var_os("ROBOTD_FUZZ_PACK");
    for (target, claim) in TARGETS {
        if let Some(folder) = &wanted {
            let found = inputs(&Path::new(folder).join(target));
            fs::write(corpus(target).join(PACK), packed(&found)).unwrap();
        }
        let found = inputs(&corpus(target));
        assert!(found.len() > 10, "the corpus of {target} is lost");
        found.iter().for_each(|input| claim(input));
    }
}

/// Hundreds of small inputs are one file: four bytes of length before each, the whole compressed.
const PACK: &str = "found.pack";

fn packed(inputs: &[Vec<u8>]) -> Vec<u8> {
    let mut whole = Vec::new();
    for input in inputs {
        let length = u32::try_from(input.len()).expect("a small input");
        whole.extend(length.to_le_bytes());
        whole.extend(input);
    }
    zstd::bulk::compress(&whole, 19).expect("compressed")
}

fn inputs(folder: &Path) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the corpus")
        .map(|entry| entry.expect("the corpus").path())
        .collect();
    paths.sort();
    for path in paths {
        let bytes = fs::read(&path).expect("the corpus");
        if !path.ends_with(PACK) {
            found.push(bytes);
            continue;
        }
        let whole = zstd::bulk::decompress(&bytes, 64 << 20).expect("the corpus");
        let mut rest = &whole[..];
        while let Some((length, behind)) = rest.split_first_chunk() {
            let (input, behind) = behind.split_at(u32::from_le_bytes(*length) as usize);
            found.push(input.to_vec());
            rest = behind;
        }
    }
    found
}

/// A few thousand cheap mutations of each seed: not a search, a check that the claims are alive.
#[test]
fn every_claim_holds_on_seeds_that_are_cut_flipped_and_doubled() {
    for ((_, seeds), (_, claim)) in seeds::all().into_iter().zip(TARGETS) {
        for seed in seeds.iter().filter(|seed| seed.len() < 16 << 10) {
            let step = (seed.len() / 64).max(1);
            for at in (0..seed.len()).step_by(step) {
                claim(&seed[..at]);
                claim(&[&seed[..at], &seed[at / 2..]].concat());
                for bit in [0x01, 0x80, 0xff] {
                    let mut flipped = seed.clone();
                    flipped[at] ^= bit;
                    claim(&flipped);
                }
            }
        }
    }
}

/// Seeds that no parser takes any more would make all of the above true of nothing.
#[test]
fn the_honest_seeds_are_taken() {
    assert!(claims::HOST.takes(seeds::honest_order().to_string().as_bytes()));
    package::check(&seeds::honest_archive()[..], &package::Limits::default()).unwrap();
    broker::Policy::parse(include_str!("../../packaging/policy.toml")).unwrap();
}
