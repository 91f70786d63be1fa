use super::*;
use order::JobId;
use proptest::prelude::*;
use uuid::Uuid;

const TTL: u64 = 120_000;
const GRACE: u64 = 5_000;
const TURN: u64 = 15_000;

fn table(licenses: u32) -> Table {
    let mut table = Table::new(TTL, GRACE, TURN);
    table.set_pool("p", licenses, 0);
    table
}

fn attempt(number: u8) -> AttemptRef {
    AttemptRef {
        job: JobId(Uuid::from_u128(u128::from(number) + 1)),
        number: 1,
    }
}

fn agent(number: u8) -> AgentId {
    AgentId(Uuid::from_u128(u128::from(number) + 1000))
}

fn ask(table: &mut Table, number: u8, now: u64) -> Answer {
    let ask = Ask {
        pool: "p",
        attempt: attempt(number),
        agent: agent(number),
        request_id: "r",
    };
    table.ask(&ask, now)
}

fn granted(answer: Answer) -> Held {
    match answer {
        Answer::Granted { held, .. } => held,
        other => panic!("not granted: {other:?}"),
    }
}

#[test]
fn the_same_attempt_gets_the_same_lease() {
    let mut table = table(1);
    let first = granted(ask(&mut table, 1, 0));
    let again = granted(ask(&mut table, 1, 10));
    assert_eq!((first.id, first.fence), (again.id, again.fence));
}

#[test]
fn a_license_is_kept_for_the_one_whose_turn_it_is() {
    let mut table = table(1);
    let first = granted(ask(&mut table, 1, 0));
    assert_eq!(
        ask(&mut table, 2, 1),
        Answer::NoneFree {
            before: 0,
            licenses: 1
        }
    );
    assert_eq!(
        ask(&mut table, 3, 2),
        Answer::NoneFree {
            before: 1,
            licenses: 1
        }
    );
    table.free(first.id);
    assert_eq!(table.turns(3), vec![("p".to_owned(), attempt(2), agent(2))]);
    assert!(matches!(
        ask(&mut table, 4, 4),
        Answer::NoneFree { before: 2, .. }
    ));
    assert!(matches!(
        ask(&mut table, 3, 4),
        Answer::NoneFree { before: 1, .. }
    ));
    assert!(granted(ask(&mut table, 2, 5)).fence > first.fence);
}

#[test]
fn who_misses_its_turn_goes_to_the_end_of_the_line() {
    let mut table = table(1);
    let first = granted(ask(&mut table, 1, 0));
    ask(&mut table, 2, 1);
    ask(&mut table, 3, 2);
    table.free(first.id);
    assert_eq!(table.turns(3)[0].1, attempt(2));
    assert_eq!(table.turns(3 + TURN)[0].1, attempt(3));
}

#[test]
fn a_lowered_number_takes_nothing_back() {
    let mut table = table(2);
    let first = granted(ask(&mut table, 1, 0));
    let second = granted(ask(&mut table, 2, 0));
    table.set_pool("p", 1, 0);
    assert!(table.renew(first.id, first.fence, agent(1), 10).is_ok());
    assert!(matches!(ask(&mut table, 3, 10), Answer::NoneFree { .. }));
    table.free(second.id);
    assert!(table.turns(11).is_empty());
    table.free(first.id);
    assert_eq!(table.turns(12).len(), 1);
}

#[test]
fn a_restored_lease_holds_for_one_more_ttl() {
    let mut before = table(1);
    let held = granted(ask(&mut before, 1, 0));
    let mut after = table(1);
    after.set_pool("p", 1, held.fence);
    after.restore(held.clone(), 1_000_000);
    assert!(after.overdue(1_000_000 + TTL).is_empty());
    assert_eq!(after.overdue(1_000_000 + TTL + GRACE).len(), 1);
    assert!(matches!(
        ask(&mut after, 2, 1_000_000),
        Answer::NoneFree { .. }
    ));
    assert!(after.renew(held.id, held.fence + 1, agent(1), 1_000_001) == Err(Denial::StaleFence));
    assert!(after.renew(held.id, held.fence, agent(2), 1_000_001) == Err(Denial::NotYours));
}

#[derive(Clone, Debug)]
enum Move {
    Ask(u8),
    Renew(u8),
    Release(u8),
    Leave(u8),
    Wait(u64),
    SetPool(u32),
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        5 => (0..6_u8).prop_map(Move::Ask),
        3 => (0..6_u8).prop_map(Move::Renew),
        2 => (0..6_u8).prop_map(Move::Release),
        1 => (0..6_u8).prop_map(Move::Leave),
        3 => (1..90_000_u64).prop_map(Move::Wait),
        1 => (0..4_u32).prop_map(Move::SetPool),
    ]
}

proptest! {
    #[test]
    fn never_more_holders_than_licenses_and_fences_only_grow(
        moves in proptest::collection::vec(moves(), 0..300)
    ) {
        let mut table = table(2);
        let (mut now, mut licenses, mut fence) = (0_u64, 2_u32, 0_u64);
        for step in moves {
            let before = table.holders("p");
            match step {
                Move::Ask(number) => {
                    if let Answer::Granted { held, new: true } = ask(&mut table, number, now) {
                        prop_assert!(held.fence > fence);
                        fence = held.fence;
                        prop_assert!(table.holders("p") <= licenses as usize);
                    }
                }
                Move::Renew(number) => {
                    if let Some(held) = table.of_attempt(attempt(number)).cloned() {
                        prop_assert!(table.renew(held.id, held.fence, agent(number), now).is_ok());
                    }
                }
                Move::Release(number) => {
                    if let Some(held) = table.of_attempt(attempt(number)).cloned() {
                        prop_assert!(table.releasable(held.id, held.fence, agent(number)).is_ok());
                        table.free(held.id);
                    }
                }
                Move::Leave(number) => table.leave_line(attempt(number)),
                Move::Wait(time) => now += time,
                Move::SetPool(count) => {
                    licenses = count;
                    table.set_pool("p", count, 0);
                }
            }
            for held in table.overdue(now) {
                table.free(held.id);
            }
            table.turns(now);
            // A lowered number may leave more holders than licenses, but never makes new ones.
            prop_assert!(table.holders("p") <= (licenses as usize).max(before));
            prop_assert!(table.fence("p") == fence);
        }
    }

    #[test]
    fn everybody_in_line_gets_a_license_in_the_end(count in 1..8_u8) {
        let mut table = table(1);
        let mut holder = granted(ask(&mut table, 0, 0));
        for number in 1..=count {
            ask(&mut table, number, 0);
        }
        for expected in 1..=count {
            table.free(holder.id);
            let turns = table.turns(1);
            prop_assert_eq!(turns[0].1, attempt(expected));
            holder = granted(ask(&mut table, expected, 2));
        }
    }
}
