//! What a job was submitted with.

use std::collections::BTreeMap;

use order::{Display, Limits, SandboxProfile, Screenshots, Sha256Hex};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Everything that decides what a job is; fixed when it is submitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Spec {
    pub(crate) package: Sha256Hex,
    pub(crate) package_name: String,
    pub(crate) package_bytes: u64,
    /// Key id of the signature that the package carries.
    pub(crate) publisher: Option<String>,
    pub(crate) entry: String,
    pub(crate) args: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) params: BTreeMap<String, Value>,
    pub(crate) pool: String,
    pub(crate) account: Option<String>,
    /// Name of the secret that is the account's password. Not one of `secrets`.
    pub(crate) account_secret: Option<String>,
    /// Name of a network profile of the host's policy.
    #[serde(default = "no_network")]
    pub(crate) network: String,
    pub(crate) display: Option<Display>,
    pub(crate) screenshots: Screenshots,
    pub(crate) limits: Limits,
    /// Sandbox profile.
    pub(crate) sandbox: SandboxProfile,
    pub(crate) secrets: Vec<String>,
    /// Name of the one agent that may run it.
    pub(crate) agent: Option<String>,
    pub(crate) tenant: String,
    pub(crate) data_class: String,
    pub(crate) requester: String,
    pub(crate) automation: Automation,
}

/// Loopback only: what a job gets that asks for nothing.
pub(crate) fn no_network() -> String {
    "none".to_owned()
}

/// What the people who ordered the work call it. Travels in the offer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Automation {
    pub(crate) group: String,
    pub(crate) repository: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) language: String,
    pub(crate) labels: BTreeMap<String, String>,
}

/// A submission as it comes over the admin socket: names not yet resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Submission {
    /// Digest, or name of a package: its newest version then.
    pub(crate) package: String,
    /// The manifest's entry when absent.
    pub(crate) entry: Option<String>,
    pub(crate) args: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) params: BTreeMap<String, Value>,
    pub(crate) pool: String,
    pub(crate) account: Option<String>,
    pub(crate) account_secret: Option<String>,
    pub(crate) network: String,
    pub(crate) display: Option<Display>,
    pub(crate) screenshots: Screenshots,
    pub(crate) limits: Limits,
    pub(crate) sandbox: SandboxProfile,
    pub(crate) secrets: Vec<String>,
    pub(crate) agent: Option<String>,
    pub(crate) tenant: String,
    pub(crate) data_class: String,
    pub(crate) automation: Automation,
}
