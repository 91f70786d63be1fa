//! Fences of license leases that started a job here: each is one holder's, so none counts twice and
//! none that is older than all that are remembered counts at all.
//!
//! Jobs of one pool may start in another order than their leases were granted in, so a fence that
//! is lower than the last one is no attack by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use order::{AgentId, Lease};
use privsep::Refusal;
use serde::{Deserialize, Serialize};

use crate::record::{RecordError, write_json};

/// Fences of one pool that are remembered one by one.
const REMEMBERED: usize = 256;

/// Pools of one orchestrator. An order names its pool, so somebody who signs orders could make up
/// as many as there are jobs.
const MOST_POOLS: usize = 1024;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Pool {
    /// This one and all below it were used, or are too old.
    floor: u64,
    used: BTreeSet<u64>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Known {
    /// Another orchestrator counts anew, and gives this host another name.
    agent: Option<AgentId>,
    pools: BTreeMap<String, Pool>,
}

/// The file `nonces/fences.json`.
pub(crate) struct Fences {
    path: PathBuf,
    known: Known,
}

impl Fences {
    pub(crate) fn open(state: &Path) -> Result<Self, RecordError> {
        let path = state.join("nonces/fences.json");
        let failed = |source| RecordError::reading(&path, source);
        let known = match std::fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Known::default(),
            read => serde_json::from_slice(&read.map_err(failed)?)
                .map_err(|error| failed(error.into()))?,
        };
        Ok(Self { path, known })
    }

    /// Uses a lease's fence up; on the disk when this returns.
    pub(crate) fn take(&mut self, agent: AgentId, lease: &Lease) -> Result<(), Refusal> {
        let mut next = self.known.clone();
        if next.agent != Some(agent) {
            next = Known {
                agent: Some(agent),
                ..Known::default()
            };
        }
        if next.pools.len() >= MOST_POOLS && !next.pools.contains_key(&lease.pool) {
            let detail = format!("more than {MOST_POOLS} license pools were used on this host");
            return Err(Refusal::new("LEASE_POOLS_TOO_MANY", detail));
        }
        let pool = next.pools.entry(lease.pool.clone()).or_default();
        if lease.fence <= pool.floor || !pool.used.insert(lease.fence) {
            let detail = format!(
                "the order's license has fence {} of pool {:?}, which started a job here before or is too old",
                lease.fence, lease.pool
            );
            return Err(Refusal::new("LEASE_FENCE_USED", detail));
        }
        if pool.used.len() > REMEMBERED
            && let Some(lowest) = pool.used.pop_first()
        {
            pool.floor = lowest;
        }
        write_json(&self.path, &next)
            .map_err(|error| Refusal::new("STATE_NOT_DURABLE", crate::text(&error)))?;
        self.known = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use order::LeaseId;

    use super::*;

    fn lease(pool: &str, fence: u64) -> Lease {
        Lease {
            id: LeaseId::new(),
            fence,
            pool: pool.into(),
            ttl_ms: 1,
            ticks_ns: 1,
        }
    }

    fn state() -> tempfile::TempDir {
        let state = tempfile::tempdir().unwrap();
        std::fs::create_dir(state.path().join("nonces")).unwrap();
        state
    }

    #[test]
    fn a_fence_starts_one_job_also_after_a_restart() {
        let state = state();
        let agent = AgentId::new();
        let take = |pool: &str, fence| {
            let mut fences = Fences::open(state.path()).unwrap();
            fences
                .take(agent, &lease(pool, fence))
                .err()
                .map(|refusal| refusal.code)
        };
        assert_eq!(take("p", 7), None);
        assert_eq!(take("p", 7).as_deref(), Some("LEASE_FENCE_USED"));
        assert_eq!(take("p", 6), None, "granted before, started after");
        assert_eq!(take("q", 7), None, "another pool counts by itself");
    }

    #[test]
    fn what_is_older_than_all_that_is_remembered_never_counts() {
        let state = state();
        let (mut fences, agent) = (Fences::open(state.path()).unwrap(), AgentId::new());
        for fence in 10..10 + REMEMBERED as u64 + 1 {
            fences.take(agent, &lease("p", fence)).unwrap();
        }
        assert!(fences.take(agent, &lease("p", 10)).is_err());
        assert!(fences.take(agent, &lease("p", 9)).is_err());
        assert_eq!(fences.known.pools["p"].used.len(), REMEMBERED);
        // Another orchestrator knows this host by another name and counts from one.
        assert!(fences.take(AgentId::new(), &lease("p", 1)).is_ok());
    }

    #[test]
    fn a_list_that_can_not_be_read_or_written_lets_nothing_start() {
        let state = state();
        std::fs::write(state.path().join("nonces/fences.json"), "{").unwrap();
        assert!(Fences::open(state.path()).is_err());
        let mut nowhere = Fences::open(&state.path().join("missing")).unwrap();
        let refusal = nowhere.take(AgentId::new(), &lease("p", 1)).unwrap_err();
        assert_eq!(refusal.code, "STATE_NOT_DURABLE");
    }
}
