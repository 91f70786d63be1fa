//! Which tenant gets what of this host: `[[tenant]]`.
//!
//! Without an entry the orchestrator's word counts and slots alone keep tenants apart. With one,
//! a tenant that has no entry gets nothing, and one that has gets what its entry names.

use std::collections::BTreeSet;

use order::Order;
use privsep::Refusal;
use serde::Deserialize;

use super::{Policy, PolicyError};

/// One tenant's part of the ceiling.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TenantPolicy {
    /// As orders name it.
    pub name: String,
    /// Accounts of the slots that its jobs may run on.
    pub slots: Vec<String>,
    /// Names of the publishers whose packages it may run.
    #[serde(default)]
    pub publishers: Vec<String>,
    /// Secrets that its jobs may be given: a name, or all names below one (`erp/*`).
    #[serde(default)]
    pub secrets: Vec<String>,
    /// Network profiles; by default no network.
    #[serde(default = "no_network")]
    pub networks: Vec<String>,
    /// Sandbox profiles; by default the strictest.
    #[serde(default = "strictest")]
    pub sandboxes: Vec<String>,
}

fn no_network() -> Vec<String> {
    vec!["none".into()]
}

fn strictest() -> Vec<String> {
    vec!["script".into()]
}

/// Longest name of a tenant, in bytes: it stands in records and events.
const LONGEST_NAME: usize = 128;

/// Most tenants of one host.
const MOST_TENANTS: usize = 256;

fn refuse(code: &str, detail: String) -> Refusal {
    Refusal::new(code, detail)
}

impl TenantPolicy {
    fn holds_slot(&self, account: &str) -> bool {
        self.slots.iter().any(|slot| slot == account)
    }

    /// A pattern ends in `/*` and stands for every name below it, or is the name itself.
    fn grants_secret(&self, name: &str) -> bool {
        self.secrets
            .iter()
            .any(|pattern| match pattern.strip_suffix('*') {
                Some(below) => name.len() > below.len() && name.starts_with(below),
                None => pattern == name,
            })
    }
}

impl Policy {
    /// The entry of a tenant; none when this host has no entries at all.
    pub(crate) fn tenant(&self, name: &str) -> Result<Option<&TenantPolicy>, Refusal> {
        if self.tenants.is_empty() {
            return Ok(None);
        }
        let found = self.tenants.iter().find(|tenant| tenant.name == name);
        found.map(Some).ok_or_else(|| {
            let detail =
                format!("tenant {name:?} is not in this host's policy; add a [[tenant]] for it");
            refuse("TENANT_NOT_ALLOWED", detail)
        })
    }

    /// Whether the policy lets a slot serve a tenant, whoever used it last.
    pub(crate) fn permit_slot(&self, tenant: &str, account: &str) -> Result<(), Refusal> {
        match self.tenant(tenant)? {
            Some(entry) if !entry.holds_slot(account) => {
                let detail = format!(
                    "slot {account} is not one of tenant {tenant:?}; name it in the tenant's slots"
                );
                Err(refuse("SLOT_NOT_OF_TENANT", detail))
            }
            _ => Ok(()),
        }
    }

    /// Whether a slot may pass to this tenant from another: the policy names nobody else for it, or
    /// lets slots be shared.
    pub(crate) fn may_change_tenant(&self, tenant: &str, account: &str) -> bool {
        let mut holders = self
            .tenants
            .iter()
            .filter(|entry| entry.holds_slot(account));
        let bound =
            holders.next().is_some_and(|only| only.name == tenant) && holders.next().is_none();
        bound || self.session.share_slots
    }

    /// The tenants that a slot is named for.
    pub(crate) fn tenants_of_slot(&self, account: &str) -> Vec<String> {
        let holders = self
            .tenants
            .iter()
            .filter(|entry| entry.holds_slot(account));
        holders.map(|entry| entry.name.clone()).collect()
    }

    /// Whether the order's tenant may have what the order asks for.
    pub(super) fn permit_tenant(&self, order: &Order, account: &str) -> Result<(), Refusal> {
        let Some(entry) = self.tenant(&order.tenant)? else {
            return Ok(());
        };
        self.permit_slot(&order.tenant, account)?;
        let whose = |what: &str, name: &str| {
            format!(
                "{what} {name:?} is not one of tenant {:?} on this host; its [[tenant]] entry decides",
                entry.name
            )
        };
        if let Some(publisher) = order.publisher.as_ref().and_then(|id| self.publisher(id))
            && !entry.publishers.contains(&publisher.name)
        {
            let detail = whose("publisher", &publisher.name);
            return Err(refuse("PUBLISHER_NOT_OF_TENANT", detail));
        }
        let mut secrets = order.secrets.iter().chain(&order.account_secret);
        if let Some(name) = secrets.find(|name| !entry.grants_secret(name)) {
            return Err(refuse("SECRET_NOT_OF_TENANT", whose("secret", name)));
        }
        if !entry.networks.contains(&order.profiles.network) {
            let detail = whose("network profile", &order.profiles.network);
            return Err(refuse("NETWORK_NOT_OF_TENANT", detail));
        }
        if !entry.sandboxes.contains(&order.profiles.sandbox) {
            let detail = whose("sandbox profile", &order.profiles.sandbox);
            return Err(refuse("PROFILE_NOT_OF_TENANT", detail));
        }
        Ok(())
    }
}

pub(super) fn check(policy: &Policy) -> Result<(), PolicyError> {
    let mut seen = BTreeSet::new();
    for (number, tenant) in policy.tenants.iter().enumerate() {
        let bad = |field: &str, reason: String| PolicyError::Value {
            key: format!("tenant[{number}].{field}"),
            reason,
        };
        let printable = !tenant.name.chars().any(char::is_control);
        if tenant.name.is_empty() || tenant.name.len() > LONGEST_NAME || !printable {
            return Err(bad(
                "name",
                format!("write 1 to {LONGEST_NAME} printable bytes"),
            ));
        }
        if !seen.insert(&tenant.name) {
            return Err(bad("name", format!("{:?} stands twice", tenant.name)));
        }
        known(&tenant.slots, |name| policy.slot(name).is_some())
            .map_err(|name| bad("slots", format!("{name:?} is no account of a [[slot]]")))?;
        let publisher = |name: &str| policy.publishers.iter().any(|known| known.name == name);
        known(&tenant.publishers, publisher).map_err(|name| {
            bad(
                "publishers",
                format!("{name:?} is no name of a [[publisher]]"),
            )
        })?;
        known(&tenant.networks, |name| {
            super::network::permit(policy, name).is_ok()
        })
        .map_err(|name| {
            let why = "is not in network.profiles and no name of a [[network.profile]]";
            bad("networks", format!("{name:?} {why}"))
        })?;
        known(&tenant.secrets, is_pattern).map_err(|name| {
            bad(
                "secrets",
                format!("{name:?}: write a name, or a name that ends in /*"),
            )
        })?;
    }
    if policy.tenants.len() > MOST_TENANTS {
        return Err(PolicyError::Value {
            key: "tenant".into(),
            reason: format!("at most {MOST_TENANTS} tenants are accepted"),
        });
    }
    Ok(())
}

fn known(names: &[String], is_known: impl Fn(&str) -> bool) -> Result<(), &String> {
    match names.iter().find(|name| !is_known(name)) {
        Some(unknown) => Err(unknown),
        None => Ok(()),
    }
}

fn is_pattern(text: &str) -> bool {
    let name = text.strip_suffix("/*").unwrap_or(text);
    !name.is_empty() && !name.contains('*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"
        [[slot]]
        account = "robot01"
        attendant = "robotd-a01"
        [[slot]]
        account = "robot02"
        attendant = "robotd-a02"
        [[tenant]]
        name = "acme"
        slots = ["robot01"]
        secrets = ["erp/*", "mail"]
        [[tenant]]
        name = "globex"
        slots = ["robot01", "robot02"]
    "#;

    #[test]
    fn a_secret_is_granted_by_its_name_or_by_what_it_lies_below() {
        let policy = Policy::parse(POLICY).unwrap();
        let acme = policy.tenant("acme").unwrap().unwrap();
        for (name, granted) in [
            ("erp/user", true),
            ("erp/a/b", true),
            ("mail", true),
            ("erp", false),
            ("erp/", false),
            ("erpx", false),
            ("mail2", false),
            ("crm/user", false),
        ] {
            assert_eq!(acme.grants_secret(name), granted, "{name}");
        }
    }

    #[test]
    fn with_entries_an_unlisted_tenant_gets_nothing() {
        let policy = Policy::parse(POLICY).unwrap();
        let code =
            |tenant: &str, slot: &str| policy.permit_slot(tenant, slot).err().map(|e| e.code);
        assert_eq!(
            code("initech", "robot01").as_deref(),
            Some("TENANT_NOT_ALLOWED")
        );
        assert_eq!(
            code("acme", "robot02").as_deref(),
            Some("SLOT_NOT_OF_TENANT")
        );
        assert_eq!(code("acme", "robot01"), None);
        let open = Policy::parse("").unwrap();
        assert!(open.permit_slot("anybody", "robot01").is_ok());
    }

    #[test]
    fn a_slot_changes_tenant_only_where_the_policy_names_one_or_shares() {
        let policy = Policy::parse(POLICY).unwrap();
        assert!(policy.may_change_tenant("globex", "robot02"));
        assert!(
            !policy.may_change_tenant("globex", "robot01"),
            "named for two"
        );
        assert!(
            !Policy::parse("")
                .unwrap()
                .may_change_tenant("acme", "robot01")
        );
        let shared = Policy::parse("[session]\nshare-slots = true\n").unwrap();
        assert!(shared.may_change_tenant("acme", "robot01"));
    }

    #[test]
    fn names_that_nothing_stands_behind_are_refused_by_their_key() {
        let key = |text: &str| match Policy::parse(&format!("{POLICY}{text}")) {
            Err(PolicyError::Value { key, .. }) => key,
            other => panic!("{other:?}"),
        };
        let third = "[[tenant]]\nname = \"initech\"\nslots = []\n";
        assert_eq!(
            key("[[tenant]]\nname = \"acme\"\nslots = []\n"),
            "tenant[2].name"
        );
        assert_eq!(
            key("[[tenant]]\nname = \"\"\nslots = []\n"),
            "tenant[2].name"
        );
        assert_eq!(
            key("[[tenant]]\nname = \"x\"\nslots = [\"root\"]\n"),
            "tenant[2].slots"
        );
        assert_eq!(
            key(&format!("{third}publishers = [\"who\"]\n")),
            "tenant[2].publishers"
        );
        assert_eq!(
            key(&format!("{third}networks = [\"all\"]\n")),
            "tenant[2].networks"
        );
        assert_eq!(
            key(&format!("{third}secrets = [\"*\"]\n")),
            "tenant[2].secrets"
        );
    }
}
