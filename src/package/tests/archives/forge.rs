//! Archives made by another writer than the crate's own, honest and hostile, and the place that
//! they are opened in, which notices what gets out.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;

use package::{Code, Digest, Draft, FileEntry, Limits, Manifest, PackagePath, Unpacked};
use tar::{EntryType, Header};
use tempfile::TempDir;

pub(crate) const BLOCK: usize = 512;

/// A manifest of files given by path and contents; the first one is the entry point.
pub(crate) fn manifest(files: &[(&str, &[u8])]) -> Vec<u8> {
    let path = |text| PackagePath::parse(text).expect("valid path");
    let mut list: Vec<FileEntry> = files
        .iter()
        .map(|(name, contents)| FileEntry {
            path: path(name),
            size: contents.len() as u64,
            executable: false,
            sha256: Digest::of(contents),
        })
        .collect();
    list.sort_by(|a, b| a.path.cmp(&b.path));
    let draft = Draft {
        name: "forged".into(),
        version: "1".into(),
        entry: path(files[0].0),
        language: None,
        automation: None,
        files: list,
    };
    Manifest::new(draft)
        .expect("valid manifest")
        .encode()
        .expect("encodes")
}

/// A header as an honest packer writes it, made by the tar crate.
pub(crate) fn header(name: &[u8], size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_entry_type(EntryType::Regular);
    seal(&mut header);
    header
}

/// Makes the checksum right, and spells it as POSIX and GNU tar do: six digits, zero, space.
pub(crate) fn seal(header: &mut Header) {
    header.set_cksum();
    let sum = header.cksum().expect("just set");
    header.as_mut_bytes()[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// Header, contents, padding.
pub(crate) fn entry_of(header: &Header, contents: &[u8]) -> Vec<u8> {
    let mut entry = header.as_bytes().to_vec();
    entry.extend_from_slice(contents);
    entry.resize(entry.len().next_multiple_of(BLOCK), 0);
    entry
}

pub(crate) fn entry(name: &str, contents: &[u8]) -> Vec<u8> {
    entry_of(&header(name.as_bytes(), contents.len() as u64), contents)
}

/// An entry without contents, changed by `change` after which the checksum is made right again.
pub(crate) fn odd_entry(name: &str, change: impl FnOnce(&mut Header)) -> Vec<u8> {
    let mut header = header(name.as_bytes(), 0);
    change(&mut header);
    seal(&mut header);
    entry_of(&header, b"")
}

/// Entries, the end, one zstd frame.
pub(crate) fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    compress(&[entries.concat(), vec![0; 2 * BLOCK]].concat())
}

pub(crate) fn compress(tar: &[u8]) -> Vec<u8> {
    zstd::encode_all(tar, 3).expect("compresses")
}

pub(crate) const FILES: [(&str, &[u8]); 3] = [
    ("bot.py", b"print(1)"),
    ("a.txt", b"first"),
    ("z/last.txt", b"last"),
];

/// Manifest and files of an honest package, in order, for tests to put something between.
pub(crate) fn honest() -> Vec<Vec<u8>> {
    vec![
        entry("manifest.json", &manifest(&FILES)),
        entry("files/a.txt", FILES[1].1),
        entry("files/bot.py", FILES[0].1),
        entry("files/z/last.txt", FILES[2].1),
    ]
}

/// The honest package with an entry put in at `place`.
pub(crate) fn with(place: usize, entry: Vec<u8>) -> Vec<u8> {
    let mut entries = honest();
    entries.insert(place, entry);
    archive(&entries)
}

/// A directory to unpack into, beside a file that must not change.
pub(crate) struct Arena {
    base: TempDir,
}

impl Arena {
    pub(crate) fn new() -> Self {
        let base = TempDir::new().expect("folder");
        fs::create_dir(base.path().join("target")).expect("folder");
        fs::write(base.path().join("victim"), "untouched").expect("file");
        Self { base }
    }

    pub(crate) fn target(&self) -> std::path::PathBuf {
        self.base.path().join("target")
    }

    pub(crate) fn unpack(
        &self,
        archive: &[u8],
        limits: &Limits,
    ) -> Result<Unpacked, package::UnpackError> {
        let target = File::open(self.target()).expect("opened");
        let outcome = package::unpack(archive, target.as_fd(), limits);
        self.nothing_escaped();
        outcome
    }

    /// Beside the target only the victim, below it only plain files and directories.
    pub(crate) fn nothing_escaped(&self) {
        let mut names: Vec<_> = fs::read_dir(self.base.path())
            .expect("listed")
            .map(|e| e.expect("entry").file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["target", "victim"]);
        assert_eq!(
            fs::read(self.base.path().join("victim")).expect("read"),
            b"untouched"
        );
        plain_only(&self.target());
    }
}

fn plain_only(dir: &Path) {
    for entry in fs::read_dir(dir).expect("listed") {
        let path = entry.expect("entry").path();
        let kind = fs::symlink_metadata(&path).expect("exists").file_type();
        assert!(
            kind.is_file() || kind.is_dir(),
            "{} is {kind:?}",
            path.display()
        );
        if kind.is_dir() {
            plain_only(&path);
        }
    }
}

/// Unpacks a hostile archive in an arena of its own and gives the code of the refusal.
pub(crate) fn refusal(archive: &[u8]) -> Code {
    refusal_within(archive, &Limits::default())
}

pub(crate) fn refusal_within(archive: &[u8], limits: &Limits) -> Code {
    let written = Arena::new()
        .unpack(archive, limits)
        .expect_err("must be refused");
    let checked = package::check(archive, limits).expect_err("must be refused without writing too");
    assert_eq!(checked.code(), written.code());
    assert!(
        !written.to_string().chars().any(char::is_control),
        "{written}"
    );
    written.code()
}
