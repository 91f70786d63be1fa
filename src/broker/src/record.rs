//! What the broker writes down before it takes effect: one file per slot in use, one per result
//! that is not delivered yet, and the list of attempts that were started.
//!
//! All below the state directory, root only. Files are replaced whole and synced, so that a
//! reader after a crash sees the old or the new one.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use order::{AttemptRef, KeyId, PhaseAt, Signed};
use privsep::Refusal;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::attempts::Bound;

/// Started attempts that are remembered. An order is valid for minutes and carries a challenge
/// of this broker's life, so this is a second lock, not the only one.
const REMEMBERED: usize = 10_000;

/// Why the state can't be kept.
#[derive(Debug, thiserror::Error)]
#[error("can't {operation} {path}: {source}")]
pub(crate) struct RecordError {
    operation: &'static str,
    path: PathBuf,
    source: std::io::Error,
}

impl RecordError {
    /// A file of the state that can't be read.
    pub(crate) fn reading(path: &Path, source: std::io::Error) -> Self {
        Self {
            operation: "read",
            path: path.to_owned(),
            source,
        }
    }
}

/// A slot in use, or one that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct SlotRecord {
    pub(crate) account: String,
    pub(crate) attempt: AttemptRef,
    pub(crate) bound: Bound,
    pub(crate) timeline: Vec<PhaseAt>,
    /// Set once the session was seen; with its start time it is not taken for another process.
    pub(crate) session: Option<SessionProcess>,
    /// Set when something could not be proven clean.
    pub(crate) quarantine: Option<Refusal>,
}

/// A running robotd-session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct SessionProcess {
    pub(crate) pid: i32,
    pub(crate) start_ticks: u64,
    /// Both numbers begin anew with a boot.
    pub(crate) boot_id: String,
}

/// A signed result that waits for its delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct ResultRecord {
    pub(crate) attempt: AttemptRef,
    pub(crate) body: String,
    pub(crate) key_id: KeyId,
    pub(crate) signature: Vec<u8>,
}

impl ResultRecord {
    pub(crate) fn new(attempt: AttemptRef, signed: Signed) -> Self {
        // The body is JSON that this broker wrote: always UTF-8.
        let body = String::from_utf8_lossy(&signed.body).into_owned();
        Self {
            attempt,
            body,
            key_id: signed.key_id,
            signature: signed.signature,
        }
    }
}

/// The state directory.
pub(crate) struct Records {
    root: PathBuf,
    started: BTreeSet<AttemptRef>,
    log: File,
}

impl Records {
    /// Opens the state below `root`, making what is missing.
    pub(crate) fn open(root: &Path) -> Result<Self, RecordError> {
        for name in [
            "", "slots", "results", "nonces", "store", "staging", "audit",
        ] {
            let path = root.join(name);
            let made = DirBuilder::new().mode(0o700).recursive(true).create(&path);
            made.map_err(|source| RecordError {
                operation: "make the directory",
                path,
                source,
            })?;
        }
        let path = root.join("nonces/started");
        let started = read_started(&path)?;
        write_whole(&path, started_text(&started).as_bytes())?;
        let log = OpenOptions::new().append(true).open(&path);
        let log = log.map_err(|source| RecordError {
            operation: "open",
            path,
            source,
        })?;
        Ok(Self {
            root: root.to_owned(),
            started,
            log,
        })
    }

    /// Whether this attempt was ever started here.
    pub(crate) fn was_started(&self, attempt: &AttemptRef) -> bool {
        self.started.contains(attempt)
    }

    /// The commit point: the attempt and its slot are on the disk when this returns.
    pub(crate) fn commit_start(&mut self, slot: &SlotRecord) -> Result<(), RecordError> {
        self.save_slot(slot)?;
        let path = self.root.join("nonces/started");
        // The newline first: what a full disk cut off before stays a line of its own.
        let written = write!(self.log, "\n{}\n", slot.attempt).and_then(|()| self.log.sync_data());
        if let Err(source) = written {
            self.clear_slot(&slot.account)?;
            return Err(RecordError {
                operation: "append to",
                path,
                source,
            });
        }
        self.started.insert(slot.attempt);
        Ok(())
    }

    pub(crate) fn save_slot(&self, slot: &SlotRecord) -> Result<(), RecordError> {
        write_json(&self.slot_path(&slot.account), slot)
    }

    pub(crate) fn clear_slot(&self, account: &str) -> Result<(), RecordError> {
        remove(&self.slot_path(account))
    }

    /// Slots that were in use or in quarantine when the last broker ended.
    pub(crate) fn slots(&self) -> Result<Vec<SlotRecord>, RecordError> {
        read_all(&self.root.join("slots"))
    }

    pub(crate) fn save_result(&self, result: &ResultRecord) -> Result<(), RecordError> {
        write_json(&self.result_path(&result.attempt), result)
    }

    pub(crate) fn clear_result(&self, attempt: &AttemptRef) -> Result<(), RecordError> {
        remove(&self.result_path(attempt))
    }

    /// Results that are not delivered yet.
    pub(crate) fn results(&self) -> Result<Vec<ResultRecord>, RecordError> {
        read_all(&self.root.join("results"))
    }

    fn slot_path(&self, account: &str) -> PathBuf {
        self.root.join("slots").join(format!("{account}.json"))
    }

    fn result_path(&self, attempt: &AttemptRef) -> PathBuf {
        self.root.join("results").join(format!("{attempt}.json"))
    }
}

fn started_text(started: &BTreeSet<AttemptRef>) -> String {
    // Ids are time-ordered: the last ones are the youngest.
    let skip = started.len().saturating_sub(REMEMBERED);
    started
        .iter()
        .skip(skip)
        .map(|attempt| format!("{attempt}\n"))
        .collect()
}

fn read_started(path: &Path) -> Result<BTreeSet<AttemptRef>, RecordError> {
    match std::fs::read_to_string(path) {
        // A torn last line belongs to a start that was never answered: its slot record, written
        // first, tells of it.
        Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(source) => Err(RecordError {
            operation: "read",
            path: path.to_owned(),
            source,
        }),
    }
}

pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), RecordError> {
    let text = serde_json::to_vec(value).map_err(std::io::Error::other);
    let text = text.map_err(|source| RecordError {
        operation: "encode",
        path: path.to_owned(),
        source,
    })?;
    write_whole(path, &text)
}

/// Replaces a file by one with these bytes, all or nothing, on the disk when this returns.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), RecordError> {
    let staged = path.with_extension("new");
    let directory = path.parent().unwrap_or(Path::new("/"));
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&staged)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&staged, path)?;
        File::open(directory)?.sync_all()
    })();
    written.map_err(|source| RecordError {
        operation: "write",
        path: path.to_owned(),
        source,
    })
}

fn remove(path: &Path) -> Result<(), RecordError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(RecordError {
            operation: "remove",
            path: path.to_owned(),
            source: error,
        }),
        Err(_) => Ok(()),
        Ok(()) => sync_parent(path),
    }
}

fn sync_parent(path: &Path) -> Result<(), RecordError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let synced = File::open(parent).and_then(|directory| directory.sync_all());
    synced.map_err(|source| RecordError {
        operation: "sync the directory of",
        path: path.to_owned(),
        source,
    })
}

fn read_all<T: DeserializeOwned>(directory: &Path) -> Result<Vec<T>, RecordError> {
    let failed = |source| RecordError {
        operation: "read",
        path: directory.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_none_or(|ending| ending != "json") {
            continue;
        }
        let text = std::fs::read(&path).map_err(failed)?;
        found.push(serde_json::from_slice(&text).map_err(|error| failed(error.into()))?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use order::{JobId, KeyId, LeaseId, LicenseTimes, Sha256Hex};

    use super::*;

    fn slot(account: &str) -> SlotRecord {
        SlotRecord {
            account: account.into(),
            attempt: AttemptRef {
                job: JobId::new(),
                number: 1,
            },
            bound: Bound {
                account_secret: None,
                people: false,
                order_key: KeyId("0011223344556677".into()),
                renewed_ticks_ns: 0,
                volume: None,
                order_sha256: Sha256Hex([1; 32]),
                package: Sha256Hex([2; 32]),
                license: LicenseTimes {
                    lease: LeaseId::new(),
                    fence: 1,
                    pool: "p".into(),
                    from_unix_ms: 1,
                    until_unix_ms: 2,
                },
                tenant: "t".into(),
                secrets: vec![],
                hard_end_ns: 2,
                lease_until_ns: 1,
                stop: None,
            },
            timeline: vec![],
            session: None,
            quarantine: None,
        }
    }

    #[test]
    fn a_started_attempt_is_known_after_a_restart() {
        let root = tempfile::tempdir().unwrap();
        let slot = slot("robot01");
        Records::open(root.path())
            .unwrap()
            .commit_start(&slot)
            .unwrap();
        let again = Records::open(root.path()).unwrap();
        assert!(again.was_started(&slot.attempt));
        assert_eq!(again.slots().unwrap(), vec![slot]);
    }

    #[test]
    fn a_torn_line_of_the_started_list_hides_no_other() {
        let root = tempfile::tempdir().unwrap();
        let slot = slot("robot01");
        Records::open(root.path())
            .unwrap()
            .commit_start(&slot)
            .unwrap();
        let path = root.path().join("nonces/started");
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..20 {
            let mut torn = whole.clone();
            torn.extend_from_slice(&slot.attempt.to_string().as_bytes()[..cut]);
            std::fs::write(&path, &torn).unwrap();
            assert!(
                Records::open(root.path())
                    .unwrap()
                    .was_started(&slot.attempt)
            );
        }
    }

    #[test]
    fn a_cleared_slot_is_gone_and_clearing_twice_is_no_error() {
        let root = tempfile::tempdir().unwrap();
        let mut records = Records::open(root.path()).unwrap();
        records.commit_start(&slot("robot01")).unwrap();
        records.clear_slot("robot01").unwrap();
        records.clear_slot("robot01").unwrap();
        assert!(records.slots().unwrap().is_empty());
    }
}
