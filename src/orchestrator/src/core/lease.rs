//! The table of license leases: pure, the clock comes in.
//!
//! A license is free when its holder released it, or when `t_recv + ttl + grace`
//! has passed since its last request arrived. As the holder counts from when it
//! *sent* that request and keeps a margin, two holders at a time are impossible
//! within the drift that margin and grace cover; beyond it fences decide.
//!
//! Who finds none free waits in line. When a license comes free for the first in
//! line, a turn is announced (LeaseReady) and the license is kept for it; who does
//! not come goes to the end of the line.

use std::collections::{BTreeMap, VecDeque};

use order::{AgentId, AttemptRef, LeaseId};

/// A license in somebody's hands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) id: LeaseId,
    pub(crate) pool: String,
    pub(crate) fence: u64,
    pub(crate) attempt: AttemptRef,
    pub(crate) agent: AgentId,
    pub(crate) request_id: String,
    pub(crate) ttl_ms: u64,
    /// The server's clock at which the license is free again.
    pub(crate) free_at: u64,
}

/// Who waits for a license.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Waiting {
    attempt: AttemptRef,
    agent: AgentId,
    /// The turn was announced and is kept until then.
    turn_until: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Pool {
    licenses: u32,
    /// The last fence that was given out.
    fence: u64,
    line: VecDeque<Waiting>,
}

/// One request for a license.
#[derive(Clone, Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) pool: &'a str,
    pub(crate) attempt: AttemptRef,
    pub(crate) agent: AgentId,
    pub(crate) request_id: &'a str,
}

/// The answer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// `new` is false when the same attempt asked again.
    Granted {
        held: Held,
        new: bool,
    },
    /// In line; so many wait before, for so many licenses.
    NoneFree {
        before: usize,
        licenses: u32,
    },
    UnknownPool,
}

/// Why a renewal or a release is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denial {
    /// No such lease is held: it expired or was released.
    Gone,
    StaleFence,
    NotYours,
}

/// How a pool is used, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) pool: String,
    pub(crate) licenses: u32,
    pub(crate) held: usize,
    pub(crate) waiting: usize,
    pub(crate) fence: u64,
}

/// All pools and all leases.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    ttl_ms: u64,
    grace_ms: u64,
    turn_ms: u64,
    pools: BTreeMap<String, Pool>,
    held: BTreeMap<LeaseId, Held>,
}

impl Table {
    pub(crate) fn new(ttl_ms: u64, grace_ms: u64, turn_ms: u64) -> Self {
        Self {
            ttl_ms,
            grace_ms,
            turn_ms,
            pools: BTreeMap::new(),
            held: BTreeMap::new(),
        }
    }

    pub(crate) fn has_pool(&self, pool: &str) -> bool {
        self.pools.contains_key(pool)
    }

    /// A lowered number takes nothing back; it grants nothing until enough came back.
    pub(crate) fn set_pool(&mut self, pool: &str, licenses: u32, fence: u64) {
        let pool = self.pools.entry(pool.to_owned()).or_default();
        pool.licenses = licenses;
        pool.fence = pool.fence.max(fence);
    }

    /// Takes over a lease from before a restart: it gets one full TTL, because nobody knows what
    /// the holder was promised last.
    pub(crate) fn restore(&mut self, mut held: Held, now: u64) {
        held.free_at = now + held.ttl_ms + self.grace_ms;
        self.held.insert(held.id, held);
    }

    fn holders(&self, pool: &str) -> usize {
        self.held.values().filter(|held| held.pool == pool).count()
    }

    /// Answers a request that arrived at `now`.
    pub(crate) fn ask(&mut self, ask: &Ask<'_>, now: u64) -> Answer {
        let free_at = now + self.ttl_ms + self.grace_ms;
        if let Some(held) = self
            .held
            .values_mut()
            .find(|held| held.attempt == ask.attempt && held.pool == ask.pool)
        {
            held.free_at = free_at;
            return Answer::Granted {
                held: held.clone(),
                new: false,
            };
        }
        let holders = self.holders(ask.pool);
        let Some(pool) = self.pools.get_mut(ask.pool) else {
            return Answer::UnknownPool;
        };
        let in_line = pool
            .line
            .iter()
            .position(|waiting| waiting.attempt == ask.attempt);
        let before = in_line.unwrap_or(pool.line.len());
        let free = (pool.licenses as usize).saturating_sub(holders);
        if free <= before {
            if in_line.is_none() {
                pool.line.push_back(Waiting {
                    attempt: ask.attempt,
                    agent: ask.agent,
                    turn_until: None,
                });
            } else if let Some(waiting) = pool.line.get_mut(before) {
                waiting.turn_until = None;
            }
            return Answer::NoneFree {
                before,
                licenses: pool.licenses,
            };
        }
        if let Some(at) = in_line {
            pool.line.remove(at);
        }
        pool.fence += 1;
        let held = Held {
            id: LeaseId::new(),
            pool: ask.pool.to_owned(),
            fence: pool.fence,
            attempt: ask.attempt,
            agent: ask.agent,
            request_id: ask.request_id.to_owned(),
            ttl_ms: self.ttl_ms,
            free_at,
        };
        self.held.insert(held.id, held.clone());
        Answer::Granted { held, new: true }
    }

    fn find(&self, id: LeaseId, fence: u64, agent: AgentId) -> Result<&Held, Denial> {
        let held = self.held.get(&id).ok_or(Denial::Gone)?;
        if held.agent != agent {
            Err(Denial::NotYours)
        } else if held.fence != fence {
            Err(Denial::StaleFence)
        } else {
            Ok(held)
        }
    }

    /// Extends a lease by one TTL from `now`.
    pub(crate) fn renew(
        &mut self,
        id: LeaseId,
        fence: u64,
        agent: AgentId,
        now: u64,
    ) -> Result<Held, Denial> {
        self.find(id, fence, agent)?;
        let free_at = now + self.ttl_ms + self.grace_ms;
        let ttl_ms = self.ttl_ms;
        let held = self.held.get_mut(&id).ok_or(Denial::Gone)?;
        held.free_at = free_at;
        held.ttl_ms = ttl_ms;
        Ok(held.clone())
    }

    /// Whether `agent` may release this lease; [`Table::free`] does it once that is durable.
    pub(crate) fn releasable(
        &self,
        id: LeaseId,
        fence: u64,
        agent: AgentId,
    ) -> Result<Held, Denial> {
        self.find(id, fence, agent).cloned()
    }

    pub(crate) fn free(&mut self, id: LeaseId) {
        self.held.remove(&id);
    }

    pub(crate) fn of_attempt(&self, attempt: AttemptRef) -> Option<&Held> {
        self.held.values().find(|held| held.attempt == attempt)
    }

    pub(crate) fn get(&self, id: LeaseId) -> Option<&Held> {
        self.held.get(&id)
    }

    /// Leases whose time is over; the caller frees them once that is durable.
    pub(crate) fn overdue(&self, now: u64) -> Vec<Held> {
        let over = |held: &&Held| held.free_at <= now;
        self.held.values().filter(over).cloned().collect()
    }

    /// Somebody does not wait any more.
    pub(crate) fn leave_line(&mut self, attempt: AttemptRef) {
        for pool in self.pools.values_mut() {
            pool.line.retain(|waiting| waiting.attempt != attempt);
        }
    }

    /// Whose turn it is now: each is announced once, and goes to the end of the line when it
    /// does not come in time.
    pub(crate) fn turns(&mut self, now: u64) -> Vec<(String, AttemptRef, AgentId)> {
        let mut announced = Vec::new();
        let names: Vec<String> = self.pools.keys().cloned().collect();
        for name in names {
            let holders = self.holders(&name);
            let turn_until = now + self.turn_ms;
            let Some(pool) = self.pools.get_mut(&name) else {
                continue;
            };
            let missed = |waiting: &Waiting| waiting.turn_until.is_some_and(|until| until <= now);
            let (late, line): (Vec<_>, Vec<_>) = pool.line.drain(..).partition(missed);
            pool.line.extend(line);
            pool.line.extend(late.into_iter().map(|waiting| Waiting {
                turn_until: None,
                ..waiting
            }));
            let free = (pool.licenses as usize).saturating_sub(holders);
            for waiting in pool.line.iter_mut().take(free) {
                if waiting.turn_until.is_none() {
                    waiting.turn_until = Some(turn_until);
                    announced.push((name.clone(), waiting.attempt, waiting.agent));
                }
            }
        }
        announced
    }

    pub(crate) fn usage(&self) -> Vec<Usage> {
        self.pools
            .iter()
            .map(|(name, pool)| Usage {
                pool: name.clone(),
                licenses: pool.licenses,
                held: self.holders(name),
                waiting: pool.line.len(),
                fence: pool.fence,
            })
            .collect()
    }

    pub(crate) fn fence(&self, pool: &str) -> u64 {
        self.pools.get(pool).map_or(0, |pool| pool.fence)
    }

    pub(crate) fn holders_of(&self, pool: &str) -> impl Iterator<Item = &Held> {
        self.held.values().filter(move |held| held.pool == pool)
    }
}

#[cfg(test)]
mod tests;
