//! Volumes on a disk: keys, devices, and that all of it goes with whoever made it.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use sys::fscrypt::{Removal, Status, add_random_key, encrypt_folder, key_status, remove_key};
use sys::loopback::{Loop, attached};
use sys::mount::{Attributes, Filesystem, Propagation, Unmount, own_namespace, unmount};
use sys::process::Namespaces;
use sys::{Errno, Signal};

use crate::Claim;
use crate::claims::{Gate, child};

pub(crate) const CLAIMS: &[Claim] = &[
    (
        "volumes: what lies in an encrypted folder is not on the device, and gone with its key",
        encrypted,
    ),
    (
        "volumes: a key that is in use says so, and goes when it is not",
        busy,
    ),
    (
        "volumes: a loop device goes with the last process that uses it, also after a kill -9",
        autoclear,
    ),
    (
        "volumes: a mapped device encrypts, shows nobody its key and goes with its mount, or says why there is none",
        mapped,
    ),
];

const MARK: &[u8] = b"a mark that must not be on the device";

/// An image with a file system that can encrypt, mounted in a namespace of this process's own.
struct Image {
    folder: tempfile::TempDir,
    file: File,
}

impl Image {
    fn new() -> Self {
        own_namespace(Propagation::Private).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
            .unwrap();
        file.set_len(8 << 20).unwrap();
        fs::create_dir(folder.path().join("disk")).unwrap();
        Self { folder, file }
    }

    fn place(&self) -> std::path::PathBuf {
        self.folder.path().join("disk")
    }

    fn mount(&self, device: &Path) {
        let made = Command::new("/usr/sbin/mkfs.ext4")
            .args(["-q", "-F", "-b", "4096", "-O", "^has_journal,encrypt"])
            .arg(device)
            .status();
        assert!(made.unwrap().success());
        let filesystem = Filesystem::open("ext4").unwrap();
        let filesystem = filesystem.set("source", &device.display().to_string());
        let tree = filesystem.unwrap().mount(Attributes::WRITABLE).unwrap();
        tree.attach(&self.place()).unwrap();
    }

    fn holds_mark(&self) -> bool {
        Command::new("sync").status().unwrap();
        let bytes = fs::read(self.folder.path().join("image")).unwrap();
        bytes.windows(MARK.len()).any(|part| part == MARK)
    }
}

/// Waits until no loop device has a file of this name.
fn none_attached(name: &str) {
    let began = Instant::now();
    while !attached(|file| file == name).unwrap().is_empty() {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{name} is still a device"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn encrypted() {
    let image = Image::new();
    let device = Loop::attach(image.file.as_fd(), "image").unwrap();
    image.mount(&device.path());
    drop(device);
    fs::write(image.place().join("clear"), MARK).unwrap();
    assert!(image.holds_mark(), "the search finds what is there");
    fs::remove_file(image.place().join("clear")).unwrap();

    let folder = image.place().join("v");
    fs::create_dir(&folder).unwrap();
    let top = File::open(image.place()).unwrap();
    let opened = File::open(&folder).unwrap();
    let (key, other) = (
        add_random_key(opened.as_fd()).unwrap(),
        add_random_key(opened.as_fd()).unwrap(),
    );
    assert_ne!(key, other);
    encrypt_folder(opened.as_fd(), key).unwrap();
    assert_eq!(key_status(top.as_fd(), key).unwrap(), Status::Present);
    let secret = [MARK, b" in an encrypted folder"].concat();
    fs::write(folder.join("file"), &secret).unwrap();
    drop(opened);
    let device_bytes = fs::read(image.folder.path().join("image")).unwrap();
    let whole = |bytes: &[u8]| bytes.windows(secret.len()).any(|part| part == secret);
    assert!(!whole(&device_bytes));

    assert_eq!(remove_key(top.as_fd(), key).unwrap(), Removal { flags: 0 });
    assert_eq!(key_status(top.as_fd(), key).unwrap(), Status::Absent);
    assert!(fs::read(folder.join("file")).is_err());
    let entry = fs::read_dir(&folder).unwrap().next().unwrap().unwrap();
    assert_ne!(entry.file_name(), "file");
    let refused = File::open(entry.path()).unwrap_err();
    // It holds its folder open.
    drop(entry);
    assert_eq!(refused.raw_os_error(), Some(Errno::ENOKEY as i32));
    drop(top);
    unmount(&image.place(), Unmount::IfUnused).unwrap();
    none_attached("image");
}

fn busy() {
    let image = Image::new();
    let device = Loop::attach(image.file.as_fd(), "image").unwrap();
    image.mount(&device.path());
    let folder = image.place().join("v");
    fs::create_dir(&folder).unwrap();
    let top = File::open(image.place()).unwrap();
    let key = add_random_key(top.as_fd()).unwrap();
    encrypt_folder(File::open(&folder).unwrap().as_fd(), key).unwrap();
    fs::write(folder.join("file"), MARK).unwrap();
    let held = File::open(folder.join("file")).unwrap();
    // Also one that no name leads to any more.
    fs::remove_file(folder.join("file")).unwrap();
    let removal = remove_key(top.as_fd(), key).unwrap();
    assert_eq!(removal.flags, Removal::FILES_BUSY);
    assert_eq!(
        key_status(top.as_fd(), key).unwrap(),
        Status::IncompletelyRemoved
    );
    drop(held);
    assert_eq!(remove_key(top.as_fd(), key).unwrap(), Removal { flags: 0 });
    assert_eq!(key_status(top.as_fd(), key).unwrap(), Status::Absent);
}

fn autoclear() {
    let image = Image::new();
    let device = Loop::attach(image.file.as_fd(), "image").unwrap();
    image.mount(&device.path());
    unmount(&image.place(), Unmount::IfUnused).unwrap();
    let (mut ready, said) = (Gate::new(), std::io::pipe().unwrap());
    let holder = child(Namespaces::NONE, || {
        own_namespace(Propagation::Private).unwrap();
        let filesystem = Filesystem::open("ext4").unwrap();
        let filesystem = filesystem.set("source", &device.path().display().to_string());
        let tree = filesystem.unwrap().mount(Attributes::WRITABLE).unwrap();
        tree.attach(&image.place()).unwrap();
        std::io::Write::write_all(&mut &said.1, b"x").unwrap();
        ready.wait();
    });
    std::io::Read::read_exact(&mut &said.0, &mut [0]).unwrap();
    drop(device);
    let now = attached(|file| file == "image").unwrap();
    assert_eq!(now.len(), 1, "its mount holds it: {now:?}");
    holder.send(Signal::SIGKILL).unwrap();
    holder.wait().unwrap();
    none_attached("image");
}

fn mapped() {
    let image = Image::new();
    let device = Loop::attach(image.file.as_fd(), "image").unwrap();
    let name = format!("robotd-test-{}", std::process::id());
    let lower = device.device().unwrap();
    let mapped = match sys::dm::encrypt(&name, lower, 8 << 20) {
        Ok(mapped) => mapped,
        Err(error) => {
            assert!(!Path::new("/dev/mapper/control").exists(), "{error:?}");
            println!("this host has no dm-crypt: {error}");
            assert!(sys::dm::look(|own| own == name).unwrap().is_empty());
            return;
        }
    };
    image.mount(&mapped.path());
    sys::dm::remove_when_unused(&name).unwrap();
    fs::write(image.place().join("file"), MARK).unwrap();
    assert!(!image.holds_mark());
    drop(device);
    let keys = fs::read_to_string("/proc/keys").unwrap();
    assert!(!keys.contains(&name), "{keys}");
    assert_eq!(sys::dm::look(|own| own == name).unwrap().len(), 1);
    unmount(&image.place(), Unmount::IfUnused).unwrap();
    let began = Instant::now();
    while !sys::dm::look(|own| own == name).unwrap().is_empty() {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "the device stays"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    none_attached("image");
}
