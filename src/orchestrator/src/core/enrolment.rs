//! Join tokens, enrolment and revocation.

use order::AgentId;
use sha2::{Digest as _, Sha256};

use super::{Core, millis};
use crate::config;
use crate::events::{self, Event};
use crate::refused::{Kind, Refused};
use crate::store::{AgentRow, StoreError};

/// A token that was made; its secret is known here for the last time.
#[derive(Debug)]
pub(crate) struct JoinToken {
    pub(crate) agent: AgentId,
    pub(crate) secret: [u8; 32],
    pub(crate) expires_unix_ms: u64,
}

/// What an agent sends to enrol.
#[derive(Clone, Debug)]
pub(crate) struct Enrolled {
    pub(crate) secret_sha256: [u8; 32],
    pub(crate) spki_sha256: [u8; 32],
    pub(crate) result_key: Vec<u8>,
    pub(crate) secret_key: Vec<u8>,
    /// Address that it came from.
    pub(crate) from: String,
}

impl Core {
    pub(crate) fn create_token(&mut self, name: &str, by: &str) -> Result<JoinToken, Refused> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(word) {
            return Err(Refused::invalid(
                "AGENT_NAME_INVALID",
                "a name has 1 to 64 letters, digits and _-.",
            ));
        }
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)
            .map_err(|error| Refused::unavailable("RANDOM_FAILED", error.to_string()))?;
        let now = self.now();
        let expires_unix_ms = now + millis(config::TOKEN_TTL);
        let known = self.store.agent_named(name)?;
        let agent = known.as_ref().map_or_else(AgentId::new, |row| row.id);
        let event = Event::own(
            events::TOKEN_CREATED,
            now,
            format!("token for agent {name} by {by}"),
        )
        .agent(agent)
        .user(by);
        let store = &self.store;
        store.atomically(|| {
            store.forget_tokens(now)?;
            if known.is_none() {
                store.put_agent(agent, name, now)?;
            }
            store.put_token(&Sha256::digest(secret), agent, expires_unix_ms)?;
            store.put_event(&event)
        })?;
        Ok(JoinToken {
            agent,
            secret,
            expires_unix_ms,
        })
    }

    /// Binds the token to the key that uses it first, in one transaction. The same token with the
    /// same key is answered again, so a lost reply is safe.
    pub(crate) fn enroll(&mut self, request: &Enrolled) -> Result<AgentId, Refused> {
        let now = self.now();
        let done = self.try_enroll(request, now);
        if let Err(refused) = &done {
            self.enrolment_refused(&request.from, refused);
        }
        done
    }

    /// Notes who was refused: a bad token by its own event, a bad request by another.
    pub(crate) fn enrolment_refused(&mut self, from: &str, refused: &Refused) {
        let code = match refused.kind {
            Kind::Unproven => events::TOKEN_REFUSED,
            _ => events::ENROLMENT_REFUSED,
        };
        let text = format!("enrolment from {from} refused: {refused}");
        let event = Event::own(code, self.now(), text).entity(&refused.code);
        self.record(event);
    }

    fn try_enroll(&mut self, request: &Enrolled, now: u64) -> Result<AgentId, Refused> {
        let unproven = |code, text| StoreError::Refused(Refused::new(Kind::Unproven, code, text));
        let store = &self.store;
        let agent = store.atomically(|| {
            let token = store
                .token(&request.secret_sha256)?
                .ok_or_else(|| unproven("TOKEN_UNKNOWN", "no such token; create a new one"))?;
            if token.expires_ms < now {
                return Err(unproven(
                    "TOKEN_EXPIRED",
                    "the token is too old; create a new one",
                ));
            }
            let bound = token.spki_sha256.as_deref();
            if bound.is_some_and(|bound| bound != request.spki_sha256) {
                return Err(unproven(
                    "TOKEN_BOUND",
                    "the token was used with another key",
                ));
            }
            if bound.is_none() {
                store.bind_token(&request.secret_sha256, &request.spki_sha256)?;
                let text = format!("agent {} enrolled from {}", token.agent, request.from);
                store
                    .put_event(&Event::own(events::AGENT_ENROLLED, now, text).agent(token.agent))?;
            }
            store.set_enrolled(token.agent, &request.result_key, &request.secret_key, now)?;
            Ok(token.agent)
        })?;
        Ok(agent)
    }

    /// Remembers a certificate before it is handed out.
    pub(crate) fn certificate_issued(
        &mut self,
        agent: AgentId,
        serial: &str,
        not_after_ms: u64,
        renewal: bool,
    ) -> Result<(), Refused> {
        let now = self.now();
        let store = &self.store;
        store.atomically(|| {
            store.put_certificate(serial, agent, now, not_after_ms)?;
            if renewal {
                let text = format!("certificate of agent {agent} renewed");
                store.put_event(
                    &Event::own(events::CERTIFICATE_RENEWED, now, text)
                        .agent(agent)
                        .entity(serial),
                )?;
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Whether the certificate of a new connection stands. True when its first use revoked older
    /// ones, so that the revocation list must be made anew.
    pub(crate) fn certificate_seen(
        &mut self,
        agent: AgentId,
        serial: &str,
    ) -> Result<bool, Refused> {
        if !self.store.certificate_stands(serial, agent)? {
            let text =
                format!("agent {agent} came with certificate {serial}, which does not stand");
            let event = Event::own(events::CONNECTION_REFUSED, self.now(), text).agent(agent);
            self.record(event);
            return Err(Refused::denied(
                "IDENTITY_REVOKED",
                "the certificate does not stand",
            ));
        }
        let now = self.now();
        let store = &self.store;
        Ok(store.atomically(|| store.certificate_seen(serial, agent, now))?)
    }

    /// A certificate that the handshake itself refused: nobody knows whose it is.
    pub(crate) fn certificate_refused(&mut self, address: std::net::SocketAddr, reason: &str) {
        let text = format!("a certificate from {address} was refused: {reason}");
        self.record(Event::own(events::CONNECTION_REFUSED, self.now(), text));
    }

    /// Revokes an agent: its certificates, its name, its session. Started jobs are lost; what they
    /// hold is freed when their leases expire.
    pub(crate) fn revoke_agent(&mut self, name: &str, by: &str) -> Result<AgentId, Refused> {
        let row = self
            .store
            .agent_named(name)?
            .ok_or_else(|| Refused::not_found("AGENT_UNKNOWN", format!("no agent {name:?}")))?;
        let now = self.now();
        let event = Event::own(
            events::AGENT_REVOKED,
            now,
            format!("agent {name} revoked by {by}"),
        )
        .agent(row.id)
        .user(by);
        let store = &self.store;
        store.atomically(|| {
            store.set_revoked(row.id, now)?;
            store.put_event(&event)
        })?;
        self.expel(row.id);
        for (attempt, state, _) in self.attempts_of(row.id) {
            match state {
                super::job::State::Accepted => self.withdraw(attempt, "its agent was revoked"),
                super::job::State::Started => {
                    self.lost(attempt, "IDENTITY_REVOKED", "its agent was revoked");
                }
                _ => {}
            }
        }
        Ok(row.id)
    }

    pub(crate) fn revoked_serials(&self) -> Result<Vec<(String, u64)>, Refused> {
        Ok(self.store.revoked_serials(self.now())?)
    }

    pub(crate) fn agents(&self) -> Result<Vec<AgentShown>, Refused> {
        let rows = self.store.agents()?;
        Ok(rows
            .into_iter()
            .map(|row| {
                let online = self.online.get(&row.id);
                AgentShown {
                    state: online.map(state_name),
                    abilities: online.map(|now| now.abilities.clone()).unwrap_or_default(),
                    missing_abilities: online
                        .map(|now| now.missing_abilities.clone())
                        .unwrap_or_default(),
                    row,
                }
            })
            .collect())
    }
}

/// An agent with what it says of itself while it is online.
pub(crate) struct AgentShown {
    pub(crate) row: AgentRow,
    pub(crate) state: Option<String>,
    /// What its host can do.
    pub(crate) abilities: Vec<String>,
    /// What its host's policy requires beside that: it refuses every offer.
    pub(crate) missing_abilities: Vec<String>,
}

/// Its state, and in brackets why it takes nothing.
fn state_name(online: &super::session::Online) -> String {
    let name = online.state.as_str_name();
    let name = name.trim_start_matches("AGENT_STATE_");
    let mut reasons = online.blockers.clone();
    if !online.missing_abilities.is_empty() {
        reasons.push("HOST_NOT_ABLE".to_owned());
    }
    match reasons.is_empty() {
        true => name.to_owned(),
        false => format!("{name} ({})", reasons.join(", ")),
    }
}
