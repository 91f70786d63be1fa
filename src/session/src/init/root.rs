//! The root directory that a job sees: the host's programs read-only, its own volume for all
//! that it writes, and nothing else of the host.
//!
//! | path | is |
//! |---|---|
//! | /usr /bin /sbin /lib* /opt /etc | the host's, read-only; /etc/robotd hidden |
//! | /work | the package with the volume's `upper` on top: the working directory |
//! | /home/…, /run/user/UID, /tmp, /var/tmp, /dev/shm | parts of the volume |
//! | /run/robot | job.sock, params.json, artifacts, bin/robotjob |
//! | /proc | of the job's own pid namespace, without what is the host's: `proc` |
//!
//! Every mount is read-only, without set-user-id programs and devices, but the volume's parts, which
//! are writable, the six device nodes and the job's own terminals.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use privsep::Refusal;
use privsep::session::Spec;
use sys::mount::{Attributes, Filesystem, Propagation, Reach, Tree};

use super::proc;
use crate::volume::Volume;

/// Directories of the host that programs live in. Links among them stay links.
const SYSTEM: [&str; 9] = [
    "usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "opt", "etc",
];

/// Single places that programs read outside of those, shown where the host has them: font caches
/// and LibreOffice's registry.
const EXTRA: [&str; 2] = ["var/cache/fontconfig", "var/lib/libreoffice"];

/// Parts of /etc that no bot has any business with.
const HIDDEN: [&str; 1] = ["etc/robotd"];

const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Most files and bytes of the root's own skeleton.
const SKELETON_BYTES: &str = "1048576";

pub(super) type Step = Result<(), Box<dyn std::error::Error>>;

/// Builds the root and makes it this namespace's.
pub(super) fn build(spec: &Spec, proc_writable: bool) -> Result<(), Refusal> {
    assemble(spec, proc_writable).map_err(|error| {
        Refusal::new(
            "SANDBOX_FAILED",
            format!(
                "the job's root could not be built: {}",
                crate::text(error.as_ref())
            ),
        )
    })
}

fn assemble(spec: &Spec, proc_writable: bool) -> Step {
    sys::mount::set_propagation(Path::new("/"), Propagation::Private)?;
    let root = Volume::root_place();
    let skeleton = Filesystem::open("tmpfs")?
        .set("size", SKELETON_BYTES)?
        .set("mode", "0755")?;
    skeleton.mount(Attributes::WRITABLE)?.attach(&root)?;
    system(&root)?;
    devices(&root)?;
    volume(spec, &root)?;
    robot(spec, &root)?;
    resolver(spec, &root)?;
    work(&root, &spec.package_tree)?;
    proc::show(&root, proc_writable)?;
    sys::mount::enter_root(&root)?;
    Ok(())
}

/// Copies of mounts, read-only with everything mounted below them.
fn bind(source: &Path, target: &Path) -> Step {
    fs::create_dir_all(target)?;
    sys::mount::bind(source, target, Attributes::READ_ONLY, Reach::Recursive)?;
    Ok(())
}

fn system(root: &Path) -> Step {
    for name in SYSTEM {
        let source = Path::new("/").join(name);
        match fs::symlink_metadata(&source) {
            Ok(facts) if facts.is_symlink() => symlink(fs::read_link(&source)?, root.join(name))?,
            Ok(facts) if facts.is_dir() => bind(&source, &root.join(name))?,
            _ => {}
        }
    }
    for name in EXTRA.map(Path::new) {
        let source = Path::new("/").join(name);
        if source.is_dir() {
            bind(&source, &root.join(name))?;
        }
    }
    for name in HIDDEN.map(|name| root.join(name)) {
        if name.is_dir() {
            let empty = Filesystem::open("tmpfs")?
                .set("size", "4096")?
                .set("mode", "0700")?;
            empty.mount(Attributes::READ_ONLY)?.attach(&name)?;
        }
    }
    Ok(())
}

fn devices(root: &Path) -> Step {
    let dev = root.join("dev");
    fs::create_dir(&dev)?;
    for name in DEVICES {
        fs::write(dev.join(name), "")?;
        let node = Attributes {
            no_dev: false,
            no_exec: true,
            ..Attributes::READ_ONLY
        };
        sys::mount::bind(
            &Path::new("/dev").join(name),
            &dev.join(name),
            node,
            Reach::One,
        )?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        symlink(target, dev.join(name))?;
    }
    fs::create_dir(dev.join("pts"))?;
    // 5 is the group tty of every distribution; terminals of the job only.
    sys::mount::devpts(64, 5.into())?.attach(&dev.join("pts"))?;
    Ok(())
}

/// Part of the volume, where the bot sees it, and that nothing there is executed.
fn parts(spec: &Spec) -> [(&'static str, String, bool); 6] {
    let place = |path: &str| path.trim_start_matches('/').to_owned();
    [
        ("home", place(&spec.account.home), false),
        ("run", format!("run/user/{}", spec.account.uid), true),
        ("tmp", place("tmp"), false),
        ("vartmp", place("var/tmp"), false),
        ("shm", place("dev/shm"), true),
        ("artifacts", place("run/robot/artifacts"), true),
    ]
}

/// All that the bot can write, its home first.
pub(super) fn writable(spec: &Spec) -> Vec<String> {
    let places = parts(spec).map(|(_, place, _)| format!("/{place}"));
    places.into_iter().chain(["/work".to_owned()]).collect()
}

fn volume(spec: &Spec, root: &Path) -> Step {
    let volume = volume_place();
    for (part, place, no_exec) in parts(spec) {
        let target = root.join(place);
        fs::create_dir_all(&target)?;
        let attributes = Attributes {
            no_exec,
            ..Attributes::WRITABLE
        };
        sys::mount::bind(&volume.join(part), &target, attributes, Reach::One)?;
    }
    Ok(())
}

fn volume_place() -> PathBuf {
    Volume::root_place().with_file_name("volume")
}

fn robot(spec: &Spec, root: &Path) -> Step {
    let place = root.join("run/robot");
    fs::write(place.join("params.json"), &spec.params_json)?;
    fs::create_dir(place.join("bin"))?;
    let command = Path::new(&spec.program_dir).join("robotjob");
    if command.is_file() {
        let target = place.join("bin/robotjob");
        fs::write(&target, "")?;
        sys::mount::bind(&command, &target, Attributes::READ_ONLY, Reach::One)?;
    }
    Ok(())
}

/// /etc/resolv.conf is a link into /run on many hosts; a job with the host's network needs what
/// it points to.
fn resolver(spec: &Spec, root: &Path) -> Step {
    if spec.egress.is_some() {
        return super::network::resolver(root);
    }
    let target = fs::canonicalize("/etc/resolv.conf").unwrap_or_default();
    if spec.host_network && target.starts_with("/run") {
        let place = root.join(target.strip_prefix("/")?);
        fs::create_dir_all(place.parent().unwrap_or(root))?;
        fs::write(&place, "")?;
        sys::mount::bind(&target, &place, Attributes::READ_ONLY, Reach::One)?;
    }
    Ok(())
}

/// The package below, the bot's own files on top, on the volume.
fn work(root: &Path, package: &str) -> Step {
    let volume = volume_place();
    let place = root.join("work");
    fs::create_dir(&place)?;
    let text = |path: PathBuf| path.display().to_string();
    let overlay = Filesystem::open("overlay")?
        .set("lowerdir", package)?
        .set("upperdir", &text(volume.join("upper")))?
        .set("workdir", &text(volume.join("overlay")))?;
    let tree: Tree = overlay.mount(Attributes::WRITABLE)?;
    tree.attach(&place)?;
    Ok(())
}

/// The socket of the bot's own calls. The attendant serves it from outside; its peer check
/// admits the bot's account only.
pub(super) fn listen() -> Result<OwnedFd, Refusal> {
    let path = "/run/robot/job.sock";
    let listening = (|| {
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
        fs::set_permissions("/run/robot/params.json", fs::Permissions::from_mode(0o444))?;
        Ok::<_, std::io::Error>(listener)
    })();
    let listener = listening.map_err(|error| crate::refusal("SANDBOX_FAILED", &error))?;
    // Everything that root had to make is made: the skeleton can't be changed any more.
    sys::mount::set_attributes(Path::new("/"), Attributes::READ_ONLY, Reach::One)
        .map_err(|error| crate::refusal("SANDBOX_FAILED", &error))?;
    Ok(listener.into())
}
