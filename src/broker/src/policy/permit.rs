//! Whether the policy allows what a verified order asks for.

use std::path::PathBuf;

use order::Order;
use privsep::Refusal;

use super::ceiling::permit_limits;
use super::{Network, Policy};

/// Checks `order`, which runs under `account`, against the ceiling; returns the network that it gets.
pub(crate) fn permit_order(
    policy: &Policy,
    order: &Order,
    account: &str,
) -> Result<Network, Refusal> {
    permit_account(order, account)?;
    policy.permit_tenant(order, account)?;
    permit_publisher(policy, order, sys::clock::unix_ms())?;
    permit_limits(policy, &order.limits)?;
    policy.sandbox.permit(&order.profiles.sandbox)?;
    super::network::permit(policy, &order.profiles.network)
}

fn permit_account(order: &Order, account: &str) -> Result<(), Refusal> {
    match &order.account {
        Some(wished) if wished != account => {
            let detail = format!(
                "the order names account {wished:?}, the slot reserved for it has {account:?}"
            );
            Err(Refusal::new("ACCOUNT_NOT_ALLOWED", detail))
        }
        _ => Ok(()),
    }
}

fn permit_publisher(policy: &Policy, order: &Order, now_unix_ms: u64) -> Result<(), Refusal> {
    match &order.publisher {
        Some(id) if let Some(publisher) = policy.publisher(id) => publisher.permit(now_unix_ms),
        Some(id) => {
            let detail = format!(
                "publisher key {id} is not in this host's policy; add it under [[publisher]]"
            );
            Err(Refusal::new("PUBLISHER_NOT_ALLOWED", detail))
        }
        None if policy.packages.allow_unsigned => Ok(()),
        None => {
            let detail = "the package is not signed by a publisher; sign it with `package push --sign KEY`, \
                          or set packages.allow-unsigned = true in the policy of a host that is only for trials";
            Err(Refusal::new("PACKAGE_UNSIGNED", detail))
        }
    }
}

/// What runs an entry point: `None` = itself. A file that is not marked executable needs an
/// interpreter that the policy names by the ending.
pub(crate) fn interpreter(
    policy: &Policy,
    entry: &str,
    executable: bool,
) -> Result<Option<PathBuf>, Refusal> {
    if executable {
        return Ok(None);
    }
    let name = entry.rsplit('/').next().unwrap_or_default();
    let known = name
        .rsplit_once('.')
        .and_then(|(_, ending)| policy.interpreters.get(ending));
    match known {
        Some(path) => Ok(Some(path.clone())),
        None => {
            let detail = format!(
                "{entry:?} is not executable and this host's policy names no interpreter for it"
            );
            Err(Refusal::new("UNSUPPORTED_ENTRY", detail))
        }
    }
}
