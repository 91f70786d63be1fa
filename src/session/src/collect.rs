//! Taking what the bot handed back out of the volume: a throw-away process under the bot's own
//! account opens files beneath the artifacts directory and passes them over. So nothing is read
//! that the bot itself could not read, and no path that it built is walked by root.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use privsep::Refusal;
use privsep::attendant::{MAX_ARTIFACT_NAME, MAX_ARTIFACTS};
use privsep::session::Account;
use serde::{Deserialize, Serialize};
use sys::beneath::{Dir, Kind, Mounts};
use sys::fdpass::Seqpacket;
use sys::process::{Fork, Identity, Namespaces, Process};

/// Deeper trees are the bot's affair.
const MAX_DEPTH: usize = 32;

/// Listing a hostile directory ends some time.
const TIME: Duration = Duration::from_secs(15);

/// What the collector finds.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Found {
    /// A file; it comes along, opened for reading.
    File {
        /// Relative path, raw bytes.
        name: Vec<u8>,
    },
    /// Something that is not handed over, and why.
    Skipped(Refusal),
    /// That was all.
    End,
}

/// A running collector.
pub(crate) struct Collector {
    pub(crate) socket: Seqpacket,
    process: Process,
}

impl Collector {
    /// Starts it on the artifacts directory of the volume.
    pub(crate) fn start(directory: &Path, bot: &Account) -> Result<Self, Refusal> {
        let failed =
            |error: &dyn std::error::Error| crate::refusal("ARTIFACTS_NOT_COLLECTED", error);
        let (socket, theirs) = Seqpacket::pair().map_err(|error| failed(&error))?;
        match sys::process::fork(Namespaces::NONE, None).map_err(|error| failed(&error))? {
            Fork::Parent(process) => Ok(Self { socket, process }),
            Fork::Child => {
                drop(socket);
                // Nothing of the monitor's: neither conversations nor secrets.
                if sys::process::close_fds_except(&[theirs.as_fd()]).is_ok() {
                    let _ = collect(directory, bot, &theirs);
                }
                crate::leader::leave(0)
            }
        }
    }

    /// Takes the next thing that it found; `None` when it died or hangs.
    pub(crate) fn next(&self) -> Option<(Found, Option<OwnedFd>)> {
        let mut buffer = vec![0; privsep::MAX_PACKET];
        let mut received = self.socket.recv_within(&mut buffer, TIME).ok()??;
        let found = privsep::decode(&buffer[..received.len]).ok()?;
        Some((found, received.fds.pop()))
    }

    /// Ends it.
    pub(crate) fn end(self) {
        let _ = self.process.send(sys::Signal::SIGKILL);
        let _ = self.process.wait();
    }
}

fn collect(directory: &Path, bot: &Account, to: &Seqpacket) -> Result<(), Refusal> {
    let failed = |error: &dyn std::error::Error| crate::refusal("ARTIFACTS_NOT_COLLECTED", error);
    let identity = Identity {
        uid: bot.uid.into(),
        gid: bot.gid.into(),
        groups: vec![bot.gid.into()],
    };
    // Opened as root, which may pass the closed directories above; all below as the bot.
    let top = Dir::open_root(directory, Mounts::Stay).map_err(|error| failed(&error))?;
    sys::process::become_user_for_good(&identity).map_err(|error| failed(&error))?;
    sys::process::not_dumpable().map_err(|error| failed(&error))?;
    let mut left = MAX_ARTIFACTS;
    walk(&top, &PathBuf::new(), 0, &mut left, to)?;
    tell(to, &Found::End, None)
}

fn walk(
    folder: &Dir,
    at: &Path,
    depth: usize,
    left: &mut usize,
    to: &Seqpacket,
) -> Result<(), Refusal> {
    let entries = folder
        .entries()
        .map_err(|error| crate::refusal("ARTIFACTS_NOT_COLLECTED", &error))?;
    for entry in entries.flatten() {
        let path = at.join(&entry.name);
        let outcome = match folder
            .facts(&entry.name)
            .map(|facts| (facts.kind, facts.links))
        {
            Ok((Kind::Folder, _)) if depth < MAX_DEPTH => match folder.open_dir(&entry.name) {
                Ok(inner) => {
                    walk(&inner, &path, depth + 1, left, to)?;
                    continue;
                }
                Err(error) => Err(crate::text(&error)),
            },
            Ok((Kind::Folder, _)) => Err(format!("is more than {MAX_DEPTH} directories deep")),
            // A second link could be the bot's way to hand over what it may not read.
            Ok((Kind::File, 1)) => open(folder, &entry.name, &path, left),
            Ok(_) => Err("is not a plain file with one link".to_owned()),
            Err(error) => Err(crate::text(&error)),
        };
        match outcome {
            Ok(file) => tell(
                to,
                &Found::File {
                    name: path.into_os_string().into_vec(),
                },
                Some(file),
            )?,
            Err(why) => tell(to, &Found::Skipped(skipped(&path, &why)), None)?,
        }
    }
    Ok(())
}

fn open(folder: &Dir, name: &OsStr, path: &Path, left: &mut usize) -> Result<OwnedFd, String> {
    if *left == 0 {
        return Err(format!(
            "is one too many, at most {MAX_ARTIFACTS} artifacts are collected"
        ));
    }
    if path.as_os_str().as_bytes().len() > MAX_ARTIFACT_NAME {
        return Err(format!("has a name of more than {MAX_ARTIFACT_NAME} bytes"));
    }
    let file = folder
        .open_file(name)
        .map_err(|error| crate::text(&error))?;
    *left -= 1;
    Ok(file.into())
}

fn skipped(path: &Path, why: &str) -> Refusal {
    let name: String = path
        .display()
        .to_string()
        .chars()
        .take(MAX_ARTIFACT_NAME)
        .collect();
    Refusal::new("ARTIFACT_REFUSED", format!("artifact {name:?} {why}"))
}

fn tell(to: &Seqpacket, found: &Found, file: Option<OwnedFd>) -> Result<(), Refusal> {
    let packet =
        privsep::encode(found).map_err(|error| crate::refusal("INTERNAL_MESSAGE", &error))?;
    let fds: Vec<_> = file.iter().map(|file| file.as_fd()).collect();
    to.send(&packet, &fds)
        .map_err(|error| crate::refusal("INTERNAL_MESSAGE", &error))
}
