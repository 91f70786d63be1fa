//! The programs under test, where every account can run them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::fcntl::{Flock, FlockArg};

/// The user of robotd.
pub const AGENT_USER: &str = "robotd";

const PROGRAMS: [&str; 9] = [
    "robotd",
    "robotd-broker",
    "robotd-session",
    "robotd-attendant",
    "robotd-egress",
    "robotd-unpack",
    "robotjob",
    "robotctl",
    "robot-orchestrator",
];

/// Directory with all programs as they were built last. They are copied because a checkout may
/// lie where only its owner can look.
///
/// # Panics
/// When a program is not built: `cargo build --workspace --bins`.
pub fn programs() -> &'static Path {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    PLACE.get_or_init(|| {
        let place = PathBuf::from("/var/lib/robotd-test/programs");
        fs::create_dir_all(&place).expect("the tests run as root");
        let lock = File::create(place.with_extension("lock")).expect("a lock file");
        let _lock = Flock::lock(lock, FlockArg::LockExclusive).expect("a lock");
        for program in PROGRAMS {
            copy(&built().join(program), &place.join(program));
        }
        place
    })
}

/// Programs of a host's own, of which some are missing. Removed when dropped.
pub struct Copies {
    place: PathBuf,
}

impl Copies {
    /// All programs but this one.
    ///
    /// # Panics
    /// When the tests do not run as root.
    pub fn without(missing: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("programs-{}-{number}", std::process::id());
        let place = PathBuf::from("/var/lib/robotd-test").join(name);
        fs::create_dir_all(&place).expect("the tests run as root");
        let copies = Self { place };
        for program in PROGRAMS.iter().filter(|program| **program != missing) {
            copies.put_back(program);
        }
        copies
    }

    /// Where they are.
    pub fn path(&self) -> &Path {
        &self.place
    }

    /// Puts a script in the place of one.
    ///
    /// # Panics
    /// When it can't be written.
    pub fn put_script(&self, program: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.place.join(program);
        fs::write(&path, script).expect("a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
    }

    /// Takes one away again.
    ///
    /// # Panics
    /// When it can't be removed.
    pub fn take_away(&self, program: &str) {
        fs::remove_file(self.place.join(program)).expect("a removal");
    }

    /// Brings a missing one.
    ///
    /// # Panics
    /// When it can't be linked.
    pub fn put_back(&self, program: &str) {
        fs::hard_link(programs().join(program), self.place.join(program)).expect("a link");
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        let _ = sys::beneath::remove_tree(&self.place);
    }
}

/// The directory that this test was built into holds the programs too.
fn built() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its program");
    test.ancestors()
        .nth(2)
        .expect("target/PROFILE/deps/TEST")
        .to_owned()
}

fn copy(from: &Path, to: &Path) {
    let facts =
        |path: &Path| fs::metadata(path).and_then(|facts| Ok((facts.len(), facts.modified()?)));
    let built = facts(from).unwrap_or_else(|_| {
        panic!(
            "{} is not built: cargo build --workspace --bins",
            from.display()
        )
    });
    if facts(to).ok() == Some(built) {
        return;
    }
    let staged = to.with_extension("new");
    // Not in this process: a child that another test forks meanwhile would hold the copy open for
    // writing, and a program open for writing can't be started.
    let copied = std::process::Command::new("cp")
        .arg(from)
        .arg(&staged)
        .status();
    assert!(
        copied.expect("cp").success(),
        "{} is copied",
        from.display()
    );
    File::options()
        .write(true)
        .open(&staged)
        .and_then(|file| file.set_modified(built.1))
        .expect("a time");
    fs::rename(&staged, to).expect("a rename");
}
