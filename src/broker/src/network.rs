//! The network of a job: what its profile grants, made ready for its session.

use events::Code;
use order::AttemptRef;
use privsep::Refusal;
use privsep::egress::Rules;
use privsep::session::Egress;

use crate::broker::Broker;
use crate::policy::{Network, SlotPolicy};
use crate::starting::account;
use crate::trust::Trust;

impl Broker {
    /// The way out that the job gets. No rule of a policy knows where the orchestrator is; the enrolment
    /// does.
    pub(crate) fn egress(
        &self,
        network: &Network,
        slot: &SlotPolicy,
    ) -> Result<Option<Egress>, Refusal> {
        let Network::Through(rules) = network else {
            return Ok(None);
        };
        // The policy was checked for it.
        let name = slot.egress.as_deref().unwrap_or_default();
        let mut rules = Rules::clone(rules);
        rules.orchestrator = Trust::read(&self.policy.paths)?.orchestrator;
        Ok(Some(Egress {
            account: account(name, 1)?,
            rules,
        }))
    }

    /// The one profile without a filter is worth knowing of.
    pub(crate) fn tell_of_network(&mut self, attempt: AttemptRef, account: &str) {
        let started = self
            .attempts
            .get(&attempt)
            .and_then(|held| held.started.as_ref());
        if started.is_some_and(|started| started.network == Network::Host) {
            let event = Self::event_now(Code::NetworkUnconfined).with("account", account);
            self.event(event, Some(attempt));
        }
    }
}
