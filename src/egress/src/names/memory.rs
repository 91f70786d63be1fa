//! Answers for as long as they hold, and which names led to an address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Answer, Family};

/// Answers that are kept, and pairs of name and address: as many as a bot can make us keep.
const ANSWERS: usize = 512;
const LED: usize = 4096;

/// A pair of name and address counts at least so long: clients keep addresses longer than they should.
const LEAST: Duration = Duration::from_secs(600);
/// And is known so much longer, as one to be asked for again.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// A name that led to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remembered {
    pub(crate) name: Arc<str>,
}

/// What one job's names led to.
#[derive(Debug, Default)]
pub(super) struct Memory {
    answers: HashMap<(String, Family), (Answer, Instant)>,
    /// By address and name: until when it counts.
    led: HashMap<(IpAddr, Arc<str>), Instant>,
}

impl Memory {
    /// An answer that still holds, with what is left of its time.
    pub(super) fn answer(&self, name: &str, family: Family, now: Instant) -> Option<Answer> {
        let (answer, until) = self.answers.get(&(name.to_owned(), family))?;
        let ttl = until
            .checked_duration_since(now)
            .filter(|left| !left.is_zero())?;
        let addresses = answer.addresses.clone();
        Some(Answer { addresses, ttl })
    }

    pub(super) fn keep(&mut self, name: &str, family: Family, answer: Answer, now: Instant) {
        if self.answers.len() >= ANSWERS {
            self.answers.retain(|_, (_, until)| *until > now);
        }
        if self.answers.len() < ANSWERS {
            let until = now + answer.ttl;
            self.answers
                .insert((name.to_owned(), family), (answer, until));
        }
    }

    /// `name` led to these addresses.
    pub(super) fn lead(&mut self, name: &str, addresses: &[IpAddr], ttl: Duration, now: Instant) {
        let name: Arc<str> = name.into();
        for address in addresses {
            if self.led.len() >= LED {
                self.forget(now);
            }
            let until = now + ttl.max(LEAST);
            self.led
                .insert((address.to_canonical(), Arc::clone(&name)), until);
        }
    }

    /// Room for more: what is out of date, and if nothing is, what will be next.
    fn forget(&mut self, now: Instant) {
        let before = self.led.len();
        self.led.retain(|_, until| *until > now);
        if self.led.len() == before {
            let next = self.led.iter().min_by_key(|(_, until)| **until);
            if let Some(pair) = next.map(|(pair, _)| pair.clone()) {
                self.led.remove(&pair);
            }
        }
    }

    pub(super) fn leading_to(&self, address: IpAddr, now: Instant) -> Vec<Remembered> {
        let hits = self
            .led
            .iter()
            .filter(|((to, _), until)| *to == address && **until > now);
        hits.map(|((_, name), _)| Remembered {
            name: Arc::clone(name),
        })
        .collect()
    }

    /// Names that led to an address once and have to be asked for again. They are forgotten here: who
    /// still leads there is remembered anew.
    pub(super) fn stale(&mut self, address: IpAddr, now: Instant) -> Vec<Arc<str>> {
        let mut found = Vec::new();
        self.led.retain(|(to, name), until| {
            let stale = *to == address && *until <= now;
            if stale && now < *until + STALE {
                found.push(Arc::clone(name));
            }
            !stale
        });
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(1_000);

    fn ip(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    #[test]
    fn a_name_counts_for_its_addresses_as_long_as_its_answer_holds_and_then_is_asked_again() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        memory.lead("erp.example.com", &[ip(1), ip(2)], TTL, now);
        assert_eq!(memory.leading_to(ip(1), now).len(), 1);
        assert!(memory.leading_to(ip(3), now).is_empty());
        let later = now + TTL;
        assert!(memory.leading_to(ip(1), later).is_empty());
        assert_eq!(memory.stale(ip(1), later), vec!["erp.example.com".into()]);
        assert!(memory.stale(ip(1), later).is_empty(), "asked for once");
        assert_eq!(
            memory.leading_to(ip(2), now).len(),
            1,
            "another address of it stays"
        );
    }

    #[test]
    fn an_answer_holds_for_its_time_and_tells_what_is_left() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        let answer = Answer {
            addresses: vec![ip(1)],
            ttl: TTL,
        };
        memory.keep("a.example", Family::V4, answer, now);
        let half = memory
            .answer("a.example", Family::V4, now + TTL / 2)
            .unwrap();
        assert_eq!(half.ttl, TTL / 2);
        assert_eq!(memory.answer("a.example", Family::V6, now), None);
        assert_eq!(memory.answer("a.example", Family::V4, now + TTL), None);
    }

    #[test]
    fn a_flood_of_names_and_addresses_takes_bounded_memory() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        for number in 0..5_000 {
            let name = format!("{number}.example");
            memory.lead(&name, &[ip(number)], TTL, now);
            memory.keep(
                &name,
                Family::V4,
                Answer {
                    addresses: vec![],
                    ttl: TTL,
                },
                now,
            );
        }
        assert!(memory.led.len() <= LED && memory.answers.len() <= ANSWERS);
        assert_eq!(
            memory.leading_to(ip(4_999), now).len(),
            1,
            "the newest is known"
        );
    }
}
