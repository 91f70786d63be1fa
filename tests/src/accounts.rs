//! Accounts for bots, shared by all tests of a machine: a test takes as many as it needs and
//! nobody else has them meanwhile.

use std::fs::{self, File};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

/// Made by `packaging/deb/accounts create 12 rbt`.
const PREFIX: &str = "rbt";
const COUNT: usize = 12;
const LOCKS: &str = "/run/robotd-test/accounts";

/// A machine may have fewer of them.
fn exists(number: usize) -> bool {
    let account = sys::account::by_name(&format!("{PREFIX}{number:02}"));
    account.expect("accounts can be looked up").is_some()
}

/// Accounts that belong to one test until it ends.
pub struct Slots {
    taken: Vec<(usize, Flock<File>)>,
}

impl Slots {
    /// Takes `count` of them, waiting for other tests if need be.
    ///
    /// # Panics
    /// When the accounts are missing.
    pub fn take(count: usize) -> Self {
        fs::create_dir_all(LOCKS).expect("the tests run as root");
        let account =
            sys::account::by_name(&format!("{PREFIX}01")).expect("accounts can be looked up");
        assert!(
            account.is_some(),
            "no account {PREFIX}01: start the tests with tests/run.sh, which makes the accounts"
        );
        // One test at a time collects, so that two never hold half of what the other needs.
        let turn = File::create(Path::new(LOCKS).join("turn")).expect("a lock file");
        let turn = Flock::lock(turn, FlockArg::LockExclusive).expect("a lock");
        let mut taken = Vec::new();
        crate::eventually("free accounts for this test", || {
            for number in 1..=COUNT {
                if taken.len() == count {
                    break;
                }
                if taken.iter().any(|(own, _)| *own == number) || !exists(number) {
                    continue;
                }
                let file =
                    File::create(Path::new(LOCKS).join(number.to_string())).expect("a lock file");
                if let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                    taken.push((number, lock));
                }
            }
            (taken.len() == count).then_some(())
        });
        drop(turn);
        Self { taken }
    }

    /// The bots' accounts.
    pub fn accounts(&self) -> Vec<String> {
        self.taken
            .iter()
            .map(|(number, _)| format!("{PREFIX}{number:02}"))
            .collect()
    }

    /// The accounts of their jobs' egress, in the same order.
    pub fn egresses(&self) -> Vec<String> {
        self.taken
            .iter()
            .map(|(number, _)| format!("{PREFIX}-e{number:02}"))
            .collect()
    }

    /// Their attendants' accounts, in the same order.
    pub fn attendants(&self) -> Vec<String> {
        self.taken
            .iter()
            .map(|(number, _)| format!("{PREFIX}-a{number:02}"))
            .collect()
    }
}
