//! The network of a job that may reach something: a namespace with nothing but loopback, in which every
//! address is this namespace itself and rules redirect what is for others to sockets that lead out.
//!
//! The sockets are made here and passed on: whoever listens on them never enters the namespace, and a
//! namespace without an egress leads nowhere at all. Nothing of the host's is changed: no interface, no
//! route, no rule, no sysctl.
//!
//! The rules (`rules.json`, what `nft -j` reads), chain by chain:
//!
//! * `untracked`: what the job says to itself takes no place in the kernel's table of connections
//! * `redirected`: questions for names, whomever they are for, and every TCP connection to others
//! * `leaving`: new connections beyond what a bot can mean are dropped, so that the table stays small;
//!   what was redirected and what stays inside passes; ICMP, which no bot has a socket for, is the kernel's
//!   own word on a refusal and is dropped; the rest is logged to the egress and refused

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use privsep::Refusal;
use privsep::egress::{DNS_PORT, PROXY_PORT, REDIRECT_PORT, REFUSED_GROUP};
use privsep::session::Spec;
use sys::fdpass::Seqpacket;
use sys::net::RefusedPackets;
use sys::process::{Exit, Spawn};

use crate::inner::{FromInit, say};

/// Debian's, from the package nftables.
const NFT: &str = "/usr/sbin/nft";

const RULES: &str = include_str!("rules.json");

type Step<T> = Result<T, Box<dyn std::error::Error>>;

/// Opens the network of this namespace, while init is still root, and hands its sockets to the monitor.
pub(super) fn open(spec: &Spec, monitor: &Seqpacket) -> Result<(), Refusal> {
    if spec.host_network {
        return Ok(());
    }
    let failed = |error: &dyn std::error::Error| crate::refusal("SANDBOX_FAILED", error);
    sys::net::loopback_up().map_err(|error| failed(&error))?;
    let Some(egress) = &spec.egress else {
        return Ok(());
    };
    lead_out(monitor, egress.rules.proxy).map_err(|error| {
        let detail = format!(
            "the job's network could not be built: {}",
            crate::text(error.as_ref())
        );
        Refusal::new("NETWORK_FAILED", detail)
    })
}

fn lead_out(monitor: &Seqpacket, proxy: bool) -> Step<()> {
    // The rules first: nothing is ever routed that they do not catch.
    apply()?;
    let both = sys::net::route_all_to_self()?;
    // Without it (a kernel without nfnetlink_log) packets are refused as well, and nobody is told.
    if let Ok(log) = RefusedPackets::open(REFUSED_GROUP) {
        say(monitor, &FromInit::PacketLog, &[log.as_fd()])?;
    }
    let four = listen(Ipv4Addr::LOCALHOST.into(), proxy)?;
    hand_over(monitor, &four)?;
    if both {
        hand_over(monitor, &listen(Ipv6Addr::LOCALHOST.into(), proxy)?)?;
    }
    Ok(())
}

/// All rules or none: nft makes one transaction of them.
fn apply() -> Step<()> {
    let memory = sys::memfd::sealed(c"network-rules", RULES.as_bytes())?;
    let mut rules = File::from(memory);
    rules.rewind()?;
    let spawn = Spawn::new(Path::new(NFT)).arg("-j").arg("-f").arg("-");
    let nft = spawn
        .stdin(rules.into())
        .start()
        .map_err(|error| format!("{}; install nftables", crate::text(&error)))?;
    match nft.wait()? {
        Exit::Code(0) => Ok(()),
        exit => Err(format!("{NFT} did not take the rules of the job's network: {exit:?}").into()),
    }
}

/// In the order that the egress expects.
fn listen(address: IpAddr, proxy: bool) -> Step<Vec<OwnedFd>> {
    let mut sockets: Vec<OwnedFd> = vec![
        TcpListener::bind((address, REDIRECT_PORT))?.into(),
        UdpSocket::bind((address, DNS_PORT))?.into(),
        TcpListener::bind((address, DNS_PORT))?.into(),
    ];
    if proxy {
        sockets.push(TcpListener::bind((address, PROXY_PORT))?.into());
    }
    Ok(sockets)
}

fn hand_over(monitor: &Seqpacket, sockets: &[OwnedFd]) -> Step<()> {
    let fds: Vec<_> = sockets.iter().map(|socket| socket.as_fd()).collect();
    Ok(say(monitor, &FromInit::Listening, &fds)?)
}

/// What a job's /etc/resolv.conf says when names are answered by its egress. One server, so that no
/// client waits for another.
const RESOLVER: &str = "nameserver 127.0.0.1\noptions edns0 timeout:5 attempts:2\n";

/// Puts the job's own /etc/resolv.conf in the place of the host's, below the root that is being built.
pub(super) fn resolver(root: &Path) -> Step<()> {
    let own = root.join("run/resolv.conf");
    File::create(&own)?.write_all(RESOLVER.as_bytes())?;
    // A link into /run on many hosts. Without the file the C library asks 127.0.0.1 by itself.
    let Ok(target) = std::fs::canonicalize("/etc/resolv.conf") else {
        return Ok(());
    };
    let place = root.join(target.strip_prefix("/")?);
    if target.starts_with("/run") {
        std::fs::create_dir_all(place.parent().unwrap_or(root))?;
        File::create(&place)?;
    }
    let attributes = sys::mount::Attributes::READ_ONLY;
    sys::mount::bind(&own, &place, attributes, sys::mount::Reach::One)?;
    Ok(())
}

/// Where clients find the proxy, for those that look for one.
pub(super) fn proxy_variables() -> Vec<crate::leader::Variable> {
    let proxy = format!("http://127.0.0.1:{PROXY_PORT}");
    let own = "localhost,127.0.0.1,::1";
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    vec![
        pair("HTTP_PROXY", &proxy),
        pair("HTTPS_PROXY", &proxy),
        pair("http_proxy", &proxy),
        pair("https_proxy", &proxy),
        pair("NO_PROXY", own),
        pair("no_proxy", own),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_redirect_to_the_ports_that_are_listened_on() {
        for (what, times) in [
            (format!("\"redirect\": {{ \"port\": {REDIRECT_PORT} }}"), 1),
            (format!("\"redirect\": {{ \"port\": {DNS_PORT} }}"), 1),
            (format!("\"set\": [{REDIRECT_PORT}, {DNS_PORT}]"), 1),
            (format!("\"group\": {REFUSED_GROUP},"), 1),
        ] {
            assert_eq!(RULES.matches(&what).count(), times, "{what}");
        }
    }
}
