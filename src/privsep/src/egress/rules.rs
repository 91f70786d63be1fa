//! What a job may reach: rules as an administrator writes them, and what they match.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::address::{Kind, is_never, kind_of};

/// What one job may reach. Made by the broker from its policy; what is not in it is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// Name of the profile.
    pub profile: String,
    /// What is allowed.
    pub allow: Vec<Rule>,
    /// Networks that are not public and to which allowed names may lead.
    pub private: Vec<Network>,
    /// Who is asked for names; empty = whom the host asks.
    pub resolvers: Vec<SocketAddr>,
    /// Names and addresses of the orchestrator, which no job has any business with.
    pub orchestrator: Vec<String>,
    /// Whether the HTTP proxy is offered to the bot.
    pub proxy: bool,
    /// Connections at once.
    pub connections: u32,
}

/// One line of a profile: `HOST:PORTS`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// To whom.
    pub to: Target,
    /// At which ports.
    pub ports: Ports,
}

/// To whom a rule leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// This name.
    Name(String),
    /// Every name below this one, not itself: `*.example.com`.
    Below(String),
    /// These addresses.
    Network(Network),
}

/// Ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// First.
    pub first: u16,
    /// Last.
    pub last: u16,
}

/// Addresses with a common beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its first address.
    pub address: IpAddr,
    /// Bits that count.
    pub prefix: u8,
}

/// Why a text is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Not `HOST:PORTS`.
    #[error("write HOST:PORT or HOST:FIRST-LAST; an IPv6 address stands in brackets")]
    Shape,
    /// No port or range of ports.
    #[error("{0:?} is no port (1 to 65535), no range FIRST-LAST and not *")]
    Ports(String),
    /// No name, no `*.name` and no network.
    #[error("{0:?} is no host name, no *.name, no address and no network ADDRESS/BITS")]
    Host(String),
    /// Bits beyond the prefix are set: what was meant?
    #[error("{0}/{1} has bits beyond its prefix; write {2}")]
    Stray(IpAddr, u8, Network),
    /// A rule that would grant nothing.
    #[error(
        "{0} is never reached by a job: the host itself, its link, groups and metadata services"
    )]
    Never(Network),
}

impl Network {
    /// Whether `address` is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                mask4(own, self.prefix) == mask4(other, self.prefix)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                mask6(own, self.prefix) == mask6(other, self.prefix)
            }
            _ => false,
        }
    }

    /// Whether all of `other` is in it.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.address)
    }

    /// The last address.
    fn last(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(own) => {
                let host = u32::MAX.checked_shr(self.prefix.into()).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(own.to_bits() | host))
            }
            IpAddr::V6(own) => {
                let host = u128::MAX.checked_shr(self.prefix.into()).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(own.to_bits() | host))
            }
        }
    }

    /// Whether an administrator who wrote this meant what is in it: not one of those that span
    /// public and private addresses alike.
    #[must_use]
    pub fn is_private(&self) -> bool {
        let inside = |address| kind_of(address) == Kind::Private;
        let least = if self.address.is_ipv4() { 8 } else { 7 };
        self.prefix >= least && inside(self.address) && inside(self.last())
    }
}

fn mask4(address: Ipv4Addr, prefix: u8) -> u32 {
    let host = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
    address.to_bits() & !host
}

fn mask6(address: Ipv6Addr, prefix: u8) -> u128 {
    let host = u128::MAX.checked_shr(prefix.into()).unwrap_or(0);
    address.to_bits() & !host
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Network {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let refuse = || RuleError::Host(text.to_owned());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| refuse())?;
        // Sockets show them as IPv4, so that is how they are matched.
        if matches!(address, IpAddr::V6(own) if own.to_ipv4_mapped().is_some()) {
            return Err(refuse());
        }
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => most,
            Some(bits) if !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                bits.parse()
                    .ok()
                    .filter(|bits| *bits <= most)
                    .ok_or_else(refuse)?
            }
            Some(_) => return Err(refuse()),
        };
        let clean = Self {
            address: match address {
                IpAddr::V4(own) => IpAddr::V4(Ipv4Addr::from_bits(mask4(own, prefix))),
                IpAddr::V6(own) => IpAddr::V6(Ipv6Addr::from_bits(mask6(own, prefix))),
            },
            prefix,
        };
        if clean.address == address {
            Ok(clean)
        } else {
            Err(RuleError::Stray(address, prefix, clean))
        }
    }
}

impl Ports {
    /// Whether `port` is one of them.
    #[must_use]
    pub fn contain(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl FromStr for Ports {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let refuse = || RuleError::Ports(text.to_owned());
        let number = |text: &str| {
            let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|port| plain && *port > 0)
        };
        let (first, last) = match text.split_once('-') {
            _ if text == "*" => (Some(1), Some(u16::MAX)),
            Some((first, last)) => (number(first), number(last)),
            None => (number(text), number(text)),
        };
        match (first, last) {
            (Some(first), Some(last)) if first <= last => Ok(Self { first, last }),
            _ => Err(refuse()),
        }
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let (host, ports) = text.rsplit_once(':').ok_or(RuleError::Shape)?;
        let host = unbracketed(host)?;
        let ports = ports.parse()?;
        Ok(Self {
            to: target(&host)?,
            ports,
        })
    }
}

/// `[ADDRESS]` and `[ADDRESS]/BITS` without the brackets, which every IPv6 address has.
fn unbracketed(host: &str) -> Result<String, RuleError> {
    let Some(rest) = host.strip_prefix('[') else {
        let plain = !host.contains([':', '[', ']']);
        return plain.then(|| host.to_owned()).ok_or(RuleError::Shape);
    };
    match rest.split_once(']') {
        Some((inner, bits))
            if inner.contains(':') && (bits.is_empty() || bits.starts_with('/')) =>
        {
            Ok(format!("{inner}{bits}"))
        }
        _ => Err(RuleError::Shape),
    }
}

fn target(host: &str) -> Result<Target, RuleError> {
    let lower = host.to_ascii_lowercase();
    if let Some(below) = lower.strip_prefix("*.").filter(|below| is_name(below)) {
        return Ok(Target::Below(below.to_owned()));
    }
    // What ends in a number is an address or a mistake, never a name.
    let numeric = lower
        .rsplit('.')
        .next()
        .is_some_and(|last| last.starts_with(|c: char| c.is_ascii_digit()));
    if is_name(&lower) && !numeric {
        return Ok(Target::Name(lower));
    }
    let network: Network = host.parse()?;
    if is_never(&network) {
        return Err(RuleError::Never(network));
    }
    Ok(Target::Network(network))
}

/// A host name in lower case: letters, digits, `-` and `_` in labels of at most 63, at most 253 in all,
/// without the last dot.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte)
            })
    };
    text.len() <= 253 && text.split('.').all(label)
}

impl Rules {
    /// Whether any rule is about this name, at whatever port.
    #[must_use]
    pub fn knows_name(&self, name: &str) -> bool {
        self.allow.iter().any(|rule| rule.names(name))
    }

    /// Whether this name may be reached at this port.
    #[must_use]
    pub fn allows_name(&self, name: &str, port: u16) -> bool {
        self.allow
            .iter()
            .any(|rule| rule.names(name) && rule.ports.contain(port))
    }

    /// Whether a rule names this address, at whatever port. A rule that spans public and private
    /// addresses grants the public ones.
    #[must_use]
    pub fn knows_address(&self, address: IpAddr) -> bool {
        self.allow.iter().any(|rule| rule.grants(address))
    }

    /// Whether a rule names this address at this port.
    #[must_use]
    pub fn allows_address(&self, address: IpAddr, port: u16) -> bool {
        self.allow
            .iter()
            .any(|rule| rule.grants(address) && rule.ports.contain(port))
    }

    /// Whether an allowed name may lead to this address, at this port.
    #[must_use]
    pub fn lets_names_lead_to(&self, address: IpAddr, port: Option<u16>) -> bool {
        match kind_of(address) {
            Kind::Public => true,
            Kind::Never => false,
            Kind::Private => {
                self.private.iter().any(|network| network.contains(address))
                    || match port {
                        Some(port) => self.allows_address(address, port),
                        None => self.knows_address(address),
                    }
            }
        }
    }
}

impl Rule {
    fn names(&self, name: &str) -> bool {
        match &self.to {
            Target::Name(own) => own == name,
            Target::Below(own) => name
                .strip_suffix(own.as_str())
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
            Target::Network(_) => false,
        }
    }

    fn grants(&self, address: IpAddr) -> bool {
        let Target::Network(network) = &self.to else {
            return false;
        };
        network.contains(address)
            && match kind_of(address) {
                Kind::Public => true,
                Kind::Private => network.is_private(),
                Kind::Never => false,
            }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(allow: &[&str], private: &[&str]) -> Rules {
        Rules {
            profile: "erp".into(),
            allow: allow.iter().map(|text| text.parse().unwrap()).collect(),
            private: private.iter().map(|text| text.parse().unwrap()).collect(),
            resolvers: vec![],
            orchestrator: vec![],
            proxy: false,
            connections: 8,
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn names_match_whole_labels_and_ports_both_ends() {
        let rules = rules(&["ERP.example.com:443", "*.sap.example.com:3200-3299"], &[]);
        assert!(rules.allows_name("erp.example.com", 443));
        assert!(!rules.allows_name("erp.example.com", 80));
        assert!(rules.allows_name("a.b.sap.example.com", 3200));
        assert!(rules.allows_name("a.sap.example.com", 3299));
        assert!(!rules.allows_name("a.sap.example.com", 3300));
        for stranger in [
            "sap.example.com",
            "evilsap.example.com",
            ".sap.example.com",
            "erp.example.com.evil.net",
            "example.com",
        ] {
            assert!(!rules.knows_name(stranger), "{stranger}");
        }
    }

    #[test]
    fn a_rule_for_all_addresses_grants_no_private_one() {
        let rules = rules(
            &["0.0.0.0/0:443", "[::]/0:443", "10.20.0.0/16:1433"],
            &["192.168.7.0/24"],
        );
        assert!(rules.allows_address(ip("8.8.8.8"), 443));
        assert!(rules.allows_address(ip("2606:4700::1111"), 443));
        assert!(!rules.allows_address(ip("10.9.0.1"), 443));
        assert!(!rules.allows_address(ip("fd01::1"), 443));
        assert!(rules.allows_address(ip("10.20.3.4"), 1433));
        assert!(!rules.allows_address(ip("10.20.3.4"), 443));
        for never in ["127.0.0.1", "169.254.169.254", "::1", "fd00:ec2::254"] {
            assert!(!rules.allows_address(ip(never), 443), "{never}");
            assert!(!rules.lets_names_lead_to(ip(never), None), "{never}");
        }
        assert!(rules.lets_names_lead_to(ip("192.168.7.9"), Some(443)));
        assert!(!rules.allows_address(ip("192.168.7.9"), 443));
        assert!(!rules.lets_names_lead_to(ip("192.168.8.9"), None));
        assert!(rules.lets_names_lead_to(ip("10.20.3.4"), Some(1433)));
        assert!(!rules.lets_names_lead_to(ip("10.20.3.4"), Some(443)));
    }

    #[test]
    fn what_can_not_be_meant_is_refused() {
        let bad = [
            "erp.example.com",
            "erp.example.com:",
            ":443",
            "erp.example.com:0",
            "erp.example.com:65536",
            "erp.example.com:9-8",
            "erp.example.com:+1",
            "https://erp:443",
            "*:443",
            "*.*.com:443",
            "a..b:1",
            "-a.b:1",
            "10.0.0.1/8:1",
            "10.0.0.0/33:1",
            "10.0.0.0/:1",
            "10.0.0.256:1",
            "2001:db8::1:443",
            "[10.0.0.1]:443",
            "[2001:db8::1:443",
            "[::ffff:10.0.0.1]:1",
            "127.0.0.1:80",
            "[::1]:80",
            "169.254.169.254:80",
            "169.254.0.0/16:*",
            "bücher.example:443",
            "a b:1",
        ];
        for text in bad {
            assert!(text.parse::<Rule>().is_err(), "{text}");
        }
        let good = [
            "a:1",
            "a_b.c-d:*",
            "10.0.0.0/8:1-65535",
            "[fd00::]/8:22",
            "[2001:db8::1]:443",
            "1.2.3.4:5",
            "0.0.0.0/0:443",
        ];
        for text in good {
            assert!(
                text.parse::<Rule>().is_ok(),
                "{text}: {:?}",
                text.parse::<Rule>()
            );
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_no_rule_ever_grants_what_is_never_reached(text in "[a-z0-9*.:/\\[\\]-]{1,24}", bits in any::<u32>(), port in 1_u16..) {
            if let Ok(rule) = text.parse::<Rule>() {
                let rules = Rules { allow: vec![rule], ..rules(&["0.0.0.0/0:*", "[::]/0:*"], &["10.0.0.0/8"]) };
                for address in [IpAddr::V4(Ipv4Addr::from_bits(bits)), IpAddr::V4(Ipv4Addr::from_bits((bits % (1 << 24)) | 0x7f00_0000))] {
                    if kind_of(address) == Kind::Never {
                        prop_assert!(!rules.allows_address(address, port) && !rules.lets_names_lead_to(address, Some(port)));
                    }
                }
            }
        }
    }
}
