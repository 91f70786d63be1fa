//! Removing what a bot can build: random hostile trees, and trees that are changed while they go.
//!
//! Every `cargo test` runs some hundred trees and some thousand swaps. The whole takes about half
//! an hour; its last run is in RESULTS.md:
//!
//! ```text
//! ROBOTD_CAMPAIGN=full cargo test -p tests --test campaign        all of it
//! ROBOTD_CAMPAIGN=SEED cargo test -p tests --test campaign        the one tree of this seed
//! ```
//!
//! Each claim runs in a forked child with a mount namespace of its own: the process that removes
//! must have one thread, and what is mounted must not outlive it.

#![expect(
    clippy::unwrap_used,
    reason = "these are tests; their harness is our own, which clippy does not see"
)]

mod large;
mod place;
mod swaps;
mod tree;
mod trees;

use std::panic::catch_unwind;
use std::process::ExitCode;

use sys::process::{Exit, Fork, Namespaces, end_now, fork};

/// How much of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    Quick,
    Full,
    /// One tree only.
    Seed(u64),
}

impl Extent {
    fn chosen() -> Self {
        match std::env::var("ROBOTD_CAMPAIGN").as_deref() {
            Ok("full") => Self::Full,
            Ok(seed) => Self::Seed(seed.parse().expect("\"full\" or the number of a seed")),
            Err(_) => Self::Quick,
        }
    }

    pub(crate) fn of<T>(self, quick: T, full: T) -> T {
        if self == Self::Full { full } else { quick }
    }
}

type Claim = (&'static str, fn(Extent));

const CLAIMS: [Claim; 6] = [
    (
        "random_hostile_trees_on_tmpfs_go_and_nothing_outside_is_touched",
        trees::on_tmpfs,
    ),
    (
        "random_hostile_trees_on_ext4_go_and_nothing_outside_is_touched",
        trees::on_ext4,
    ),
    (
        "folders_swapped_for_links_on_tmpfs_lead_nowhere",
        swaps::on_tmpfs,
    ),
    (
        "folders_swapped_for_links_on_ext4_lead_nowhere",
        swaps::on_ext4,
    ),
    (
        "deep_and_wide_trees_go_with_64_descriptors",
        large::deep_and_wide,
    ),
    (
        "an_encrypted_tree_whose_key_is_gone_goes_in_place",
        large::without_key,
    ),
];

fn main() -> ExitCode {
    let filters: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let chosen = |name: &str| {
        filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()))
    };
    let claims: Vec<Claim> = CLAIMS
        .into_iter()
        .filter(|(name, _)| chosen(name))
        .collect();
    println!("\nrunning {} tests", claims.len());
    let extent = Extent::chosen();
    let failed = claims.iter().filter(|claim| !holds(claim, extent)).count();
    println!(
        "\ntest result: {}. {} passed; {failed} failed; 0 ignored",
        if failed == 0 { "ok" } else { "FAILED" },
        claims.len() - failed,
    );
    ExitCode::from(u8::from(failed > 0))
}

fn holds((name, claim): &Claim, extent: Extent) -> bool {
    let exit = match fork(Namespaces::NONE, None).expect("root and a single thread") {
        Fork::Parent(child) => child.wait().expect("its end"),
        Fork::Child => end_now(u8::from(catch_unwind(|| claim(extent)).is_err())),
    };
    let holds = exit == Exit::Code(0);
    let outcome = if holds { "ok" } else { "FAILED" };
    println!("test {name} ... {outcome}");
    holds
}
