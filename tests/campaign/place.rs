//! Where trees are built: a file system of their own, with something precious beside them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use sys::beneath::{Error, Removed, remove_tree, remove_tree_apart};
use sys::mount::{Propagation, own_mounts, own_namespace};

/// A tree takes milliseconds; this is for a machine that does much else.
const LIMIT: Duration = Duration::from_secs(1800);

pub(crate) struct Place {
    pub(crate) base: PathBuf,
    pub(crate) name: &'static str,
    precious: BTreeMap<PathBuf, String>,
    mounts: usize,
    began: Instant,
}

impl Place {
    pub(crate) fn tmpfs() -> Self {
        own_namespace(Propagation::Private).unwrap();
        let base = PathBuf::from("/mnt");
        let options = Some("size=2g,nr_inodes=4m");
        mount(
            Some("campaign"),
            &base,
            Some("tmpfs"),
            MsFlags::empty(),
            options,
        )
        .unwrap();
        Self::furnished(base, "tmpfs")
    }

    pub(crate) fn ext4(megabytes: u64) -> Self {
        Self::ext4_with(megabytes, None)
    }

    /// On a loop device over memory: it goes with this process's mount namespace. What `prepare` leaves
    /// there is read anew from the device: no key that it used is in memory any more.
    pub(crate) fn ext4_with(megabytes: u64, prepare: Option<&dyn Fn(&Path)>) -> Self {
        own_namespace(Propagation::Private).unwrap();
        let image = PathBuf::from(format!("/dev/shm/campaign-{}.img", std::process::id()));
        let file = fs::File::create(&image).unwrap();
        file.set_len(megabytes << 20).unwrap();
        let base = PathBuf::from("/mnt");
        let features = "encrypt,stable_inodes";
        run(
            "mkfs.ext4",
            &["-q", "-F", "-i", "2048", "-O", features, path(&image)],
        );
        let attach = || run("mount", &["-o", "loop", path(&image), path(&base)]);
        attach();
        fs::remove_dir(base.join("lost+found")).unwrap();
        if let Some(prepare) = prepare {
            prepare(&base);
            run("umount", &[path(&base)]);
            attach();
        }
        // Mounted, it stays until the loop device lets go.
        fs::remove_file(&image).unwrap();
        Self::furnished(base, "ext4")
    }

    fn furnished(base: PathBuf, name: &'static str) -> Self {
        let precious = base.join("precious");
        fs::create_dir_all(precious.join("sub/empty")).unwrap();
        for name in ["kept", "sub/also", "linked"] {
            fs::write(precious.join(name), name).unwrap();
        }
        fs::set_permissions(precious.join("kept"), fs::Permissions::from_mode(0o640)).unwrap();
        let precious = fingerprint(&precious);
        Self {
            mounts: mounts(&base),
            base,
            name,
            precious,
            began: Instant::now(),
        }
    }

    pub(crate) fn precious(&self) -> PathBuf {
        self.base.join("precious")
    }

    pub(crate) fn tree(&self) -> PathBuf {
        self.base.join("tree")
    }

    /// In turns in this process and in one apart.
    pub(crate) fn remove(&self, turn: u64) -> Result<Removed, Error> {
        if turn.is_multiple_of(2) {
            remove_tree(&self.tree())
        } else {
            remove_tree_apart(&self.tree(), LIMIT, &mut || {})
        }
    }

    /// Nothing outside was touched, nothing is left.
    pub(crate) fn check(&self, which: &str) {
        let names: Vec<_> = fs::read_dir(&self.base)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["precious"], "{which}: something is left");
        assert_eq!(
            fingerprint(&self.precious()),
            self.precious,
            "{which}: the precious folder"
        );
        assert_eq!(mounts(&self.base), self.mounts, "{which}: mounts");
    }

    pub(crate) fn say(&self, what: &str) {
        let seconds = self.began.elapsed().as_secs_f64();
        println!("  {}: {what}, {seconds:.1} s", self.name);
    }
}

/// At and below this folder. Others on the machine come and go, also from a namespace of one's own,
/// when what they lie on is removed.
fn mounts(base: &Path) -> usize {
    let all = own_mounts().unwrap();
    let own = all
        .iter()
        .filter(|mount| mount.mount_point.starts_with(base));
    own.count()
}

/// Names, kinds, access bits, owners, contents. Times and link counts change with links to a file.
fn fingerprint(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let facts = fs::symlink_metadata(&path).unwrap();
            let content = if facts.is_file() {
                fs::read(&path).unwrap()
            } else {
                vec![]
            };
            let line = format!("{:o} {} {content:?}", facts.mode(), facts.uid());
            if facts.is_dir() {
                folders.push(path.clone());
            }
            found.insert(path, line);
        }
    }
    found
}

pub(crate) fn path(path: &Path) -> &str {
    path.to_str().expect("text")
}

pub(crate) fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
