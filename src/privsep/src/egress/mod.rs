//! A session and the egress of its job, over a pair that the egress inherits as descriptor 3.
//!
//! The egress listens on sockets that init made inside the job's network namespace, and connects
//! outside it. What it may reach comes in a sealed memfd.

mod address;
mod rules;

use order::NetworkUse;
use serde::{Deserialize, Serialize};

pub use address::{Kind, embedded, kind_of};
pub use rules::{Network, Ports, Rule, RuleError, Rules, Target, is_name};

/// Where redirected connections arrive inside the job's namespace. Below 1024, so that no bot can
/// take it first.
pub const REDIRECT_PORT: u16 = 15;

/// Where questions for names arrive.
pub const DNS_PORT: u16 = 53;

/// Where the HTTP proxy listens inside the namespace. Bots that know the address only by habit try
/// this one.
pub const PROXY_PORT: u16 = 3128;

/// The group of the kernel's log to which refused packets go, inside the namespace.
pub const REFUSED_GROUP: u16 = 1;

/// Largest document of [`Rules`].
pub const MAX_RULES: usize = 1 << 20;

/// What an egress is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToEgress {
    /// First message: [`Rules`] in a sealed memfd, and the netlink socket on which the kernel tells
    /// of refused packets.
    Begin,
    /// The listening sockets of one address family, sent along: redirected connections, names over
    /// UDP, names over TCP, and the proxy where the profile has one.
    Listen,
    /// All of them are there: serve. Answer: [`FromEgress::Ready`].
    Serve,
    /// The job's processes are gone. Answer: [`FromEgress::Finished`], after which it exits.
    Finish,
}

/// What an egress says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromEgress {
    /// It serves.
    Ready,
    /// Something was refused to the bot. Rate-limited.
    Denied(Denial),
    /// What has been used so far; told now and then, for a successor of one that dies.
    Used(NetworkUse),
    /// What was used in all.
    Finished(NetworkUse),
}

/// Something that was refused to the bot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// Stable code.
    pub code: String,
    /// What was asked for: protocol, name or address, port. Printable, at most [`MAX_ASKED`] bytes.
    pub asked: String,
    /// Why, one sentence.
    pub reason: String,
    /// How often since this was told last.
    pub count: u64,
}

/// Longest [`Denial::asked`].
pub const MAX_ASKED: usize = 320;

/// Peers that are counted one by one. With the rest of a report they fit a packet.
pub const MAX_PEERS: usize = 16;
