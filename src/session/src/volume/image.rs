//! The file that a volume on the disk lies in: of root alone, its space taken beforehand, so that a
//! full disk surprises neither the job nor the host.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, OFlag, fallocate, open, openat};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{UnlinkatFlags, fsync, unlinkat};
use order::{AttemptRef, VolumeBackend};
use privsep::Refusal;

/// Of a file name.
const ENDING: &str = ".img";

/// `JOB.N.BACKEND.img`: who finds it after a crash knows what it was.
pub(super) fn name(attempt: &AttemptRef, backend: VolumeBackend) -> String {
    format!("{attempt}.{backend}{ENDING}")
}

/// The attempt and the backend that a name tells of.
pub(super) fn of_name(name: &str) -> Option<(AttemptRef, VolumeBackend)> {
    let (attempt, backend) = name.strip_suffix(ENDING)?.rsplit_once('.')?;
    Some((attempt.parse().ok()?, VolumeBackend::from_name(backend)?))
}

/// The store, held open.
pub(super) struct Store {
    fd: OwnedFd,
    path: PathBuf,
}

impl Store {
    /// Opens it: a directory of root's that nobody else can enter, and no link.
    pub(super) fn open(path: &Path) -> Result<Self, Refusal> {
        let refuse = |what: &str| {
            let detail = format!(
                "{} {what}; make it with: install -d -o root -g root -m 0700 {}",
                path.display(),
                path.display()
            );
            Refusal::new("VOLUME_STORE_UNSAFE", detail)
        };
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = open(path, flags, Mode::empty())
            .map_err(|error| refuse(&format!("can't be opened ({})", error.desc())))?;
        let facts = fstat(&fd).map_err(|error| refuse(error.desc()))?;
        if facts.st_uid != 0 || facts.st_mode & 0o077 != 0 {
            let (uid, mode) = (facts.st_uid, facts.st_mode & 0o7777);
            return Err(refuse(&format!(
                "is owned by uid {uid} with mode {mode:04o}"
            )));
        }
        let path = path.to_owned();
        Ok(Self { fd, path })
    }

    /// Bytes that can be taken while so many stay free.
    fn room(&self, reserve: u64) -> io::Result<u64> {
        let stat = fstatvfs(&self.fd)?;
        Ok((stat.blocks_available() * stat.fragment_size()).saturating_sub(reserve))
    }

    /// Makes an image of this size, all of its space taken.
    pub(super) fn create(&self, name: &str, bytes: u64, reserve: u64) -> Result<Image, Refusal> {
        let full = |why: String| {
            let detail = format!(
                "{}: no room for a volume of {} MiB: {why}",
                self.path.display(),
                bytes >> 20
            );
            Refusal::new("VOLUME_STORE_FULL", detail)
        };
        let failed = |error: &dyn std::error::Error| crate::refusal("VOLUME_FAILED", error);
        let room = self.room(reserve).map_err(|error| failed(&error))?;
        if room < bytes {
            let (room, reserve) = (room >> 20, reserve >> 20);
            return Err(full(format!(
                "{room} MiB are free beside the {reserve} MiB of volume.reserve-mib"
            )));
        }
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let fd = openat(&self.fd, name, flags | OFlag::O_CLOEXEC, mode)
            .map_err(|error| failed(&error))?;
        let image = Image {
            file: fd.into(),
            name: name.to_owned(),
        };
        let length = i64::try_from(bytes).unwrap_or(i64::MAX);
        if let Err(error) = fallocate(&image.file, FallocateFlags::empty(), 0, length) {
            let _ = self.remove(name);
            return Err(match error {
                Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG => full(error.desc().to_owned()),
                // A file system that can't promise space is no place for a volume.
                other => failed(&other),
            });
        }
        Ok(image)
    }

    /// Names of images in it that are of such an attempt.
    pub(super) fn images(&self, of: &AttemptRef) -> io::Result<Vec<(String, VolumeBackend)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if let Some((attempt, backend)) = of_name(&name)
                && attempt == *of
            {
                found.push((name, backend));
            }
        }
        Ok(found)
    }

    /// Removes an image by its name and sees that no such name is there any more.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        match unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
        fsync(self.fd.as_fd())?;
        match self.path.join(name).symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) => Err(error),
        }
    }

    /// A small one without a name, for a trial.
    pub(super) fn trial(&self, bytes: u64) -> Result<File, String> {
        let flags = OFlag::O_RDWR | OFlag::O_TMPFILE | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let file =
            File::from(openat(&self.fd, ".", flags, mode).map_err(|error| {
                format!("no file in {}: {}", self.path.display(), error.desc())
            })?);
        file.set_len(bytes).map_err(|error| error.to_string())?;
        Ok(file)
    }
}

/// An image, held open.
pub(super) struct Image {
    pub(super) file: File,
    pub(super) name: String,
}

impl Image {
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub(super) fn bytes(&self) -> io::Result<u64> {
        self.file.metadata().map(|facts| facts.size())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_of_its_attempt_and_backend() {
        let attempt: AttemptRef = "0199d6a4-0000-7000-8000-000000000001.3".parse().unwrap();
        for backend in VolumeBackend::ALL {
            let name = name(&attempt, backend);
            assert!(name.len() < 64, "{name}");
            assert_eq!(of_name(&name), Some((attempt, backend)));
        }
        for odd in ["", ".img", "x.plain.img", "lost+found", "a.b.img"] {
            assert_eq!(of_name(odd), None);
        }
    }

    #[test]
    fn what_others_can_enter_is_no_store() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("store");
        fs::create_dir(&place).unwrap();
        let set = |mode| fs::set_permissions(&place, fs::Permissions::from_mode(mode)).unwrap();
        set(0o711);
        assert!(Store::open(&place).is_err());
        set(0o700);
        if nix::unistd::getuid().is_root() {
            assert!(Store::open(&place).is_ok());
        }
        let link = folder.path().join("link");
        symlink(&place, &link).unwrap();
        assert!(Store::open(&link).is_err());
    }

    #[test]
    fn an_image_is_refused_when_it_leaves_too_little() {
        let folder = tempfile::tempdir().unwrap();
        if !nix::unistd::getuid().is_root() {
            return;
        }
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let store = Store::open(folder.path()).unwrap();
        let refused = store.create("a", 1 << 20, u64::MAX / 2).err().unwrap();
        assert_eq!(refused.code, "VOLUME_STORE_FULL");
        let refused = store.create("a", 1 << 50, 0).err().unwrap();
        assert_eq!(refused.code, "VOLUME_STORE_FULL");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let image = store.create("a", 1 << 20, 0).unwrap();
        assert!(image.file.metadata().unwrap().blocks() >= 2048, "taken");
        store.remove("a").unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
