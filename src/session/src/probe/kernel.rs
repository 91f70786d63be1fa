//! Parts of the kernel that sandboxes are made of.

use std::ffi::CString;
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use sys::mount::{Attributes, Filesystem, Propagation};
use sys::process::{Identity, Launch, Namespaces, Program};
use sys::seccomp::{Architecture, Filter};

use super::works;

/// `nobody`, who has no rights anywhere.
const NOBODY: u32 = 65_534;

/// A call that never fails, but by a filter.
pub(super) fn filters_calls() -> bool {
    works(Namespaces::NONE, || {
        let filter = Architecture::own()
            .and_then(|own| Filter::refusing(&["getppid: for a try"], own))
            .and_then(|filter| filter.apply());
        filter.is_ok() && nix::unistd::getppid().as_raw() == -1
    })
}

/// As somebody without rights, as bots are.
pub(super) fn user_namespaces() -> bool {
    works(Namespaces::NONE, || {
        let identity = Identity {
            uid: NOBODY.into(),
            gid: NOBODY.into(),
            groups: vec![],
        };
        sys::process::become_user(&identity).is_ok() && unshare(CloneFlags::CLONE_NEWUSER).is_ok()
    })
}

/// nft(8) adds a table in a network of its own.
pub(super) fn nft() -> bool {
    const PROGRAM: [&str; 2] = ["/usr/sbin/nft", "/sbin/nft"];
    let Some(path) = PROGRAM.iter().find(|path| Path::new(path).is_file()) else {
        return false;
    };
    let network = Namespaces {
        net: true,
        ..Namespaces::NONE
    };
    works(network, || {
        let words = [*path, "add", "table", "inet", "robotd_probe"];
        let argv: Result<Vec<_>, _> = words.iter().map(|word| CString::new(*word)).collect();
        let (Ok(argv), Ok(null)) = (argv, crate::init::nothing()) else {
            return false;
        };
        use std::os::fd::AsFd as _;
        let launch = Launch {
            program: Program::Path(&argv[0]),
            argv: &argv,
            env: &[],
            fds: &[null.as_fd(), null.as_fd(), null.as_fd()],
            report: None,
        };
        launch.exec().is_ok()
    })
}

/// An overlay as a job's /work is one, on memory.
pub(super) fn overlayfs() -> bool {
    let mounts = Namespaces {
        mount: true,
        ..Namespaces::NONE
    };
    works(mounts, || overlay().is_ok())
}

fn overlay() -> Result<(), Box<dyn std::error::Error>> {
    sys::mount::set_propagation(Path::new("/"), Propagation::Private)?;
    let place = Path::new("/run/robotd-session");
    std::fs::create_dir_all(place)?;
    let memory = Filesystem::open("tmpfs")?.set("size", "65536")?;
    memory.mount(Attributes::WRITABLE)?.attach(place)?;
    for name in ["lower", "upper", "work"] {
        std::fs::create_dir(place.join(name))?;
    }
    let text = |name: &str| place.join(name).display().to_string();
    let overlay = Filesystem::open("overlay")?
        .set("lowerdir", &text("lower"))?
        .set("upperdir", &text("upper"))?
        .set("workdir", &text("work"))?;
    overlay.mount(Attributes::WRITABLE)?;
    Ok(())
}
