//! Attack 47 on zip, at the only place that reads zips: packing.

use std::fs;
use std::io::Write;

use package::{Code, Limits, PackError, Packed, Packing, pack};
use tempfile::TempDir;

use crate::raw_zip::{Entry, zip};

const MIB: usize = 1024 * 1024;

fn packed_within(bytes: &[u8], limits: Limits) -> Result<Packed, PackError> {
    let base = TempDir::new().expect("folder");
    let source = base.path().join("bot.zip");
    fs::write(&source, bytes).expect("file");
    let outcome = pack(
        &source,
        &Packing {
            limits,
            ..Packing::default()
        },
    );
    let names: Vec<_> = fs::read_dir(base.path())
        .expect("listed")
        .map(|entry| entry.expect("entry").file_name())
        .collect();
    assert_eq!(
        names,
        ["bot.zip"],
        "packing writes nothing beside its source"
    );
    outcome
}

fn refusal(bytes: &[u8]) -> Code {
    let error = packed_within(bytes, Limits::default()).expect_err("must be refused");
    assert!(!error.to_string().chars().any(char::is_control), "{error}");
    error.code()
}

fn bot() -> Entry {
    Entry::new("bot.py", b"print(1)")
}

/// The honest zip with one more entry.
fn with(entry: Entry) -> Vec<u8> {
    zip(&[bot(), entry])
}

#[test]
fn the_honest_zip_is_packed_with_its_modes() {
    let run = Entry {
        mode: 0o100_755,
        ..Entry::new("lib/run", b"#!/bin/sh\n")
    };
    let from_windows = Entry {
        mode: 0,
        ..Entry::new("w.txt", b"")
    };
    let folder = Entry {
        mode: 0o040_755,
        ..Entry::new("lib/", b"")
    };
    let packed =
        packed_within(&zip(&[bot(), folder, run, from_windows]), Limits::default()).expect("packs");
    let files: Vec<_> = packed
        .manifest
        .files()
        .iter()
        .map(|file| (file.path.as_str(), file.executable))
        .collect();
    assert_eq!(
        files,
        [("bot.py", false), ("lib/run", true), ("w.txt", false)]
    );
    assert_eq!(packed.manifest.name(), "bot");
}

#[test]
fn names_that_leave_the_package_are_refused() {
    let names: [&[u8]; 12] = [
        b"../victim",
        b"a/../../victim",
        b"/etc/passwd",
        b"..\\victim",
        b"C:\\x",
        b"a//b",
        b"./a",
        b"a\0b",
        b"a\nb",
        b"\xff\xfe",
        b"",
        b"a/..",
    ];
    for name in names {
        assert_eq!(
            refusal(&with(Entry::new(name, b"x"))),
            Code::PathInvalid,
            "{name:?}"
        );
    }
    assert_eq!(
        refusal(&with(Entry::new("../dir/", b""))),
        Code::PathInvalid
    );
}

#[test]
fn links_devices_and_special_bits_are_refused() {
    let with_mode = |mode| {
        refusal(&with(Entry {
            mode,
            ..Entry::new("x", b"../victim")
        }))
    };
    assert_eq!(with_mode(0o120_777), Code::Link);
    for kind in [0o020_000, 0o060_000, 0o010_000, 0o140_000, 0o040_000] {
        assert_eq!(with_mode(kind | 0o644), Code::SpecialFile, "{kind:o}");
    }
    for mode in [0o104_755, 0o102_755, 0o101_755] {
        assert_eq!(with_mode(mode), Code::ModeInvalid, "{mode:o}");
    }
}

#[test]
fn duplicates_in_any_spelling_are_refused() {
    for name in ["bot.py", "BOT.py", "bot.py/x"] {
        assert_eq!(
            refusal(&with(Entry::new(name, b"x"))),
            Code::Duplicate,
            "{name}"
        );
    }
    let twice = zip(&[
        bot(),
        Entry::new("caf\u{e9}", b"1"),
        Entry::new("cafe\u{301}", b"2"),
    ]);
    assert_eq!(refusal(&twice), Code::Duplicate);
}

#[test]
fn encrypted_entries_and_foreign_methods_are_refused() {
    let encrypted = Entry {
        flags: 0x801,
        ..Entry::new("x", b"0123456789abcdef")
    };
    assert_eq!(refusal(&with(encrypted)), Code::Encrypted);
    for method in [1, 9, 12, 14, 93, 95, 98] {
        let foreign = Entry {
            method,
            ..Entry::new("x", b"0123456789abcdef")
        };
        assert_eq!(refusal(&with(foreign)), Code::FormatInvalid, "{method}");
    }
}

#[test]
fn entries_that_share_bytes_or_contradict_their_headers_are_refused() {
    let shared = Entry {
        at_entry: Some(0),
        ..Entry::new("x", b"print(1)")
    };
    assert_eq!(refusal(&with(shared)), Code::Overlap);
    let renamed = Entry {
        local_name: b"y".to_vec(),
        ..Entry::new("x", b"1")
    };
    assert_eq!(refusal(&with(renamed)), Code::Overlap);
    let unlisted = Entry {
        unlisted: true,
        ..Entry::new("x", b"1")
    };
    assert_eq!(refusal(&with(unlisted)), Code::Overlap);
    // The quoted kind: the first entry's data holds the header and data of the second.
    let inner = zip(&[Entry::new("x", b"1")]);
    let local = inner[..inner.len() - 22 - 47].to_vec();
    let outer = Entry {
        method: 0,
        ..Entry::new("bot.py", &local)
    };
    let mut quoted = zip(&[outer, Entry::new("x", b"1")]);
    let directory = quoted
        .windows(4)
        .position(|w| w == b"PK\x01\x02")
        .expect("directory");
    let second = directory + 46 + 6 + 42;
    quoted[second..second + 4].copy_from_slice(&36u32.to_le_bytes());
    assert_eq!(refusal(&quoted), Code::Overlap);
}

#[test]
fn bytes_before_between_and_after_are_refused() {
    let whole = zip(&[bot()]);
    for tail in [&b"x"[..], &[0; 100], &whole[..20]] {
        assert_eq!(refusal(&[&whole, tail].concat()), Code::TrailingBytes);
    }
    let mut commented = whole.clone();
    let length = commented.len();
    commented[length - 2] = 3;
    commented.extend_from_slice(b"abc");
    assert_eq!(refusal(&commented), Code::TrailingBytes);
    let prefixed = [b"PK\x03\x04junk", &whole[..]].concat();
    assert_eq!(refusal(&prefixed), Code::TrailingBytes);
    let directory = whole
        .windows(4)
        .position(|w| w == b"PK\x01\x02")
        .expect("directory");
    let between = [&whole[..directory], b"gap", &whole[directory..]].concat();
    assert_eq!(refusal(&between), Code::TrailingBytes);
}

#[test]
fn a_zip_cut_at_every_97th_byte_is_refused() {
    let noise: Vec<u8> = (0..10_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let whole = zip(&[bot(), Entry::new("noise", &noise)]);
    for end in (4..whole.len()).step_by(97).chain([whole.len() - 1]) {
        assert_eq!(refusal(&whole[..end]), Code::Truncated, "{end}");
    }
    assert_eq!(refusal(&whole[..3]), Code::SourceUnknown);
}

#[test]
fn a_wrong_checksum_is_refused() {
    let wrong = Entry {
        crc: 1,
        ..Entry::new("x", b"1")
    };
    assert_eq!(refusal(&with(wrong)), Code::FormatInvalid);
}

#[test]
fn bombs_and_too_many_or_too_large_entries_are_refused() {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    writer
        .start_file("bot.py", zip::write::SimpleFileOptions::default())
        .expect("started");
    writer.write_all(&vec![0; 64 * MIB]).expect("written");
    let bomb = writer.finish().expect("finished").into_inner();
    assert!(bomb.len() < MIB);
    assert_eq!(refusal(&bomb), Code::Bomb);
    let small = Limits {
        max_file_bytes: 7,
        ..Limits::default()
    };
    assert_eq!(
        packed_within(&zip(&[bot()]), small)
            .expect_err("file")
            .code(),
        Code::TooLarge
    );
    let small = Limits {
        max_total_bytes: 7,
        ..Limits::default()
    };
    assert_eq!(
        packed_within(&zip(&[bot()]), small)
            .expect_err("total")
            .code(),
        Code::TooLarge
    );
    let many: Vec<_> = (0..60_000)
        .map(|n| Entry::new(format!("f{n}"), b""))
        .collect();
    assert_eq!(refusal(&zip(&many)), Code::TooLarge);
}

#[test]
fn a_directory_with_contents_is_refused() {
    let folder = Entry {
        mode: 0o040_755,
        ..Entry::new("dir/", b"contents")
    };
    assert_eq!(refusal(&with(folder)), Code::FormatInvalid);
}
