//! What this host can do, found by trying: the same calls that a job's start makes, in throw-away
//! processes with namespaces of their own, so that nothing of it stays.
//!
//! Run by the broker at its start, as a unit of its own where systemd runs: the broker's own
//! sandbox would hide the truth.

mod groups;
mod kernel;
mod volumes;

use std::path::Path;

use privsep::Refusal;
use privsep::abilities::{Abilities, Ability};
use privsep::session::{FromSession, ToSession};
use sys::fdpass::Seqpacket;
use sys::process::{Exit, Fork, Namespaces};

use crate::inner::say;

/// Tries everything and tells the broker.
pub(crate) fn run(socket: &Path) -> Result<(), Refusal> {
    let broker =
        Seqpacket::connect(socket).map_err(|error| crate::refusal("BROKER_UNREACHABLE", &error))?;
    say(&broker, &FromSession::ProbeHello, &[])?;
    let ToSession::Probe { store } = crate::teardown::answer(&broker)? else {
        return Err(unexpected());
    };
    let found = find(Path::new(&store));
    say(&broker, &FromSession::Abilities(found), &[])?;
    match crate::teardown::answer(&broker)? {
        ToSession::Recorded => Ok(()),
        _ => Err(unexpected()),
    }
}

fn unexpected() -> Refusal {
    Refusal::new("BROKER_UNREACHABLE", "the broker refused this probe")
}

fn find(store: &Path) -> Abilities {
    let kernel = [
        (Ability::Landlock, sys::ability::landlock_version()),
        (Ability::Seccomp, kernel::filters_calls().into()),
        (Ability::Mdwe, sys::process::can_deny_exec_gain().into()),
        (
            Ability::MemfdSecret,
            sys::ability::has_memfd_secret().into(),
        ),
        (Ability::UserNamespaces, kernel::user_namespaces().into()),
        (Ability::Nft, kernel::nft().into()),
        (Ability::Overlayfs, kernel::overlayfs().into()),
    ];
    let found = kernel
        .into_iter()
        .chain(groups::find())
        .chain(volumes::find(store));
    Abilities::new(found)
}

/// Whether a throw-away process in these namespaces could do this. What it did ends with it.
fn works(namespaces: Namespaces, work: impl FnOnce() -> bool) -> bool {
    match sys::process::fork(namespaces, None) {
        Ok(Fork::Parent(child)) => matches!(child.wait(), Ok(Exit::Code(0))),
        Ok(Fork::Child) => crate::leader::leave(i32::from(!work())),
        Err(_) => false,
    }
}
