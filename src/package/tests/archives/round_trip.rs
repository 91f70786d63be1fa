//! Packing: the same tree gives the same bytes, and what was packed comes out again.

use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use package::{Code, Digest, Labels, Limits, Packed, Packing, PrivateKey, pack, verify};
use tempfile::TempDir;

use crate::forge::Arena;

const LONG: &str = "deeply/nested/directory/names/that/do/not/fit/into/the/hundred/bytes/of/a/tar/header/at/all/файл.txt";

fn write(base: &Path, path: &str, contents: &[u8], mode: u32) {
    let path = base.join(path);
    fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
    fs::write(&path, contents).expect("file");
    fs::set_permissions(&path, Permissions::from_mode(mode)).expect("chmod");
}

/// A source folder named `invoices`, its files made in the given order.
fn source(base: &TempDir, reverse: bool) -> PathBuf {
    let folder = base.path().join("invoices");
    let big: Vec<u8> = (0..300_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8)
        .collect();
    let mut files: Vec<(&str, &[u8], u32)> = vec![
        ("bot.py", b"print(1)", 0o640),
        ("empty", b"", 0o600),
        ("lib/run.sh", b"#!/bin/sh\n", 0o700),
        ("lib-other", b"x", 0o664),
        ("big.bin", &big, 0o644),
        (LONG, b"long", 0o644),
    ];
    if reverse {
        files.reverse();
    }
    for (path, contents, mode) in files {
        write(&folder, path, contents, mode);
    }
    folder
}

fn packed(path: &Path, packing: &Packing<'_>) -> Packed {
    pack(path, packing).expect("packs")
}

fn bytes(packed: &mut Packed) -> Vec<u8> {
    let mut bytes = Vec::new();
    packed.archive.read_to_end(&mut bytes).expect("read");
    bytes
}

fn refusal(path: &Path, packing: &Packing<'_>) -> Code {
    pack(path, packing).expect_err("must be refused").code()
}

#[test]
fn the_same_tree_packed_twice_has_the_same_digest() {
    let (one, two) = (
        TempDir::new().expect("folder"),
        TempDir::new().expect("folder"),
    );
    let key = PrivateKey::generate().expect("randomness");
    for key in [None, Some(&key)] {
        let packing = Packing {
            key,
            ..Packing::default()
        };
        let mut first = packed(&source(&one, false), &packing);
        let second = packed(&source(&two, true), &packing);
        assert_eq!(first.sha256, second.sha256);
        let bytes = bytes(&mut first);
        assert_eq!(
            (first.size, first.sha256),
            (bytes.len() as u64, Digest::of(&bytes))
        );
    }
}

#[test]
fn what_was_packed_comes_out_again() {
    let base = TempDir::new().expect("folder");
    let folder = source(&base, false);
    let key = PrivateKey::generate().expect("randomness");
    let mut packed = packed(
        &folder,
        &Packing {
            key: Some(&key),
            ..Packing::default()
        },
    );
    assert_eq!(
        (packed.manifest.name(), packed.manifest.version()),
        ("invoices", "0")
    );
    assert_eq!(packed.signed_by, Some(key.public().key_id()));
    let arena = Arena::new();
    let archive = bytes(&mut packed);
    arena.unpack(&archive, &Limits::default()).expect("unpacks");
    for file in packed.manifest.files() {
        let path = file.path.as_str();
        let out = arena.target().join("files").join(path);
        assert_eq!(
            fs::read(&out).expect("read"),
            fs::read(folder.join(path)).expect("read"),
            "{path}"
        );
        assert_eq!(
            fs::metadata(&out).expect("exists").mode() & 0o7777,
            file.mode(),
            "{path}"
        );
    }
    let target = File::open(arena.target()).expect("opened");
    let found = verify::package(target.as_fd(), &Limits::default()).expect("verifies");
    assert_eq!(found.signed_by(&[key.public()]), Ok(&key.public()));
    assert_eq!(found.manifest(), &packed.manifest);
}

#[test]
fn other_tar_programs_read_a_package() {
    let base = TempDir::new().expect("folder");
    let mut packed = packed(&source(&base, false), &Packing::default());
    let tar = zstd::decode_all(&bytes(&mut packed)[..]).expect("one frame");
    let mut archive = tar::Archive::new(&tar[..]);
    let names: Vec<_> = archive
        .entries()
        .expect("entries")
        .map(|entry| {
            entry
                .expect("readable")
                .path()
                .expect("path")
                .display()
                .to_string()
        })
        .collect();
    let listed = packed
        .manifest
        .files()
        .iter()
        .map(|file| format!("files/{}", file.path));
    let expected: Vec<_> = ["manifest.json".to_owned()]
        .into_iter()
        .chain(listed)
        .collect();
    assert_eq!(names, expected);
    assert!(names.contains(&format!("files/{LONG}")));
}

#[test]
fn a_long_name_that_says_otherwise_is_refused() {
    let base = TempDir::new().expect("folder");
    let mut packed = packed(&source(&base, false), &Packing::default());
    let mut tar = zstd::decode_all(&bytes(&mut packed)[..]).expect("one frame");
    let record = b" path=files/deeply/nested";
    let at = tar
        .windows(record.len())
        .position(|window| window == record)
        .expect("a pax record");
    tar[at..at + record.len()].copy_from_slice(b" path=files/../../../../x");
    assert_eq!(
        crate::forge::refusal(&crate::forge::compress(&tar)),
        Code::NotCanonical
    );
}

#[test]
fn a_package_is_passed_on_byte_for_byte() {
    let base = TempDir::new().expect("folder");
    let key = PrivateKey::generate().expect("randomness");
    let signed = Packing {
        key: Some(&key),
        ..Packing::default()
    };
    let mut first = packed(&source(&base, false), &signed);
    let file = base.path().join("package.tar.zst");
    let archive = bytes(&mut first);
    fs::write(&file, &archive).expect("file");
    let mut second = packed(&file, &signed);
    assert_eq!(
        (second.sha256, second.signed_by.clone()),
        (first.sha256, first.signed_by)
    );
    assert_eq!(bytes(&mut second), archive);

    let stranger = PrivateKey::generate().expect("randomness");
    assert_eq!(
        refusal(
            &file,
            &Packing {
                key: Some(&stranger),
                ..Packing::default()
            }
        ),
        Code::LabelConflict
    );
    for labels in [
        Labels {
            name: Some("other".into()),
            ..Labels::default()
        },
        Labels {
            version: Some("2".into()),
            ..Labels::default()
        },
        Labels {
            entry: Some("empty".into()),
            ..Labels::default()
        },
        Labels {
            language: Some("python".into()),
            ..Labels::default()
        },
    ] {
        assert_eq!(
            refusal(
                &file,
                &Packing {
                    labels,
                    ..Packing::default()
                }
            ),
            Code::LabelConflict
        );
    }
    fs::write(&file, &archive[..archive.len() - 1]).expect("file");
    assert_eq!(refusal(&file, &Packing::default()), Code::Truncated);
}

#[test]
fn labels_come_from_the_caller_then_the_file_then_names() {
    let base = TempDir::new().expect("folder");
    let folder = base.path().join("bot dir");
    write(&folder, "start.py", b"", 0o644);
    assert_eq!(refusal(&folder, &Packing::default()), Code::EntryMissing);
    let settings = "name = \"Сверка\"\nversion = \"1.2\"\nentry = \"start.py\"\nlanguage = \"python\"\n\
                    [automation]\nname = \"Reconciliation\"\n";
    write(&folder, "robotd.toml", settings.as_bytes(), 0o644);
    let manifest = packed(&folder, &Packing::default()).manifest;
    assert_eq!(
        (manifest.name(), manifest.version(), manifest.language()),
        ("Сверка", "1.2", Some("python"))
    );
    assert_eq!(manifest.entry().path.as_str(), "start.py");
    assert_eq!(
        manifest
            .automation()
            .and_then(|found| found.name.as_deref()),
        Some("Reconciliation")
    );
    let labels = Labels {
        version: Some("9".into()),
        entry: Some("robotd.toml".into()),
        ..Labels::default()
    };
    let manifest = packed(
        &folder,
        &Packing {
            labels,
            ..Packing::default()
        },
    )
    .manifest;
    assert_eq!(
        (manifest.version(), manifest.entry().path.as_str()),
        ("9", "robotd.toml")
    );

    for bad in [
        "nme = \"x\"",
        "name = 1",
        "[automation]\nowner = \"x\"",
        "name = \"x",
        "name = \"\\u0000\"",
    ] {
        write(&folder, "robotd.toml", bad.as_bytes(), 0o644);
        let labels = Labels {
            entry: Some("start.py".into()),
            ..Labels::default()
        };
        assert_eq!(
            refusal(
                &folder,
                &Packing {
                    labels,
                    ..Packing::default()
                }
            ),
            Code::LabelInvalid,
            "{bad}"
        );
    }
    fs::remove_file(folder.join("robotd.toml")).expect("removed");
    let labels = Labels {
        entry: Some("start.py".into()),
        ..Labels::default()
    };
    assert_eq!(
        refusal(
            &folder,
            &Packing {
                labels,
                ..Packing::default()
            }
        ),
        Code::LabelInvalid,
        "a space in the name"
    );
    let labels = Labels {
        name: Some("b".into()),
        entry: Some("nowhere.py".into()),
        ..Labels::default()
    };
    assert_eq!(
        refusal(
            &folder,
            &Packing {
                labels,
                ..Packing::default()
            }
        ),
        Code::EntryMissing
    );
}

#[test]
fn a_folder_with_anything_but_plain_files_is_refused_by_name() {
    let base = TempDir::new().expect("folder");
    let folder = source(&base, false);
    let odd = folder.join("lib/odd");
    let check = |code: Code| {
        let error = pack(&folder, &Packing::default()).expect_err("must be refused");
        assert_eq!(error.code(), code);
        assert!(error.to_string().contains("lib/odd"), "{error}");
        fs::remove_file(&odd).expect("removed");
    };
    symlink("../bot.py", &odd).expect("link");
    check(Code::Link);
    symlink("nowhere", &odd).expect("dangling link");
    check(Code::Link);
    nix::unistd::mkfifo(&odd, nix::sys::stat::Mode::S_IRWXU).expect("pipe");
    check(Code::SpecialFile);
    drop(std::os::unix::net::UnixListener::bind(&odd).expect("socket"));
    check(Code::SpecialFile);
    write(&folder, "lib/odd", b"", 0o4755);
    check(Code::ModeInvalid);
    write(&folder, "lib/odd\n", b"", 0o644);
    assert_eq!(refusal(&folder, &Packing::default()), Code::PathInvalid);
    fs::remove_file(folder.join("lib/odd\n")).expect("removed");
    write(&folder, "LIB-other", b"", 0o644);
    assert_eq!(refusal(&folder, &Packing::default()), Code::Duplicate);
}

#[test]
fn too_much_and_too_deep_are_refused() {
    let base = TempDir::new().expect("folder");
    let folder = source(&base, false);
    for limits in [
        Limits {
            max_files: 5,
            ..Limits::default()
        },
        Limits {
            max_file_bytes: 299_999,
            ..Limits::default()
        },
        Limits {
            max_total_bytes: 300_010,
            ..Limits::default()
        },
    ] {
        assert_eq!(
            refusal(
                &folder,
                &Packing {
                    limits,
                    ..Packing::default()
                }
            ),
            Code::TooLarge
        );
    }
    write(&folder, &("d/".repeat(32) + "x"), b"", 0o644);
    assert_eq!(refusal(&folder, &Packing::default()), Code::PathInvalid);
}

#[test]
fn files_that_every_host_would_take_for_a_bomb_are_not_packed() {
    let base = TempDir::new().expect("folder");
    let folder = source(&base, false);
    write(&folder, "zeros", &vec![0; 300 << 20 >> 2], 0o644);
    assert_eq!(refusal(&folder, &Packing::default()), Code::Bomb);
}

#[test]
fn what_is_no_source_is_refused() {
    let base = TempDir::new().expect("folder");
    let file = base.path().join("x.txt");
    fs::write(&file, "text").expect("file");
    assert_eq!(refusal(&file, &Packing::default()), Code::SourceUnknown);
    assert_eq!(
        refusal(&base.path().join("none"), &Packing::default()),
        Code::Io
    );
    let empty = base.path().join("empty");
    fs::create_dir(&empty).expect("folder");
    assert_eq!(refusal(&empty, &Packing::default()), Code::EntryMissing);
}
