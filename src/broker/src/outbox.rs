//! Security events that robotd was not there to take: kept on the disk until it asks for the state.
//!
//! One JSON object per line. Sent again after a crash in between, never lost: the reader tells
//! twins apart by their time and attempt.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use order::AttemptRef;
use serde::{Deserialize, Serialize};

/// Some thousand events. What comes beyond is in the journal only, and that is said there.
const MOST_BYTES: u64 = 4 << 20;

/// An event as it is told to robotd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) code: u32,
    pub(crate) attempt: Option<AttemptRef>,
    pub(crate) body: String,
}

/// The file.
pub(crate) struct Outbox {
    path: PathBuf,
}

impl Outbox {
    pub(crate) fn new(state: &Path) -> Self {
        Self {
            path: state.join("audit/outbox"),
        }
    }

    /// Adds an event; on the disk when this returns.
    pub(crate) fn keep(&self, event: &Kept) -> std::io::Result<()> {
        // The newline first: what a crash cut off before stays a line of its own.
        let mut line = vec![b'\n'];
        line.extend(serde_json::to_vec(event).map_err(std::io::Error::other)?);
        line.push(b'\n');
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&self.path)?;
        if file.metadata()?.len() + line.len() as u64 > MOST_BYTES {
            return Err(std::io::Error::other(
                "the outbox of events is full; robotd has been away for long",
            ));
        }
        file.write_all(&line)?;
        file.sync_data()
    }

    /// All of them, oldest first. A line that a crash cut off is no event.
    pub(crate) fn all(&self) -> Vec<Kept> {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// They were told.
    pub(crate) fn clear(&self) -> std::io::Result<()> {
        match File::options().write(true).open(&self.path) {
            Ok(file) => file.set_len(0),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_wait_over_a_restart_and_a_torn_line_hides_none() {
        let state = tempfile::tempdir().unwrap();
        std::fs::create_dir(state.path().join("audit")).unwrap();
        let event = Kept {
            code: 100_202,
            attempt: None,
            body: "{}".into(),
        };
        Outbox::new(state.path()).keep(&event).unwrap();
        let path = state.path().join("audit/outbox");
        let mut torn = std::fs::read(&path).unwrap();
        torn.extend_from_slice(b"{\"code\":1");
        std::fs::write(&path, torn).unwrap();
        let again = Outbox::new(state.path());
        again.keep(&event).unwrap();
        assert_eq!(again.all(), vec![event.clone(), event]);
        again.clear().unwrap();
        assert!(again.all().is_empty());
    }
}
