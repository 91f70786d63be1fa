//! All that the deleter's process can still do: nothing but remove, rename and make folders in the one
//! mount that it sees. Even a mistake in it could not leave the tree.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;

use crate::beneath::{Dir, Error, Mounts};
use crate::mount::{Propagation, Tree, enter_root, own_namespace};
use crate::process::{
    Capability, Limit, close_fds_except, keep_capabilities, no_new_privileges, set_limit,
};

/// What removing other people's files takes: their folders' bits and stickiness, and their marks.
const NEEDED: [Capability; 3] = [
    Capability::DAC_OVERRIDE,
    Capability::FOWNER,
    Capability::LINUX_IMMUTABLE,
];

/// Descriptors at once; the deepest tree takes no more.
const DESCRIPTORS: u64 = 64;

/// A folder that every root has; the tree is attached there for the moment before it is the root.
const PLACE: &str = "/proc";

/// Makes `tree` all that this process sees, gives up every right that removing does not take, and
/// opens it. Of its descriptors the standard three and `report` stay. For a child that goes on
/// without exec and has one thread.
///
/// # Errors
///
/// The step that failed; the process may be confined by half and must end.
pub fn confine_to(tree: Tree, report: &impl AsFd) -> Result<Dir, Box<dyn std::error::Error>> {
    close_fds_except(&[tree.as_fd(), report.as_fd()])?;
    own_namespace(Propagation::Private)?;
    tree.attach(Path::new(PLACE))?;
    drop(tree);
    enter_root(Path::new(PLACE))?;
    set_limit(Limit::OpenFiles(DESCRIPTORS))?;
    set_limit(Limit::Core(0))?;
    set_limit(Limit::FileSize(0))?;
    no_new_privileges()?;
    keep_capabilities(&NEEDED)?;
    let top = Dir::open_root(Path::new("/"), Mounts::Stay)?;
    landlock(&top)?;
    Ok(top)
}

/// `struct landlock_ruleset_attr` of linux/landlock.h (ABI 6).
#[repr(C)]
struct Ruleset {
    files: u64,
    network: u64,
    scopes: u64,
}

/// `struct landlock_path_beneath_attr`, which is packed.
#[repr(C, packed)]
struct Beneath {
    allowed: u64,
    parent: i32,
}

const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const REMOVE_DIR: u64 = 1 << 4;
const REMOVE_FILE: u64 = 1 << 5;
const MAKE_DIR: u64 = 1 << 7;
const REFER: u64 = 1 << 13;

/// A regular file is opened for reading to take its marks off, and for nothing else.
const ALLOWED: u64 = READ_FILE | READ_DIR | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | REFER;

/// Every right that this kernel's Landlock knows is taken away, but those below the tree. A kernel
/// without it, or with the first version that can't allow moving, leaves it to the mount namespace.
fn landlock(top: &Dir) -> Result<(), Error> {
    let failed = |source| Error::Change {
        what: "the Landlock domain",
        name: ".".into(),
        source,
    };
    let Some(ruleset) = Ruleset::of_this_kernel() else {
        return Ok(());
    };
    let domain = ruleset.create().map_err(failed)?;
    let rule = Beneath {
        allowed: ALLOWED & ruleset.files,
        parent: top.as_fd().as_raw_fd(),
    };
    // SAFETY: landlock_add_rule(2) with LANDLOCK_RULE_PATH_BENEATH (1) reads one record, which
    // lives over the call and has the kernel's layout.
    let added = unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            domain.as_raw_fd(),
            1,
            &raw const rule,
            0,
        )
    };
    Errno::result(added).map_err(failed)?;
    // SAFETY: landlock_restrict_self(2) takes a descriptor and touches no memory.
    let entered = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, domain.as_raw_fd(), 0) };
    Errno::result(entered).map(drop).map_err(failed)
}

impl Ruleset {
    fn of_this_kernel() -> Option<Self> {
        // SAFETY: with LANDLOCK_CREATE_RULESET_VERSION (1) the call takes no record.
        let version = unsafe {
            libc::syscall(
                libc::SYS_landlock_create_ruleset,
                std::ptr::null::<u8>(),
                0,
                1,
            )
        };
        // The number of file rights grew with the versions.
        let files = match Errno::result(version).ok()? {
            0 | 1 => return None,
            2 => 14,
            3 | 4 => 15,
            _ => 16,
        };
        Some(Self {
            files: (1 << files) - 1,
            network: if version >= 4 { 0b11 } else { 0 },
            scopes: if version >= 6 { 0b11 } else { 0 },
        })
    }

    fn create(&self) -> Result<OwnedFd, Errno> {
        // Fields that an older kernel does not know are zero, which it accepts.
        // SAFETY: landlock_create_ruleset(2) reads one record of the size given, which lives over
        // the call.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_landlock_create_ruleset,
                &raw const *self,
                size_of::<Self>(),
                0,
            )
        };
        let fd = Errno::result(fd)?;
        // SAFETY: on success the kernel made a new descriptor that nobody else owns.
        Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
    }
}
