//! What an administrator asks through robotctl. The peer is root.

use privsep::admin::{Reply, Request};
use privsep::broker::SlotState;
use privsep::session::Swept;
use privsep::{Refusal, decode, encode};
use sys::fdpass::Seqpacket;

use crate::broker::Broker;

impl Broker {
    /// One packet of robotctl; the answer may come later, so the connection is handed over.
    pub(crate) fn on_admin(&mut self, socket: Seqpacket, packet: &[u8]) {
        match decode(packet) {
            Ok(Request::Slots) => self.answer_admin(&socket, &Reply::Slots(self.slot_lines())),
            Ok(Request::Recover { account }) => self.recover_account(socket, &account),
            Ok(Request::ReleaseTenant { account }) => {
                let reply = match self.release_tenant(&account) {
                    Ok(from) => Reply::Released { from },
                    Err(refusal) => Reply::Refused(refusal),
                };
                self.answer_admin(&socket, &reply);
            }
            Ok(Request::Remains) => self.tell_remains(socket),
            Ok(Request::Trust) => {
                let reply = self.trust_shown().map_or_else(Reply::Refused, Reply::Trust);
                self.answer_admin(&socket, &reply);
            }
            Ok(Request::ApplyKeySet { signed }) => {
                let applied = self.apply_key_set(&signed);
                let reply = applied.map_or_else(Reply::Refused, Reply::Applied);
                self.answer_admin(&socket, &reply);
            }
            Err(error) => {
                self.answer_admin(
                    &socket,
                    &Reply::Refused(Refusal::new("MESSAGE_MALFORMED", error.to_string())),
                );
            }
        }
    }

    fn recover_account(&mut self, socket: Seqpacket, account: &str) {
        let refusal = match self.slot_state(account) {
            _ if self.policy.slot(account).is_none() => Some(Refusal::new(
                "ACCOUNT_NOT_ALLOWED",
                format!("{account:?} is no slot of this host's policy"),
            )),
            _ if self.recovering.contains_key(account) => Some(Refusal::new(
                "RECOVERY_RUNS",
                format!("slot {account} is being recovered already"),
            )),
            SlotState::Quarantined(_) => self.start_teardown(account).err(),
            _ => Some(Refusal::new(
                "SLOT_NOT_QUARANTINED",
                format!("slot {account} is not in quarantine"),
            )),
        };
        match refusal {
            Some(refusal) => self.answer_admin(&socket, &Reply::Refused(refusal)),
            None => {
                let deadline = sys::clock::boottime() + crate::ending::TEARDOWN;
                self.recovering
                    .insert(account.to_owned(), (socket, deadline));
            }
        }
    }

    /// Tells the administrator who waits for this slot.
    pub(crate) fn answer_recovery(&mut self, account: &str, swept: &Swept) {
        let Some((socket, _)) = self.recovering.remove(account) else {
            return;
        };
        let reply = if swept.leftovers.is_empty() {
            Reply::Recovered
        } else {
            let detail = format!(
                "slot {account} is still not clean: {}",
                swept.leftovers.join("; ")
            );
            Reply::Refused(Refusal::new("NOT_PROVEN_CLEAN", detail))
        };
        self.answer_admin(&socket, &reply);
    }

    fn answer_admin(&self, socket: &Seqpacket, reply: &Reply) {
        if let Err(problem) = crate::broker::send(socket, &encode(reply), None) {
            self.operator(&format!("robotctl's connection ended: {problem}"));
        }
    }
}
