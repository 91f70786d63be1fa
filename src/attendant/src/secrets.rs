//! Which secrets the bot may have, who waits for one, and how long.
//!
//! Values never stay here: they are registered at the masks, answered, overwritten.

use std::collections::BTreeSet;
use std::time::Duration;

use privsep::Refusal;

/// How long a bot waits for a secret, also while no robotd is connected.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the bot asked for and has not got.
#[derive(Debug)]
pub(crate) struct Secrets {
    granted: BTreeSet<String>,
    waiting: Vec<Waiting>,
    /// Given out by a lost attendant and not known here yet.
    unknown: BTreeSet<String>,
}

#[derive(Debug)]
struct Waiting {
    name: String,
    connection: u64,
    until: Duration,
}

impl Secrets {
    pub(crate) fn new(granted: Vec<String>, given: Vec<String>) -> Self {
        Self {
            granted: granted.into_iter().collect(),
            waiting: Vec::new(),
            unknown: given.into_iter().collect(),
        }
    }

    /// The bot knows secrets that could not be masked now: its output has to wait.
    pub(crate) fn is_blind(&self) -> bool {
        !self.unknown.is_empty()
    }

    /// A call for a secret. Whether it has to be asked for: once for all who wait.
    pub(crate) fn ask(
        &mut self,
        name: &str,
        connection: u64,
        now: Duration,
    ) -> Result<bool, Refusal> {
        if !self.granted.contains(name) {
            let detail = format!(
                "the job was not given a secret {name:?}; grant it when the job is submitted"
            );
            return Err(Refusal::new("SECRET_NOT_GRANTED", detail));
        }
        let first = !self.waiting.iter().any(|waiting| waiting.name == name);
        self.waiting.push(Waiting {
            name: name.to_owned(),
            connection,
            until: now + PATIENCE,
        });
        Ok(first)
    }

    /// All names that somebody waits for, for a robotd that has just connected.
    pub(crate) fn wanted(&self) -> BTreeSet<String> {
        self.waiting
            .iter()
            .map(|waiting| waiting.name.clone())
            .collect()
    }

    /// It is masked from now on.
    pub(crate) fn masked(&mut self, name: &str) {
        self.unknown.remove(name);
    }

    /// It came, or a refusal: who waited for it.
    pub(crate) fn arrived(&mut self, name: &str) -> Vec<u64> {
        self.take(|waiting| waiting.name == name)
    }

    /// Who has waited long enough.
    pub(crate) fn overdue(&mut self, now: Duration) -> Vec<u64> {
        self.take(|waiting| waiting.until <= now)
    }

    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.waiting.iter().map(|waiting| waiting.until).min()
    }

    fn take(&mut self, chosen: impl Fn(&Waiting) -> bool) -> Vec<u64> {
        let (taken, left) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(chosen);
        self.waiting = left;
        let taken: Vec<Waiting> = taken;
        taken
            .into_iter()
            .map(|waiting| waiting.connection)
            .collect()
    }
}

/// To a bot that waited in vain.
pub(crate) fn unavailable() -> Refusal {
    let detail = format!(
        "the secret did not come within {} s; the agent or the orchestrator is not there",
        PATIENCE.as_secs()
    );
    Refusal::new("SECRET_UNAVAILABLE", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn secrets() -> Secrets {
        Secrets::new(vec!["erp".into(), "mail".into()], vec!["old".into()])
    }

    #[test]
    fn a_secret_is_asked_for_once_and_comes_to_all_who_wait() {
        let mut secrets = secrets();
        assert_eq!(secrets.ask("erp", 1, NOW), Ok(true));
        assert_eq!(secrets.ask("erp", 2, NOW), Ok(false));
        assert_eq!(secrets.ask("mail", 3, NOW), Ok(true));
        assert_eq!(secrets.arrived("erp"), [1, 2]);
        assert_eq!(secrets.wanted(), BTreeSet::from(["mail".to_owned()]));
    }

    #[test]
    fn what_was_not_granted_is_refused() {
        assert_eq!(
            secrets().ask("root", 1, NOW).unwrap_err().code,
            "SECRET_NOT_GRANTED"
        );
    }

    #[test]
    fn nobody_waits_for_ever() {
        let mut secrets = secrets();
        secrets.ask("erp", 1, NOW).unwrap();
        assert_eq!(secrets.next_deadline(), Some(NOW + PATIENCE));
        assert!(secrets.overdue(NOW).is_empty());
        assert_eq!(secrets.overdue(NOW + PATIENCE), [1]);
        assert_eq!(secrets.next_deadline(), None);
    }

    #[test]
    fn output_waits_until_all_that_was_given_before_can_be_masked() {
        let mut secrets = secrets();
        assert!(secrets.is_blind());
        assert!(secrets.arrived("old").is_empty());
        assert!(secrets.is_blind());
        secrets.masked("old");
        assert!(!secrets.is_blind());
    }
}
