//! Orders, renewals and the keys that sign them: what was said once counts once, what was taken
//! back does not come back, and who holds no key starts nothing.

use std::os::fd::AsFd as _;

use order::{
    KeyId, KeySet, OrderKey, Outcome, Purpose, Renewal, Sha256Hex, Signed, SigningKey, VerifyingKey,
};
use privsep::broker::{Reply, Request};
use tests::{Leftovers, Options};

use crate::robotd::{Robotd, Target, connect};

/// Every claim of this file.
pub(crate) const CLAIMS: &[(&str, fn())] = &[
    (
        "orders::a_captured_order_starts_nothing_again_whatever_was_restarted",
        captured,
    ),
    (
        "orders::another_algorithm_purpose_or_encoding_is_no_signature",
        confused,
    ),
    (
        "orders::a_fence_of_a_license_starts_one_job_and_no_older_one_counts",
        fenced,
    ),
    (
        "orders::a_renewal_that_is_older_than_one_before_it_changes_nothing",
        outdated_renewal,
    ),
    (
        "orders::a_rotated_key_counts_and_a_revoked_one_never_again",
        rotated,
    ),
    (
        "orders::a_key_set_that_robotd_made_or_took_back_is_refused",
        forged_set,
    ),
    (
        "orders::a_job_under_a_revoked_key_is_ended_and_leaves_nothing",
        revoked_under_way,
    ),
];

const REFUSED: u32 = 100_203;
const KEYS_CHANGED: u32 = 100_420;
const SET_REFUSED: u32 = 100_421;

fn target() -> (Target, Robotd) {
    let target = Target::new(&Options::default());
    let robotd = connect(&target.host);
    (target, robotd)
}

fn captured() {
    let (mut target, mut robotd) = target();
    let attempt = Target::attempt();
    let challenge = robotd.reserve(attempt);
    let signed = target.sign(&target.order(attempt, challenge, Sha256Hex([1; 32])));
    assert_eq!(robotd.start(attempt, &signed), Ok(true));
    let refusal = privsep::Refusal::new("PACKAGE_UNAVAILABLE", "it never comes");
    let failed = Request::PackageFailed { attempt, refusal };
    assert_eq!(robotd.ask(failed, &[]), Reply::Done);
    assert_eq!(robotd.result(attempt).0.outcome, Outcome::NotStarted);
    assert_eq!(
        robotd.start(attempt, &signed),
        Err("ATTEMPT_STARTED".into())
    );
    assert_eq!(robotd.ask(Request::Forget { attempt }, &[]), Reply::Done);
    assert_eq!(
        robotd.start(attempt, &signed),
        Err("ATTEMPT_STARTED".into())
    );
    // Captured before it was used, and its reservation lost with the broker.
    let other = Target::attempt();
    let challenge = robotd.reserve(other);
    let unused = target.sign(&target.order(other, challenge, Sha256Hex([1; 32])));
    target.host.kill_broker();
    target.host.start_broker();
    let mut robotd = connect(&target.host);
    assert_eq!(
        robotd.start(attempt, &signed),
        Err("ATTEMPT_STARTED".into())
    );
    assert_eq!(robotd.start(other, &unused), Err("ATTEMPT_UNKNOWN".into()));
    robotd.reserve(other);
    assert_eq!(robotd.start(other, &unused), Err("ORDER_REPLAYED".into()));
    assert!(!robotd.events(REFUSED).is_empty(), "an event tells of it");
}

fn confused() {
    let (target, mut robotd) = target();
    let attempt = Target::attempt();
    let challenge = robotd.reserve(attempt);
    let order = target.order(attempt, challenge, Sha256Hex([1; 32]));
    let good = target.sign(&order);
    let body = || good.body.clone();
    let pinned = target.orders.public().id();
    let with = |signature: Vec<u8>| Signed {
        body: body(),
        key_id: pinned.clone(),
        signature,
    };
    // A secret that everybody knows: the public key as the key of a MAC.
    let mac: Vec<u8> = target.orders.public().to_bytes().repeat(2);
    for (what, forged) in [
        ("no signature", with(vec![])),
        ("zeros", with(vec![0; 64])),
        ("a MAC", with(mac)),
        ("half of it", with(good.signature[..32].to_vec())),
        ("twice", with(good.signature.repeat(2))),
        ("a renewal's", target.orders.sign(Purpose::Renewal, body())),
        ("a result's", target.orders.sign(Purpose::Result, body())),
        ("a key set's", target.orders.sign(Purpose::KeySet, body())),
    ] {
        let refused = robotd.start(attempt, &forged);
        assert_eq!(refused, Err("ORDER_SIGNATURE_INVALID".into()), "{what}");
    }
    for id in ["", "none", "0000000000000000", &"f".repeat(4000)] {
        let forged = Signed {
            key_id: KeyId(id.into()),
            ..good.clone()
        };
        assert_eq!(
            robotd.start(attempt, &forged),
            Err("ORDER_KEY_UNKNOWN".into())
        );
    }
    // The root signs key sets and nothing else.
    let by_root = target.root.sign(Purpose::Order, body());
    assert_eq!(
        robotd.start(attempt, &by_root),
        Err("ORDER_KEY_UNKNOWN".into())
    );
    assert_eq!(robotd.start(attempt, &good), Ok(true));
}

fn fenced() {
    let (mut target, mut robotd) = target();
    let attempt = Target::attempt();
    let challenge = robotd.reserve(attempt);
    let first = target.order(attempt, challenge, Sha256Hex([1; 32]));
    assert_eq!(robotd.start(attempt, &target.sign(&first)), Ok(true));
    let refusal = privsep::Refusal::new("PACKAGE_UNAVAILABLE", "it never comes");
    let failed = Request::PackageFailed { attempt, refusal };
    assert_eq!(robotd.ask(failed, &[]), Reply::Done);
    target.host.kill_broker();
    target.host.start_broker();
    let mut robotd = connect(&target.host);
    let attempt = Target::attempt();
    let challenge = robotd.reserve(attempt);
    let mut order = target.order(attempt, challenge, Sha256Hex([1; 32]));
    let own = order.lease.fence;
    for fence in [first.lease.fence, 0] {
        order.lease.fence = fence;
        assert_eq!(
            robotd.start(attempt, &target.sign(&order)),
            Err("LEASE_FENCE_USED".into()),
            "{fence}"
        );
    }
    order.lease.fence = own;
    assert_eq!(robotd.start(attempt, &target.sign(&order)), Ok(true));
}

fn outdated_renewal() {
    let (target, mut robotd) = target();
    let attempt = Target::attempt();
    let challenge = robotd.reserve(attempt);
    let order = target.order(attempt, challenge, Sha256Hex([1; 32]));
    assert_eq!(robotd.start(attempt, &target.sign(&order)), Ok(true));
    let first = Renewal {
        v: 1,
        attempt,
        agent: target.agent,
        lease: order.lease.id,
        fence: order.lease.fence,
        ttl_ms: 120_000,
        ticks_ns: order.lease.ticks_ns + 1_000,
    };
    let ask = |robotd: &mut Robotd, ticks_ns| {
        let renewal = Renewal { ticks_ns, ..first };
        let body = serde_json::to_vec(&renewal).expect("JSON");
        let renewal = target.orders.sign(Purpose::Renewal, body);
        robotd.code(Request::Renew { attempt, renewal }, &[])
    };
    let start = order.lease.ticks_ns;
    assert_eq!(ask(&mut robotd, start - 1), "RENEWAL_OUTDATED");
    assert_eq!(ask(&mut robotd, start + 1_000), "Done");
    assert_eq!(ask(&mut robotd, start + 1_000), "Done", "the same again");
    assert_eq!(ask(&mut robotd, start + 999), "RENEWAL_OUTDATED");
    assert_eq!(robotd.events(100_210).len(), 2, "each is an event");
}

fn set(
    root: &SigningKey,
    version: u64,
    keys: &[(VerifyingKey, Option<u64>)],
    gone: &[VerifyingKey],
) -> Signed {
    let keys = keys.iter().map(|(key, until)| OrderKey {
        key: *key,
        not_after_unix_ms: *until,
    });
    let set = KeySet {
        v: 1,
        version,
        keys: keys.collect(),
        revoked: gone.iter().map(|key| key.id()).collect(),
    };
    let body = serde_json::to_vec(&set).expect("JSON");
    root.sign(Purpose::KeySet, body)
}

fn rotated() {
    let (mut target, mut robotd) = target();
    let new = SigningKey::generate().expect("a key");
    let (old_key, new_key) = (target.orders.public(), new.public());
    let tried = |target: &Target, robotd: &mut Robotd, key: &SigningKey| {
        let attempt = Target::attempt();
        let challenge = robotd.reserve(attempt);
        let order = target.order(attempt, challenge, Sha256Hex([1; 32]));
        let body = serde_json::to_vec(&order).expect("JSON");
        let started = robotd.start(attempt, &key.sign(Purpose::Order, body));
        if started.is_ok() {
            let refusal = privsep::Refusal::new("PACKAGE_UNAVAILABLE", "it never comes");
            robotd.ask(Request::PackageFailed { attempt, refusal }, &[]);
        } else {
            robotd.ask(Request::Cancel { attempt }, &[]);
        }
        started.err().unwrap_or_default()
    };
    assert_eq!(tried(&target, &mut robotd, &new), "ORDER_KEY_UNKNOWN");
    let hour = sys::clock::unix_ms() + 3_600_000;
    let both = set(
        &target.root,
        1,
        &[(new_key, None), (old_key, Some(hour))],
        &[],
    );
    let asked = Request::KeySet {
        signed: both.clone(),
    };
    assert_eq!(robotd.ask(asked.clone(), &[]), Reply::Done);
    assert_eq!(robotd.ask(asked, &[]), Reply::Done, "the same again");
    assert_eq!(robotd.events(KEYS_CHANGED).len(), 1);
    assert_eq!(tried(&target, &mut robotd, &new), "");
    assert_eq!(tried(&target, &mut robotd, &target.orders), "");
    let retired = set(&target.root, 2, &[(new_key, None), (old_key, Some(1))], &[]);
    let asked = Request::KeySet { signed: retired };
    assert_eq!(robotd.ask(asked, &[]), Reply::Done);
    assert_eq!(
        tried(&target, &mut robotd, &target.orders),
        "ORDER_KEY_EXPIRED"
    );
    // A host that the orchestrator does not reach: root brings the set.
    let revoked = set(&target.root, 3, &[(new_key, None)], &[old_key]);
    let file = target.host.dir.join("key-set.json");
    std::fs::write(&file, revoked.to_file()).expect("a write");
    let file = file.display().to_string();
    let applied = target.host.control(&["trust", "apply", &file]);
    assert!(applied.status.success(), "{applied:?}");
    assert_eq!(
        tried(&target, &mut robotd, &target.orders),
        "ORDER_KEY_REVOKED"
    );
    target.host.kill_broker();
    target.host.start_broker();
    let mut robotd = connect(&target.host);
    assert_eq!(
        tried(&target, &mut robotd, &target.orders),
        "ORDER_KEY_REVOKED"
    );
    assert_eq!(tried(&target, &mut robotd, &new), "");
    let signed = both;
    assert_eq!(
        robotd.code(Request::KeySet { signed }, &[]),
        "KEY_SET_ROLLBACK"
    );
    let listed = target.host.control(&["trust", "list", "--json"]);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    assert_eq!(listed["key_set"], 3, "{listed}");
    assert_eq!(listed["keys"][1]["state"], "revoked", "{listed}");
}

fn forged_set() {
    let (target, mut robotd) = target();
    let own = SigningKey::generate().expect("a key");
    let wanted = [(own.public(), None)];
    let mut code = |signed: Signed| robotd.code(Request::KeySet { signed }, &[]);
    assert_eq!(code(set(&own, 9, &wanted, &[])), "KEY_SET_ROOT_UNKNOWN");
    assert_eq!(
        code(set(&target.orders, 9, &wanted, &[])),
        "KEY_SET_ROOT_UNKNOWN"
    );
    let renamed = Signed {
        key_id: target.root.public().id(),
        ..set(&own, 9, &wanted, &[])
    };
    assert_eq!(code(renamed), "KEY_SET_SIGNATURE_INVALID");
    let mut changed = set(&target.root, 9, &wanted, &[]);
    changed.body[10] ^= 1;
    assert_eq!(code(changed), "KEY_SET_SIGNATURE_INVALID");
    assert_eq!(code(set(&target.root, 9, &[], &[])), "KEY_SET_MALFORMED");
    assert_eq!(robotd.events(SET_REFUSED).len(), 5, "each is an event");
    // The keys of the enrolment still count.
    let attempt = Target::attempt();
    let challenge = robotd.reserve(attempt);
    let order = target.order(attempt, challenge, Sha256Hex([1; 32]));
    assert_eq!(robotd.start(attempt, &target.sign(&order)), Ok(true));
}

fn revoked_under_way() {
    let (target, mut robotd) = target();
    let attempt = Target::attempt();
    let (digest, archive) = target.package("import time\ntime.sleep(1000)\n");
    let challenge = robotd.reserve(attempt);
    let order = target.order(attempt, challenge, digest);
    assert_eq!(robotd.start(attempt, &target.sign(&order)), Ok(true));
    let asked = Request::Package { attempt };
    assert_eq!(robotd.ask(asked, &[archive.as_fd()]), Reply::Done);
    robotd.await_phase(attempt, order::Phase::Running);
    let new = SigningKey::generate().expect("a key").public();
    let signed = set(&target.root, 1, &[(new, None)], &[target.orders.public()]);
    assert_eq!(robotd.ask(Request::KeySet { signed }, &[]), Reply::Done);
    let (result, _) = robotd.result(attempt);
    assert_eq!(result.outcome, Outcome::Stopped, "{result:#?}");
    assert_eq!(robotd.events(100_208).len(), 1);
    let accounts = target.host.slots.accounts();
    assert_eq!(Leftovers::of(&accounts), Leftovers::default());
}
