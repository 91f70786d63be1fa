//! Starting sessions and teardowns: as units where PID 1 is systemd, so that they live in
//! sandboxes and cgroups of their own; as plain programs elsewhere.

use std::path::Path;

use order::AttemptRef;
use privsep::Refusal;
use privsep::session::Backend;
use sys::process::Spawn;

use crate::broker::{Broker, Watch, Watched};
use crate::policy::BackendChoice;
use crate::work::{Job, Unit};

/// What PID 1 is, as sd_booted(3) tells it.
pub(crate) fn systemd_runs() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// The backend of this host, decided once at start. With systemd as PID 1 there is no silent
/// PAM-only session: when logind does not answer, jobs are refused.
pub(crate) fn backend(choice: BackendChoice) -> Backend {
    match choice {
        BackendChoice::Logind => Backend::Logind,
        BackendChoice::Pam => Backend::Pam,
        BackendChoice::Auto if systemd_runs() => Backend::Logind,
        BackendChoice::Auto => Backend::Pam,
    }
}

impl Broker {
    /// Starts the session of an attempt; it calls on session.sock.
    pub(crate) fn start_session(&mut self, attempt: AttemptRef) -> Result<(), Refusal> {
        if systemd_runs() {
            let unit = format!("robotd-session@{attempt}.service");
            let account = self.account_of(&attempt);
            let uid = crate::starting::account(&account, 1000)?.uid;
            self.workers.give(Job::StartUnit {
                unit,
                about: Unit::Session(attempt, uid),
            });
            return Ok(());
        }
        self.start_program(
            &["--attempt", &attempt.to_string()],
            Watch::Session(attempt),
        )
    }

    /// Starts the teardown of a slot; it calls on session.sock.
    pub(crate) fn start_teardown(&mut self, account: &str) -> Result<(), Refusal> {
        if systemd_runs() {
            let unit = format!("robotd-teardown@{account}.service");
            self.workers.give(Job::StartUnit {
                unit,
                about: Unit::Teardown(account.to_owned()),
            });
            return Ok(());
        }
        self.start_program(
            &["--teardown", account],
            Watch::Teardown(account.to_owned()),
        )
    }

    pub(crate) fn start_program(&mut self, args: &[&str], what: Watch) -> Result<(), Refusal> {
        let program = self.policy.paths.programs.join("robotd-session");
        let socket = self.policy.paths.runtime.join("session.sock");
        let spawn = args
            .iter()
            .fold(Spawn::new(&program), |spawn, arg| spawn.arg(arg));
        let started = spawn.arg("--socket").arg(socket).new_session().start();
        let process = started.map_err(|error| {
            Refusal::new(
                "SESSION_PROGRAM_FAILED",
                format!("{}: {}", program.display(), crate::text(&error)),
            )
        })?;
        self.watched.push(Watched {
            process,
            what,
            child: true,
        });
        Ok(())
    }
}
