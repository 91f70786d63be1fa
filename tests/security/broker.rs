//! The broker against a robotd that was taken over: it can refuse work, it can't invent it.

use std::os::fd::AsFd as _;

use order::{Outcome, Phase, Purpose, Renewal, Sha256Hex, Signed, SigningKey, VerifyingKey};
use privsep::broker::{Reply, Request, StopMode};
use tests::{Leftovers, Options};

use crate::robotd::{Robotd, Target, as_user, connect};

/// Every claim of this file.
pub(crate) const CLAIMS: &[(&str, fn())] = &[
    (
        "broker::an_order_runs_a_bot_and_its_result_is_signed_and_clean",
        an_order_runs,
    ),
    (
        "broker::an_order_with_one_changed_byte_is_refused",
        changed_byte,
    ),
    ("broker::an_order_that_was_used_is_refused", replayed),
    (
        "broker::an_order_for_another_host_or_attempt_is_refused",
        another_host,
    ),
    ("broker::an_order_outside_its_time_is_refused", expired),
    ("broker::an_order_above_the_policy_is_refused", above_policy),
    (
        "broker::a_package_that_the_order_does_not_name_is_refused_and_not_kept",
        wrong_package,
    ),
    (
        "broker::an_unsigned_package_is_refused_by_default",
        unsigned,
    ),
    ("broker::a_lease_can_not_be_stretched", stretched),
    (
        "broker::garbage_ends_the_connection_and_nothing_else",
        garbage,
    ),
    ("broker::only_robotd_may_connect", strangers),
    ("broker::an_order_that_is_not_sealed_is_refused", unsealed),
    (
        "broker::an_attempt_never_starts_twice_also_after_a_restart",
        twice,
    ),
    (
        "broker::a_killed_session_is_torn_down_and_reported_once",
        killed_session,
    ),
];

fn target() -> (Target, Robotd) {
    let target = Target::new(&Options::default());
    let robotd = connect(&target.host);
    (target, robotd)
}

fn run(target: &Target, robotd: &mut Robotd, code: &str) -> (order::JobResult, Signed) {
    let attempt = Target::attempt();
    let (digest, archive) = target.package(code);
    let challenge = robotd.reserve(attempt);
    let order = target.order(attempt, challenge, digest);
    assert_eq!(robotd.start(attempt, &target.sign(&order)), Ok(true));
    assert_eq!(
        robotd.ask(Request::Package { attempt }, &[archive.as_fd()]),
        Reply::Done
    );
    robotd.result(attempt)
}

fn an_order_runs() {
    let (target, mut robotd) = target();
    let code = "import os,sys,subprocess\nfor d in ('/tmp','/dev/shm','/var/tmp',os.environ['HOME']):\n open(d+'/x','w').write('x'*5000)\n\
                subprocess.Popen(['setsid','sleep','1000'])\nsys.exit(3)\n";
    let (result, signed) = run(&target, &mut robotd, code);
    assert_eq!(
        (result.outcome, result.exit_code),
        (Outcome::Failed, Some(3)),
        "{result:#?}{}",
        target.host.all_logs()
    );
    let Reply::Welcome { result_key, .. } = robotd.ask(Request::Hello { version: 1 }, &[]) else {
        panic!("a welcome")
    };
    let key = VerifyingKey::from_bytes(&result_key).expect("a key");
    assert!(key.accepts(Purpose::Result, &signed));
    let wipe = result.wipe.expect("a wipe report");
    let volume = wipe.volume.as_ref().expect("a volume");
    assert!(
        wipe.complete && volume.files >= 4 && volume.bytes >= 20_000,
        "{wipe:?}"
    );
    assert!(result.session.expect("a session").closed);
    assert_eq!(result.processes_killed, 1);
    assert_eq!(
        result.timeline.last().map(|step| step.phase),
        Some(Phase::Wiped)
    );
    assert_eq!(
        Leftovers::of(&target.host.slots.accounts()),
        Leftovers::default()
    );
}

fn changed_byte() {
    let (target, mut robotd) = target();
    let attempt = Target::attempt();
    let challenge = robotd.reserve(attempt);
    let signed = target.sign(&target.order(attempt, challenge, Sha256Hex([1; 32])));
    for at in (0..signed.body.len()).step_by(37) {
        let mut forged = signed.clone();
        forged.body[at] ^= 1;
        assert_eq!(
            robotd.start(attempt, &forged),
            Err("ORDER_SIGNATURE_INVALID".into())
        );
    }
    let stranger = SigningKey::generate()
        .expect("a key")
        .sign(Purpose::Order, signed.body.clone());
    assert_eq!(
        robotd.start(attempt, &stranger),
        Err("ORDER_KEY_UNKNOWN".into())
    );
    assert!(!robotd.events(100_203).is_empty(), "an event tells of it");
}

fn replayed() {
    let (target, mut robotd) = target();
    let attempt = Target::attempt();
    let challenge = robotd.reserve(attempt);
    let signed = target.sign(&target.order(attempt, challenge, Sha256Hex([1; 32])));
    assert_eq!(robotd.ask(Request::Cancel { attempt }, &[]), Reply::Done);
    robotd.reserve(attempt);
    assert_eq!(robotd.start(attempt, &signed), Err("ORDER_REPLAYED".into()));
}

fn another_host() {
    let (target, mut robotd) = target();
    let attempt = Target::attempt();
    let challenge = robotd.reserve(attempt);
    let mut order = target.order(attempt, challenge, Sha256Hex([1; 32]));
    order.agent = order::AgentId::new();
    assert_eq!(
        robotd.start(attempt, &target.sign(&order)),
        Err("ORDER_WRONG_HOST".into())
    );
    let mut order = target.order(Target::attempt(), challenge, Sha256Hex([1; 32]));
    assert_eq!(
        robotd.start(attempt, &target.sign(&order)),
        Err("ORDER_WRONG_ATTEMPT".into())
    );
    order.attempt = attempt;
    assert_eq!(robotd.start(attempt, &target.sign(&order)), Ok(true));
}

fn expired() {
    let (target, mut robotd) = target();
    let attempt = Target::attempt();
    let challenge = robotd.reserve(attempt);
    let mut order = target.order(attempt, challenge, Sha256Hex([1; 32]));
    order.not_before_unix_ms -= 3_600_000;
    order.not_after_unix_ms -= 3_600_000;
    assert_eq!(
        robotd.start(attempt, &target.sign(&order)),
        Err("ORDER_EXPIRED".into())
    );
    let mut order = target.order(attempt, challenge, Sha256Hex([1; 32]));
    order.not_before_unix_ms += 3_600_000;
    order.not_after_unix_ms += 3_600_000;
    assert_eq!(
        robotd.start(attempt, &target.sign(&order)),
        Err("ORDER_NOT_YET_VALID".into())
    );
    let mut order = target.order(attempt, challenge, Sha256Hex([1; 32]));
    order.lease.ticks_ns -= order.lease.ttl_ms * 1_000_000;
    assert_eq!(
        robotd.start(attempt, &target.sign(&order)),
        Err("LEASE_ENDED".into())
    );
}

fn above_policy() {
    let (target, mut robotd) = target();
    let attempt = Target::attempt();
    let challenge = robotd.reserve(attempt);
    let mut refused = |change: fn(&mut order::Order)| {
        let mut order = target.order(attempt, challenge, Sha256Hex([1; 32]));
        change(&mut order);
        robotd
            .start(attempt, &target.sign(&order))
            .expect_err("a refusal")
    };
    assert_eq!(
        refused(|order| order.limits.volume_bytes = 1 << 39),
        "LIMIT_ABOVE_POLICY"
    );
    assert_eq!(
        refused(|order| order.account = Some("root".into())),
        "ACCOUNT_NOT_ALLOWED"
    );
    assert_eq!(
        refused(|order| order.profiles.network = "everything".into()),
        "NETWORK_NOT_ALLOWED"
    );
    assert_eq!(
        refused(|order| order.profiles.sandbox = "none".into()),
        "PROFILE_NOT_ALLOWED"
    );
    assert_eq!(
        refused(|order| drop(order.env.insert("LD_PRELOAD".into(), "x".into()))),
        "ORDER_FIELD_REFUSED"
    );
    assert_eq!(
        refused(|order| order.entry = "../../bin/sh".into()),
        "ORDER_FIELD_REFUSED"
    );
    let request = Request::Reserve {
        attempt: Target::attempt(),
        account: Some("root".into()),
        tenant: "acme".into(),
        package: Sha256Hex([0; 32]),
    };
    assert_eq!(robotd.code(request, &[]), "ACCOUNT_NOT_ALLOWED");
}

fn wrong_package() {
    let (target, mut robotd) = target();
    let attempt = Target::attempt();
    let challenge = robotd.reserve(attempt);
    let (_, archive) = target.package("print(1)\n");
    let order = target.order(attempt, challenge, Sha256Hex([9; 32]));
    assert_eq!(robotd.start(attempt, &target.sign(&order)), Ok(true));
    assert_eq!(
        robotd.ask(Request::Package { attempt }, &[archive.as_fd()]),
        Reply::Done
    );
    let (result, _) = robotd.result(attempt);
    assert_eq!(
        (result.outcome, result.code.as_str()),
        (Outcome::NotStarted, "PACKAGE_DIGEST_MISMATCH")
    );
    for folder in ["store", "staging"] {
        let left = std::fs::read_dir(target.host.dir.join("broker").join(folder))
            .expect("a folder")
            .count();
        assert_eq!(left, 0, "{folder} is empty");
    }
    assert_eq!(robotd.events(100_204).len(), 1);
}

fn unsigned() {
    let target = Target::new(&Options {
        policy: String::new(),
        ..Options::default()
    });
    let mut robotd = connect(&target.host);
    let attempt = Target::attempt();
    let challenge = robotd.reserve(attempt);
    let order = target.order(attempt, challenge, Sha256Hex([1; 32]));
    assert_eq!(
        robotd.start(attempt, &target.sign(&order)),
        Err("PACKAGE_UNSIGNED".into())
    );
    let mut order = order;
    order.publisher = Some(SigningKey::generate().expect("a key").public().id());
    assert_eq!(
        robotd.start(attempt, &target.sign(&order)),
        Err("PUBLISHER_NOT_ALLOWED".into())
    );
}

fn stretched() {
    let (target, mut robotd) = target();
    let attempt = Target::attempt();
    let challenge = robotd.reserve(attempt);
    let order = target.order(attempt, challenge, Sha256Hex([1; 32]));
    assert_eq!(robotd.start(attempt, &target.sign(&order)), Ok(true));
    let honest = Renewal {
        v: 1,
        attempt,
        agent: target.agent,
        lease: order.lease.id,
        fence: order.lease.fence,
        ttl_ms: 120_000,
        ticks_ns: order.lease.ticks_ns,
    };
    let mut code = |renewal: Renewal, key: &SigningKey| {
        let renewal = key.sign(
            Purpose::Renewal,
            serde_json::to_vec(&renewal).expect("JSON"),
        );
        robotd.code(Request::Renew { attempt, renewal }, &[])
    };
    assert_eq!(code(honest, &target.orders), "Done");
    let own = SigningKey::generate().expect("a key");
    assert_eq!(code(honest, &own), "RENEWAL_KEY_UNKNOWN");
    assert_eq!(
        code(
            Renewal {
                ticks_ns: u64::MAX / 2,
                ..honest
            },
            &target.orders
        ),
        "RENEWAL_FROM_FUTURE"
    );
    assert_eq!(
        code(
            Renewal {
                fence: honest.fence + 1,
                ..honest
            },
            &target.orders
        ),
        "RENEWAL_MISMATCH"
    );
    assert_eq!(
        code(
            Renewal {
                agent: order::AgentId::new(),
                ..honest
            },
            &target.orders
        ),
        "RENEWAL_MISMATCH"
    );
    // An order's signature is none for a renewal.
    let renewal = target
        .orders
        .sign(Purpose::Order, serde_json::to_vec(&honest).expect("JSON"));
    assert_eq!(
        robotd.code(Request::Renew { attempt, renewal }, &[]),
        "RENEWAL_SIGNATURE_INVALID"
    );
}

fn garbage() {
    let (target, mut first) = target();
    let attempt = Target::attempt();
    first.reserve(attempt);
    for bytes in [&b"\xff\xff\xff\xff\xff"[..], &[0; 60_000], b"x"] {
        let robotd = connect(&target.host);
        robotd.send_raw(bytes);
        assert!(robotd.is_cut_off(), "{} bytes", bytes.len());
    }
    let mut again = connect(&target.host);
    let Reply::Held(held) = again.ask(Request::Sync, &[]) else {
        panic!("the broker lives")
    };
    assert_eq!(held.len(), 1, "the reservation is still there");
}

fn strangers() {
    let (target, _robotd) = target();
    let socket = target.host.run.join("b/broker.sock");
    let nobody = sys::account::by_name("nobody")
        .expect("a look-up")
        .expect("nobody");
    let refused = as_user(nobody.uid, nobody.gid, || {
        sys::fdpass::Seqpacket::connect(&socket)
    });
    assert!(refused.is_err(), "the mode of the socket keeps others out");
    // root passes every mode, and is still not robotd.
    let root = sys::fdpass::Seqpacket::connect(&socket).expect("a connection");
    let mut buffer = [0; 64];
    assert!(
        matches!(root.recv(&mut buffer), Ok(None)),
        "the peer check keeps root out"
    );
    let agent = sys::account::by_name(tests::AGENT_USER)
        .expect("a look-up")
        .expect("robotd");
    for closed in ["session.sock", "admin.sock"] {
        let path = target.host.run.join("b").join(closed);
        assert!(
            as_user(agent.uid, agent.gid, || sys::fdpass::Seqpacket::connect(
                &path
            ))
            .is_err(),
            "{closed}"
        );
    }
}

fn unsealed() {
    let (target, mut robotd) = target();
    let attempt = Target::attempt();
    let challenge = robotd.reserve(attempt);
    let signed = target.sign(&target.order(attempt, challenge, Sha256Hex([1; 32])));
    let path = target.host.dir.join("order");
    std::fs::write(&path, &signed.body).expect("a write");
    let file = std::fs::File::open(&path).expect("a file");
    let request = Request::Start {
        attempt,
        key_id: signed.key_id.clone(),
        signature: signed.signature.clone(),
    };
    assert_eq!(
        robotd.code(request.clone(), &[file.as_fd()]),
        "ORDER_NOT_SEALED"
    );
    assert_eq!(robotd.code(request, &[]), "DESCRIPTOR_MISSING");
}

fn twice() {
    let (mut target, mut robotd) = target();
    let (result, _) = run(&target, &mut robotd, "print(1)\n");
    assert_eq!(
        result.outcome,
        Outcome::Succeeded,
        "{result:#?}{}",
        target.host.all_logs()
    );
    let reserve = Request::Reserve {
        attempt: result.attempt,
        account: None,
        tenant: "acme".into(),
        package: Sha256Hex([0; 32]),
    };
    assert_eq!(robotd.code(reserve.clone(), &[]), "ATTEMPT_STARTED");
    assert_eq!(
        robotd.ask(
            Request::Forget {
                attempt: result.attempt
            },
            &[]
        ),
        Reply::Done
    );
    assert_eq!(robotd.code(reserve.clone(), &[]), "ATTEMPT_STARTED");
    target.host.kill_broker();
    target.host.start_broker();
    assert_eq!(connect(&target.host).code(reserve, &[]), "ATTEMPT_STARTED");
}

fn killed_session() {
    let (target, mut robotd) = target();
    let attempt = Target::attempt();
    let (digest, archive) =
        target.package("import time,sys\nprint('up', flush=True)\ntime.sleep(1000)\n");
    let challenge = robotd.reserve(attempt);
    let order = target.order(attempt, challenge, digest);
    assert_eq!(robotd.start(attempt, &target.sign(&order)), Ok(true));
    assert_eq!(
        robotd.ask(Request::Package { attempt }, &[archive.as_fd()]),
        Reply::Done
    );
    let session = tests::eventually("the session and its bot", || {
        let accounts = target.host.slots.accounts();
        let account = sys::account::by_name(&accounts[0]).ok()??;
        let bots = sys::account::processes_of_uid(account.uid).ok()?;
        let runs = bots
            .iter()
            .any(|pid| cmdline(pid.as_raw()).contains("bot.py"));
        runs.then(|| session_of(attempt)).flatten()
    });
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(session),
        nix::sys::signal::Signal::SIGKILL,
    )
    .expect("a kill");
    let (result, _) = robotd.result(attempt);
    assert_eq!(
        (result.outcome, result.code.as_str()),
        (Outcome::Interrupted, "SESSION_LOST"),
        "{result:#?}"
    );
    let wipe = result.wipe.expect("a wipe report");
    assert!(wipe.complete, "{wipe:?}{}", target.host.all_logs());
    assert_eq!(
        Leftovers::of(&target.host.slots.accounts()),
        Leftovers::default()
    );
    // The slot is free again.
    let (result, _) = run(&target, &mut robotd, "print(1)\n");
    assert_eq!(result.outcome, Outcome::Succeeded);
    assert_eq!(
        robotd.ask(
            Request::Stop {
                attempt,
                mode: StopMode::Kill
            },
            &[]
        ),
        Reply::Done
    );
}

fn cmdline(pid: i32) -> String {
    std::fs::read(format!("/proc/{pid}/cmdline"))
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

/// The monitor: the oldest process with this command line; leader and init are its copies.
fn session_of(attempt: order::AttemptRef) -> Option<i32> {
    let pids = std::fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let mut ours: Vec<i32> = pids
        .filter(|pid| cmdline(*pid).contains(&format!("--attempt\0{attempt}")))
        .collect();
    ours.sort_unstable();
    ours.first().copied()
}
