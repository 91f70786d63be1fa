//! The package store: content-addressed, root-owned, read-only for everyone else.
//!
//! An archive is copied and hashed, opened by a throw-away process under a user of its own, and
//! what that process wrote is checked file by file against the signed manifest before the tree
//! gets its final name. The broker itself never parses an archive.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use order::{AttemptRef, KeyId, Sha256Hex};
use package::verify::{Found, Owner, VerifyError};
use package::{Limits, MANIFEST_NAME, PublicKey, Report};
use privsep::Refusal;
use sha2::{Digest as _, Sha256};
use sys::process::{Identity, Spawn};

use crate::policy::{Policy, Publisher};
use crate::tidying::{self, Kept};

const ROOT: Owner = Owner { uid: 0, gid: 0 };

/// What a package must be for an order.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) attempt: AttemptRef,
    pub(crate) digest: Sha256Hex,
    pub(crate) publisher: Option<KeyId>,
    pub(crate) entry: String,
}

/// A verified package, ready to be bound into a sandbox.
#[derive(Debug)]
pub(crate) struct Ready {
    /// The tree below `files/`. Only root can change the store, so the path stays what was checked.
    pub(crate) tree: PathBuf,
    /// Whether the entry point is marked executable.
    pub(crate) entry_executable: bool,
}

/// The store with what it needs of the policy. Cloned into the thread that takes a package in.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    root: PathBuf,
    staging: PathBuf,
    unpack: PathBuf,
    unpack_user: String,
    max_bytes: u64,
    /// An opener that takes longer is ended.
    unpack_within: Duration,
    limits: Limits,
    publishers: Vec<PublicKey>,
    revoked: Vec<PublicKey>,
}

impl Store {
    pub(crate) fn new(policy: &Policy) -> Self {
        Self {
            root: policy.paths.state.join("store"),
            staging: policy.paths.state.join("staging"),
            unpack: policy.paths.programs.join("robotd-unpack"),
            unpack_user: policy.packages.unpack_user.clone(),
            max_bytes: policy.packages.max_mib << 20,
            unpack_within: Duration::from_secs(policy.packages.unpack_seconds),
            limits: Limits::default(),
            publishers: keys(policy, |publisher| !publisher.revoked),
            revoked: keys(policy, |publisher| publisher.revoked),
        }
    }

    /// Whether the package is there.
    pub(crate) fn has(&self, digest: &Sha256Hex) -> bool {
        self.root
            .join(digest.to_string())
            .join(MANIFEST_NAME)
            .is_file()
    }

    /// Opens a package of the store and checks it again: against the publisher that this order
    /// names, and every file against the manifest.
    pub(crate) fn open(&self, wanted: &Wanted) -> Result<Ready, Refusal> {
        let name = wanted.digest.to_string();
        let tree = self.root.join(&name);
        let ready = self.check(&tree, wanted, None);
        match &ready {
            Ok(_) => used_now(&tree)?,
            // Damaged in the store: the next job fetches it again.
            Err(refusal) if refusal.code.starts_with("PACKAGE_MANIFEST") => {
                clear(&self.take_out(Path::new(&name))?)?;
            }
            Err(_) => {}
        }
        ready
    }

    /// Everything that is in the store.
    pub(crate) fn survey(&self) -> Result<Vec<Kept>, sys::beneath::Error> {
        tidying::survey(&self.root, |tree| self.is_of_revoked(tree))
    }

    /// Takes an entry out of the store; what is left to do is to remove the path.
    pub(crate) fn take_out(&self, name: &Path) -> Result<PathBuf, Refusal> {
        tidying::take_out(&self.root, &self.staging, name)
    }

    /// By the name of the key alone: the signature was checked when the package came.
    fn is_of_revoked(&self, tree: &Path) -> bool {
        let Ok(bytes) = std::fs::read(tree.join(package::SIGNATURE_NAME)) else {
            return false;
        };
        let signature = package::Signature::parse(&bytes);
        let revoked = |id: &package::KeyId| self.revoked.iter().any(|key| key.key_id() == *id);
        signature.is_ok_and(|signature| revoked(signature.key_id()))
    }

    /// Removes what a broker that was killed left half taken in.
    pub(crate) fn clear_staging(&self) -> Result<(), Refusal> {
        let entries = std::fs::read_dir(&self.staging);
        let entries = entries.map_err(|error| io_refusal("list", &self.staging, &error))?;
        entries.flatten().try_for_each(|entry| clear(&entry.path()))
    }

    /// Takes a package in from `archive`. Leaves nothing behind when it is refused.
    pub(crate) fn take_in(&self, wanted: &Wanted, archive: OwnedFd) -> Result<Ready, Refusal> {
        let staged = self.staging.join(wanted.attempt.to_string());
        clear(&staged)?;
        let taken = self.take_in_at(&staged, wanted, archive);
        clear(&staged)?;
        taken
    }

    fn take_in_at(
        &self,
        staged: &Path,
        wanted: &Wanted,
        archive: OwnedFd,
    ) -> Result<Ready, Refusal> {
        make_directory(staged, 0o700)?;
        let copy = staged.join("archive");
        self.copy(File::from(archive), &copy, &wanted.digest)?;
        let tree = staged.join("tree");
        self.unpack(&copy, &tree)?;
        // Its process is gone and could not fork (RLIMIT_NPROC): nobody holds a descriptor that
        // could still write.
        self.check(&tree, wanted, Some(ROOT))?;
        chown(&tree, Some(0), Some(0)).map_err(|error| io_refusal("take over", &tree, &error))?;
        open_for_bots(&tree)?;
        // All of it is on the disk before it has a name: after power loss the name means a whole.
        let opened = File::open(&tree).map_err(|error| io_refusal("open", &tree, &error))?;
        nix::unistd::syncfs(opened.as_fd())
            .map_err(|error| io_refusal("sync", &tree, &error.into()))?;
        let name = self.root.join(wanted.digest.to_string());
        let placed = place(&tree, &name)?;
        let ready = self.check(&name, wanted, None);
        if placed || ready.is_ok() {
            return ready;
        }
        // What is there is the rest of a removal that was cut short: ours takes its place.
        clear(&self.take_out(Path::new(&wanted.digest.to_string()))?)?;
        place(&tree, &name)?;
        self.check(&name, wanted, None)
    }

    /// Copies while hashing: what is checked is what is kept, whatever happens to the source.
    fn copy(&self, mut from: File, to: &Path, digest: &Sha256Hex) -> Result<(), Refusal> {
        let failed = |error: &std::io::Error| io_refusal("copy the package to", to, error);
        let regular = from.metadata().map_err(|error| failed(&error))?.is_file();
        if !regular {
            return Err(Refusal::new(
                "PACKAGE_NOT_A_FILE",
                "the package must come as a regular file",
            ));
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(to)
            .map_err(|error| failed(&error))?;
        let (mut hash, mut total, mut buffer) = (Sha256::new(), 0_u64, vec![0; 256 * 1024]);
        loop {
            let count = from.read(&mut buffer).map_err(|error| {
                let detail = format!("the package can't be read: {error}");
                Refusal::new("PACKAGE_UNREADABLE", detail)
            })?;
            if count == 0 {
                break;
            }
            total += count as u64;
            if total > self.max_bytes {
                let detail = format!(
                    "the package is larger than packages.max-mib allows ({} MiB)",
                    self.max_bytes >> 20
                );
                return Err(Refusal::new("PACKAGE_TOO_LARGE", detail));
            }
            hash.update(&buffer[..count]);
            file.write_all(&buffer[..count])
                .map_err(|error| failed(&error))?;
        }
        if hash.finalize().as_slice() != digest.0 {
            let detail = format!("what arrived is not the package {digest} that the order names");
            return Err(Refusal::new("PACKAGE_DIGEST_MISMATCH", detail));
        }
        Ok(())
    }

    fn unpack(&self, archive: &Path, tree: &Path) -> Result<(), Refusal> {
        let user = account(&self.unpack_user)?;
        make_directory(tree, 0o700)?;
        chown(tree, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
            .map_err(|error| io_refusal("hand over", tree, &error))?;
        let archive = File::open(archive).map_err(|error| io_refusal("open", archive, &error))?;
        let directory = File::open(tree).map_err(|error| io_refusal("open", tree, &error))?;
        let report = Spawn::new(&self.unpack)
            .identity(user)
            .stdin(archive.into())
            .pass(directory.into(), 3)
            .output_within(package::MAX_REPORT_BYTES, self.unpack_within)
            .map_err(|error| Refusal::new("UNPACK_FAILED", crate::text(&error)))?;
        match Report::parse(&report) {
            Ok(Report::Done { .. }) => Ok(()),
            Ok(Report::Refused { code, detail }) => Err(Refusal::new(code.as_str(), detail)),
            Err(_) => Err(Refusal::new(
                "UNPACK_FAILED",
                "the process that opened the package died; nothing of it was kept",
            )),
        }
    }

    /// Everything that makes a tree trustworthy, at every use: a tree in the store that was
    /// changed since is not run.
    fn check(&self, tree: &Path, wanted: &Wanted, owner: Option<Owner>) -> Result<Ready, Refusal> {
        let refuse = |error: &VerifyError| Refusal::new(error.code().as_str(), error.to_string());
        let directory = File::open(tree).map_err(|error| io_refusal("open", tree, &error))?;
        let found = match owner {
            Some(owner) => package::verify::adopt(directory.as_fd(), &self.limits, owner),
            None => package::verify::package(directory.as_fd(), &self.limits),
        };
        let found = found.map_err(|error| refuse(&error))?;
        if let Ok(key) = found.signed_by(&self.revoked) {
            let detail = format!(
                "the package is signed with key {} of a publisher that this host's policy revokes",
                key.key_id()
            );
            return Err(Refusal::new("PUBLISHER_REVOKED", detail));
        }
        self.check_publisher(&found, wanted)?;
        let entry = found
            .manifest()
            .files()
            .iter()
            .find(|file| file.path.as_str() == wanted.entry);
        let entry = entry.ok_or_else(|| {
            let detail = format!(
                "the package has no file {:?}, which the order names as its entry point",
                wanted.entry
            );
            Refusal::new("ENTRY_MISSING", detail)
        })?;
        Ok(Ready {
            tree: tree.join(package::FILES_NAME),
            entry_executable: entry.executable,
        })
    }

    fn check_publisher(&self, found: &Found, wanted: &Wanted) -> Result<(), Refusal> {
        let Some(id) = &wanted.publisher else {
            return Ok(());
        };
        let key = found.signed_by(&self.publishers);
        let key = key.map_err(|error| Refusal::new(error.code().as_str(), error.to_string()))?;
        if key.key_id().as_str() == id.0 {
            return Ok(());
        }
        let detail = format!(
            "the order names publisher key {id}, the package is signed with {}",
            key.key_id()
        );
        Err(Refusal::new("PUBLISHER_MISMATCH", detail))
    }
}

fn keys(policy: &Policy, which: impl Fn(&Publisher) -> bool) -> Vec<PublicKey> {
    let chosen = policy.publishers.iter().filter(|known| which(known));
    chosen
        .filter_map(|known| PublicKey::from_bytes(&known.key.to_bytes()).ok())
        .collect()
}

/// A package is as old as its last use: the time of its directory tells.
fn used_now(tree: &Path) -> Result<(), Refusal> {
    let marked = File::open(tree).and_then(|tree| tree.set_modified(SystemTime::now()));
    marked.map_err(|error| io_refusal("mark", tree, &error))
}

fn account(name: &str) -> Result<Identity, Refusal> {
    crate::starting::known_account(name).map(|account| account.identity())
}

fn io_refusal(action: &str, path: &Path, error: &std::io::Error) -> Refusal {
    let code = if error.kind() == ErrorKind::StorageFull {
        "DISK_FULL"
    } else {
        "STORE_FAILED"
    };
    Refusal::new(code, format!("can't {action} {}: {error}", path.display()))
}

/// Gives a tree its name in the store; `false` when the name is taken: another attempt brought the
/// same package meanwhile, and theirs is as good.
fn place(tree: &Path, name: &Path) -> Result<bool, Refusal> {
    match std::fs::rename(tree, name) {
        Ok(()) => Ok(true),
        // XFS says "exists" where others say "not empty".
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(io_refusal("name the package", name, &error)),
    }
}

fn make_directory(path: &Path, mode: u32) -> Result<(), Refusal> {
    DirBuilder::new()
        .mode(mode)
        .create(path)
        .map_err(|error| io_refusal("make", path, &error))
}

/// The store above it stays closed (0700): bots see the tree only where it is bound for them.
fn open_for_bots(tree: &Path) -> Result<(), Refusal> {
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(tree, mode).map_err(|error| io_refusal("open up", tree, &error))
}

/// Removes what an opener left. Its owner is gone by now, but what it made stays hostile: the
/// deleter goes by descriptor.
fn clear(path: &Path) -> Result<(), Refusal> {
    sys::beneath::remove_tree(path)
        .map(drop)
        .map_err(|error| Refusal::new("STORE_FAILED", crate::text(&error)))
}
