//! A random hostile tree from a seed.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::AtFlags;
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, makedev, mknodat};
use nix::unistd::{linkat, symlinkat};
use sys::beneath::{Dir, Mounts, Removed};

/// SplitMix64 (Steele, Lea, Flood 2014): every seed gives the same tree for ever.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// What is built, and what a removal of it has to count.
pub(crate) struct Builder<'a> {
    random: Random,
    precious: &'a Path,
    budget: u64,
    serial: u64,
    pub(crate) expected: Removed,
}

impl<'a> Builder<'a> {
    pub(crate) fn new(seed: u64, precious: &'a Path) -> Self {
        let mut random = Random(seed);
        // Most are small, some are large.
        let budget = match random.below(20) {
            0 => 2_000,
            1..4 => 300,
            _ => 40,
        };
        Self {
            random,
            precious,
            budget,
            serial: 0,
            expected: Removed::default(),
        }
    }

    pub(crate) fn build(mut self, base: &Path) -> Removed {
        let base = Dir::open_root(base, Mounts::Cross).unwrap();
        let tree = base.create_dir("tree", 0o755).unwrap();
        self.expected.folders += 1;
        if self.random.one_in(50) {
            self.chain(&tree);
        }
        self.fill(&tree, 0);
        self.marks(&tree);
        self.expected
    }

    /// Folder in folder, up to 5,000 deep, with something in some of them.
    fn chain(&mut self, tree: &Dir) {
        let depth = 1 + self.random.below(5_000);
        let length = 1 + self.random.below(200) as usize;
        let mut folder = tree.create_dir("c".repeat(length), 0o700).unwrap();
        for level in 1..depth {
            if self.random.one_in(500) {
                self.entry(&folder, level);
            }
            folder = folder.create_dir("c".repeat(length), 0o700).unwrap();
        }
        self.expected.folders += depth;
        self.expected.deepest = self.expected.deepest.max(depth);
    }

    fn fill(&mut self, folder: &Dir, depth: u64) {
        for _ in 0..1 + self.random.below(12) {
            if self.budget == 0 {
                return;
            }
            self.budget -= 1;
            if self.random.one_in(4) {
                let name = self.name();
                let inner = folder.create_dir(&name, 0o755).unwrap();
                self.expected.folders += 1;
                self.expected.deepest = self.expected.deepest.max(depth + 1);
                self.fill(&inner, depth + 1);
                if self.random.one_in(3) {
                    self.marks(&inner);
                }
            } else {
                self.entry(folder, depth);
            }
        }
    }

    fn entry(&mut self, folder: &Dir, depth: u64) {
        let name = self.name();
        match self.random.below(40) {
            0..14 => self.file(folder, &name),
            14..22 => self.link(folder, &name),
            22..27 => self.special(folder, &name),
            27..32 => self.hard_link(folder, &name),
            32 => self.foreign_mount(folder, &name, depth),
            33 => self.covered_file(folder, &name),
            _ => {
                folder.create_dir(&name, 0).unwrap();
                self.expected.folders += 1;
                self.expected.deepest = self.expected.deepest.max(depth + 1);
            }
        }
    }

    fn file(&mut self, folder: &Dir, name: &OsStr) {
        let file = folder.create_file(name, 0o600).unwrap();
        self.expected.files += 1;
        // Sparse: 4 TiB and no block.
        file.set_len([0, 1, 5_000, 1 << 42][self.random.below(4) as usize])
            .unwrap();
        let mode = [0, 0o644, 0o4755, 0o2755, 0o777][self.random.below(5) as usize];
        file.set_permissions(std::fs::Permissions::from_mode(mode))
            .unwrap();
        self.expected.set_id += u64::from(mode & 0o6000 != 0);
        if self.random.one_in(60) {
            let marks = ["+i", "+a"][self.random.below(2) as usize];
            self.expected.protected += u64::from(chattr(marks, &file));
        }
    }

    fn link(&mut self, folder: &Dir, name: &OsStr) {
        let precious = self.precious.to_path_buf();
        let targets = [
            precious.clone(),
            precious.join("kept"),
            "..".into(),
            ".".into(),
            "/".into(),
            name.into(),
            "/proc/self/root".into(),
            PathBuf::from("../".repeat(1_000)),
        ];
        let target = &targets[self.random.below(targets.len() as u64) as usize];
        symlinkat(target, folder.as_fd(), name).unwrap();
        self.expected.links += 1;
    }

    fn special(&mut self, folder: &Dir, name: &OsStr) {
        let (kind, device) = match self.random.below(4) {
            0 => (SFlag::S_IFIFO, 0),
            1 => (SFlag::S_IFSOCK, 0),
            // /dev/zero; a loop device that may well be in use.
            2 => (SFlag::S_IFCHR, makedev(1, 5)),
            _ => (SFlag::S_IFBLK, makedev(7, 0)),
        };
        mknodat(folder.as_fd(), name, kind, Mode::S_IRWXU, device).unwrap();
        self.expected.special += 1;
    }

    fn hard_link(&mut self, folder: &Dir, name: &OsStr) {
        let precious = self.precious.join("linked");
        linkat(
            nix::fcntl::AT_FDCWD,
            &precious,
            folder.as_fd(),
            name,
            AtFlags::empty(),
        )
        .unwrap();
        self.expected.files += 1;
        self.expected.linked += 1;
    }

    /// A bind mount of what is precious, or a tmpfs with something in it; on what it lies there is
    /// something too.
    fn foreign_mount(&mut self, folder: &Dir, name: &OsStr, depth: u64) {
        let covered = folder.create_dir(name, 0o755).unwrap();
        covered.create_file("covered", 0o600).unwrap();
        self.expected.folders += 1;
        self.expected.files += 1;
        self.expected.deepest = self.expected.deepest.max(depth + 1);
        let place = proc(&covered);
        if self.random.one_in(2) {
            bind(self.precious, &place);
        } else {
            let options = Some("size=64k");
            mount(
                Some("nested"),
                &place,
                Some("tmpfs"),
                MsFlags::empty(),
                options,
            )
            .unwrap();
        }
        self.expected.mounts += 1;
    }

    fn covered_file(&mut self, folder: &Dir, name: &OsStr) {
        let file = folder.create_file(name, 0o600).unwrap();
        bind(&self.precious.join("kept"), &proc(&file));
        self.expected.files += 1;
        self.expected.mounts += 1;
    }

    /// Nobody may search it, nobody may change it.
    fn marks(&mut self, folder: &Dir) {
        folder
            .set_mode([0, 0o755, 0o1777, 0o3755][self.random.below(4) as usize])
            .unwrap();
        if self.random.one_in(12) {
            let marks = ["+i", "+a"][self.random.below(2) as usize];
            self.expected.protected += u64::from(chattr(marks, folder));
        }
    }

    /// Never twice the same in a tree.
    fn name(&mut self) -> OsString {
        self.serial += 1;
        let serial = self.serial;
        let text = match self.random.below(12) {
            0 => format!("-rf{serial}"),
            1 => format!("--no-preserve-root {serial}"),
            2 => format!("new\nline{serial}\n"),
            3 => format!("\u{202e}{serial}"),
            4 => format!("...{serial}"),
            5 => format!(".removed-{serial}"),
            6 => format!("{serial}*?[a]$(reboot)`id`;&|"),
            7 => format!("{serial:0>255}"),
            8 => {
                let mut bytes = serial.to_string().into_bytes();
                bytes.extend([0xff, 0xfe, 0x80, 0xc0]);
                return OsString::from_vec(bytes);
            }
            _ => format!("name{serial}"),
        };
        text.into()
    }
}

fn proc(fd: &impl AsFd) -> PathBuf {
    let fd = fd.as_fd().as_raw_fd();
    format!("/proc/{}/fd/{fd}", std::process::id()).into()
}

fn bind(from: &Path, to: &Path) {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
}

/// Whether it could be marked: chattr(1) takes a path, and below 4,000 bytes there is one.
fn chattr(marks: &str, what: &impl AsFd) -> bool {
    let Ok(path) = std::fs::read_link(proc(what)) else {
        return false;
    };
    if path.as_os_str().len() > 4_000 {
        return false;
    }
    let output = std::process::Command::new("chattr")
        .args([marks, "--"])
        .arg(path)
        .output();
    output.unwrap().status.success()
}
