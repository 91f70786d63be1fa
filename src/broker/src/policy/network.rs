//! What jobs may reach: profiles by name, and what each of them lets through.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use privsep::Refusal;
use privsep::egress::{self, Rule, Rules};
use serde::Deserialize;

use super::Policy;
use super::check::{PolicyError, refuse};

/// What jobs may reach.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct NetworkPolicy {
    /// Built-in profiles that orders may name: `none` (a loopback of its own, nothing else) and `host`
    /// (the host's network, unfiltered).
    pub profiles: Vec<Builtin>,
    /// Profiles of this host: what each lets through.
    #[serde(rename = "profile")]
    pub own: Vec<NetworkProfile>,
    /// Who is asked for names, ADDRESS or ADDRESS:PORT; empty = whom the host asks.
    pub resolvers: Vec<String>,
}

impl Default for NetworkPolicy {
    fn default() -> Self {
        Self {
            profiles: vec![Builtin::None],
            own: vec![],
            resolvers: vec![],
        }
    }
}

/// A profile that needs no rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Builtin {
    /// A network namespace with nothing but loopback.
    None,
    /// The host's network.
    Host,
}

/// A profile with rules: what they do not name is refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct NetworkProfile {
    /// As orders name it.
    pub name: String,
    /// `HOST:PORTS` each: a name, `*.name` for all below it, an address or a network.
    pub allow: Vec<String>,
    /// Networks that are not public and to which allowed names may lead.
    #[serde(default)]
    pub private: Vec<String>,
    /// Offer an HTTP proxy to the bot, and say so in its environment.
    #[serde(default)]
    pub proxy: bool,
    /// Connections at once.
    #[serde(default = "default_connections")]
    pub connections: u32,
}

fn default_connections() -> u32 {
    256
}

/// The network that an order gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    /// Loopback only.
    None,
    /// The host's.
    Host,
    /// Through an egress, by these rules.
    Through(Box<Rules>),
}

/// Most rules of a profile.
const MOST: usize = 1000;

pub(super) fn check(policy: &Policy) -> Result<(), PolicyError> {
    let network = &policy.network;
    for (number, text) in network.resolvers.iter().enumerate() {
        if resolver(text).is_none() {
            let reason = format!("{text:?} is no ADDRESS and no ADDRESS:PORT");
            return Err(refuse(format!("network.resolvers[{number}]"), reason));
        }
    }
    let mut seen = BTreeSet::from(["none", "host"]);
    for (number, profile) in network.own.iter().enumerate() {
        let key = |part: &str| format!("network.profile[{number}].{part}");
        if !is_profile_name(&profile.name) {
            let reason = "write a-z, 0-9 and -, at most 32 characters";
            return Err(refuse(key("name"), reason));
        }
        if !seen.insert(&profile.name) {
            let reason = format!("{} stands twice, or is built in", profile.name);
            return Err(refuse(key("name"), reason));
        }
        check_profile(profile).map_err(|(part, reason)| refuse(key(part), reason))?;
    }
    let slots = policy.slots.iter().enumerate();
    let missing = slots
        .filter(|(_, slot)| slot.egress.is_none())
        .map(|(number, _)| number)
        .next();
    match missing {
        Some(number) if !network.own.is_empty() => Err(refuse(
            format!("slot[{number}].egress"),
            "profiles with rules need an account for the egress of every slot: robotd-eNN, made by \
             /usr/libexec/robotd/accounts create N",
        )),
        _ => Ok(()),
    }
}

fn check_profile(profile: &NetworkProfile) -> Result<(), (&'static str, String)> {
    if profile.allow.is_empty() || profile.allow.len() > MOST {
        return Err((
            "allow",
            format!("write 1 to {MOST} rules; the profile none has none"),
        ));
    }
    for text in &profile.allow {
        text.parse::<Rule>()
            .map_err(|error| ("allow", format!("{text:?}: {error}")))?;
    }
    if profile.private.len() > MOST {
        return Err(("private", format!("write at most {MOST} networks")));
    }
    for text in &profile.private {
        let network: egress::Network = text
            .parse()
            .map_err(|error| ("private", format!("{text:?}: {error}")))?;
        if !network.is_private() {
            let reason = format!(
                "{network} is not inside of a private network; public addresses need no leave here"
            );
            return Err(("private", reason));
        }
    }
    if !(1..=1024).contains(&profile.connections) {
        return Err(("connections", "write 1 to 1024".to_owned()));
    }
    Ok(())
}

fn is_profile_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=32).contains(&name.len()) && name.bytes().all(plain)
}

fn resolver(text: &str) -> Option<SocketAddr> {
    let address = text
        .parse::<IpAddr>()
        .map(|address| SocketAddr::new(address, 53));
    address.ok().or_else(|| text.parse().ok())
}

/// The network that a profile of this name grants.
pub(super) fn permit(policy: &Policy, name: &str) -> Result<Network, Refusal> {
    let network = &policy.network;
    let builtin = match name {
        "none" => Some((Builtin::None, Network::None)),
        "host" => Some((Builtin::Host, Network::Host)),
        _ => None,
    };
    if let Some((_, granted)) = builtin.filter(|(builtin, _)| network.profiles.contains(builtin)) {
        return Ok(granted);
    }
    match network.own.iter().find(|profile| profile.name == name) {
        Some(profile) => Ok(Network::Through(Box::new(rules(network, profile)))),
        None => {
            let detail = format!(
                "network profile {name:?} is not in this host's policy (network.profiles, [[network.profile]])"
            );
            Err(Refusal::new("NETWORK_NOT_ALLOWED", detail))
        }
    }
}

/// Every text was checked when the policy was read; one that were no rule after all would grant nothing.
fn rules(network: &NetworkPolicy, profile: &NetworkProfile) -> Rules {
    Rules {
        profile: profile.name.clone(),
        allow: profile
            .allow
            .iter()
            .filter_map(|text| text.parse().ok())
            .collect(),
        private: profile
            .private
            .iter()
            .filter_map(|text| text.parse().ok())
            .collect(),
        resolvers: network
            .resolvers
            .iter()
            .filter_map(|text| resolver(text))
            .collect(),
        orchestrator: vec![],
        proxy: profile.proxy,
        connections: profile.connections,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOT: &str =
        "[[slot]]\naccount = \"robot01\"\nattendant = \"robotd-a01\"\negress = \"robotd-e01\"\n";

    fn key_of(profile: &str) -> String {
        let text = format!("{SLOT}[[network.profile]]\n{profile}");
        match Policy::parse(&text) {
            Ok(_) => "ok".into(),
            Err(PolicyError::Syntax(_)) => "syntax".into(),
            Err(PolicyError::Value { key, .. }) => key,
        }
    }

    #[test]
    fn a_policy_that_says_nothing_allows_loopback_only() {
        let policy = Policy::parse("").unwrap();
        assert_eq!(permit(&policy, "none"), Ok(Network::None));
        for name in ["host", "erp", "", "None"] {
            let refusal = permit(&policy, name).unwrap_err();
            assert_eq!(refusal.code, "NETWORK_NOT_ALLOWED", "{name}");
        }
    }

    #[test]
    fn a_profile_grants_its_rules_and_no_other_its() {
        let text = format!(
            "{SLOT}[network]\nresolvers = [\"10.0.0.53\", \"[fd00::1]:5353\"]\n\
             [[network.profile]]\nname = \"erp\"\nallow = [\"erp.example.com:443\", \"10.20.0.0/16:1433\"]\n\
             private = [\"10.30.0.0/16\"]\nproxy = true\n\
             [[network.profile]]\nname = \"web\"\nallow = [\"0.0.0.0/0:443\"]\n"
        );
        let policy = Policy::parse(&text).unwrap();
        let Ok(Network::Through(erp)) = permit(&policy, "erp") else {
            panic!("rules")
        };
        assert_eq!(
            (erp.allow.len(), erp.private.len(), erp.resolvers.len()),
            (2, 1, 2)
        );
        assert!(erp.proxy && erp.connections == 256);
        let Ok(Network::Through(web)) = permit(&policy, "web") else {
            panic!("rules")
        };
        assert!(!web.proxy && web.private.is_empty());
        assert!(permit(&policy, "host").is_err());
    }

    #[test]
    fn what_can_not_be_meant_is_named_by_its_key() {
        let name = "name = \"erp\"\n";
        assert_eq!(key_of(&format!("{name}allow = [\"erp:443\"]")), "ok");
        for (text, key) in [
            ("allow = []", "allow"),
            ("allow = [\"erp\"]", "allow"),
            ("allow = [\"127.0.0.1:5432\"]", "allow"),
            (
                "allow = [\"erp:443\"]\nprivate = [\"0.0.0.0/0\"]",
                "private",
            ),
            (
                "allow = [\"erp:443\"]\nprivate = [\"8.8.8.0/24\"]",
                "private",
            ),
            (
                "allow = [\"erp:443\"]\nprivate = [\"169.254.0.0/16\"]",
                "private",
            ),
            ("allow = [\"erp:443\"]\nconnections = 0", "connections"),
        ] {
            assert_eq!(
                key_of(&format!("{name}{text}")),
                format!("network.profile[0].{key}"),
                "{text}"
            );
        }
        assert_eq!(
            key_of("name = \"host\"\nallow = [\"a:1\"]"),
            "network.profile[0].name"
        );
        assert_eq!(
            key_of("name = \"a b\"\nallow = [\"a:1\"]"),
            "network.profile[0].name"
        );
        let no_egress = "[[slot]]\naccount = \"robot01\"\nattendant = \"robotd-a01\"\n[[network.profile]]\nname = \"erp\"\nallow = [\"a:1\"]";
        assert!(
            matches!(Policy::parse(no_egress), Err(PolicyError::Value { key, .. }) if key == "slot[0].egress")
        );
    }
}
