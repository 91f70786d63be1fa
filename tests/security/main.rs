//! Attacks on the boundaries, each named as the claim that it shows.

mod broker;
mod hostile;
mod limits;
mod local;
mod orders;
mod packages;
mod remains;
mod robotd;
mod sandbox;
mod specs;
mod store;
mod tenancy;

use std::panic::{AssertUnwindSafe, catch_unwind};

fn main() {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let claims: Vec<(&str, fn())> = [
        broker::CLAIMS,
        hostile::CLAIMS,
        limits::CLAIMS,
        local::CLAIMS,
        orders::CLAIMS,
        packages::CLAIMS,
        remains::CLAIMS,
        &sandbox::claims(),
        specs::CLAIMS,
        store::CLAIMS,
        tenancy::CLAIMS,
    ]
    .concat();
    let (mut passed, mut failed, mut filtered) = (0, 0, 0);
    println!("\nrunning {} tests", claims.len());
    for (name, claim) in claims {
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part.as_str())) {
            filtered += 1;
            continue;
        }
        match catch_unwind(AssertUnwindSafe(claim)) {
            Ok(()) => {
                passed += 1;
                println!("test {name} ... ok");
            }
            Err(_) => {
                failed += 1;
                println!("test {name} ... FAILED");
            }
        }
    }
    let outcome = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {outcome}. {passed} passed; {failed} failed; 0 ignored; 0 measured; {filtered} filtered out"
    );
    assert_eq!(failed, 0, "claims failed");
}
