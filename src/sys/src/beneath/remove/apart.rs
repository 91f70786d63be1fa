//! Removing in a throw-away process, which sees nothing but the tree and can do nothing but remove.
//!
//! Its mount namespace holds one mount, a copy of the tree without what is mounted in it: a foreign
//! mount is not even there to be entered, and goes from all namespaces with the folder that it
//! lies on (the kernel detaches what lies on a removed folder).

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::Pid;

use super::confine::confine_to;
use super::count::Removed;
use super::entry::{Taken, Work};
use super::{empty, look};
use crate::beneath::{Dir, Error, Mounts};
use crate::mount::{Attributes, Reach, Tree, own_mounts};
use crate::poll::{Watch, wait};
use crate::process::{Exit, Fork, Namespaces, Process, die_with_parent, end_now, fork};
use crate::{Signal, clock};

/// How long is waited at once, so that the caller can show that it lives.
const BEAT: Duration = Duration::from_secs(1);

/// Largest report; it fits a pipe without being read.
const REPORT: usize = 4096;

/// As [`super::remove_tree`], in a process of its own that is ended after `limit`. `beat` is called at
/// least once a second. The caller has one thread and the right to mount.
///
/// # Errors
///
/// [`Error::Left`] and [`Error::Apart`].
pub fn remove_tree_apart(
    path: &Path,
    limit: Duration,
    beat: &mut dyn FnMut(),
) -> Result<Removed, Error> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::BadName {
            name: path.as_os_str().to_owned(),
        });
    };
    let parent = Dir::open_root(parent, Mounts::Stay)?;
    let mut work = Work::new();
    // What is no folder, or an empty one, needs no process; what is mounted on it is detached.
    if let Taken::Gone = work.take(&parent, name, 0)? {
        return Ok(work.removed);
    }
    work.removed.mounts += mounts_below(path);
    let removed = emptied(path, &parent.open_dir(name)?, limit, beat)?;
    work.removed.add(&removed);
    finish(work, &parent, name)
}

/// The tree's own folder is the last to go. Made empty, it is no risk to this process.
fn finish(work: Work, parent: &Dir, name: &OsStr) -> Result<Removed, Error> {
    let still = look::look(parent, name).is_ok();
    if still {
        work.finish(parent, name)
    } else {
        Ok(work.removed)
    }
}

fn emptied(
    path: &Path,
    top: &Dir,
    limit: Duration,
    beat: &mut dyn FnMut(),
) -> Result<Removed, Error> {
    let failed = |error: &dyn std::error::Error| Error::Apart {
        path: path.to_owned(),
        reason: format!("can't be started: {}", explain(error)),
    };
    let tree = Tree::copy_of_fd(top.as_fd(), Reach::One).map_err(|error| failed(&error))?;
    let attributes = Attributes {
        no_suid: true,
        no_dev: true,
        no_exec: true,
        no_symlinks: true,
        read_only: false,
    };
    tree.set_attributes(attributes, Reach::One)
        .map_err(|error| failed(&error))?;
    let (mut read, write) = std::io::pipe().map_err(|error| failed(&error))?;
    let own = Pid::this();
    match fork(Namespaces::NONE, None).map_err(|error| failed(&error))? {
        Fork::Child => {
            // Dead to this process: what they stand for is closed below.
            std::mem::forget(read);
            let told = work_apart(own, tree, write);
            end_now(u8::from(told.is_err()))
        }
        Fork::Parent(child) => {
            drop((tree, write));
            let said = hear(&mut read, &child, limit, beat);
            judge(path, said, &child)
        }
    }
}

/// The whole life of the process apart.
fn work_apart(parent: Pid, tree: Tree, mut report: impl Write + AsFd) -> std::io::Result<()> {
    let outcome = die_with_parent(Signal::SIGKILL, parent)
        .map_err(Into::into)
        .and_then(|()| confine_to(tree, &report))
        .and_then(|top| empty(&top).map_err(Into::into));
    let text = match outcome {
        Ok(removed) => format!("done\n{}\n", removed.to_line()),
        Err(error) => refusal(error.as_ref()),
    };
    report.write_all(&text.as_bytes()[..text.floor_char_boundary(REPORT)])
}

fn refusal(error: &(dyn std::error::Error + 'static)) -> String {
    match error.downcast_ref::<Error>() {
        Some(Error::Left {
            count,
            removed,
            first,
        }) => format!("left {count}\n{}\n{}", removed.to_line(), explain(first)),
        _ => format!("failed\n\n{}", explain(error)),
    }
}

/// Waits for the report. Kills the process when it takes too long.
fn hear(
    read: &mut std::io::PipeReader,
    child: &Process,
    limit: Duration,
    beat: &mut dyn FnMut(),
) -> Option<String> {
    let until = clock::boottime() + limit;
    let mut said = Vec::new();
    while clock::boottime() < until {
        beat();
        let mut watches = [Watch::readable(read)];
        if !matches!(wait(&mut watches, Some(BEAT)), Ok(count) if count > 0) {
            continue;
        }
        let mut part = [0; REPORT];
        match read.read(&mut part) {
            Ok(0) => return Some(String::from_utf8_lossy(&said).into_owned()),
            Ok(count) if said.len() + count <= REPORT => said.extend_from_slice(&part[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            _ => break,
        }
    }
    let _ = child.send(Signal::SIGKILL);
    None
}

fn judge(path: &Path, said: Option<String>, child: &Process) -> Result<Removed, Error> {
    let apart = |reason: String| Error::Apart {
        path: path.to_owned(),
        reason,
    };
    let exit = child.wait().map_err(|error| apart(explain(&error)))?;
    let Some(said) = said else {
        return Err(apart("took too long and was killed".to_owned()));
    };
    let mut lines = said.splitn(3, '\n');
    let (word, counts) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
    let reason = lines.next().unwrap_or("").trim_end().to_owned();
    match (word, Removed::from_line(counts), exit) {
        ("done", Some(removed), Exit::Code(0)) => Ok(removed),
        (left, Some(removed), Exit::Code(0)) if left.starts_with("left ") => Err(Error::Left {
            count: left[5..].parse().unwrap_or(1),
            removed: Box::new(removed),
            first: Box::new(apart(reason)),
        }),
        ("failed", ..) => Err(apart(format!("failed: {reason}"))),
        _ => Err(apart(format!("died: {exit:?}"))),
    }
}

/// Counted here, since the process apart does not see them. By path: `mountinfo` has nothing else.
fn mounts_below(path: &Path) -> u64 {
    let parent = path.parent().and_then(|parent| parent.canonicalize().ok());
    let whole: PathBuf = match (parent, path.file_name()) {
        (Some(parent), Some(name)) => parent.join(name),
        _ => return 0,
    };
    let mounts = own_mounts().unwrap_or_default();
    let below = mounts
        .iter()
        .filter(|mount| mount.mount_point.starts_with(&whole));
    below.count() as u64
}

fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
