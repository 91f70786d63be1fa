//! One held lease. Pure: time comes in, what to do comes out.

use super::terms::{SavedLease, Terms};
use crate::exchange::{Grant, LeaseRef};

/// Requests whose answers may still come. More than that are never open within one TTL.
const MAX_OPEN: usize = 16;

/// Shortest pause between two requests when it is urgent.
const URGENT_PAUSE_NS: u64 = 1_000_000_000;

/// A lease and its open requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    which: LeaseRef,
    terms: Terms,
    /// Ticks of the requests that were made and not answered, oldest first.
    open: Vec<u64>,
    lost: bool,
}

/// How the time presses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pressure {
    /// Nothing to do before this tick.
    Calm(u64),
    /// Ask now.
    Ask,
    /// It is over, or will be before anybody can answer.
    Over,
}

/// What a grant did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extension {
    /// The lease holds longer.
    Extended,
    /// An older answer: nothing changed.
    Ignored,
    /// It names no request of ours, another fence or a lease that is over.
    Denied(&'static str),
}

impl Lease {
    /// The lease of a first grant, whose request was made at `asked_ns`.
    pub(crate) fn granted(grant: &Grant, asked_ns: &[u64]) -> Result<Self, &'static str> {
        if !asked_ns.contains(&grant.ticks_ns) {
            return Err("the grant names no request of this host");
        }
        Ok(Self {
            which: LeaseRef {
                lease: grant.lease,
                fence: grant.fence,
            },
            terms: Terms {
                anchor_ns: grant.ticks_ns,
                ttl_ns: nanos(grant.ttl),
            },
            open: Vec::new(),
            lost: false,
        })
    }

    /// As it stood in the journal. Of another boot, its ticks mean nothing: it is over.
    pub(crate) fn restored(saved: &SavedLease, boot: &str) -> Self {
        Self {
            which: LeaseRef {
                lease: saved.lease,
                fence: saved.fence,
            },
            terms: Terms {
                anchor_ns: saved.anchor_ns,
                ttl_ns: saved.ttl_ns,
            },
            open: Vec::new(),
            lost: saved.boot != boot,
        }
    }

    /// For the journal.
    pub(crate) fn saved(&self, boot: &str) -> SavedLease {
        SavedLease {
            lease: self.which.lease,
            fence: self.which.fence,
            ttl_ns: self.terms.ttl_ns,
            anchor_ns: self.terms.anchor_ns,
            boot: boot.to_owned(),
        }
    }

    /// Id and fence.
    pub(crate) fn which(&self) -> LeaseRef {
        self.which
    }

    /// Whether it can still be counted on.
    pub(crate) fn holds(&self, now_ns: u64) -> bool {
        !self.lost && now_ns < self.terms.until()
    }

    /// Whether to ask for more. While the lease is calm or a request is young, it is not.
    pub(crate) fn pressure(&self, now_ns: u64) -> Pressure {
        if !self.holds(now_ns) {
            return Pressure::Over;
        }
        let next = match self.open.last() {
            None => self.terms.renew_at(),
            Some(last) => last.saturating_add(self.pause(now_ns)),
        };
        if now_ns < next {
            Pressure::Calm(next.min(self.terms.until()))
        } else {
            Pressure::Ask
        }
    }

    /// Between two requests: a sixteenth of the TTL at first, a second when it is urgent.
    fn pause(&self, now_ns: u64) -> u64 {
        if now_ns >= self.terms.urgent_at() {
            URGENT_PAUSE_NS
        } else {
            (self.terms.ttl_ns / 16).max(URGENT_PAUSE_NS)
        }
    }

    /// A request was made at this tick. Call before it is sent.
    pub(crate) fn asked(&mut self, now_ns: u64) {
        if self.open.len() == MAX_OPEN {
            self.open.remove(0);
        }
        self.open.push(now_ns);
    }

    /// An answer came. `Denied` leaves everything as it was.
    pub(crate) fn extend(&mut self, grant: &Grant, now_ns: u64) -> Extension {
        if grant.fence != self.which.fence || grant.lease != self.which.lease {
            return Extension::Denied("the grant is for another holder");
        }
        if !self.holds(now_ns) {
            return Extension::Denied("the lease was over before the answer came");
        }
        if grant.ticks_ns <= self.terms.anchor_ns {
            return Extension::Ignored;
        }
        if !self.open.contains(&grant.ticks_ns) {
            return Extension::Denied("the grant names no request of this host");
        }
        self.open.retain(|tick| *tick > grant.ticks_ns);
        self.terms = Terms {
            anchor_ns: grant.ticks_ns,
            ttl_ns: nanos(grant.ttl),
        };
        Extension::Extended
    }

    /// The orchestrator said that it is over.
    pub(crate) fn lose(&mut self) {
        self.lost = true;
    }

    /// When it ends unless it is extended.
    #[cfg(test)]
    pub(crate) fn until(&self) -> u64 {
        self.terms.until()
    }
}

fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
