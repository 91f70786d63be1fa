//! Claims about leases, for every order of events.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::exchange::{Grant, LeaseRef};
use crate::ids::{JobId, LeaseId};

const SECOND: u64 = 1_000_000_000;
const TTL: u64 = 120 * SECOND;

fn grant(which: LeaseRef, ticks_ns: u64, ttl_ns: u64) -> Grant {
    Grant {
        lease: which.lease,
        pool: "p".into(),
        job: JobId::new(),
        fence: which.fence,
        ttl: Duration::from_nanos(ttl_ns),
        ticks_ns,
        renewal: None,
    }
}

fn held(at: u64) -> Lease {
    let which = LeaseRef {
        lease: LeaseId::new(),
        fence: 7,
    };
    Lease::granted(&grant(which, at, TTL), &[at]).unwrap()
}

#[test]
fn a_grant_counts_from_the_request_however_late_it_comes() {
    let lease = held(0);
    assert!(lease.holds(117 * SECOND));
    assert!(
        !lease.holds(118 * SECOND),
        "2 s of margin and 60 ms of drift come off the end"
    );
}

#[test]
fn a_first_grant_that_names_no_request_is_no_lease() {
    let which = LeaseRef {
        lease: LeaseId::new(),
        fence: 7,
    };
    assert!(Lease::granted(&grant(which, 5, TTL), &[4, 6]).is_err());
}

#[test]
fn a_renewal_is_asked_for_at_half_time_and_each_second_when_urgent() {
    let mut lease = held(0);
    assert_eq!(lease.pressure(59 * SECOND), Pressure::Calm(60 * SECOND));
    assert_eq!(lease.pressure(60 * SECOND), Pressure::Ask);
    lease.asked(60 * SECOND);
    assert_eq!(
        lease.pressure(61 * SECOND),
        Pressure::Calm(67 * SECOND + SECOND / 2)
    );
    lease.asked(104 * SECOND);
    assert_eq!(lease.pressure(105 * SECOND), Pressure::Ask);
    lease.asked(105 * SECOND);
    assert_eq!(lease.pressure(105 * SECOND), Pressure::Calm(106 * SECOND));
    assert_eq!(lease.pressure(118 * SECOND), Pressure::Over);
}

#[test]
fn another_fence_an_unknown_request_and_an_old_answer_extend_nothing() {
    let mut lease = held(0);
    lease.asked(60 * SECOND);
    let which = lease.which();
    let before = lease.clone();
    let other = LeaseRef { fence: 8, ..which };
    assert!(matches!(
        lease.extend(&grant(other, 60 * SECOND, TTL), 61 * SECOND),
        Extension::Denied(_)
    ));
    assert!(matches!(
        lease.extend(&grant(which, 59 * SECOND, TTL), 61 * SECOND),
        Extension::Denied(_)
    ));
    assert_eq!(
        lease.extend(&grant(which, 0, TTL), 61 * SECOND),
        Extension::Ignored
    );
    assert_eq!(lease, before);
    assert_eq!(
        lease.extend(&grant(which, 60 * SECOND, TTL), 61 * SECOND),
        Extension::Extended
    );
    assert!(lease.holds(177 * SECOND));
}

#[test]
fn a_lease_that_was_over_stays_over() {
    let mut lease = held(0);
    lease.asked(60 * SECOND);
    let which = lease.which();
    assert!(matches!(
        lease.extend(&grant(which, 60 * SECOND, TTL), 119 * SECOND),
        Extension::Denied(_)
    ));
    assert_eq!(lease.pressure(119 * SECOND), Pressure::Over);
}

#[test]
fn a_lease_of_another_boot_is_over() {
    let saved = held(0).saved("this boot");
    assert!(Lease::restored(&saved, "this boot").holds(SECOND));
    assert!(!Lease::restored(&saved, "another boot").holds(SECOND));
}

#[derive(Clone, Debug)]
enum Event {
    Wait(u64),
    Ask,
    /// The n-th request is answered, as often as the network likes.
    Answer(usize),
    /// A grant that answers nothing.
    Stray(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let one = prop_oneof![
        (1..40u64).prop_map(Event::Wait),
        Just(Event::Ask),
        (0..24usize).prop_map(Event::Answer),
        (0..400u64).prop_map(Event::Stray),
    ];
    proptest::collection::vec(one, 0..80)
}

proptest! {
    /// The orchestrator frees the license `ttl` after it received a request that it answered. It
    /// can't have received one before it was made, so our end must lie within `ttl` of the latest
    /// request that was answered at all.
    #[test]
    fn the_end_never_lies_beyond_an_answered_request_plus_ttl(events in events()) {
        let mut now = 1000 * SECOND;
        let mut lease = held(now);
        let which = lease.which();
        let mut asked = vec![];
        let mut answered = now;
        for event in events {
            match event {
                Event::Wait(seconds) => now += seconds * SECOND,
                Event::Ask => {
                    now += 1;
                    lease.asked(now);
                    asked.push(now);
                }
                Event::Answer(index) => {
                    let Some(tick) = asked.get(index) else { continue };
                    answered = answered.max(*tick);
                    let before = lease.until();
                    let outcome = lease.extend(&grant(which, *tick, TTL), now);
                    prop_assert_eq!(outcome == Extension::Extended, lease.until() > before);
                }
                Event::Stray(seconds) => {
                    let tick = 1000 * SECOND + seconds * SECOND + 500;
                    let before = lease.clone();
                    prop_assert_ne!(lease.extend(&grant(which, tick, TTL), now), Extension::Extended);
                    prop_assert_eq!(&lease, &before);
                }
            }
            prop_assert!(lease.until() + 2 * SECOND <= answered + TTL);
            prop_assert_eq!(lease.pressure(now) == Pressure::Over, !lease.holds(now));
        }
    }

    #[test]
    fn no_number_of_the_wire_overflows(anchor in any::<u64>(), ttl in any::<u64>(), now in any::<u64>()) {
        let which = LeaseRef { lease: LeaseId::new(), fence: 1 };
        let mut lease = Lease::granted(&grant(which, anchor, ttl), &[anchor]).unwrap();
        lease.asked(now);
        let _ = lease.pressure(now);
        prop_assert!(lease.until() >= anchor);
    }
}
