//! robotd-broker: the privileged side that decides what runs on this host.
//!
//! Root, without an IP network; one thread decides, others wait for what takes time (taking a
//! package in; D-Bus). It believes neither robotd nor what a package contains: what runs is decided by the
//! orchestrator's signed order, the publisher's signature and the policy file together.
//!
//! In reading order:
//!
//! * what is allowed: `policy`, `trust`, `order_keys`, `keys`, `generation`, `attempts` (the table of requests × stages)
//! * what is kept: `record` (slots, results, started attempts), `fences`, `tenants` (whose slots), `outbox` (events), `store` (packages; `tidying` removes)
//! * what happens: `serve` (the loop), `agent_calls` → `starting` → `session_calls` → `ending`,
//!   `able` (what the host can do), `closing` (users), `limits` (that were reached), `due` (deadlines), `logins` (people on the host; `privileges` follows
//!   the journal), `network` (what a job may reach), `wiping` (volumes that their sessions could not end), and `recovery` at start
//! * with whom: `launch` (programs and units), `bus` (systemd, logind), `work` (threads), `rate`, `admin_calls` and `remains`

mod order_keys;
mod policy;
mod trust;

mod attempts;
mod fences;
mod generation;
mod keys;
mod outbox;
mod privileges;
mod record;
mod store;
mod tenants;
mod tidying;

mod able;
mod admin_calls;
mod agent_calls;
mod broker;
mod bus;
mod closing;
mod due;
mod ending;
mod launch;
mod limits;
mod logins;
mod network;
mod rate;
mod recovery;
mod remains;
mod serve;
mod session_calls;
mod starting;
mod wiping;
mod work;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

pub use policy::{Policy, PolicyError};

use privsep::explain as text;

/// Where the policy stands unless `--policy` says otherwise.
const POLICY: &str = "/etc/robotd/policy.toml";

const USAGE: &str = "\
robotd-broker - decides what runs on this host; started by its service, as root

usage: robotd-broker [--policy FILE]

  --policy FILE   the policy, owned by root and writable by nobody else
                  (default /etc/robotd/policy.toml)
  --version       print the version
";

/// sysexits(3): the command line was wrong.
const EX_USAGE: u8 = 64;
/// sysexits(3): the configuration was wrong.
const EX_CONFIG: u8 = 78;

/// Runs the broker with these arguments.
pub fn main(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let mut policy = PathBuf::from(POLICY);
    while let Some(arg) = args.next() {
        match (arg.to_str(), args.next()) {
            (Some("--policy"), Some(file)) => policy = file.into(),
            (Some("--version"), None) => {
                println!("robotd-broker {}", env!("CARGO_PKG_VERSION"));
                return ExitCode::SUCCESS;
            }
            (Some("--help"), None) => {
                print!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            _ => {
                eprint!("{USAGE}");
                return ExitCode::from(EX_USAGE);
            }
        }
    }
    match serve::run(&policy) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("robotd-broker: {}", text(&error));
            ExitCode::from(EX_CONFIG)
        }
    }
}
