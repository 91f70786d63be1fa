//! What the policy says of sandboxes and of the host, and what a result says of it.

use std::os::fd::AsFd as _;

use order::Sha256Hex;
use privsep::broker::{Reply, Request};
use serde_json::json;
use tests::Options;

use super::{host, run, run_on};
use crate::robotd::{Target, connect};

pub(super) const CLAIMS: &[(&str, fn())] = &[
    (
        "sandbox::a_profile_that_the_policy_does_not_name_is_refused",
        not_named,
    ),
    (
        "sandbox::a_job_without_parts_of_its_sandbox_says_so_and_is_an_event",
        weakened,
    ),
    (
        "sandbox::a_result_says_under_which_guarantees_its_job_ran",
        guarantees,
    ),
    (
        "sandbox::a_host_that_lacks_what_its_policy_requires_takes_no_job_and_names_it",
        not_able,
    ),
    (
        "sandbox::a_host_that_has_what_its_policy_requires_tells_its_abilities",
        able,
    ),
];

fn target(policy: &str) -> Target {
    let mut options = Options::default();
    options.policy += policy;
    Target::new(&options)
}

fn not_named() {
    let target = target("[sandbox]\nprofiles = [\"script\"]\n");
    let mut robotd = connect(&target.host);
    for profile in ["browser", "legacy", "root", "", "Script"] {
        let attempt = Target::attempt();
        let challenge = robotd.reserve(attempt);
        let mut order = target.order(attempt, challenge, Sha256Hex([1; 32]));
        order.profiles.sandbox = profile.into();
        let refused = robotd.start(attempt, &target.sign(&order));
        assert_eq!(refused, Err("PROFILE_NOT_ALLOWED".into()), "{profile:?}");
        robotd.ask(Request::Cancel { attempt }, &[]);
    }
}

fn weakened() {
    let host = host(
        "[sandbox]\nprofiles = [\"script\", \"legacy\"]\nlegacy.without = [\"landlock\", \"mdwe\"]\n",
    );
    let tried = run_on(host, "legacy", "say('ran', 'True')", &[]);
    assert_eq!(tried.of("ran"), "True");
    assert_eq!(tried.sandbox("profile"), "legacy");
    assert_eq!(tried.sandbox("landlock"), 0);
    assert_eq!(tried.sandbox("mdwe"), "off");
    assert_eq!(tried.sandbox("seccomp"), true);
    assert_eq!(tried.sandbox("without"), &json!(["landlock", "mdwe"]));
    assert_eq!(
        tried.report["remarks"],
        json!(["SANDBOX_WITHOUT_LANDLOCK", "SANDBOX_WITHOUT_MDWE"])
    );
    let told = tests::eventually("both events", || {
        let told = tried.host.events(100_701);
        (told.len() == 2).then_some(told)
    });
    for (event, part) in told.iter().zip(["landlock", "mdwe"]) {
        assert!(event.to_string().contains(part), "{event}");
    }
}

fn guarantees() {
    let tried = run("office", "say('ran', 'True')");
    assert_eq!(tried.sandbox("profile"), "office");
    assert_eq!(tried.sandbox("seccomp"), true);
    assert_eq!(tried.sandbox("without"), &json!([]));
    assert_eq!(tried.report["remarks"], json!([]));
    assert_ne!(tried.sandbox("mdwe"), "off");
    let version = sys::ability::landlock_version().min(7);
    assert_eq!(tried.sandbox("landlock"), version);
}

fn not_able() {
    let target = target("[host]\nrequire = [\"seccomp\", \"landlock>=60\"]\n");
    let mut robotd = connect(&target.host);
    let reserve = |attempt| Request::Reserve {
        attempt,
        account: None,
        tenant: "acme".into(),
        package: Sha256Hex([0; 32]),
    };
    let refusal = tests::eventually("the probe's answer", || {
        match robotd.ask(reserve(Target::attempt()), &[]) {
            Reply::Refused(refusal) if refusal.code == "HOST_NOT_PROBED" => None,
            Reply::Refused(refusal) => Some(refusal),
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(refusal.code, "HOST_NOT_ABLE");
    assert!(
        refusal.detail.ends_with("landlock>=60"),
        "{}",
        refusal.detail
    );
    for _ in 0..3 {
        assert_eq!(
            robotd.code(reserve(Target::attempt()), &[]),
            "HOST_NOT_ABLE"
        );
    }
    let log = target.host.log("robotd-broker");
    assert_eq!(log.matches("\"code\":100702").count(), 1, "{log}");
    // An order without a reservation changes nothing of it.
    let attempt = Target::attempt();
    let order = target.order(attempt, [0; 32], Sha256Hex([1; 32]));
    let signed = target.sign(&order);
    let document = sys::memfd::sealed(c"order", &signed.body).expect("a memfd");
    let start = Request::Start {
        attempt,
        key_id: signed.key_id,
        signature: signed.signature,
    };
    assert_eq!(robotd.code(start, &[document.as_fd()]), "ATTEMPT_UNKNOWN");
}

fn able() {
    let host = host("[host]\nrequire = [\"landlock\", \"seccomp\", \"overlayfs\"]\n");
    let names = tests::eventually("the host's abilities", || {
        let names = host.status()["abilities"].as_array().cloned();
        names.filter(|names| !names.is_empty())
    });
    let landlock = format!("landlock={}", sys::ability::landlock_version());
    for name in [landlock.as_str(), "seccomp", "overlayfs"] {
        assert!(names.contains(&json!(name)), "{name}: {names:?}");
    }
    assert_eq!(host.status()["missing-abilities"], json!([]));
    tests::eventually("the orchestrator's list", || {
        let agents = host.ask(&["agent", "list", "--json"]);
        let agents: serde_json::Value = serde_json::from_str(&agents).expect("JSON");
        (agents[0]["abilities"] == json!(names)).then_some(())
    });
}
