//! Security events that robotd was not there to take: kept on the disk until it asks for the state.
//!
//! One JSON object per line. Sent again after a crash in between, never lost: the reader tells
//! twins apart by their time and attempt.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use order::AttemptRef;
use serde::{Deserialize, Serialize};

use crate::record::write_whole;

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

    /// All of them, oldest first. A line that a crash cut off is no event, whatever bytes it ends
    /// with.
    pub(crate) fn all(&self) -> std::io::Result<Vec<Kept>> {
        let text = match std::fs::read(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            read => read?,
        };
        let lines = text.split(|byte| *byte == b'\n');
        Ok(lines
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect())
    }

    /// The others were told.
    pub(crate) fn keep_only(&self, rest: &[Kept]) -> std::io::Result<()> {
        let mut text = Vec::new();
        for event in rest {
            serde_json::to_writer(&mut text, event)?;
            text.push(b'\n');
        }
        write_whole(&self.path, &text).map_err(std::io::Error::other)
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
        assert!(Outbox::new(state.path()).all().unwrap().is_empty());
        Outbox::new(state.path()).keep(&event).unwrap();
        let path = state.path().join("audit/outbox");
        let mut torn = std::fs::read(&path).unwrap();
        torn.extend_from_slice(b"{\"code\":1,\"body\":\"\xc3");
        std::fs::write(&path, torn).unwrap();
        let again = Outbox::new(state.path());
        again.keep(&event).unwrap();
        assert_eq!(again.all().unwrap(), [event.clone(), event.clone()]);
        again.keep_only(std::slice::from_ref(&event)).unwrap();
        assert_eq!(again.all().unwrap(), [event]);
        again.keep_only(&[]).unwrap();
        assert!(again.all().unwrap().is_empty());
    }
}
