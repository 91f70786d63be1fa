use std::fs::{self, File, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::code::Code;
use crate::pack::{Packing, pack};
use crate::signing::PrivateKey;
use crate::unpack;

struct Store {
    _base: TempDir,
    dir: PathBuf,
    key: PrivateKey,
}

/// A signed package of three files, unpacked.
fn store() -> Store {
    let base = TempDir::new().expect("folder");
    let source = base.path().join("source");
    fs::create_dir_all(source.join("lib/deep")).expect("folders");
    fs::write(source.join("bot.py"), "print(1)").expect("file");
    fs::write(source.join("lib/deep/x.txt"), "x".repeat(70_000)).expect("file");
    fs::write(source.join("lib-run"), "#!/bin/sh\n").expect("file");
    fs::set_permissions(source.join("lib-run"), Permissions::from_mode(0o755)).expect("chmod");
    let key = PrivateKey::generate().expect("randomness");
    let packed = pack(
        &source,
        &Packing {
            key: Some(&key),
            ..Packing::default()
        },
    )
    .expect("packs");
    let dir = base.path().join("unpacked");
    fs::create_dir(&dir).expect("folder");
    let target = File::open(&dir).expect("opened");
    unpack(packed.archive, target.as_fd(), &Limits::default()).expect("unpacks");
    Store {
        _base: base,
        dir,
        key,
    }
}

impl Store {
    fn at(&self, path: &str) -> PathBuf {
        self.dir.join(path)
    }

    fn verify(&self) -> Result<Found, VerifyError> {
        package(
            File::open(&self.dir).expect("opened").as_fd(),
            &Limits::default(),
        )
    }

    fn refused(&self) -> Code {
        self.verify().expect_err("must be refused").code()
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
}

#[test]
fn an_untouched_tree_is_accepted_and_its_publisher_found() {
    let store = store();
    let found = store.verify().expect("accepted");
    assert_eq!(found.manifest().files().len(), 3);
    assert_eq!(
        found.signed_by(&[store.key.public()]),
        Ok(&store.key.public())
    );
    let stranger = PrivateKey::generate().expect("randomness").public();
    let error = found.signed_by(&[stranger]).expect_err("unknown");
    assert_eq!(error.code(), Code::PublisherUnknown);
    let files = File::open(store.at("files")).expect("opened");
    tree(files.as_fd(), found.manifest()).expect("the tree alone is accepted too");
}

#[test]
fn an_extra_name_anywhere_is_refused() {
    for path in [
        "extra",
        "files/extra",
        "files/lib/deep/.hidden",
        "files/lib/bot.py",
    ] {
        let store = store();
        fs::write(store.at(path), "").expect("file");
        assert_eq!(store.refused(), Code::ManifestMismatch, "{path}");
    }
    let store = store();
    fs::create_dir(store.at("files/lib/empty")).expect("folder");
    assert_eq!(store.refused(), Code::ManifestMismatch);
}

#[test]
fn a_link_in_place_of_a_file_or_directory_is_refused() {
    for path in [
        "files/bot.py",
        "files/lib",
        "files/lib/deep",
        "files",
        "manifest.json",
        "manifest.sig",
    ] {
        let store = store();
        let moved = store.dir.with_extension("moved");
        fs::rename(store.at(path), &moved).expect("moved out");
        symlink(&moved, store.at(path)).expect("link to the very same contents");
        assert_eq!(store.refused(), Code::Link, "{path}");
    }
}

#[test]
fn a_hard_link_to_a_listed_file_is_refused() {
    let store = store();
    fs::hard_link(
        store.at("files/bot.py"),
        store.dir.with_extension("outside"),
    )
    .expect("link");
    assert_eq!(store.refused(), Code::Link);
}

#[test]
fn a_changed_byte_a_longer_and_a_shorter_file_are_refused() {
    for contents in ["print(2)", "print(1) ", "print(1", ""] {
        let store = store();
        fs::write(store.at("files/bot.py"), contents).expect("overwritten");
        assert_eq!(store.refused(), Code::ManifestMismatch, "{contents}");
    }
}

#[test]
fn a_missing_file_or_directory_is_refused() {
    for path in ["files/bot.py", "files/lib/deep/x.txt", "manifest.json"] {
        let store = store();
        fs::remove_file(store.at(path)).expect("removed");
        assert_eq!(store.refused(), Code::ManifestMismatch, "{path}");
    }
    let store = store();
    fs::rename(store.at("files/lib"), store.dir.with_extension("moved")).expect("moved out");
    assert_eq!(store.refused(), Code::ManifestMismatch);
}

#[test]
fn a_pipe_or_directory_in_place_of_a_file_is_refused_without_blocking() {
    let piped = store();
    fs::remove_file(piped.at("files/bot.py")).expect("removed");
    nix::unistd::mkfifo(&piped.at("files/bot.py"), nix::sys::stat::Mode::S_IRWXU).expect("pipe");
    assert_eq!(piped.refused(), Code::SpecialFile);
    let replaced = store();
    fs::remove_file(replaced.at("files/bot.py")).expect("removed");
    fs::create_dir(replaced.at("files/bot.py")).expect("folder");
    assert_eq!(replaced.refused(), Code::ManifestMismatch);
}

#[test]
fn other_modes_are_refused() {
    let modes = [
        ("files/bot.py", 0o755),
        ("files/bot.py", 0o4644),
        ("files/lib-run", 0o644),
        ("files/lib", 0o777),
    ];
    for (path, mode) in modes {
        let store = store();
        chmod(&store.at(path), mode);
        assert_eq!(store.refused(), Code::ModeInvalid, "{path} {mode:o}");
    }
}

#[test]
fn a_manifest_changed_together_with_its_file_fails_the_signature() {
    let store = store();
    let before = fs::read_to_string(store.at("manifest.json")).expect("read");
    let (old, new) = (
        crate::Digest::of(b"print(1)"),
        crate::Digest::of(b"print(2)"),
    );
    let after = before.replace(&old.to_string(), &new.to_string());
    fs::write(store.at("manifest.json"), after).expect("overwritten");
    fs::write(store.at("files/bot.py"), "print(2)").expect("overwritten");
    let found = store.verify().expect("consistent in itself");
    let error = found.signed_by(&[store.key.public()]).expect_err("altered");
    assert_eq!(error.code(), Code::SignatureInvalid);
    fs::remove_file(store.at("manifest.sig")).expect("removed");
    let error = store
        .verify()
        .expect("consistent")
        .signed_by(&[store.key.public()])
        .expect_err("unsigned");
    assert_eq!(error.code(), Code::SignatureMissing);
}

#[test]
fn a_tree_above_the_limits_is_refused() {
    let store = store();
    let dir = File::open(&store.dir).expect("opened");
    for limits in [
        Limits {
            max_files: 2,
            ..Limits::default()
        },
        Limits {
            max_file_bytes: 69_999,
            ..Limits::default()
        },
        Limits {
            max_total_bytes: 70_000,
            ..Limits::default()
        },
    ] {
        assert_eq!(
            package(dir.as_fd(), &limits).expect_err("too large").code(),
            Code::TooLarge
        );
    }
}

#[test]
fn adopting_sets_owner_and_modes_before_it_looks_at_contents() {
    let store = store();
    chmod(&store.at("files/bot.py"), 0o4777);
    chmod(&store.at("files/lib"), 0o777);
    let own = fs::metadata(&store.dir).expect("exists");
    let is_root = nix::unistd::Uid::effective().is_root();
    let owner = if is_root {
        Owner {
            uid: 12_345,
            gid: 12_346,
        }
    } else {
        Owner {
            uid: own.uid(),
            gid: own.gid(),
        }
    };
    let dir = File::open(&store.dir).expect("opened");
    adopt(dir.as_fd(), &Limits::default(), owner).expect("adopted");
    let modes = [
        ("files/bot.py", 0o644),
        ("files/lib-run", 0o755),
        ("files/lib", 0o755),
        ("manifest.sig", 0o644),
    ];
    for (path, mode) in modes {
        let meta = fs::metadata(store.at(path)).expect("exists");
        assert_eq!(
            (meta.mode() & 0o7777, meta.uid(), meta.gid()),
            (mode, owner.uid, owner.gid),
            "{path}"
        );
    }
    store.verify().expect("accepted as it is now");
}

#[test]
fn adopting_never_touches_a_file_with_a_second_name() {
    let store = store();
    let victim = store.dir.with_extension("victim");
    fs::remove_file(store.at("files/bot.py")).expect("removed");
    fs::write(&victim, "print(1)").expect("file");
    chmod(&victim, 0o600);
    fs::hard_link(&victim, store.at("files/bot.py")).expect("link");
    let dir = File::open(&store.dir).expect("opened");
    let owner = Owner {
        uid: 12_345,
        gid: 12_345,
    };
    let error = adopt(dir.as_fd(), &Limits::default(), owner).expect_err("refused");
    // Without root already the first change of owner fails; with root the second name is noticed.
    assert!(matches!(error.code(), Code::Link | Code::Io));
    let meta = fs::metadata(&victim).expect("exists");
    assert_eq!(meta.mode() & 0o7777, 0o600);
    assert_ne!(meta.uid(), 12_345);
}
