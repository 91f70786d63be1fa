//! What this host can do, what its policy requires of it, and what a job goes without.

use std::time::Duration;

use events::Code;
use order::{AttemptRef, SandboxPart};
use privsep::Refusal;
use privsep::abilities::Abilities;
use privsep::broker::Notice;
use privsep::session::{Sandbox, ToSession};

use crate::broker::{Broker, Watch, Who};
use crate::launch::systemd_runs;
use crate::work::{Job, Unit};

/// The unit that tries what the kernel can: the broker's own sandbox would hide the truth.
pub(crate) const PROBE_UNIT: &str = "robotd-probe.service";

/// It makes a few namespaces and mounts, also on a host under load.
const PROBE: Duration = Duration::from_secs(60);

impl Broker {
    /// Has it found out what the host can do. The answer comes by session.sock.
    pub(crate) fn probe_host(&mut self) {
        self.probe_until = Some(sys::clock::boottime() + PROBE);
        if systemd_runs() {
            self.workers.give(Job::StartUnit {
                unit: PROBE_UNIT.to_owned(),
                about: Unit::Probe,
            });
        } else if let Err(refusal) = self.start_program(&["--probe"], Watch::Probe) {
            self.probe_ended(&refusal.to_string());
        }
    }

    /// A first message on session.sock: it is told where volumes would lie.
    pub(crate) fn probe_hello(&mut self, at: usize, pid: i32) -> Result<(), Refusal> {
        self.own_process(pid, PROBE_UNIT, &Watch::Probe)?;
        self.sessions[at].who = Who::Probe;
        let store = self.policy.volume.store.display().to_string();
        self.answer_probe(at, &ToSession::Probe { store })
    }

    fn answer_probe(&self, at: usize, message: &ToSession) -> Result<(), Refusal> {
        let packet = privsep::encode(message);
        crate::broker::send(&self.sessions[at].socket, &packet, None)
            .map_err(|problem| Refusal::new("MESSAGE_MALFORMED", problem))
    }

    /// What it found.
    pub(crate) fn probed(&mut self, at: usize, abilities: Abilities) -> Result<(), Refusal> {
        self.operator(&format!("this host has {}", abilities.names().join(", ")));
        self.abilities = Some(abilities.clone());
        self.probe_until = None;
        let missing = self.missing();
        if !missing.is_empty() {
            let event = Self::event_now(Code::HostNotAble).with("missing", missing.join(", "));
            self.event(event, None);
            self.operator(&format!(
                "jobs are refused: this host lacks {} (host.require)",
                missing.join(", ")
            ));
        }
        self.notice(Notice::Abilities { abilities, missing });
        self.answer_probe(at, &ToSession::Recorded)
    }

    /// The probe ended, or is given up. One that reported is not heard of again.
    pub(crate) fn probe_ended(&mut self, reason: &str) {
        if self.probe_until.take().is_none() {
            return;
        }
        self.operator(&format!("what this host can do is not known: {reason}"));
        let event = Self::event_now(Code::HostNotProbed).with("reason", reason);
        self.event(event, None);
    }

    /// What the policy requires and the host does not have. All of it while nothing is known.
    pub(crate) fn missing(&self) -> Vec<String> {
        let nothing = Abilities::default();
        let abilities = self.abilities.as_ref().unwrap_or(&nothing);
        let required = self.policy.host.require.iter();
        let missing = required.filter(|required| !required.is_met(abilities));
        missing.map(ToString::to_string).collect()
    }

    /// Whether the host is what its policy requires.
    pub(crate) fn permit_host(&self) -> Result<(), Refusal> {
        let missing = self.missing();
        if missing.is_empty() {
            return Ok(());
        }
        let (code, why) = match self.abilities {
            Some(_) => (
                "HOST_NOT_ABLE",
                "this host lacks what its policy requires (host.require)",
            ),
            None => (
                "HOST_NOT_PROBED",
                "it is not known yet whether this host has what its policy requires (host.require)",
            ),
        };
        let detail = format!("{why}: {}", missing.join(", "));
        Err(Refusal::new(code, detail))
    }

    /// A job that goes without parts of the sandbox is told at its start.
    pub(crate) fn tell_weakened(&mut self, attempt: AttemptRef, sandbox: &Sandbox) {
        for part in &sandbox.without {
            let event = Self::event_now(Code::SandboxWeakened).with("without", part.name());
            self.event(event, Some(attempt));
        }
    }
}

/// What a result says of a job that went without parts of the sandbox.
pub(crate) fn remarks(sandbox: &Sandbox) -> Vec<String> {
    let remark = |part: &SandboxPart| {
        let name = part.name().to_uppercase().replace('-', "_");
        format!("SANDBOX_WITHOUT_{name}")
    };
    sandbox.without.iter().map(remark).collect()
}
