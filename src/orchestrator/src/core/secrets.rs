//! Secrets: stored for administrators, sealed for the broker of one running attempt.

use order::{AgentId, AttemptRef, secret_aad};
use serde_json::json;

use super::Core;
use super::job::State;
use crate::events::{self, Event};
use crate::refused::Refused;
use crate::store::{SecretName, SecretRow, StoreError};
use crate::vault::{self, MAX_SECRET, Sealed};

/// A sealed secret with its name and version.
#[derive(Clone, Debug)]
pub(crate) struct Granted {
    pub(crate) name: String,
    pub(crate) version: u64,
    pub(crate) sealed: Sealed,
}

impl Core {
    pub(crate) fn set_secret(
        &mut self,
        name: &str,
        plain: &[u8],
        by: &str,
    ) -> Result<u64, Refused> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte);
        if name.is_empty() || name.len() > 128 || !name.bytes().all(word) {
            return Err(Refused::invalid(
                "SECRET_NAME_INVALID",
                "a name has 1 to 128 letters, digits and _-./",
            ));
        }
        if plain.is_empty() || plain.len() > MAX_SECRET {
            return Err(Refused::invalid(
                "SECRET_SIZE_INVALID",
                format!("a secret has 1 to {MAX_SECRET} bytes"),
            ));
        }
        let now = self.now();
        // Versions go on after a deletion would have reset them: time never gives one again.
        let version = self.store.secret(name)?.map_or(now, |row| row.version + 1);
        let locked = self.vault.lock(name, version, plain)?;
        let row = SecretRow { version, locked };
        let text = format!("secret {name} set by {by}");
        let event = Event::own(events::SECRET_SET, now, text)
            .user(by)
            .entity(name);
        let store = &self.store;
        store.atomically(|| {
            store.put_secret(name, &row, now)?;
            store.put_event(&event)
        })?;
        Ok(version)
    }

    pub(crate) fn delete_secret(&mut self, name: &str, by: &str) -> Result<(), Refused> {
        let event = Event::own(
            events::SECRET_SET,
            self.now(),
            format!("secret {name} deleted by {by}"),
        )
        .user(by)
        .entity(name)
        .data(json!({"deleted": true}));
        let store = &self.store;
        store.atomically(|| {
            if !store.delete_secret(name)? {
                let unknown = Refused::not_found("SECRET_UNKNOWN", format!("no secret {name:?}"));
                return Err(StoreError::Refused(unknown));
            }
            store.put_event(&event)
        })?;
        Ok(())
    }

    pub(crate) fn secret_names(&self) -> Result<Vec<SecretName>, Refused> {
        Ok(self.store.secret_names()?)
    }

    /// Seals what a running attempt was granted. Each read is an event, and so is each refusal.
    pub(crate) fn resolve_secrets(
        &mut self,
        agent: AgentId,
        attempt: AttemptRef,
        fence: u64,
        names: &[String],
    ) -> Result<Vec<Granted>, Refused> {
        let granted = self.grant_secrets(agent, attempt, fence, names);
        let now = self.now();
        let listed = names
            .iter()
            .take(64)
            .cloned()
            .collect::<Vec<_>>()
            .join(", ");
        let event = match &granted {
            Ok(_) => Event::own(
                events::SECRET_READ,
                now,
                format!("secrets for {attempt}: {listed}"),
            ),
            Err(refused) => Event::own(
                events::SECRET_REFUSED,
                now,
                format!("secrets for {attempt} refused: {refused}"),
            ),
        };
        let event = event.agent(agent).job(attempt.job).entity(listed);
        // Without the event on record nothing is handed out.
        self.store.put_event(&event)?;
        granted
    }

    fn grant_secrets(
        &self,
        agent: AgentId,
        attempt: AttemptRef,
        fence: u64,
        names: &[String],
    ) -> Result<Vec<Granted>, Refused> {
        let job = self.jobs.get(&attempt.job).filter(|job| {
            job.attempt() == attempt
                && job.progress.agent == Some(agent)
                && job.progress.state == State::Started
        });
        let job = job.ok_or_else(|| {
            Refused::denied(
                "NOT_RUNNING_HERE",
                format!("{attempt} is not running on this agent"),
            )
        })?;
        if job
            .started
            .as_ref()
            .is_none_or(|started| started.fence != fence)
        {
            return Err(Refused::state(
                "STALE_FENCE",
                format!("{fence} is not the fence of {attempt}"),
            ));
        }
        let public = self
            .store
            .agent(agent)?
            .and_then(|row| row.secret_key)
            .ok_or_else(|| {
                Refused::state("BROKER_KEY_INVALID", "the agent has no key for secrets")
            })?;
        names
            .iter()
            .map(|name| {
                // The account's password goes to the session; that its bot can't have it is seen to by
                // the broker, which knows the order's `secrets` alone.
                let account = job.spec.account_secret.as_ref() == Some(name);
                if !account && !job.spec.secrets.contains(name) {
                    return Err(Refused::denied(
                        "SECRET_NOT_GRANTED",
                        format!("{attempt} was not granted secret {name:?}"),
                    ));
                }
                let row = self.store.secret(name)?.ok_or_else(|| {
                    Refused::not_found("SECRET_UNKNOWN", format!("secret {name:?} was deleted"))
                })?;
                let plain = self.vault.unlock(name, row.version, &row.locked)?;
                let sealed = vault::seal(&public, &plain, &secret_aad(&attempt, name))?;
                Ok(Granted {
                    name: name.clone(),
                    version: row.version,
                    sealed,
                })
            })
            .collect()
    }
}
