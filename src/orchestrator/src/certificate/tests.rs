//! Certificates of made-up jobs, whole and with one thing wrong.

use std::collections::BTreeMap;

use order::{
    AgentId, Assurance, AttemptRef, JobId, JobResult, Lease, LeaseId, LicenseTimes, Limits,
    LogTotals, Order, Outcome, Phase, PhaseAt, Profiles, Purpose, Screenshots, SecretUse,
    SessionSummary, Sha256Hex, SigningKey, StreamTotals, WipeReport,
};
use sha2::{Digest as _, Sha256};

use super::{Certificate, Trusted};

const ORDER_KEY: [u8; 32] = [1; 32];
const RESULT_KEY: [u8; 32] = [2; 32];

fn order() -> Order {
    Order {
        v: 1,
        attempt: AttemptRef {
            job: JobId::new(),
            number: 1,
        },
        agent: AgentId(order::NIL),
        challenge: String::new(),
        not_before_unix_ms: 0,
        not_after_unix_ms: u64::MAX,
        package: Sha256Hex([3; 32]),
        publisher: None,
        entry: "bot.py".into(),
        args: vec![],
        env: BTreeMap::new(),
        params: BTreeMap::new(),
        account: None,
        account_secret: None,
        display: None,
        screenshots: Screenshots::default(),
        limits: Limits::default(),
        secrets: vec!["erp".into()],
        profiles: Profiles {
            sandbox: "script".into(),
            network: "none".into(),
        },
        lease: Lease {
            id: LeaseId::new(),
            fence: 7,
            pool: "default".into(),
            ttl_ms: 1,
            ticks_ns: 1,
        },
        hard_end_ms: 1,
        tenant: "acme".into(),
        requester: "eve".into(),
        approver: None,
        data_class: "internal".into(),
    }
}

/// What an honest host reports.
fn result(order: &Order) -> JobResult {
    let steps = [
        Phase::SessionOpen,
        Phase::Running,
        Phase::Exited,
        Phase::ProcessesGone,
        Phase::SessionClosed,
        Phase::Wiped,
    ];
    let timeline = steps.iter().zip(1..).map(|(phase, step)| PhaseAt {
        phase: *phase,
        at_unix_ms: step * 1000,
    });
    let stream = StreamTotals {
        lines: 0,
        bytes: 0,
        sha256: "e3b0".into(),
    };
    JobResult {
        v: 1,
        attempt: order.attempt,
        agent: order.agent,
        order_sha256: None,
        package: Some(order.package),
        outcome: Outcome::Succeeded,
        code: String::new(),
        detail: String::new(),
        ended_by: order::EndedBy::of("", "", Some(0), None),
        usage: None,
        not_enforced: vec![],
        exit_code: Some(0),
        signal: None,
        timeline: timeline.collect(),
        license: Some(LicenseTimes {
            lease: order.lease.id,
            fence: 7,
            pool: "default".into(),
            from_unix_ms: 500,
            until_unix_ms: 120_000,
        }),
        secrets: vec![SecretUse {
            name: "erp".into(),
            given_at_unix_ms: 2_500,
        }],
        session: Some(SessionSummary {
            id: "3".into(),
            backend: "logind".into(),
            account: "robot01".into(),
            uid: 60600,
            display: "none".into(),
            closed: true,
        }),
        log: LogTotals {
            stdout: stream.clone(),
            stderr: stream,
        },
        artifacts: vec![],
        screenshots: 0,
        lane_epoch: String::new(),
        lane_last_seq: 0,
        processes_killed: 0,
        network: None,
        wipe: Some(WipeReport {
            complete: true,
            assurance: Assurance::VolatileReleased,
            volume: None,
            swap: "none".into(),
            duration_ms: 1,
            swept: vec![],
            leftovers: vec![],
        }),
        sandbox: None,
        remarks: vec![],
    }
}

/// Names of the statements that fail when the result is changed before it is signed.
fn failing(change: impl FnOnce(&mut JobResult)) -> Vec<&'static str> {
    let order = order();
    let mut result = result(&order);
    change(&mut result);
    failing_of(&order, result, Trusted::default())
}

fn failing_of(order: &Order, mut result: JobResult, trusted: Trusted) -> Vec<&'static str> {
    let body = serde_json::to_vec(order).unwrap();
    if result.order_sha256.is_none() {
        result.order_sha256 = Some(Sha256Hex(Sha256::digest(&body).into()));
    }
    let (ordering, reporting) = (
        SigningKey::from_seed(&ORDER_KEY),
        SigningKey::from_seed(&RESULT_KEY),
    );
    let order = ordering.sign(Purpose::Order, body);
    let result = reporting.sign(Purpose::Result, serde_json::to_vec(&result).unwrap());
    let made = Certificate::new(
        "host",
        (&order, ordering.public()),
        (&result, reporting.public()),
    );
    // As it is read from a file.
    let text = serde_json::to_vec(&made).unwrap();
    let examined = Certificate::parse(&text).unwrap().examine(trusted).unwrap();
    let failed = examined.statements.iter().filter(|one| !one.holds);
    failed.map(|one| one.name).collect()
}

#[test]
fn an_honest_job_is_proven() {
    assert_eq!(failing(|_| {}), Vec::<&str>::new());
}

#[test]
fn each_thing_that_is_not_so_fails_its_own_statement() {
    let step = |result: &mut JobResult, phase: Phase, at: u64| {
        let found = result.timeline.iter_mut().find(|step| step.phase == phase);
        found.unwrap().at_unix_ms = at;
    };
    type Change = Box<dyn FnOnce(&mut JobResult)>;
    let rows: [(&str, Change); 12] = [
        (
            "order-followed",
            Box::new(|r| r.order_sha256 = Some(Sha256Hex([9; 32]))),
        ),
        ("order-followed", Box::new(|r| r.attempt.number = 2)),
        ("package-named", Box::new(|r| r.package = None)),
        ("license-covers-session", Box::new(|r| r.license = None)),
        (
            "license-covers-session",
            Box::new(|r| r.license.as_mut().unwrap().until_unix_ms = 5_500),
        ),
        (
            "license-covers-session",
            Box::new(|r| r.license.as_mut().unwrap().from_unix_ms = 1_001),
        ),
        (
            "session-closed",
            Box::new(|r| r.session.as_mut().unwrap().closed = false),
        ),
        (
            "session-covers-bot",
            Box::new(move |r| step(r, Phase::SessionClosed, 3_900)),
        ),
        (
            "bot-covers-secrets",
            Box::new(|r| r.secrets[0].given_at_unix_ms = 4_001),
        ),
        (
            "bot-covers-secrets",
            Box::new(|r| r.secrets[0].name = "other".into()),
        ),
        (
            "wipe-proven",
            Box::new(|r| r.wipe.as_mut().unwrap().complete = false),
        ),
        (
            "log-named",
            Box::new(|r| r.log.stderr.sha256 = String::new()),
        ),
    ];
    for (name, change) in rows {
        assert_eq!(failing(change), [name]);
    }
}

#[test]
fn a_signature_of_another_key_proves_nothing() {
    let order = order();
    let stranger = Some(SigningKey::from_seed(&[5; 32]).public());
    let trusting = |trusted| failing_of(&order, result(&order), trusted);
    let by_order = Trusted {
        order: stranger,
        ..Trusted::default()
    };
    let by_result = Trusted {
        result: stranger,
        ..Trusted::default()
    };
    assert_eq!(trusting(by_order), ["order-signed"]);
    assert_eq!(trusting(by_result), ["result-signed"]);
}

#[test]
fn what_is_no_certificate_is_refused_by_its_code() {
    for text in ["", "{}", "[]", r#"{"format":"x"}"#] {
        let refused = Certificate::parse(text.as_bytes()).unwrap_err();
        assert_eq!(refused.code, "CERTIFICATE_MALFORMED");
    }
}
