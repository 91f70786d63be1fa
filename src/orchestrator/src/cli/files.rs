//! Files that commands read and write. Names come from bots: never trusted as paths.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use zeroize::Zeroizing;

use crate::refused::Refused;
use crate::vault::MAX_SECRET;

/// No file system of ours takes longer names.
const MAX_NAME: usize = 200;

/// A secret from a file or from standard input, where one newline at the end is not part of it.
pub(super) fn read_secret(file: Option<&Path>) -> Result<Zeroizing<Vec<u8>>, Refused> {
    let mut plain = Zeroizing::new(Vec::with_capacity(MAX_SECRET + 1));
    let limit = MAX_SECRET as u64 + 1;
    match file {
        Some(path) => {
            let fail = |error: std::io::Error| Refused::io("can't read", path, &error);
            File::open(path)
                .map_err(fail)?
                .take(limit)
                .read_to_end(&mut plain)
                .map_err(fail)?;
        }
        None => {
            let fail = |error: std::io::Error| {
                Refused::io("can't read", Path::new("standard input"), &error)
            };
            std::io::stdin()
                .lock()
                .take(limit)
                .read_to_end(&mut plain)
                .map_err(fail)?;
            if plain.last() == Some(&b'\n') {
                plain.pop();
            }
        }
    }
    Ok(plain)
}

/// A folder that content is written into. Names are single components made from what the bot
/// said, opened relative to the folder without following links.
pub(super) struct Folder {
    path: PathBuf,
    dir: OwnedFd,
}

impl Folder {
    pub(super) fn open(path: &Path) -> Result<Self, Refused> {
        let fail = |error: std::io::Error| Refused::io("can't open", path, &error);
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(path)
            .map_err(fail)?;
        let dir = OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_DIRECTORY.bits())
            .open(path)
            .map_err(fail)?;
        Ok(Self {
            path: path.to_owned(),
            dir: dir.into(),
        })
    }

    /// Makes a new file for `name`. A name that is taken gets a number: nothing is overwritten.
    pub(super) fn create(&self, name: &str) -> Result<(PathBuf, File), Refused> {
        for number in 0..10_000 {
            let tried = numbered(name, number);
            let flags = OFlag::O_WRONLY
                | OFlag::O_CREAT
                | OFlag::O_EXCL
                | OFlag::O_NOFOLLOW
                | OFlag::O_CLOEXEC;
            match openat(
                self.dir.as_fd(),
                tried.as_str(),
                flags,
                Mode::from_bits_truncate(0o644),
            ) {
                Ok(file) => return Ok((self.path.join(&tried), File::from(file))),
                Err(nix::errno::Errno::EEXIST) => {}
                Err(errno) => {
                    let error = std::io::Error::from(errno);
                    return Err(Refused::io("can't make", &self.path.join(&tried), &error));
                }
            }
        }
        Err(Refused::state(
            "NAME_TAKEN",
            format!("too many files are called {name:?}"),
        ))
    }
}

fn numbered(name: &str, number: u32) -> String {
    match (number, name.rsplit_once('.')) {
        (0, _) => name.to_owned(),
        (_, Some((stem, end))) if !stem.is_empty() => format!("{stem}-{number}.{end}"),
        _ => format!("{name}-{number}"),
    }
}

/// One path component out of a bot's relative path: `/` becomes `_`, what a terminal or a shell
/// would stumble over becomes `_` too, and nothing is hidden or means a directory.
pub(super) fn safe_name(name: &[u8]) -> String {
    let mut safe: String = super::inert::line(name)
        .chars()
        .map(|letter| match letter {
            '/' | '\\' | '\t' | ':' | '"' | '\'' | '`' | '$' | '*' | '?' | '<' | '>' | '|' => '_',
            letter => letter,
        })
        .collect();
    while safe.len() > MAX_NAME {
        safe.pop();
    }
    let trimmed = safe
        .trim_start_matches(['.', '-', ' '])
        .trim_end_matches([' ', '.']);
    match trimmed.is_empty() {
        true => "unnamed".to_owned(),
        false => trimmed.to_owned(),
    }
}

/// Writes and syncs nothing: these are copies.
pub(super) fn append(path: &Path, file: &mut File, bytes: &[u8]) -> Result<(), Refused> {
    file.write_all(bytes)
        .map_err(|error| Refused::io("can't write", path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_stay_in_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(&dir.path().join("out")).unwrap();
        let long = vec![b'a'; 5000];
        for name in [
            b"../../etc/passwd".as_slice(),
            b"/etc/passwd",
            b"..",
            b".",
            b"",
            b"a\0b",
            b"\x1b[2J",
            b"-rf",
            b"..\\..\\x",
            b"\xff\xfe",
            &long,
            "\u{202e}gnp.exe".as_bytes(),
        ] {
            let (path, _) = folder.create(&safe_name(name)).unwrap();
            assert_eq!(
                path.parent(),
                Some(dir.path().join("out").as_path()),
                "{name:?}"
            );
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn nothing_is_overwritten_and_no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        std::fs::write(&outside, "kept").unwrap();
        let folder = Folder::open(&dir.path().join("out")).unwrap();
        std::os::unix::fs::symlink(&outside, dir.path().join("out/report.csv")).unwrap();
        let (path, mut file) = folder.create("report.csv").unwrap();
        append(&path, &mut file, b"new").unwrap();
        assert_eq!(path, dir.path().join("out/report-1.csv"));
        assert_eq!(std::fs::read(&outside).unwrap(), b"kept");
    }
}
