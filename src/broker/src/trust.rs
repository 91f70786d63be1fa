//! What `robotctl enroll` pinned: which agent this host is and whose orders count.
//!
//! Read anew for each order, so that an enrolment or a rotated key needs no restart.

use std::collections::BTreeMap;
use std::path::Path;

use order::{AgentId, KeyId, VerifyingKey};
use privsep::Refusal;
use serde::Deserialize;

const FILE: &str = "orchestrator.json";
const MAX_BYTES: u64 = 64 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Pinned {
    v: u32,
    agent_id: AgentId,
    order_keys: Vec<VerifyingKey>,
}

/// Trust anchors of this host.
pub(crate) struct Trust {
    pub(crate) agent: AgentId,
    pub(crate) order_keys: BTreeMap<KeyId, VerifyingKey>,
}

impl Trust {
    /// Reads the pinned anchors from `directory`.
    pub(crate) fn read(directory: &Path) -> Result<Self, Refusal> {
        let path = directory.join(FILE);
        let refuse = |reason: String| {
            Refusal::new(
                "NOT_ENROLLED",
                format!("{reason}; run `robotctl enroll --token FILE` as root"),
            )
        };
        let bytes = sys::files::read_trusted(&path, sys::Uid::from_raw(0), MAX_BYTES)
            .map_err(|error| refuse(crate::text(&error)))?;
        let pinned: Pinned = serde_json::from_slice(&bytes)
            .map_err(|error| refuse(format!("{} can't be read: {error}", path.display())))?;
        if pinned.v != 1 || pinned.order_keys.is_empty() {
            return Err(refuse(format!("{} names no order key", path.display())));
        }
        let order_keys = pinned
            .order_keys
            .into_iter()
            .map(|key| (key.id(), key))
            .collect();
        Ok(Self {
            agent: pinned.agent_id,
            order_keys,
        })
    }
}
