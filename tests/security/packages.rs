//! Packages that arrive with the right digest and hostile content: the orchestrator or a publisher
//! was taken over. The broker gives each its code and an event, keeps nothing, and goes on.

use std::io::{Seek as _, Write as _};
use std::os::fd::AsFd as _;

use order::{Outcome, Sha256Hex};
use package::{Digest, Draft, FileEntry, Manifest, PackagePath};
use privsep::broker::{Reply, Request};
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};
use tests::{Leftovers, Options, procs};

use crate::robotd::{Robotd, Target, connect};

/// Every claim of this file.
pub(crate) const CLAIMS: &[(&str, fn())] = &[
    (
        "packages::an_archive_of_another_writer_that_is_honest_runs",
        honest_runs,
    ),
    (
        "packages::hostile_content_is_refused_with_its_code_and_nothing_of_it_is_kept",
        hostile,
    ),
    (
        "packages::a_package_that_is_no_file_or_too_large_is_refused",
        no_file,
    ),
    (
        "packages::an_opener_that_is_missing_ends_the_job_and_the_next_broker_goes_on",
        no_opener,
    ),
];

const BLOCK: usize = 512;
const BOT: &[u8] = b"print('it ran')\n";

fn manifest(files: &[(&str, u64, &[u8])]) -> Vec<u8> {
    let path = |text: &str| PackagePath::parse(text).expect("a path");
    let entry = |(name, size, contents): &(&str, u64, &[u8])| FileEntry {
        path: path(name),
        size: *size,
        executable: false,
        sha256: Digest::of(contents),
    };
    let draft = Draft {
        name: "forged".into(),
        version: "1".into(),
        entry: path("bot.py"),
        language: None,
        automation: None,
        files: files.iter().map(entry).collect(),
    };
    Manifest::new(draft)
        .and_then(|manifest| manifest.encode())
        .expect("a manifest")
}

fn header(name: &str, size: u64, kind: EntryType) -> Header {
    let mut header = Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_entry_type(kind);
    header
}

/// Makes the checksum right, spelled as POSIX does: six digits, zero, space.
fn sealed(mut header: Header, contents: &[u8]) -> Vec<u8> {
    header.set_cksum();
    let sum = header.cksum().expect("just set");
    header.as_mut_bytes()[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut entry = header.as_bytes().to_vec();
    entry.extend_from_slice(contents);
    entry.resize(entry.len().next_multiple_of(BLOCK), 0);
    entry
}

fn file(name: &str, contents: &[u8]) -> Vec<u8> {
    let header = header(name, contents.len() as u64, EntryType::Regular);
    sealed(header, contents)
}

fn link(name: &str, target: &str, kind: EntryType) -> Vec<u8> {
    let mut header = header(name, 0, kind);
    header.set_link_name_literal(target).expect("a target");
    sealed(header, b"")
}

fn compressed(entries: &[Vec<u8>]) -> Vec<u8> {
    let tar = [entries.concat(), vec![0; 2 * BLOCK]].concat();
    zstd::encode_all(tar.as_slice(), 3).expect("zstd")
}

fn honest() -> Vec<Vec<u8>> {
    let bot = ("bot.py", BOT.len() as u64, BOT);
    vec![
        file("manifest.json", &manifest(&[bot])),
        file("files/bot.py", BOT),
    ]
}

fn with(place: usize, entry: Vec<u8>) -> Vec<u8> {
    let mut entries = honest();
    entries.insert(place, entry);
    compressed(&entries)
}

/// Nothing but zeros: 64 MiB in a few KiB.
fn bomb() -> Vec<u8> {
    let zeros = vec![0; 64 << 20];
    let bot = ("bot.py", BOT.len() as u64, BOT);
    let big = ("zeros", zeros.len() as u64, zeros.as_slice());
    compressed(&[
        file("manifest.json", &manifest(&[bot, big])),
        file("files/bot.py", BOT),
        file("files/zeros", &zeros),
    ])
}

fn cases() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let whole = compressed(&honest());
    let wrong = ("bot.py", BOT.len() as u64, &b"print('another')"[..]);
    let missing = ("more.py", 4, &b"more"[..]);
    let bot = ("bot.py", BOT.len() as u64, BOT);
    let other = |manifest: Vec<u8>| {
        compressed(&[file("manifest.json", &manifest), file("files/bot.py", BOT)])
    };
    vec![
        (
            "..",
            "PACKAGE_PATH_INVALID",
            with(1, file("files/../../../../victim", b"x")),
        ),
        (
            "absolute",
            "PACKAGE_PATH_INVALID",
            with(1, file("/etc/robotd-victim", b"x")),
        ),
        (
            "symbolic link",
            "PACKAGE_LINK",
            with(1, link("files/a", "/etc/shadow", EntryType::Symlink)),
        ),
        (
            "hard link",
            "PACKAGE_LINK",
            with(1, link("files/a", "/etc/shadow", EntryType::Link)),
        ),
        (
            "device",
            "PACKAGE_SPECIAL_FILE",
            with(1, link("files/a", "", EntryType::Char)),
        ),
        (
            "extra file",
            "PACKAGE_MANIFEST_MISMATCH",
            with(2, file("files/extra.py", b"x")),
        ),
        (
            "the same twice",
            "PACKAGE_DUPLICATE",
            with(2, file("files/bot.py", BOT)),
        ),
        ("bomb", "PACKAGE_BOMB", bomb()),
        (
            "truncated",
            "PACKAGE_TRUNCATED",
            whole[..whole.len() - 20].to_vec(),
        ),
        (
            "trailing bytes",
            "PACKAGE_TRAILING_BYTES",
            [whole.as_slice(), b"and more"].concat(),
        ),
        (
            "a second frame",
            "PACKAGE_TRAILING_BYTES",
            [whole.as_slice(), &whole].concat(),
        ),
        (
            "wrong digest",
            "PACKAGE_MANIFEST_MISMATCH",
            other(manifest(&[wrong])),
        ),
        (
            "missing file",
            "PACKAGE_MANIFEST_MISMATCH",
            other(manifest(&[bot, missing])),
        ),
        (
            "no manifest",
            "PACKAGE_MANIFEST_INVALID",
            compressed(&[file("files/bot.py", BOT)]),
        ),
        (
            "manifest of garbage",
            "PACKAGE_MANIFEST_INVALID",
            other(b"{not json".to_vec()),
        ),
        (
            "no archive",
            "PACKAGE_FORMAT_INVALID",
            b"PK\x03\x04 and so on".to_vec(),
        ),
        ("nothing", "PACKAGE_TRUNCATED", vec![]),
    ]
}

fn run(target: &Target, robotd: &mut Robotd, archive: &[u8]) -> order::JobResult {
    let attempt = Target::attempt();
    let mut file = std::fs::File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(target.host.dir.join("archive"))
        .expect("a file");
    file.write_all(archive).expect("a write");
    file.rewind().expect("a seek");
    let challenge = robotd.reserve(attempt);
    let digest = Sha256Hex(Sha256::digest(archive).into());
    let order = target.order(attempt, challenge, digest);
    assert_eq!(robotd.start(attempt, &target.sign(&order)), Ok(true));
    let asked = Request::Package { attempt };
    assert_eq!(robotd.ask(asked, &[file.as_fd()]), Reply::Done);
    let (result, _) = robotd.result(attempt);
    assert_eq!(robotd.ask(Request::Forget { attempt }, &[]), Reply::Done);
    result
}

fn assert_nothing_kept(target: &Target, what: &str) {
    for folder in ["store", "staging"] {
        let path = target.host.dir.join("broker").join(folder);
        let left: Vec<_> = std::fs::read_dir(path)
            .expect("a folder")
            .flatten()
            .collect();
        assert!(left.is_empty(), "{what}: {folder} holds {left:?}");
    }
    let unpack = sys::account::by_name("robotd-unpack").expect("a look-up");
    let unpack = unpack.expect("the account robotd-unpack");
    let openers = sys::account::processes_of_uid(unpack.uid).expect("processes");
    assert!(openers.is_empty(), "{what}: {openers:?} still run");
    assert!(
        !std::path::Path::new("/etc/robotd-victim").exists(),
        "{what}"
    );
    let accounts = target.host.slots.accounts();
    assert_eq!(Leftovers::of(&accounts), Leftovers::default(), "{what}");
}

fn target() -> (Target, Robotd) {
    let target = Target::new(&Options::default());
    let robotd = connect(&target.host);
    (target, robotd)
}

fn honest_runs() {
    let (target, mut robotd) = target();
    let result = run(&target, &mut robotd, &compressed(&honest()));
    assert_eq!(result.outcome, Outcome::Succeeded, "{result:#?}");
}

fn hostile() {
    let (target, mut robotd) = target();
    let mut wrong = Vec::new();
    for (at, (what, code, archive)) in cases().into_iter().enumerate() {
        let result = run(&target, &mut robotd, &archive);
        assert_eq!(result.outcome, Outcome::NotStarted, "{what}: {result:#?}");
        if result.code != code {
            wrong.push(format!(
                "{what}: {} instead of {code}: {}",
                result.code, result.detail
            ));
        }
        let events = robotd.events(100_204);
        assert_eq!(events.len(), at + 1, "{what}: one event each");
        assert!(events[at].contains(&result.code), "{what}: {}", events[at]);
        assert_nothing_kept(&target, what);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let result = run(&target, &mut robotd, &compressed(&honest()));
    assert_eq!(
        result.outcome,
        Outcome::Succeeded,
        "it goes on: {result:#?}"
    );
}

fn no_file() {
    let options = Options {
        policy: "[packages]\nallow-unsigned = true\nmax-mib = 1\n".into(),
        ..Options::default()
    };
    let target = Target::new(&options);
    let mut robotd = connect(&target.host);
    let result = run(&target, &mut robotd, &vec![7; (1 << 20) + 1]);
    assert_eq!(
        (result.outcome, result.code.as_str()),
        (Outcome::NotStarted, "PACKAGE_TOO_LARGE")
    );
    assert_nothing_kept(&target, "too large");
    let attempt = Target::attempt();
    let challenge = robotd.reserve(attempt);
    let order = target.order(attempt, challenge, Sha256Hex([1; 32]));
    assert_eq!(robotd.start(attempt, &target.sign(&order)), Ok(true));
    // A pipe that never ends would hold the broker's worker for ever.
    let (reading, _writing) = nix::unistd::pipe().expect("a pipe");
    let asked = Request::Package { attempt };
    let answer = robotd.ask(asked, &[reading.as_fd()]);
    assert!(
        matches!(answer, Reply::Done | Reply::Refused(_)),
        "{answer:?}"
    );
    let (result, _) = robotd.result(attempt);
    assert_eq!(
        (result.outcome, result.code.as_str()),
        (Outcome::NotStarted, "PACKAGE_NOT_A_FILE")
    );
    assert_nothing_kept(&target, "a pipe");
}

fn no_opener() {
    let place = tests::Copies::without("robotd-unpack");
    let options = Options {
        programs: Some(place.path().to_owned()),
        ..Options::default()
    };
    let target = Target::new(&options);
    let mut robotd = connect(&target.host);
    let result = run(&target, &mut robotd, &compressed(&honest()));
    assert_eq!(
        (result.outcome, result.code.as_str()),
        (Outcome::NotStarted, "UNPACK_FAILED"),
        "{result:#?}"
    );
    assert!(result.detail.contains("robotd-unpack"), "{result:#?}");
    assert_nothing_kept(&target, "no opener");
    place.put_back("robotd-unpack");
    let result = run(&target, &mut robotd, &compressed(&honest()));
    assert_eq!(result.outcome, Outcome::Succeeded, "{result:#?}");
    assert!(procs::running("robotd-unpack", 0).is_empty());
}
