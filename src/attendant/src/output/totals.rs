//! What was delivered of the bot's streams.

use order::{LogTotals, Sha256Hex, StreamTotals};
use sha2::{Digest, Sha256};
use wire::v1::{LogLine, LogSource, Record, record::Body};

/// Counts both streams over the records that are in the lane.
#[derive(Debug, Default)]
pub(super) struct Totals {
    stdout: Count,
    stderr: Count,
}

#[derive(Debug, Default)]
struct Count {
    lines: u64,
    bytes: u64,
    digest: Sha256,
    /// The last record was a line without its end.
    open: bool,
}

impl Totals {
    pub(super) fn add(&mut self, records: &[Record]) {
        for record in records {
            if let Some(Body::Log(line)) = &record.body {
                match line.source() {
                    LogSource::Stdout => self.stdout.add(line),
                    LogSource::Stderr => self.stderr.add(line),
                    _ => {}
                }
            }
        }
    }

    /// With `whole` unset an attendant before this one wrote too, and nobody knows the digest.
    pub(super) fn log(&self, whole: bool) -> LogTotals {
        LogTotals {
            stdout: self.stdout.totals(whole),
            stderr: self.stderr.totals(whole),
        }
    }
}

impl Count {
    fn add(&mut self, line: &LogLine) {
        self.bytes += line.text.len() as u64;
        self.digest.update(&line.text);
        if line.terminated {
            self.lines += 1;
            self.bytes += 1;
            self.digest.update(b"\n");
        }
        self.open = !line.terminated;
    }

    fn totals(&self, whole: bool) -> StreamTotals {
        let sha256 = Sha256Hex(self.digest.clone().finalize().into());
        StreamTotals {
            lines: self.lines + u64::from(self.open),
            bytes: self.bytes,
            sha256: if whole {
                sha256.to_string()
            } else {
                String::new()
            },
        }
    }
}
