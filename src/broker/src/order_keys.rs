//! Sets of order keys that are brought, over the link or by root: into force when the root signed
//! them, and what a revocation means for jobs that run.

use events::Code;
use order::{KeyId, KeySet, Signed};
use privsep::Refusal;
use privsep::admin::{TrustLine, TrustShown};
use privsep::broker::StopMode;

use crate::broker::Broker;
use crate::trust::{Applied, NoKey, Trust, apply};

impl Broker {
    /// The version in force after it.
    pub(crate) fn apply_key_set(&mut self, signed: &Signed) -> Result<u64, Refusal> {
        match apply(&self.policy.paths, signed) {
            Ok(Applied::Before(version)) => {
                // Whoever wrote it down may have died before it stopped anything.
                let revoked = Trust::read(&self.policy.paths).map(|trust| trust.revoked);
                self.stop_revoked(&revoked.unwrap_or_default());
                Ok(version)
            }
            Ok(Applied::Now(set)) => {
                self.key_set_event(&set);
                self.stop_revoked(&set.revoked);
                Ok(set.version)
            }
            Err(refusal) => {
                let event = Self::event_now(Code::KeySetRefused)
                    .with("reason_code", refusal.code.as_str())
                    .with("reason", refusal.detail.as_str());
                self.bounded_event(event, None);
                Err(refusal)
            }
        }
    }

    fn key_set_event(&mut self, set: &KeySet) {
        let names: Vec<String> = set.keys.iter().map(|known| known.key.id().0).collect();
        let mut text = format!("accepted: {}", names.join(", "));
        if !set.revoked.is_empty() {
            let names: Vec<&str> = set.revoked.iter().map(|id| id.0.as_str()).collect();
            text.push_str(&format!("; revoked: {}", names.join(", ")));
        }
        let event = Self::event_now(Code::OrderKeysChanged)
            .with("version", set.version)
            .with("keys", text);
        self.event(event, None);
    }

    /// Whoever has a revoked key may have made the order: what runs under it is ended.
    fn stop_revoked(&mut self, revoked: &[KeyId]) {
        let attempts: Vec<_> = self
            .attempts
            .iter()
            .filter(|(_, held)| held.stage.is_alive())
            .filter(|(_, held)| {
                held.bound
                    .as_ref()
                    .is_some_and(|bound| revoked.contains(&bound.order_key))
            })
            .map(|(attempt, _)| *attempt)
            .collect();
        for attempt in attempts {
            let event = Self::event_now(Code::JobStopRequested)
                .with("reason", "the key that signed its order was revoked");
            self.event(event, Some(attempt));
            self.stop(attempt, StopMode::Kill);
        }
    }

    /// What an administrator sees of it.
    pub(crate) fn trust_shown(&self) -> Result<TrustShown, Refusal> {
        let trust = Trust::read(&self.policy.paths)?;
        let now = sys::clock::unix_ms();
        let keys = trust.keys.iter().map(|known| TrustLine {
            key: known.key.id(),
            state: match trust.key(&known.key.id(), now) {
                Ok(_) => "accepted",
                Err(NoKey::Expired) => "retired",
                Err(_) => "revoked",
            }
            .to_owned(),
            until_unix_ms: known.not_after_unix_ms,
        });
        let revoked = trust.revoked.iter().map(|id| TrustLine {
            key: id.clone(),
            state: "revoked".to_owned(),
            until_unix_ms: None,
        });
        Ok(TrustShown {
            agent: trust.agent,
            root: trust.root.map(order::VerifyingKey::id),
            version: trust.version,
            keys: keys.chain(revoked).collect(),
        })
    }
}
