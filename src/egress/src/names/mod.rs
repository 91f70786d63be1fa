//! Names: what the bot may ask, whom the host asks for it, and which address was reached by which name.
//!
//! * `message`: the wire format, in and out
//! * `upstream`: asking the host's resolvers; `files`: what the host itself knows
//! * `memory`: answers, and the names that led to an address
//! * `stub`: the resolver that the bot sees

mod files;
mod memory;
mod message;
mod stub;
mod upstream;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use crate::denials::Denied;
use crate::gate::Gate;
use memory::Memory;
pub(crate) use memory::Remembered;
pub(crate) use message::Family;
pub(crate) use stub::{serve_datagrams, serve_streams};
use upstream::Found;

/// Questions to the host's resolvers under way at once.
const ASKED_AT_ONCE: usize = 32;

/// How often the orchestrator's addresses are looked up anew, when somebody connects at all.
const ORCHESTRATOR: Duration = Duration::from_secs(300);

/// Addresses of a name, all of which the gate let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) ttl: Duration,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// All that it leads to is refused.
    Denied(Denied),
    /// There is no such name.
    Unknown,
    /// Nobody who was asked answered.
    Failed,
}

/// The names of one job.
#[derive(Debug)]
pub(crate) struct Names {
    gate: Arc<Gate>,
    memory: Mutex<Memory>,
    asking: Semaphore,
    orchestrator: Mutex<Option<Instant>>,
}

impl Names {
    pub(crate) fn new(gate: Arc<Gate>) -> Self {
        Self {
            gate,
            memory: Mutex::default(),
            asking: Semaphore::new(ASKED_AT_ONCE),
            orchestrator: Mutex::default(),
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks up a name that the gate allows. Addresses that it does not let through are left out, and
    /// what they were is said when none is left.
    pub(crate) async fn look_up(&self, name: &str, family: Family) -> Result<Answer, NoAnswer> {
        let known = self.memory().answer(name, family, Instant::now());
        let found = match known {
            Some(known) => Found::Addresses(known.addresses, known.ttl),
            None => self.ask(name, family).await,
        };
        let (addresses, ttl) = match found {
            Found::Addresses(addresses, ttl) => (addresses, ttl),
            Found::NoName => return Err(NoAnswer::Unknown),
            Found::Nothing => return Err(NoAnswer::Failed),
        };
        self.learn_orchestrator().await;
        // Each time anew: what is allowed of an address depends on more than the answer.
        let mut denied = None;
        let passes = |address: &IpAddr| match self.gate.led_to(*address, None) {
            Ok(()) => true,
            Err(reason) => {
                denied = Some(reason);
                false
            }
        };
        let passed: Vec<IpAddr> = addresses.into_iter().filter(passes).collect();
        match denied {
            // A family that this host has no route for is as good as none.
            Some(denied) if passed.is_empty() && denied.code != "NO_ROUTE" => {
                return Err(NoAnswer::Denied(denied));
            }
            _ => {}
        }
        self.memory().lead(name, &passed, ttl, Instant::now());
        Ok(Answer {
            addresses: passed,
            ttl,
        })
    }

    async fn ask(&self, name: &str, family: Family) -> Found {
        let Ok(_turn) = self.asking.acquire().await else {
            return Found::Nothing;
        };
        let found = upstream::look_up(name, family, &self.gate.rules().resolvers).await;
        if let Found::Addresses(addresses, ttl) = &found {
            let answer = Answer {
                addresses: addresses.clone(),
                ttl: *ttl,
            };
            self.memory().keep(name, family, answer, Instant::now());
        }
        found
    }

    /// The names that led to an address. One that is out of date is asked for again, so that a
    /// client that keeps addresses is refused only when its name leads elsewhere now.
    pub(crate) async fn leading_to(&self, address: IpAddr) -> Vec<Remembered> {
        let address = address.to_canonical();
        self.learn_orchestrator().await;
        let stale = self.memory().stale(address, Instant::now());
        for name in stale {
            // What it leads to now is remembered by the look-up.
            let _ = self.look_up(&name, Family::of(address)).await;
        }
        self.memory().leading_to(address, Instant::now())
    }

    /// Where the orchestrator is: no job has any business there.
    pub(crate) async fn learn_orchestrator(&self) {
        let now = Instant::now();
        {
            let mut last = self
                .orchestrator
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if last.is_some_and(|at| now.duration_since(at) < ORCHESTRATOR) {
                return;
            }
            *last = Some(now);
        }
        let rules = self.gate.rules();
        let names = rules
            .orchestrator
            .iter()
            .filter(|name| name.parse::<IpAddr>().is_err());
        for name in names {
            for family in [Family::V4, Family::V6] {
                let found = upstream::look_up(name, family, &rules.resolvers).await;
                if let Found::Addresses(addresses, _) = found {
                    self.gate.learn_orchestrator(&addresses);
                }
            }
        }
    }
}
