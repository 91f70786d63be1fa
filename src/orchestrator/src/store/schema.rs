//! The tables, and how a store of an older version is brought up to date.

use rusqlite::Connection;

use super::StoreError;

/// One entry per version, applied in order; `user_version` counts them.
const STEPS: [&str; 2] = [FIRST, MASKED];

const FIRST: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL);
INSERT INTO meta VALUES ('incarnation', 0);

CREATE TABLE agents (
  agent_id TEXT PRIMARY KEY, name TEXT NOT NULL, created_ms INTEGER NOT NULL,
  enrolled_ms INTEGER, revoked_ms INTEGER, last_seen_ms INTEGER,
  result_key BLOB, secret_key BLOB, session_epoch INTEGER NOT NULL DEFAULT 0, host TEXT);
CREATE UNIQUE INDEX agents_by_name ON agents(name) WHERE revoked_ms IS NULL;
CREATE TABLE tokens (
  secret_sha256 BLOB PRIMARY KEY, agent_id TEXT NOT NULL REFERENCES agents, expires_ms INTEGER NOT NULL,
  spki_sha256 BLOB);
CREATE TABLE certificates (
  serial TEXT PRIMARY KEY, agent_id TEXT NOT NULL REFERENCES agents, issued_ms INTEGER NOT NULL,
  not_after_ms INTEGER NOT NULL, seen_ms INTEGER, revoked_ms INTEGER);
CREATE INDEX certificates_by_agent ON certificates(agent_id);

CREATE TABLE pools (name TEXT PRIMARY KEY, licenses INTEGER NOT NULL, fence INTEGER NOT NULL);
CREATE TABLE leases (
  lease_id TEXT PRIMARY KEY, pool TEXT NOT NULL, fence INTEGER NOT NULL, job_id TEXT NOT NULL,
  attempt INTEGER NOT NULL, agent_id TEXT NOT NULL, request_id TEXT NOT NULL, ttl_ms INTEGER NOT NULL,
  granted_ms INTEGER NOT NULL, ended_ms INTEGER, ended_how TEXT);
CREATE INDEX leases_open ON leases(lease_id) WHERE ended_ms IS NULL;
CREATE INDEX leases_by_job ON leases(job_id);

CREATE TABLE packages (
  sha256 TEXT PRIMARY KEY, name TEXT NOT NULL, version TEXT NOT NULL, entry TEXT NOT NULL,
  publisher TEXT, bytes INTEGER NOT NULL, pushed_ms INTEGER NOT NULL);
CREATE TABLE secrets (
  name TEXT PRIMARY KEY, version INTEGER NOT NULL, nonce BLOB NOT NULL, ciphertext BLOB NOT NULL,
  updated_ms INTEGER NOT NULL);

CREATE TABLE jobs (
  job_id TEXT PRIMARY KEY, spec TEXT NOT NULL, state TEXT NOT NULL, attempt INTEGER NOT NULL,
  agent_id TEXT, submitted_ms INTEGER NOT NULL, ended_ms INTEGER, outcome TEXT,
  code TEXT NOT NULL DEFAULT '', detail TEXT NOT NULL DEFAULT '', missing TEXT NOT NULL DEFAULT '[]',
  stop TEXT);
CREATE INDEX jobs_open ON jobs(job_id) WHERE ended_ms IS NULL;
CREATE TABLE attempts (
  job_id TEXT NOT NULL REFERENCES jobs, number INTEGER NOT NULL, agent_id TEXT NOT NULL,
  offered_ms INTEGER NOT NULL, account TEXT, challenge BLOB, lease_id TEXT, fence INTEGER,
  order_body BLOB, order_key_id TEXT, order_signature BLOB, not_after_ms INTEGER, hard_end_ms INTEGER,
  started_ms INTEGER, confirmed INTEGER NOT NULL DEFAULT 0, result_body BLOB, result_key_id TEXT,
  result_signature BLOB, reported_ms INTEGER, PRIMARY KEY (job_id, number));
CREATE TABLE timeline (
  job_id TEXT NOT NULL, attempt INTEGER NOT NULL, phase TEXT NOT NULL, at_ms INTEGER NOT NULL,
  PRIMARY KEY (job_id, attempt, phase));
CREATE TABLE rejections (
  job_id TEXT NOT NULL, attempt INTEGER NOT NULL, agent_id TEXT NOT NULL, at_ms INTEGER NOT NULL,
  reason TEXT NOT NULL, code TEXT NOT NULL, detail TEXT NOT NULL);
CREATE INDEX rejections_by_job ON rejections(job_id);

CREATE TABLE lanes (
  lane_id INTEGER PRIMARY KEY, agent_id TEXT NOT NULL, lane INTEGER NOT NULL, epoch BLOB NOT NULL,
  job_id TEXT, attempt INTEGER, durable_seq INTEGER NOT NULL, bytes INTEGER NOT NULL,
  UNIQUE (agent_id, lane, epoch));
CREATE INDEX lanes_by_job ON lanes(job_id, attempt);
CREATE TABLE artifacts (
  job_id TEXT NOT NULL, attempt INTEGER NOT NULL, lane_id INTEGER NOT NULL, seq INTEGER NOT NULL,
  name BLOB NOT NULL, sha256 TEXT NOT NULL, bytes INTEGER NOT NULL, media_type TEXT NOT NULL,
  PRIMARY KEY (lane_id, seq));
CREATE INDEX artifacts_by_job ON artifacts(job_id, attempt);
CREATE TABLE screenshots (
  job_id TEXT NOT NULL, attempt INTEGER NOT NULL, lane_id INTEGER NOT NULL, record_seq INTEGER NOT NULL,
  seq INTEGER NOT NULL, at_ms INTEGER NOT NULL, reason TEXT NOT NULL, width INTEGER NOT NULL,
  height INTEGER NOT NULL, media_type TEXT NOT NULL, sha256 TEXT NOT NULL, bytes INTEGER NOT NULL,
  PRIMARY KEY (lane_id, record_seq));
CREATE INDEX screenshots_by_job ON screenshots(job_id, attempt);
CREATE TABLE alerts (
  job_id TEXT NOT NULL, attempt INTEGER NOT NULL, lane_id INTEGER NOT NULL, seq INTEGER NOT NULL,
  at_ms INTEGER NOT NULL, level TEXT NOT NULL, title BLOB NOT NULL, message BLOB NOT NULL,
  PRIMARY KEY (lane_id, seq));
CREATE INDEX alerts_by_job ON alerts(job_id, attempt);
CREATE TABLE bot_errors (
  job_id TEXT NOT NULL, attempt INTEGER NOT NULL, lane_id INTEGER NOT NULL, seq INTEGER NOT NULL,
  at_ms INTEGER NOT NULL, kind BLOB NOT NULL, message BLOB NOT NULL, stack_trace BLOB NOT NULL,
  tags TEXT NOT NULL, PRIMARY KEY (lane_id, seq));
CREATE INDEX bot_errors_by_job ON bot_errors(job_id, attempt);
CREATE TABLE gaps (
  lane_id INTEGER NOT NULL, seq INTEGER NOT NULL, job_id TEXT, attempt INTEGER, at_ms INTEGER NOT NULL,
  records INTEGER NOT NULL, bytes INTEGER NOT NULL, unknown INTEGER NOT NULL, reason TEXT NOT NULL,
  source TEXT NOT NULL, PRIMARY KEY (lane_id, seq));
CREATE INDEX gaps_by_job ON gaps(job_id, attempt);

CREATE TABLE events (
  event_id INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL, code INTEGER NOT NULL,
  name TEXT NOT NULL, severity TEXT NOT NULL, source TEXT NOT NULL, agent TEXT, user TEXT, job_id TEXT,
  text TEXT NOT NULL, entity TEXT, data TEXT NOT NULL);
CREATE INDEX events_by_time ON events(at_ms);
CREATE INDEX events_by_job ON events(job_id);
CREATE INDEX events_by_code ON events(code, agent);
";

/// What was painted over in each picture.
const MASKED: &str = "
ALTER TABLE screenshots ADD COLUMN masked TEXT NOT NULL DEFAULT '[]';
";

pub(super) fn apply(connection: &Connection) -> Result<(), StoreError> {
    let version: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let version = version as usize;
    if version > STEPS.len() {
        return Err(StoreError::Damaged(format!(
            "it has version {version}, this program knows {}; start a newer program",
            STEPS.len()
        )));
    }
    for (done, step) in STEPS.iter().enumerate().skip(version) {
        let transaction = connection.unchecked_transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(
            None,
            "user_version",
            u32::try_from(done + 1).unwrap_or(u32::MAX),
        )?;
        transaction.commit()?;
    }
    Ok(())
}
