//! One file per attempt under `jobs/`, each replaced whole and synced before its step takes effect.
//!
//! A file that can't be read is no reason to stop, and none to forget the attempt: its name says
//! which one it is, and [`Entry::unknown`] is the most cautious guess about it.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::error;

use super::entry::Entry;
use crate::ids::AttemptRef;

/// Ended attempts that are remembered, against an offer that comes twice.
const REMEMBERED: usize = 256;

/// Larger files are not ours: a result of 256 KiB in base64 and some hundred bytes.
const MAX_FILE: u64 = 1 << 20;

const ENDED: &str = "ended.json";

/// How the names of files begin that are not whole yet.
const FRESH: &str = ".new-";

/// A file of the journal that could not be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    /// Reading the folder.
    #[error("can't read the journal of jobs in {}: {source}", path.display())]
    Read {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Writing an attempt's file.
    #[error("can't keep {} in the journal of jobs: {source}; free space or repair the disk", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The thread that writes is gone.
    #[error("the journal's thread is gone")]
    Thread,
}

/// The folder. Clones write to the same one.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    folder: Arc<PathBuf>,
    ended: Arc<Mutex<VecDeque<AttemptRef>>>,
    /// Held while the list is written: an older list never replaces a newer one.
    listing: Arc<tokio::sync::Mutex<()>>,
}

impl Journal {
    /// Reads all that is there.
    pub(crate) fn open(folder: &Path) -> Result<(Self, Vec<Entry>), JournalError> {
        let read = |source| JournalError::Read {
            path: folder.to_owned(),
            source,
        };
        let mut entries = Vec::new();
        for item in fs::read_dir(folder).map_err(read)? {
            let path = item.map_err(read)?.path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            // Left by a robotd that was killed while it replaced a file.
            if name.starts_with(FRESH) {
                let _ = fs::remove_file(&path);
            }
            let attempt = name
                .strip_suffix(".json")
                .and_then(|stem| stem.parse().ok());
            if let Some(attempt) = attempt {
                entries.push(read_entry(&path, attempt));
            }
        }
        entries.sort_by_key(Entry::attempt);
        let ended = read_ended(&folder.join(ENDED));
        let journal = Self {
            folder: Arc::new(folder.to_owned()),
            ended: Arc::new(Mutex::new(ended)),
            listing: Arc::default(),
        };
        Ok((journal, entries))
    }

    /// Keeps an entry: when this returns, it survives a loss of power.
    pub(crate) async fn keep(&self, entry: &Entry) -> Result<(), JournalError> {
        let path = self.folder.join(format!("{}.json", entry.attempt()));
        let write = |path: PathBuf, source| JournalError::Write { path, source };
        let bytes = serde_json::to_vec(entry).map_err(|error| write(path.clone(), error.into()))?;
        let job = move || replace(&path, &bytes).map_err(|source| write(path, source));
        tokio::task::spawn_blocking(job)
            .await
            .map_err(|_| JournalError::Thread)?
    }

    /// Drops an attempt and remembers that it was here.
    pub(crate) async fn forget(&self, attempt: AttemptRef) -> Result<(), JournalError> {
        let _listing = self.listing.lock().await;
        let list = {
            let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            if !ended.contains(&attempt) {
                ended.push_back(attempt);
            }
            while ended.len() > REMEMBERED {
                ended.pop_front();
            }
            ended.clone()
        };
        let folder = Arc::clone(&self.folder);
        let job = move || {
            let remembered = folder.join(ENDED);
            // First remembered, then dropped: between the two it is known twice, never not at all.
            let bytes = serde_json::to_vec(&list).map_err(io::Error::from);
            bytes
                .and_then(|bytes| replace(&remembered, &bytes))
                .map_err(|source| JournalError::Write {
                    path: remembered,
                    source,
                })?;
            let path = folder.join(format!("{attempt}.json"));
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    Err(JournalError::Write { path, source })
                }
                _ => Ok(()),
            }
        };
        tokio::task::spawn_blocking(job)
            .await
            .map_err(|_| JournalError::Thread)?
    }

    /// Whether an attempt was here and is over.
    pub(crate) fn has_ended(&self, attempt: AttemptRef) -> bool {
        self.ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&attempt)
    }
}

fn read_entry(path: &Path, attempt: AttemptRef) -> Entry {
    match parse(path) {
        Ok(entry) if entry.attempt() == attempt && entry.v == 1 => entry,
        Ok(_) => {
            error!(path = %path.display(), "a journal file belongs to another attempt or version; its job counts as interrupted");
            Entry::unknown(attempt)
        }
        Err(reason) => {
            error!(path = %path.display(), %reason, "a journal file can't be read; its job counts as interrupted unless the broker knows it");
            Entry::unknown(attempt)
        }
    }
}

fn parse(path: &Path) -> io::Result<Entry> {
    Ok(serde_json::from_slice(&read_bounded(path)?)?)
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    if fs::symlink_metadata(path)?.len() > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "too large"));
    }
    fs::read(path)
}

fn read_ended(path: &Path) -> VecDeque<AttemptRef> {
    let list = read_bounded(path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
    match list {
        Ok(list) => list,
        Err(error) if error.kind() == io::ErrorKind::NotFound => VecDeque::new(),
        Err(reason) => {
            error!(path = %path.display(), %reason, "the list of ended attempts can't be read; it starts anew");
            VecDeque::new()
        }
    }
}

/// Replaces a file: the new bytes are on disk before the name points to them, and the name before
/// this returns.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::Builder::new().prefix(FRESH).tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use order::Phase;

    use super::super::entry::Stage;
    use super::*;
    use crate::ids::JobId;

    fn attempt() -> AttemptRef {
        AttemptRef {
            job: JobId::new(),
            number: 1,
        }
    }

    fn opened(folder: &Path) -> (Journal, Vec<Entry>) {
        Journal::open(folder).unwrap()
    }

    #[tokio::test]
    async fn an_entry_comes_back_as_it_was_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (journal, none) = opened(folder.path());
        assert!(none.is_empty());
        let mut entry = Entry::unknown(attempt());
        entry.stage = Stage::Started;
        entry.recorded.insert(Phase::Running);
        journal.keep(&entry).await.unwrap();
        assert_eq!(opened(folder.path()).1, [entry]);
    }

    #[tokio::test]
    async fn a_file_cut_at_any_byte_is_an_attempt_that_is_never_started_again() {
        let folder = tempfile::tempdir().unwrap();
        let (journal, _) = opened(folder.path());
        let mut entry = Entry::unknown(attempt());
        entry.stage = Stage::Accepted;
        journal.keep(&entry).await.unwrap();
        let path = folder.path().join(format!("{}.json", entry.attempt()));
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let (_, found) = opened(folder.path());
            assert_eq!(found, [Entry::unknown(entry.attempt())], "cut at {cut}");
            assert!(found[0].stage >= Stage::StartIntent);
        }
        fs::write(&path, &whole).unwrap();
        assert_eq!(opened(folder.path()).1, [entry]);
    }

    #[tokio::test]
    async fn a_file_under_anothers_name_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let (journal, _) = opened(folder.path());
        let (one, other) = (attempt(), attempt());
        journal
            .keep(&Entry::offered(Entry::unknown(one).offer))
            .await
            .unwrap();
        let name = |attempt| folder.path().join(format!("{attempt}.json"));
        fs::rename(name(one), name(other)).unwrap();
        assert_eq!(opened(folder.path()).1, [Entry::unknown(other)]);
    }

    #[tokio::test]
    async fn a_forgotten_attempt_is_remembered_as_ended_and_the_list_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let (journal, _) = opened(folder.path());
        let first = attempt();
        journal.keep(&Entry::unknown(first)).await.unwrap();
        journal.forget(first).await.unwrap();
        let (journal, entries) = opened(folder.path());
        assert!(entries.is_empty() && journal.has_ended(first));
        for _ in 0..REMEMBERED {
            journal.forget(attempt()).await.unwrap();
        }
        assert!(!journal.has_ended(first));
    }

    #[test]
    fn half_of_a_replacement_is_swept_away() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(".new-abc"), b"{").unwrap();
        assert!(opened(folder.path()).1.is_empty());
        assert!(!folder.path().join(".new-abc").exists());
    }

    #[test]
    fn a_damaged_list_of_ended_attempts_stops_nothing() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(ENDED), b"[\"x").unwrap();
        assert!(!opened(folder.path()).0.has_ended(attempt()));
    }
}
