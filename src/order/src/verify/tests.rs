use super::*;
use crate::body::{Display, DisplayKind, Lease, Profiles};
use crate::envelope::SigningKey;
use crate::ids::{JobId, LeaseId, Sha256Hex};
use crate::limits::Limits;

struct Host {
    key: SigningKey,
    keys: BTreeMap<KeyId, VerifyingKey>,
    agent: AgentId,
    attempt: AttemptRef,
    challenge: Challenge,
}

const NOW: u64 = 1_800_000_000_000;

impl Host {
    fn new() -> Self {
        let key = SigningKey::generate().unwrap();
        let keys = BTreeMap::from([(key.public().id(), key.public())]);
        Self {
            key,
            keys,
            agent: AgentId::new(),
            attempt: AttemptRef {
                job: JobId::new(),
                number: 1,
            },
            challenge: Challenge::generate().unwrap(),
        }
    }

    fn order(&self) -> Order {
        Order {
            v: 1,
            attempt: self.attempt,
            agent: self.agent,
            challenge: self.challenge.to_base64(),
            not_before_unix_ms: NOW,
            not_after_unix_ms: NOW + 60_000,
            package: Sha256Hex([7; 32]),
            publisher: None,
            entry: "bot.py".into(),
            args: vec![],
            env: BTreeMap::new(),
            params: BTreeMap::new(),
            account: None,
            account_secret: None,
            display: Some(Display {
                kind: DisplayKind::Xvfb,
                depth: 24,
                width: 1280,
                height: 800,
            }),
            screenshots: Screenshots {
                on_start: true,
                on_failure: true,
                ..Screenshots::default()
            },
            limits: Limits::default(),
            secrets: vec![],
            profiles: Profiles {
                sandbox: "script".into(),
                network: "host".into(),
            },
            lease: Lease {
                id: LeaseId::new(),
                fence: 1,
                pool: "p".into(),
                ttl_ms: 1,
                ticks_ns: 1,
            },
            hard_end_ms: 1000,
            tenant: "t".into(),
            requester: "r".into(),
            approver: None,
            data_class: "internal".into(),
        }
    }

    fn expectation(&self) -> Expectation<'_> {
        Expectation {
            keys: &self.keys,
            agent: self.agent,
            attempt: self.attempt,
            challenge: Some(self.challenge),
            now_unix_ms: NOW,
        }
    }

    fn sign(&self, order: &Order) -> Signed {
        self.key
            .sign(Purpose::Order, serde_json::to_vec(order).unwrap())
    }

    fn code(&self, change: impl FnOnce(&mut Order)) -> &'static str {
        let mut order = self.order();
        change(&mut order);
        match verify(&self.sign(&order), &self.expectation()) {
            Ok(_) => "OK",
            Err(error) => error.code(),
        }
    }
}

#[test]
fn a_good_order_is_read_back_as_it_was_signed() {
    let host = Host::new();
    let order = host.order();
    assert_eq!(verify(&host.sign(&order), &host.expectation()), Ok(order));
}

#[test]
fn an_order_with_one_changed_byte_is_refused_before_it_is_parsed() {
    let host = Host::new();
    let mut signed = host.sign(&host.order());
    for at in 0..signed.body.len() {
        signed.body[at] ^= 0x20;
        assert_eq!(
            verify(&signed, &host.expectation()),
            Err(OrderError::SignatureInvalid)
        );
        signed.body[at] ^= 0x20;
    }
}

#[test]
fn an_order_for_another_host_or_attempt_is_refused() {
    let host = Host::new();
    assert_eq!(
        host.code(|order| order.agent = AgentId::new()),
        "ORDER_WRONG_HOST"
    );
    assert_eq!(
        host.code(|order| order.attempt.number = 2),
        "ORDER_WRONG_ATTEMPT"
    );
}

#[test]
fn an_order_that_lacks_the_live_challenge_is_a_replay() {
    let host = Host::new();
    assert_eq!(host.code(|order| order.challenge.clear()), "ORDER_REPLAYED");
    let used = Expectation {
        challenge: None,
        ..host.expectation()
    };
    assert_eq!(
        verify(&host.sign(&host.order()), &used),
        Err(OrderError::Replayed)
    );
}

#[test]
fn an_order_outside_its_window_is_refused_beyond_the_skew() {
    let host = Host::new();
    let at = |now| {
        let expected = Expectation {
            now_unix_ms: now,
            ..host.expectation()
        };
        verify(&host.sign(&host.order()), &expected)
            .map(|_| ())
            .map_err(|error| error.code())
    };
    assert_eq!(at(NOW + 60_000 + CLOCK_SKEW_MS), Ok(()));
    assert_eq!(at(NOW + 60_001 + CLOCK_SKEW_MS), Err("ORDER_EXPIRED"));
    assert_eq!(at(NOW - CLOCK_SKEW_MS - 1), Err("ORDER_NOT_YET_VALID"));
}

#[test]
fn a_key_that_is_not_pinned_is_refused() {
    let host = Host::new();
    let stranger = SigningKey::generate().unwrap();
    let body = serde_json::to_vec(&host.order()).unwrap();
    let signed = stranger.sign(Purpose::Order, body.clone());
    let code = verify(&signed, &host.expectation()).unwrap_err().code();
    assert_eq!(code, "ORDER_KEY_UNKNOWN");
    // The stranger's signature under the pinned key's name.
    let forged = Signed {
        key_id: host.key.public().id(),
        ..signed
    };
    assert_eq!(
        verify(&forged, &host.expectation()),
        Err(OrderError::SignatureInvalid)
    );
}

#[test]
fn unknown_fields_duplicates_and_trailing_bytes_are_refused() {
    let host = Host::new();
    let text = String::from_utf8(host.sign(&host.order()).body).unwrap();
    let extra = text.replacen('{', "{\"run-as\":\"root\",", 1);
    let twice = text.replacen('{', "{\"entry\":\"x\",", 1);
    let after = format!("{text}{{}}");
    for body in [extra, twice, after, "[]".into(), String::new()] {
        let signed = host.key.sign(Purpose::Order, body.into_bytes());
        assert_eq!(
            verify(&signed, &host.expectation()).unwrap_err().code(),
            "ORDER_MALFORMED"
        );
    }
}

#[test]
fn an_oversize_order_is_refused() {
    let host = Host::new();
    let signed = host.key.sign(Purpose::Order, vec![b' '; MAX_BODY + 1]);
    assert_eq!(
        verify(&signed, &host.expectation()).unwrap_err().code(),
        "ORDER_TOO_LARGE"
    );
}

#[test]
fn fields_out_of_their_ranges_are_refused() {
    let host = Host::new();
    let changes: Vec<fn(&mut Order)> = vec![
        |order| order.limits.run_ms = u64::MAX,
        |order| order.limits.volume_bytes = 0,
        |order| {
            order.display = Some(Display {
                kind: DisplayKind::Xvfb,
                depth: 24,
                width: 32_000,
                height: 32_000,
            })
        },
        |order| order.screenshots.every_ms = Some(0),
        |order| order.entry = "../bot.py".into(),
        |order| order.entry = "/bin/sh".into(),
        |order| order.entry = "a//b".into(),
        |order| order.entry.clear(),
        |order| order.args = vec!["a\0b".into()],
        |order| order.secrets = vec!["a b".into()],
        |order| drop(order.env.insert("LD_PRELOAD".into(), "x".into())),
        |order| drop(order.env.insert("PYTHONPATH".into(), "x".into())),
        |order| drop(order.env.insert("BASH_ENV".into(), "x".into())),
        |order| drop(order.env.insert("PATH".into(), "x".into())),
        |order| drop(order.env.insert("ROBOT_SOCKET".into(), "x".into())),
        |order| drop(order.env.insert("A=B".into(), "x".into())),
        |order| drop(order.env.insert("A".into(), "x\0".into())),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        assert_eq!(host.code(change), "ORDER_FIELD_REFUSED", "change {number}");
    }
}
