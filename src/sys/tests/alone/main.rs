//! Claims that change the process that makes them: namespaces, users, capabilities, mounts.
//!
//! Each runs in a forked child of this program, which has one thread and needs root.
//! `cargo test -p sys --test alone -- NAME` runs those whose name holds NAME.

#![expect(
    clippy::unwrap_used,
    reason = "these are tests; their harness is our own, which clippy does not see"
)]

mod claims;
mod identity;
mod mounts;
mod processes;
mod remove;
mod volumes;

use std::panic::catch_unwind;
use std::process::ExitCode;

use sys::process::{Exit, Fork, Namespaces, end_now, fork};

/// A name and what must not panic.
pub(crate) type Claim = (&'static str, fn());

fn main() -> ExitCode {
    let filters: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let chosen = |name: &str| {
        filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()))
    };
    let claims = [
        processes::CLAIMS,
        identity::CLAIMS,
        mounts::CLAIMS,
        remove::CLAIMS,
        volumes::CLAIMS,
    ]
    .concat();
    let claims: Vec<Claim> = claims
        .into_iter()
        .filter(|(name, _)| chosen(name))
        .collect();
    println!("\nrunning {} tests", claims.len());
    let failed: Vec<&str> = claims
        .iter()
        .filter(|claim| !holds(claim))
        .map(|(name, _)| *name)
        .collect();
    println!(
        "\ntest result: {}. {} passed; {} failed; 0 ignored {failed:?}",
        if failed.is_empty() { "ok" } else { "FAILED" },
        claims.len() - failed.len(),
        failed.len()
    );
    ExitCode::from(u8::from(!failed.is_empty()))
}

fn holds((name, claim): &Claim) -> bool {
    let exit = match fork(Namespaces::NONE, None).expect("root and a single thread") {
        Fork::Parent(child) => child.wait().expect("its end"),
        Fork::Child => end_now(u8::from(catch_unwind(claim).is_err())),
    };
    println!(
        "test {name} ... {}",
        if exit == Exit::Code(0) {
            "ok".to_owned()
        } else {
            format!("FAILED: {exit:?}")
        }
    );
    exit == Exit::Code(0)
}
