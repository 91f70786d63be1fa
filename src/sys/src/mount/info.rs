//! `/proc/PID/mountinfo` (proc(5)).
//!
//! Paths in it are chosen by users, so nothing in a line is trusted to be well-formed; a line
//! that can't be read is an error and not left out, since the absence of a mount is evidence.

use std::ffi::OsString;
use std::fmt;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::{FileStat, fstat, lstat, major, minor};
use nix::unistd::Pid;

use super::Error;

/// The device of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId {
    /// Its class; 0 for file systems without a block device, such as tmpfs.
    pub major: u64,
    /// Its number within the class.
    pub minor: u64,
}

impl DeviceId {
    /// The device on which `path` lies (symbolic links are not followed). On btrfs and overlayfs
    /// it may differ from the one that mountinfo shows.
    ///
    /// # Errors
    ///
    /// [`Error::Device`].
    pub fn of(path: &Path) -> Result<Self, Error> {
        let facts = lstat(path).map_err(|source| Error::Device {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self::from_facts(&facts))
    }

    /// The device on which an open file lies.
    ///
    /// # Errors
    ///
    /// [`Error::Device`].
    pub fn of_fd(fd: &impl AsFd) -> Result<Self, Error> {
        let facts = fstat(fd).map_err(|source| Error::Device {
            path: PathBuf::from("(open file)"),
            source,
        })?;
        Ok(Self::from_facts(&facts))
    }

    fn from_facts(facts: &FileStat) -> Self {
        Self {
            major: major(facts.st_dev),
            minor: minor(facts.st_dev),
        }
    }

    fn parse(field: &str) -> Option<Self> {
        let (major, minor) = field.split_once(':')?;
        Some(Self {
            major: number(major)?,
            minor: number(minor)?,
        })
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// One mount, as one process sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountInfo {
    /// Its id; reused after it is unmounted.
    pub id: u64,
    /// The id of the mount that it is attached to.
    pub parent: u64,
    /// The file system's device.
    pub device: DeviceId,
    /// Which folder of the file system is its root.
    pub root: PathBuf,
    /// Where it is attached, from the process's root.
    pub mount_point: PathBuf,
    /// Options of this mount, such as `rw,nosuid`.
    pub options: OsString,
    /// Tags such as `shared:5` and `master:2`.
    pub tags: Vec<OsString>,
    /// Kind of file system.
    pub kind: OsString,
    /// What is mounted: a device, or any word.
    pub source: OsString,
    /// Options of the file system.
    pub super_options: OsString,
}

/// A line that is not what proc(5) describes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {number} is not a line of mountinfo: {}", text.escape_ascii())]
pub struct OddLine {
    /// Its number, from 1.
    pub number: usize,
    /// Its first 200 bytes.
    pub text: Vec<u8>,
}

/// Reads the content of a mountinfo file.
///
/// # Errors
///
/// The first [`OddLine`].
pub fn parse(bytes: &[u8]) -> Result<Vec<MountInfo>, OddLine> {
    let lines = bytes
        .split(|byte| *byte == b'\n')
        .enumerate()
        .filter(|(_, line)| !line.is_empty());
    lines
        .map(|(index, line)| parse_line(line).ok_or_else(|| odd(index, line)))
        .collect()
}

/// The mounts that this process sees.
///
/// # Errors
///
/// [`Error::ReadMounts`] and [`Error::OddMounts`].
pub fn own_mounts() -> Result<Vec<MountInfo>, Error> {
    let pid = Pid::this();
    let bytes = std::fs::read("/proc/self/mountinfo")
        .map_err(|source| Error::ReadMounts { pid, source })?;
    parse(&bytes).map_err(|source| Error::OddMounts { pid, source })
}

fn odd(index: usize, line: &[u8]) -> OddLine {
    OddLine {
        number: index + 1,
        text: line[..line.len().min(200)].to_vec(),
    }
}

/// `36 35 98:0 /root /mnt rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue`
fn parse_line(line: &[u8]) -> Option<MountInfo> {
    // Only the space separates; an empty field is possible (a source of "").
    let mut fields = line.split(|byte| *byte == b' ');
    let id = number(text(fields.next()?)?)?;
    let parent = number(text(fields.next()?)?)?;
    let device = DeviceId::parse(text(fields.next()?)?)?;
    let root = path(fields.next()?)?;
    let mount_point = path(fields.next()?)?;
    let options = unescaped(fields.next()?);
    let mut tags = Vec::new();
    loop {
        match fields.next()? {
            b"-" => break,
            tag => tags.push(unescaped(tag)),
        }
    }
    let kind = unescaped(fields.next().filter(|kind| !kind.is_empty())?);
    let source = unescaped(fields.next()?);
    let super_options = unescaped(fields.next()?);
    Some(MountInfo {
        id,
        parent,
        device,
        root,
        mount_point,
        options,
        tags,
        kind,
        source,
        super_options,
    })
}

fn text(field: &[u8]) -> Option<&str> {
    std::str::from_utf8(field).ok()
}

/// Digits only: `str::parse` would also take a sign.
fn number(field: &str) -> Option<u64> {
    if field.bytes().all(|byte| byte.is_ascii_digit()) {
        field.parse().ok()
    } else {
        None
    }
}

fn path(field: &[u8]) -> Option<PathBuf> {
    if field.is_empty() {
        None
    } else {
        Some(unescaped(field).into())
    }
}

/// The kernel writes space, tab, newline, backslash and `#` as `\` and three octal digits; a
/// backslash before anything else stands for itself.
fn unescaped(field: &[u8]) -> OsString {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        match octal(rest) {
            Some(escaped) => {
                plain.push(escaped);
                rest = &rest[4..];
            }
            None => {
                plain.push(byte);
                rest = tail;
            }
        }
    }
    OsString::from_vec(plain)
}

fn octal(field: &[u8]) -> Option<u8> {
    match *field {
        [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
            Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_example_of_the_manual_page_is_read() {
        let line = b"36 35 98:0 /mnt1 /mnt\\040two rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue\n";
        let mounts = parse(line).unwrap();
        assert_eq!(mounts.len(), 1);
        assert_eq!(
            mounts[0].device,
            DeviceId {
                major: 98,
                minor: 0
            }
        );
        assert_eq!(mounts[0].mount_point, Path::new("/mnt two"));
        assert_eq!(mounts[0].tags, ["master:1", "shared:2"]);
        assert_eq!(mounts[0].super_options, "rw,errors=continue");
    }

    #[test]
    fn an_empty_source_is_a_field_like_any_other() {
        let mounts = parse(b"1 0 0:1 / / rw - tmpfs  rw\n").unwrap();
        assert_eq!(
            (
                mounts[0].source.as_os_str(),
                mounts[0].super_options.as_os_str()
            ),
            ("".as_ref(), "rw".as_ref())
        );
    }

    #[test]
    fn a_folder_named_like_a_separator_does_not_shift_the_fields() {
        let mounts = parse(b"1 0 0:1 / /mnt/\\040-\\040proc rw - tmpfs none rw\n").unwrap();
        assert_eq!(mounts[0].mount_point, Path::new("/mnt/ - proc"));
        assert_eq!(mounts[0].kind, "tmpfs");
    }

    #[test]
    fn odd_lines_are_refused_and_named() {
        let odd = [
            "x",
            "1 0 0:1 / / rw",
            "1 0 0:1 / / rw shared:1",
            "1 0 01 / / rw - t s o",
            "-1 0 0:1 / / rw - t s o",
        ];
        for line in odd {
            assert_eq!(parse(line.as_bytes()).unwrap_err().number, 1, "{line}");
        }
    }

    #[test]
    fn the_mounts_of_this_process_are_read() {
        assert!(
            own_mounts()
                .unwrap()
                .iter()
                .any(|mount| mount.mount_point == Path::new("/proc"))
        );
    }

    fn escape(bytes: &[u8]) -> Vec<u8> {
        let escape_one = |byte: &u8| match byte {
            b' ' | b'\t' | b'\n' | b'\\' | b'#' => format!("\\{byte:03o}").into_bytes(),
            _ => vec![*byte],
        };
        bytes.iter().flat_map(escape_one).collect()
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn any_path_comes_back_as_it_was(name in prop::collection::vec(1..=255_u8, 1..100)) {
            let mut line = b"1 0 0:1 / ".to_vec();
            line.extend(escape(&name));
            line.extend(b" rw - tmpfs none rw\n");
            let mounts = parse(&line).unwrap();
            prop_assert_eq!(mounts[0].mount_point.as_os_str().as_encoded_bytes(), &name[..]);
        }

        #[test]
        fn lines_of_fields_are_read_or_refused_without_a_panic(
            fields in prop::collection::vec("[-0-9:/a-z\\\\]{0,6}", 0..14)
        ) {
            let _ = parse(fields.join(" ").as_bytes());
        }
    }
}
