//! Whom each slot served last, on the disk: no slot passes from one tenant to another unless the
//! policy or root says so.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use events::Code;
use privsep::Refusal;
use privsep::admin::SlotLine;
use privsep::broker::SlotState;

use crate::broker::Broker;
use crate::record::{RecordError, SlotRecord, write_json};

/// The last tenant of each slot, by account.
pub(crate) struct LastTenants {
    path: PathBuf,
    by_account: BTreeMap<String, String>,
}

impl LastTenants {
    /// What the state directory knows; slots that were in use tell of a state that was lost.
    pub(crate) fn open(state: &Path, in_use: &[SlotRecord]) -> Result<Self, RecordError> {
        let path = state.join("tenants.json");
        let failed = |source| RecordError::reading(&path, source);
        let mut by_account: BTreeMap<String, String> = match std::fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => BTreeMap::new(),
            // A list that can't be read is no reason to mix tenants: the broker does not start.
            read => serde_json::from_slice(&read.map_err(failed)?)
                .map_err(|error| failed(error.into()))?,
        };
        for slot in in_use {
            let tenant = slot.bound.tenant.clone();
            by_account.insert(slot.account.clone(), tenant);
        }
        Ok(Self { path, by_account })
    }

    pub(crate) fn of(&self, account: &str) -> Option<&str> {
        self.by_account.get(account).map(String::as_str)
    }

    /// From now on the slot is this tenant's; on the disk when this returns.
    fn set(&mut self, account: &str, tenant: &str) -> Result<(), RecordError> {
        if self.of(account) == Some(tenant) {
            return Ok(());
        }
        let mut next = self.by_account.clone();
        next.insert(account.to_owned(), tenant.to_owned());
        self.replace(next)
    }

    fn release(&mut self, account: &str) -> Result<Option<String>, RecordError> {
        let mut next = self.by_account.clone();
        let Some(tenant) = next.remove(account) else {
            return Ok(None);
        };
        self.replace(next).map(|()| Some(tenant))
    }

    /// Memory follows the disk, never the other way.
    fn replace(&mut self, next: BTreeMap<String, String>) -> Result<(), RecordError> {
        write_json(&self.path, &next)?;
        self.by_account = next;
        Ok(())
    }
}

impl Broker {
    /// Whether a slot may take a job of this tenant now.
    pub(crate) fn serves(&self, tenant: &str, account: &str) -> Result<(), Refusal> {
        self.policy.permit_slot(tenant, account)?;
        match self.tenants.of(account) {
            Some(last) if last != tenant && !self.policy.may_change_tenant(tenant, account) => {
                let detail = format!(
                    "slot {account} served tenant {last:?} and is not for {tenant:?}; give each tenant \
                     slots of its own under [[tenant]], free it with `robotctl slot release-tenant {account}`, \
                     or set session.share-slots"
                );
                Err(Refusal::new("SLOT_NOT_OF_TENANT", detail))
            }
            _ => Ok(()),
        }
    }

    /// Before the order is committed: whose slot it is outlives every crash after it.
    pub(crate) fn give_slot(&mut self, account: &str, tenant: &str) -> Result<(), Refusal> {
        let last = self.tenants.of(account).map(str::to_owned);
        let kept = self.tenants.set(account, tenant);
        kept.map_err(|error| Refusal::new("STATE_NOT_DURABLE", crate::text(&error)))?;
        if let Some(from) = last.filter(|last| last != tenant) {
            let event = Self::event_now(Code::SlotTenantChanged)
                .with("slot", account)
                .with("from", from)
                .with("tenant", tenant);
            self.event(event, None);
        }
        Ok(())
    }

    /// root's word that the next tenant may have the slot. What runs on it keeps it.
    pub(crate) fn release_tenant(&mut self, account: &str) -> Result<Option<String>, Refusal> {
        if self.policy.slot(account).is_none() {
            let detail = format!("{account:?} is no slot of this host's policy");
            return Err(Refusal::new("ACCOUNT_NOT_ALLOWED", detail));
        }
        if let SlotState::Busy(attempt) = self.slot_state(account) {
            let detail = format!("slot {account} is in use by {attempt}; wait for its end");
            return Err(Refusal::new("SLOT_IN_USE", detail));
        }
        let released = self.tenants.release(account);
        let released =
            released.map_err(|error| Refusal::new("STATE_NOT_DURABLE", crate::text(&error)))?;
        if let Some(from) = &released {
            let event = Self::event_now(Code::SlotTenantReleased)
                .with("slot", account)
                .with("from", from.as_str());
            self.event(event, None);
        }
        Ok(released)
    }

    /// Slots as an administrator sees them.
    pub(crate) fn slot_lines(&self) -> Vec<SlotLine> {
        let line = |slot: privsep::broker::Slot| SlotLine {
            tenant: self.tenants.of(&slot.account).map(str::to_owned),
            bound_to: self.policy.tenants_of_slot(&slot.account),
            slot,
        };
        self.slots().into_iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_tenant_of_a_slot_is_known_after_a_restart_and_until_it_is_released() {
        let state = tempfile::tempdir().unwrap();
        let mut first = LastTenants::open(state.path(), &[]).unwrap();
        first.set("robot01", "acme").unwrap();
        let mut again = LastTenants::open(state.path(), &[]).unwrap();
        assert_eq!(again.of("robot01"), Some("acme"));
        assert_eq!(again.release("robot01").unwrap().as_deref(), Some("acme"));
        assert_eq!(again.release("robot01").unwrap(), None);
        assert_eq!(
            LastTenants::open(state.path(), &[]).unwrap().of("robot01"),
            None
        );
    }

    #[test]
    fn a_damaged_list_is_refused_and_not_taken_for_an_empty_one() {
        let state = tempfile::tempdir().unwrap();
        std::fs::write(state.path().join("tenants.json"), "{\"robot01\":").unwrap();
        assert!(LastTenants::open(state.path(), &[]).is_err());
    }

    #[test]
    fn what_could_not_be_written_is_not_believed() {
        let state = tempfile::tempdir().unwrap();
        let mut tenants = LastTenants::open(&state.path().join("missing"), &[]).unwrap();
        assert!(tenants.set("robot01", "acme").is_err());
        assert_eq!(tenants.of("robot01"), None);
    }
}
