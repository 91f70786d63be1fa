//! Attacks on the compressed stream and on its two ends.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;

use package::{Code, Digest, Limits, PrivateKey, verify};

use crate::forge::*;

const MIB: usize = 1024 * 1024;

#[test]
fn a_stream_cut_at_every_97th_byte_is_truncated() {
    let noise: Vec<u8> = (0..20_000u32)
        .map(|n| (n.wrapping_mul(n).wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let entries = [
        entry("manifest.json", &manifest(&[("noise", &noise)])),
        entry("files/noise", &noise),
    ];
    let whole = archive(&entries);
    assert!(whole.len() > 50 * 97);
    for end in (0..whole.len())
        .step_by(97)
        .chain([1, 2, 3, 4, whole.len() - 1])
    {
        assert_eq!(
            refusal(&whole[..end]),
            Code::Truncated,
            "{end} of {}",
            whole.len()
        );
    }
}

#[test]
fn a_tar_stream_cut_inside_a_whole_frame_is_truncated() {
    let tar = [honest().concat(), vec![0; 2 * BLOCK]].concat();
    for end in (0..tar.len()).step_by(97) {
        assert_eq!(refusal(&compress(&tar[..end])), Code::Truncated, "{end}");
    }
    assert_eq!(
        refusal(&compress(&tar[..tar.len() - BLOCK])),
        Code::Truncated
    );
}

#[test]
fn anything_after_the_end_is_refused() {
    let whole = archive(&honest());
    let skippable = [&[0x50, 0x2A, 0x4D, 0x18, 4, 0, 0, 0][..], b"junk"].concat();
    for tail in [&b"x"[..], &[0], &whole, &skippable, &[0; 4096]] {
        assert_eq!(refusal(&[&whole, tail].concat()), Code::TrailingBytes);
    }
    let tar = [honest().concat(), vec![0; 2 * BLOCK]].concat();
    for tail in [
        vec![0; BLOCK],
        vec![0; 18 * BLOCK],
        b"x".to_vec(),
        entry("files/late", b"x"),
    ] {
        assert_eq!(
            refusal(&compress(&[tar.clone(), tail].concat())),
            Code::TrailingBytes
        );
    }
    let half_end = [
        honest().concat(),
        vec![0; BLOCK],
        entry("files/late", b"x"),
        vec![0; 2 * BLOCK],
    ]
    .concat();
    assert_eq!(refusal(&compress(&half_end)), Code::TrailingBytes);
}

#[test]
fn other_formats_and_leading_frames_are_refused() {
    let whole = archive(&honest());
    let skippable = [0x50, 0x2A, 0x4D, 0x18, 0, 0, 0, 0];
    for start in [&skippable[..], b"\0", b"\x1f\x8b", b"PK\x03\x04"] {
        assert_eq!(refusal(&[start, &whole].concat()), Code::FormatInvalid);
    }
    assert_eq!(
        refusal(&honest().concat()),
        Code::FormatInvalid,
        "not compressed"
    );
}

#[test]
fn a_window_larger_than_the_opener_holds_is_refused() {
    let tar = [honest().concat(), vec![0; 2 * BLOCK]].concat();
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).expect("encoder");
    encoder.window_log(27).expect("accepted");
    std::io::copy(&mut &tar[..], &mut encoder).expect("compresses");
    assert_eq!(
        refusal(&encoder.finish().expect("finishes")),
        Code::FormatInvalid
    );
}

#[test]
fn bombs_are_stopped_early() {
    let zeros = vec![0; 64 * MIB];
    let entries = [
        entry("manifest.json", &manifest(&[("z", &zeros)])),
        entry("files/z", &zeros),
    ];
    let bomb = archive(&entries);
    assert!(bomb.len() < 64 * 1024);
    let arena = Arena::new();
    assert_eq!(
        arena
            .unpack(&bomb, &Limits::default())
            .expect_err("bomb")
            .code(),
        Code::Bomb
    );
    let written = std::fs::metadata(arena.target().join("files/z"))
        .expect("exists")
        .len();
    assert!(written <= 11 * MIB as u64, "{written} bytes were written");
    // After the end, or as a manifest: the ratio counts whatever the bytes are.
    let tail = compress(&[honest().concat(), vec![0; 64 * MIB]].concat());
    assert_eq!(refusal(&tail), Code::TrailingBytes);
    let header = entry_of(
        &header(b"manifest.json", 16 * MIB as u64),
        &vec![b' '; 16 * MIB],
    );
    assert_eq!(refusal(&archive(&[header])), Code::Bomb);
}

#[test]
fn an_endless_stream_of_empty_blocks_ends_at_the_limit() {
    let head: &[u8] = &[0x28, 0xB5, 0x2F, 0xFD, 0x00, 0x58];
    let endless = head.chain(std::io::repeat(0));
    let limits = Limits {
        max_packed_bytes: MIB as u64,
        ..Limits::default()
    };
    let error = package::check(endless, &limits).expect_err("endless");
    assert_eq!(error.code(), Code::TooLarge);
}

#[test]
fn a_reader_that_gives_single_bytes_makes_no_difference() {
    struct Drip<'a>(&'a [u8]);
    impl Read for Drip<'_> {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(&mut out[..1])
        }
    }
    let whole = archive(&honest());
    assert!(package::check(Drip(&whole), &Limits::default()).is_ok());
    let more = [&whole[..], b"x"].concat();
    let error = package::check(Drip(&more), &Limits::default()).expect_err("trailing");
    assert_eq!(error.code(), Code::TrailingBytes);
}

#[test]
fn a_flipped_bit_is_refused_or_fails_the_signature_or_changes_nothing() {
    let (key, listed) = (
        PrivateKey::generate().expect("randomness"),
        manifest(&FILES),
    );
    let whole = with(1, entry("manifest.sig", &key.sign(&listed).encode()));
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if package::check(&flipped[..], &Limits::default()).is_err() {
            continue;
        }
        let arena = Arena::new();
        arena
            .unpack(&flipped, &Limits::default())
            .expect("accepted before");
        let target = File::open(arena.target()).expect("opened");
        let found =
            verify::package(target.as_fd(), &Limits::default()).expect("what unpacks verifies");
        if found.signed_by(&[key.public()]).is_ok() {
            assert_eq!(found.manifest_digest(), Digest::of(&listed), "bit {bit}");
        }
    }
}

proptest::proptest! {
    #[test]
    fn random_tar_blocks_are_refused_without_panic(
        mut blocks in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..4096),
        place in 0usize..5,
    ) {
        blocks.resize(blocks.len().next_multiple_of(BLOCK), 0);
        proptest::prop_assume!(blocks.iter().any(|byte| *byte != 0));
        let mut entries = honest();
        entries.insert(place.min(entries.len()), blocks);
        proptest::prop_assert!(package::check(&archive(&entries)[..], &Limits::default()).is_err());
    }
}
