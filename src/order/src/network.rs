//! What a job used of the network, as the broker signs it.

use serde::{Deserialize, Serialize};

/// What a job used of the network, as its egress counted it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct NetworkUse {
    /// Name of the profile.
    pub profile: String,
    /// Connections that came about.
    pub connections: u64,
    /// Bytes from the bot.
    pub bytes_sent: u64,
    /// Bytes to the bot.
    pub bytes_received: u64,
    /// What was refused: connections, names, packets.
    pub refused: u64,
    /// With whom, those with the most bytes first.
    pub peers: Vec<PeerUse>,
    /// Peers that are not in the list; what went to them is in the sums.
    pub more_peers: u64,
}

/// What went to one peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PeerUse {
    /// The name under which the bot knows it; empty when it asked by address.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// Connections.
    pub connections: u64,
    /// Bytes from the bot.
    pub bytes_sent: u64,
    /// Bytes to the bot.
    pub bytes_received: u64,
}
