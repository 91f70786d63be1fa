//! Attack 47 on tar: each archive is the honest one with a single thing wrong.

use package::{Code, Limits, PrivateKey};
use tar::EntryType;

use crate::forge::*;

#[test]
fn the_honest_archive_of_another_writer_is_accepted() {
    let unpacked = Arena::new()
        .unpack(&archive(&honest()), &Limits::default())
        .expect("accepted");
    assert_eq!(unpacked.manifest.files().len(), 3);
}

#[test]
fn names_that_leave_the_tree_are_refused() {
    let names = [
        "../victim",
        "files/../../victim",
        "files/../x",
        "/etc/passwd",
        "//x",
        "..",
        "files/..",
        "files/./x",
        "files//x",
        "files/a\\b",
        "files/",
        "files",
        "victim",
        "./files/x",
        "filesx/y",
    ];
    for name in names {
        for place in 1..=4 {
            assert_eq!(
                refusal(&with(place, entry(name, b"x"))),
                Code::PathInvalid,
                "{name} at {place}"
            );
        }
    }
}

#[test]
fn the_prefix_field_is_no_way_out() {
    let outside = odd_entry("victim", |header| {
        header.as_mut_bytes()[345..347].copy_from_slice(b"..")
    });
    assert_eq!(refusal(&with(2, outside)), Code::PathInvalid);
    let same = odd_entry("a.txt", |header| {
        header.as_mut_bytes()[345..350].copy_from_slice(b"files");
        header.set_size(0);
    });
    assert_ne!(refusal(&with(1, same)), Code::Io);
}

#[test]
fn control_characters_and_bytes_behind_the_name_are_refused() {
    for name in [
        "files/a\nPRIORITY=0",
        "files/\u{1b}[31m",
        "files/\u{7f}",
        "files/\u{202e}yp.tob",
    ] {
        assert_eq!(
            refusal(&with(2, entry(name, b""))),
            Code::PathInvalid,
            "{name:?}"
        );
    }
    for name in [
        &b"files/a.txt\0/../../victim"[..],
        b"files/bot.py\0x",
        b"files/\xff\xfe",
    ] {
        let hidden = entry_of(&header(name, 0), b"");
        assert_eq!(refusal(&with(2, hidden)), Code::PathInvalid, "{name:?}");
    }
}

#[test]
fn links_are_refused_wherever_they_point() {
    for target in ["../victim", "/etc", "a.txt", "."] {
        for kind in [EntryType::Symlink, EntryType::Link] {
            for name in ["files/link", "files/a.txt", "files/z", "manifest.sig"] {
                let link = odd_entry(name, |header| {
                    header.set_entry_type(kind);
                    header.set_link_name_literal(target).expect("fits");
                });
                assert_eq!(refusal(&with(1, link)), Code::Link, "{name} -> {target}");
            }
        }
    }
}

#[test]
fn a_chain_of_links_is_refused_at_its_first() {
    let link = |name: &str, target: &str| {
        odd_entry(name, |header| {
            header.set_entry_type(EntryType::Symlink);
            header.set_link_name_literal(target).expect("fits");
        })
    };
    let chain = [
        link("files/up", "."),
        link("files/up/b", ".."),
        link("files/up/b/c", ".."),
        entry("files/up/b/c/victim", b"x"),
    ];
    let mut entries = honest();
    entries.splice(1..1, chain);
    assert_eq!(refusal(&archive(&entries)), Code::Link);
}

#[test]
fn devices_pipes_and_sparse_files_are_refused() {
    let kinds = [
        EntryType::Char,
        EntryType::Block,
        EntryType::Fifo,
        EntryType::GNUSparse,
    ];
    for kind in kinds {
        for name in ["files/dev", "files/a.txt"] {
            let special = odd_entry(name, |header| header.set_entry_type(kind));
            assert_eq!(refusal(&with(1, special)), Code::SpecialFile, "{kind:?}");
        }
    }
}

#[test]
fn extended_headers_and_directories_are_not_canonical() {
    let kinds = [
        EntryType::XHeader,
        EntryType::XGlobalHeader,
        EntryType::GNULongName,
        EntryType::GNULongLink,
        EntryType::Directory,
        EntryType::Continuous,
        EntryType::new(b'V'),
    ];
    for kind in kinds {
        let odd = odd_entry("files/d", |header| header.set_entry_type(kind));
        assert_eq!(refusal(&with(1, odd)), Code::NotCanonical, "{kind:?}");
    }
    let old_type = odd_entry("files/a.txt", |header| header.as_mut_bytes()[156] = 0);
    assert_eq!(refusal(&with(1, old_type)), Code::NotCanonical);
}

#[test]
fn a_size_given_twice_is_refused() {
    // RUSTSEC-2026-0068 and CVE-2025-62518: readers disagreed on which of two sizes counts.
    for record in [
        "12 size=999\n",
        "28 path=files/../../victim\n",
        "20 linkpath=/etc/x\n",
    ] {
        let mut pax = header(b"pax", record.len() as u64);
        pax.set_entry_type(EntryType::XHeader);
        seal(&mut pax);
        let pax = entry_of(&pax, record.as_bytes());
        assert_eq!(refusal(&with(1, pax.clone())), Code::NotCanonical);
        assert_eq!(refusal(&with(0, pax.clone())), Code::NotCanonical);
        assert_eq!(refusal(&with(4, pax)), Code::NotCanonical);
    }
}

#[test]
fn setuid_and_other_bits_are_refused() {
    for mode in [0o4755, 0o2755, 0o1755, 0o7777, 0o4644] {
        let odd = odd_entry("files/a.txt", |header| header.set_mode(mode));
        assert_eq!(refusal(&with(1, odd)), Code::ModeInvalid, "{mode:o}");
    }
    for mode in [0o755, 0o600, 0o666, 0o777] {
        let mut odd = header(b"files/a.txt", 5);
        odd.set_mode(mode);
        seal(&mut odd);
        let mut entries = honest();
        entries[1] = entry_of(&odd, b"first");
        assert_eq!(
            refusal(&archive(&entries)),
            Code::ManifestMismatch,
            "{mode:o}"
        );
    }
}

#[test]
fn owners_times_and_names_of_people_are_not_canonical() {
    let changes: [fn(&mut tar::Header); 5] = [
        |header| header.set_uid(1000),
        |header| header.set_gid(1000),
        |header| header.set_mtime(1),
        |header| header.set_username("root").expect("fits"),
        |header| header.set_device_major(7).expect("fits"),
    ];
    for change in changes {
        let mut odd = header(b"files/a.txt", 5);
        change(&mut odd);
        seal(&mut odd);
        let mut entries = honest();
        entries[1] = entry_of(&odd, b"first");
        assert_eq!(refusal(&archive(&entries)), Code::NotCanonical);
    }
}

#[test]
fn duplicates_also_in_other_case_or_composition_are_refused() {
    for name in [
        "files/a.txt",
        "files/A.TXT",
        "manifest.json",
        "manifest.sig",
    ] {
        assert_eq!(
            refusal(&with(2, entry(name, b"first"))),
            Code::Duplicate,
            "{name}"
        );
    }
    assert_eq!(refusal(&with(4, entry("files/Z/x", b""))), Code::Duplicate);
    assert_eq!(
        refusal(&with(4, entry("files/a.txt/x", b""))),
        Code::Duplicate
    );
    let accented: [(&str, &[u8]); 1] = [("caf\u{e9}", b"1")];
    let twice = [
        entry("manifest.json", &manifest(&accented)),
        entry("files/caf\u{e9}", b"1"),
        entry("files/cafe\u{301}", b"2"),
    ];
    assert_eq!(refusal(&archive(&twice)), Code::Duplicate);
}

#[test]
fn duplicates_in_the_manifest_are_refused() {
    let text = String::from_utf8(manifest(&[("a", b"1"), ("b", b"2")])).expect("UTF-8");
    for (from, to) in [
        ("\"b\"", "\"a\""),
        ("\"path\":\"a\"", "\"path\":\"B\""),
        ("\"path\":\"b\"", "\"path\":\"a/x\""),
    ] {
        let text = text.replace(from, to);
        assert_eq!(
            refusal(&archive(&[entry("manifest.json", text.as_bytes())])),
            Code::Duplicate,
            "{text}"
        );
    }
}

#[test]
fn the_first_entry_must_be_the_manifest() {
    assert_eq!(refusal(&archive(&[])), Code::ManifestInvalid);
    assert_eq!(refusal(&archive(&honest()[1..])), Code::ManifestInvalid);
    assert_eq!(
        refusal(&with(0, entry("files/a.txt", b"first"))),
        Code::ManifestInvalid
    );
    assert_eq!(
        refusal(&archive(&[entry("manifest.json", b"{}")])),
        Code::ManifestInvalid
    );
    let huge = header(b"manifest.json", 17 * 1024 * 1024);
    assert_eq!(
        refusal(&archive(&[entry_of(&huge, b"")])),
        Code::ManifestInvalid
    );
}

#[test]
fn files_other_than_listed_are_refused() {
    for place in 1..=4 {
        assert_eq!(
            refusal(&with(place, entry("files/extra", b""))),
            Code::ManifestMismatch,
            "{place}"
        );
        if place < 4 {
            let mut entries = honest();
            entries.remove(place);
            assert_eq!(
                refusal(&archive(&entries)),
                Code::ManifestMismatch,
                "{place}"
            );
        }
    }
    let mut swapped = honest();
    swapped.swap(1, 2);
    assert_eq!(refusal(&archive(&swapped)), Code::ManifestMismatch);
    for contents in [&b"FIRST"[..], b"firs", b"first!", b""] {
        let mut entries = honest();
        entries[1] = entry("files/a.txt", contents);
        assert_eq!(refusal(&archive(&entries)), Code::ManifestMismatch);
    }
}

#[test]
fn malformed_signature_files_are_refused() {
    let signature = PrivateKey::generate()
        .expect("randomness")
        .sign(&manifest(&FILES))
        .encode();
    assert!(
        Arena::new()
            .unpack(
                &with(1, entry("manifest.sig", &signature)),
                &Limits::default()
            )
            .is_ok()
    );
    for bad in [
        &b"{}"[..],
        b"",
        &signature[1..],
        &[signature.as_slice(), b"\n"].concat(),
        &[b' '; 2000],
    ] {
        assert_eq!(
            refusal(&with(1, entry("manifest.sig", bad))),
            Code::SignatureInvalid
        );
    }
    assert_eq!(
        refusal(&with(2, entry("manifest.sig", &signature))),
        Code::Duplicate
    );
    assert_eq!(
        refusal(&with(0, entry("manifest.sig", &signature))),
        Code::ManifestInvalid
    );
}

#[test]
fn sixty_thousand_entries_are_refused_listed_or_not() {
    let listed: String = (0..60_000)
        .map(|n| {
            format!(
                r#"{{"path":"f{n:05}","size":0,"executable":false,"sha256":"{}"}},"#,
                package::Digest::of(b"")
            )
        })
        .collect();
    let listed = format!(
        r#"{{"format":1,"name":"n","version":"1","entry":"f00000","files":[{}]}}"#,
        listed.trim_end_matches(',')
    );
    assert_eq!(
        refusal(&archive(&[entry("manifest.json", listed.as_bytes())])),
        Code::TooLarge
    );
    let mut entries = honest();
    entries.extend((0..60_000).map(|n| entry(&format!("files/zz{n:05}"), b"")));
    assert_eq!(refusal(&archive(&entries)), Code::ManifestMismatch);
}

#[test]
fn limits_are_enforced_before_anything_is_written() {
    let archive = archive(&honest());
    for limits in [
        Limits {
            max_files: 2,
            ..Limits::default()
        },
        Limits {
            max_file_bytes: 7,
            ..Limits::default()
        },
        Limits {
            max_total_bytes: 16,
            ..Limits::default()
        },
    ] {
        let arena = Arena::new();
        assert_eq!(
            arena
                .unpack(&archive, &limits)
                .expect_err("too large")
                .code(),
            Code::TooLarge
        );
        assert_eq!(
            std::fs::read_dir(arena.target()).expect("listed").count(),
            0
        );
    }
}

#[test]
fn damaged_headers_and_hidden_bytes_in_padding_are_refused() {
    let mut entries = honest();
    entries[1][3] ^= 1;
    assert_eq!(refusal(&archive(&entries)), Code::FormatInvalid);
    let mut entries = honest();
    *entries[1].last_mut().expect("not empty") = 1;
    assert_eq!(refusal(&archive(&entries)), Code::NotCanonical);
}

#[test]
fn a_target_that_is_not_empty_is_refused() {
    let arena = Arena::new();
    std::fs::write(arena.target().join("old"), "").expect("file");
    let error = arena
        .unpack(&archive(&honest()), &Limits::default())
        .expect_err("not empty");
    assert_eq!(error.code(), Code::TargetInvalid);
}
