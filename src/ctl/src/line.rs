//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Exit codes are those of sysexits.h, so that scripts can tell who has to act.
const EXIT_CODES: &str = "\
Exit codes:
  64  the command line is wrong        73  a file can't be written
  65  the token or file is bad         75  it may pass: try again
  66  the file is not there            77  only root may do this
  69  robotd, robotd-broker or the     78  the configuration is bad
      orchestrator can't be reached";

/// Administers the robot agent of this host
#[derive(Parser, Debug)]
#[command(name = "robotctl", version, after_long_help = EXIT_CODES)]
pub(crate) struct Line {
    /// Print JSON
    #[arg(long, global = true, help_heading = "For every command")]
    pub(crate) json: bool,
    /// robotd's socket
    #[arg(
        long,
        global = true,
        help_heading = "For every command",
        value_name = "SOCKET",
        default_value = "/run/robotd/control.sock"
    )]
    pub(crate) control: PathBuf,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Verb {
    /// Join an orchestrator with a one-time token (root)
    ///
    /// Pins the orchestrator's order key for robotd-broker, then has robotd make a key and
    /// ask for a certificate. Run again with the same token after an interruption, it goes on.
    #[command(verbatim_doc_comment)]
    Enroll {
        /// The file that `robot-orchestrator token create` wrote
        #[arg(long, value_name = "FILE")]
        token: PathBuf,
        /// Where robotd-broker finds the keys that it trusts
        #[arg(long, value_name = "DIR", default_value = "/etc/robotd/trust.d")]
        trust_dir: PathBuf,
    },
    /// Show how robotd is: state, link, slots, spool
    Status,
    /// List the jobs that this host holds
    Jobs,
    /// Take no new jobs; what runs is finished (root)
    Drain {
        /// Return when no job is held any more
        #[arg(long)]
        wait: bool,
    },
    /// Take jobs again (root)
    Resume,
    /// Check robotd.toml or policy.toml with the daemon's own parser
    ///
    /// A file whose name contains `policy` is read as the broker's policy, any other as
    /// robotd's configuration.
    #[command(verbatim_doc_comment)]
    Validate {
        /// The file to check
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// List, recover or release the slots of robotd-broker (root)
    Slot {
        /// robotd-broker's socket
        #[arg(
            long,
            global = true,
            value_name = "SOCKET",
            default_value = "/run/robotd-broker/admin.sock"
        )]
        admin: PathBuf,
        #[command(subcommand)]
        verb: SlotVerb,
    },
    /// List what is still on this host of jobs, how it is kept and what ends it (root)
    Remains {
        /// robotd-broker's socket
        #[arg(
            long,
            value_name = "SOCKET",
            default_value = "/run/robotd-broker/admin.sock"
        )]
        admin: PathBuf,
    },
    /// Show or change whose orders count (root)
    Trust {
        /// robotd-broker's socket
        #[arg(
            long,
            global = true,
            value_name = "SOCKET",
            default_value = "/run/robotd-broker/admin.sock"
        )]
        admin: PathBuf,
        #[command(subcommand)]
        verb: TrustVerb,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum TrustVerb {
    /// Show the order keys that robotd-broker accepts
    List,
    /// Put a newer set of order keys into force, for a host that the orchestrator does not reach
    Apply {
        /// The file that `robot-orchestrator key sign` wrote
        file: PathBuf,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum SlotVerb {
    /// List the slots
    List,
    /// Tear a quarantined slot down again and free it when it is proven clean
    Recover {
        /// The slot's account
        account: String,
    },
    /// Let a slot that is not in use pass to the next tenant
    ReleaseTenant {
        /// The slot's account
        account: String,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Line::command().debug_assert();
    }

    #[test]
    fn every_verb_can_be_typed_with_json_before_or_after_it() {
        for words in [
            vec!["robotctl", "--json", "status"],
            vec!["robotctl", "jobs", "--json"],
            vec!["robotctl", "drain", "--wait"],
            vec!["robotctl", "resume"],
            vec!["robotctl", "validate", "robotd.toml"],
            vec!["robotctl", "enroll", "--token", "t"],
            vec!["robotctl", "slot", "list", "--json"],
            vec!["robotctl", "slot", "recover", "robot01"],
            vec!["robotctl", "remains", "--json"],
            vec!["robotctl", "trust", "list"],
            vec!["robotctl", "trust", "apply", "set.json"],
            vec!["robotctl", "slot", "release-tenant", "robot01"],
        ] {
            assert!(Line::try_parse_from(&words).is_ok(), "{words:?}");
        }
        assert!(Line::try_parse_from(["robotctl", "enroll"]).is_err());
    }
}
