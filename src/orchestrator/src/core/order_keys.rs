//! The order keys in use, and what agents are told of them.

use order::VerifyingKey;
use serde_json::Value;
use wire::v1;

use super::Core;
use super::session::Body;
use crate::events::{self, Event};
use crate::refused::Refused;

impl Core {
    /// The set in force, as agents are told it.
    pub(super) fn key_set_message(&self) -> Option<Body> {
        let signed = self.keys.set()?;
        Some(Body::KeySet(v1::SignedKeySet {
            body: signed.body.clone().into(),
            key_id: signed.key_id.0.clone(),
            signature: signed.signature.clone().into(),
        }))
    }

    pub(crate) fn show_keys(&self) -> Value {
        self.keys.shown()
    }

    pub(crate) fn make_key(&mut self) -> Result<VerifyingKey, Refused> {
        self.keys.make()
    }

    pub(crate) fn trust_root(&mut self, root: VerifyingKey) -> Result<(), Refused> {
        self.keys.trust_root(root)
    }

    /// What a token names: the key that signs now and the root that signs what comes later.
    pub(crate) fn pins(&self) -> (VerifyingKey, Option<VerifyingKey>) {
        (self.keys.signing().public(), self.keys.root())
    }

    /// From now on orders are signed with the new set's key; every agent hears of it first.
    pub(crate) fn install_keys(&mut self, file: &str, by: &str) -> Result<Value, Refused> {
        let version = self.keys.install(file)?.version;
        let key = self.keys.signing().public().id();
        let text = format!("key set {version} installed by {by}; {key} signs orders now");
        let event = Event::own(events::ORDER_KEYS_INSTALLED, self.now(), text).user(by);
        self.note(event);
        if let Some(message) = self.key_set_message() {
            let agents: Vec<_> = self.online.keys().copied().collect();
            for agent in agents {
                self.send(agent, message.clone());
            }
        }
        Ok(serde_json::json!({"key_set": version, "signs": key}))
    }
}
