//! Whether something may be reached. One place: connections, names and the proxy all ask here.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use privsep::egress::{Kind, Network, Rules, Target, kind_of};
use sys::net::{Leads, Routes};

use crate::denials::Denied;
use crate::names::Remembered;

/// Rules, and what only the kernel knows.
#[derive(Debug)]
pub(crate) struct Gate {
    rules: Rules,
    routes: Mutex<Routes>,
    /// Addresses of the orchestrator, as far as they are known.
    orchestrator: Mutex<Vec<IpAddr>>,
}

/// Under which name an address may be reached; empty when a rule names the address itself.
pub(crate) type Granted = Arc<str>;

impl Gate {
    pub(crate) fn new(rules: Rules) -> Result<Self, sys::net::Error> {
        let literal = rules
            .orchestrator
            .iter()
            .filter_map(|name| name.parse().ok());
        let orchestrator = Mutex::new(literal.collect());
        let routes = Mutex::new(Routes::open()?);
        Ok(Self {
            rules,
            routes,
            orchestrator,
        })
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Addresses under which the orchestrator's name was found.
    pub(crate) fn learn_orchestrator(&self, addresses: &[IpAddr]) {
        let mut known = self
            .orchestrator
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for address in addresses {
            if !known.contains(address) && known.len() < 64 {
                known.push(*address);
            }
        }
    }

    /// A destination by address, as a redirected connection has it.
    pub(crate) fn by_address(
        &self,
        to: SocketAddr,
        remembered: &[Remembered],
    ) -> Result<Granted, Denied> {
        let (address, port) = (to.ip().to_canonical(), to.port());
        self.reachable(address)?;
        if self.rules.allows_address(address, port) {
            return Ok("".into());
        }
        let allowed = |known: &&Remembered| {
            self.rules.allows_name(&known.name, port)
                && self.rules.lets_names_lead_to(address, Some(port))
        };
        if let Some(known) = remembered.iter().find(allowed) {
            return Ok(known.name.clone());
        }
        if self.rules.knows_address(address) || !remembered.is_empty() {
            let reason = format!("profile {} allows other ports there", self.rules.profile);
            return Err(Denied::new("PORT_NOT_ALLOWED", reason));
        }
        let reason = format!(
            "no rule of profile {} names it, and no name that it allows led there",
            self.rules.profile
        );
        Err(Denied::new("ADDRESS_NOT_ALLOWED", reason))
    }

    /// A name, before it is looked up. Without a port when a resolver is asked for it.
    pub(crate) fn by_name(&self, name: &str, port: Option<u16>) -> Result<(), Denied> {
        let profile = &self.rules.profile;
        if !self.rules.knows_name(name) {
            let reason = format!("no rule of profile {profile} names it");
            return Err(Denied::new("NAME_NOT_ALLOWED", reason));
        }
        if port.is_some_and(|port| !self.rules.allows_name(name, port)) {
            let reason = format!("profile {profile} allows other ports there");
            return Err(Denied::new("PORT_NOT_ALLOWED", reason));
        }
        Ok(())
    }

    /// An address to which an allowed name leads.
    pub(crate) fn led_to(&self, address: IpAddr, port: Option<u16>) -> Result<(), Denied> {
        let address = address.to_canonical();
        self.reachable(address)?;
        if self.rules.lets_names_lead_to(address, port) {
            return Ok(());
        }
        let reason = format!(
            "the name leads to {address}, which is not public, and profile {} names no such network",
            self.rules.profile
        );
        Err(Denied::new("NAME_REBOUND", reason))
    }

    /// What no rule can grant, and what there is no way to.
    fn reachable(&self, address: IpAddr) -> Result<(), Denied> {
        let forbidden = |reason: &str| Err(Denied::new("ADDRESS_FORBIDDEN", reason));
        if kind_of(address) == Kind::Never {
            return forbidden(
                "a host's own, link-local, group and metadata addresses are never reached",
            );
        }
        let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        match routes.lead(address) {
            Ok(Leads::Outside) => {}
            Ok(Leads::Here) => {
                return forbidden("it is an address of this host, which no job reaches");
            }
            Ok(Leads::Nowhere) => {
                return Err(Denied::new("NO_ROUTE", "this host has no route to it"));
            }
            // Unknown is not allowed.
            Err(error) => return Err(Denied::new("NO_ROUTE", privsep::explain(&error))),
        }
        drop(routes);
        self.not_the_orchestrator(address)
    }

    fn not_the_orchestrator(&self, address: IpAddr) -> Result<(), Denied> {
        let known = self
            .orchestrator
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !known.contains(&address) || self.named_exactly(address) {
            return Ok(());
        }
        let reason = "it is the orchestrator's; a rule for this one address would allow it";
        Err(Denied::new("ADDRESS_FORBIDDEN", reason))
    }

    fn named_exactly(&self, address: IpAddr) -> bool {
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        let exact = Target::Network(Network { address, prefix });
        self.rules.allow.iter().any(|rule| rule.to == exact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(allow: &[&str], orchestrator: &[&str]) -> Gate {
        Gate::new(Rules {
            profile: "erp".into(),
            allow: allow.iter().map(|text| text.parse().unwrap()).collect(),
            private: vec![],
            resolvers: vec![],
            orchestrator: orchestrator.iter().map(|text| (*text).to_owned()).collect(),
            proxy: false,
            connections: 1,
        })
        .unwrap()
    }

    fn code(outcome: Result<Granted, Denied>) -> &'static str {
        outcome.map_or_else(|denied| denied.code, |_| "ok")
    }

    #[test]
    fn nothing_grants_the_host_itself_in_whatever_spelling() {
        let gate = gate(&["0.0.0.0/0:*", "[::]/0:*"], &[]);
        for own in [
            "127.0.0.1:80",
            "[::1]:80",
            "[::ffff:127.0.0.1]:80",
            "169.254.169.254:80",
            "[::ffff:169.254.169.254]:80",
            "0.0.0.0:80",
            "[64:ff9b::7f00:1]:80",
        ] {
            let outcome = gate.by_address(own.parse().unwrap(), &[]);
            assert_eq!(code(outcome), "ADDRESS_FORBIDDEN", "{own}");
        }
    }

    #[test]
    fn a_name_that_leads_to_the_host_or_to_an_unnamed_network_is_refused() {
        let gate = gate(&["erp.example.com:443"], &[]);
        assert_eq!(gate.by_name("erp.example.com", Some(443)), Ok(()));
        let refused = |address: &str| {
            gate.led_to(address.parse().unwrap(), Some(443))
                .map_err(|denied| denied.code)
        };
        assert_eq!(refused("127.0.0.1"), Err("ADDRESS_FORBIDDEN"));
        assert_eq!(refused("169.254.169.254"), Err("ADDRESS_FORBIDDEN"));
        let private = refused("10.1.2.3");
        assert!(
            matches!(
                private,
                Err("NAME_REBOUND" | "NO_ROUTE" | "ADDRESS_FORBIDDEN")
            ),
            "{private:?}"
        );
    }

    #[test]
    fn the_orchestrator_is_reached_only_by_a_rule_for_that_one_address() {
        let address = "9.9.9.9".parse().unwrap();
        let open = gate(&["9.9.9.0/24:443"], &[]);
        assert_eq!(open.not_the_orchestrator(address), Ok(()));
        open.learn_orchestrator(&[address]);
        let denied = open.not_the_orchestrator(address).unwrap_err();
        assert_eq!(denied.code, "ADDRESS_FORBIDDEN");
        let exact = gate(&["9.9.9.9:443"], &["9.9.9.9"]);
        assert_eq!(exact.not_the_orchestrator(address), Ok(()));
        let literal = gate(
            &["*.example.com:443"],
            &["9.9.9.9", "orchestrator.example.com"],
        );
        assert!(literal.not_the_orchestrator(address).is_err());
    }
}
