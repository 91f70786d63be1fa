//! Tenants on one host: an order gets what its tenant's entry names, and a slot stays with its
//! tenant.

use std::os::fd::AsFd as _;

use order::{AttemptRef, Outcome, Sha256Hex, SigningKey};
use privsep::Refusal;
use privsep::broker::{Reply, Request, StopMode};
use tests::Options;

use crate::robotd::{Robotd, Target, connect};

/// Every claim of this file.
pub(crate) const CLAIMS: &[(&str, fn())] = &[
    (
        "tenancy::an_order_gets_only_what_the_entry_of_its_tenant_names",
        ceiling,
    ),
    (
        "tenancy::no_slot_is_chosen_for_an_offer_of_another_tenant",
        chosen,
    ),
    (
        "tenancy::a_slot_keeps_its_tenant_over_a_restart_until_root_releases_it",
        kept,
    ),
    (
        "tenancy::without_a_network_no_tenant_meets_another_by_name_or_port",
        no_meeting,
    ),
    (
        "tenancy::shared_slots_pass_from_tenant_to_tenant_with_an_event",
        shared,
    ),
];

const CHANGED: u32 = 100_120;
const RELEASED: u32 = 100_121;
const UNSIGNED: &str = "[packages]\nallow-unsigned = true\n";

fn two_slots() -> Options {
    Options {
        slots: 2,
        policy: String::new(),
        ..Options::default()
    }
}

/// One for the first slot, one for the second.
fn entries(policy: String, accounts: &[String]) -> String {
    let (first, second) = (&accounts[0], &accounts[1]);
    policy
        + &format!(
            "{UNSIGNED}[network]\nprofiles = [\"none\", \"host\"]\n[[tenant]]\nname = \"acme\"\nslots = [\"{first}\"]\nsecrets = [\"erp\"]\n\
         [[tenant]]\nname = \"globex\"\nslots = [\"{second}\"]\nsecrets = [\"crm/*\"]\nnetworks = [\"host\"]\n"
        )
}

/// Starts an attempt and ends it at once: its package never comes.
fn job(target: &Target, robotd: &mut Robotd, tenant: &str) -> Result<String, String> {
    let attempt = Target::attempt();
    let (account, challenge) = robotd.reserve_for(attempt, tenant, None)?;
    let mut order = target.order(attempt, challenge, Sha256Hex([1; 32]));
    order.tenant = tenant.into();
    order.secrets = vec![];
    robotd.start(attempt, &target.sign(&order))?;
    let refusal = Refusal::new("PACKAGE_UNAVAILABLE", "it never comes");
    let failed = Request::PackageFailed { attempt, refusal };
    assert_eq!(robotd.ask(failed, &[]), Reply::Done);
    assert_eq!(robotd.result(attempt).0.outcome, Outcome::NotStarted);
    assert_eq!(robotd.ask(Request::Forget { attempt }, &[]), Reply::Done);
    Ok(account)
}

fn ceiling() {
    let publisher = SigningKey::generate().expect("a key").public();
    let target = Target::with(&two_slots(), |policy, accounts| {
        let entry = "[[publisher]]\nname = \"other\"\nkey";
        entries(policy, accounts) + &format!("{entry} = \"{}\"\n", publisher.to_base64())
    });
    let mut robotd = connect(&target.host);
    let attempt = Target::attempt();
    let (_, challenge) = robotd.reserve_for(attempt, "acme", None).expect("a slot");
    let mut refused = |change: &dyn Fn(&mut order::Order)| {
        let mut order = target.order(attempt, challenge, Sha256Hex([1; 32]));
        change(&mut order);
        let code = robotd.start(attempt, &target.sign(&order));
        code.expect_err("a refusal")
    };
    for (tenant, code) in [
        ("initech", "TENANT_NOT_ALLOWED"),
        ("", "TENANT_NOT_ALLOWED"),
        // A robotd that said another tenant when it reserved.
        ("globex", "SLOT_NOT_OF_TENANT"),
    ] {
        assert_eq!(
            refused(&|order| order.tenant = tenant.into()),
            code,
            "{tenant}"
        );
    }
    let id = publisher.id();
    assert_eq!(
        refused(&|order| order.publisher = Some(id.clone())),
        "PUBLISHER_NOT_OF_TENANT"
    );
    for name in ["crm/user", "erp2", "erp/user"] {
        assert_eq!(
            refused(&|order| order.secrets = vec![name.into()]),
            "SECRET_NOT_OF_TENANT",
            "{name}"
        );
    }
    assert_eq!(
        refused(&|order| order.account_secret = Some("crm/password".into())),
        "SECRET_NOT_OF_TENANT"
    );
    assert_eq!(
        refused(&|order| order.profiles.network = "host".into()),
        "NETWORK_NOT_OF_TENANT"
    );
    assert_eq!(
        refused(&|order| order.profiles.sandbox = "office".into()),
        "PROFILE_NOT_OF_TENANT"
    );
    assert!(robotd.events(100_203).len() >= 10, "each is an event");
    let order = target.order(attempt, challenge, Sha256Hex([1; 32]));
    assert_eq!(robotd.start(attempt, &target.sign(&order)), Ok(true));
}

fn chosen() {
    let target = Target::with(&two_slots(), entries);
    let mut robotd = connect(&target.host);
    let accounts = target.host.slots.accounts();
    let mut reserve = |tenant: &str, account: Option<&str>| {
        let reserved = robotd.reserve_for(Target::attempt(), tenant, account);
        reserved.map(|(account, _)| account)
    };
    assert_eq!(reserve("initech", None), Err("TENANT_NOT_ALLOWED".into()));
    assert_eq!(
        reserve("globex", Some(&accounts[0])),
        Err("SLOT_NOT_OF_TENANT".into())
    );
    // The first slot is free as well, and not for it.
    assert_eq!(reserve("globex", None), Ok(accounts[1].clone()));
    assert_eq!(reserve("globex", None), Err("NO_FREE_SLOT".into()));
    assert_eq!(reserve("acme", None), Ok(accounts[0].clone()));
    assert_eq!(
        robotd.events(100_403).len(),
        2,
        "refusals by tenant are events"
    );
}

fn kept() {
    let mut target = Target::new(&Options::default());
    let mut robotd = connect(&target.host);
    let account = target.host.slots.accounts()[0].clone();
    assert_eq!(job(&target, &mut robotd, "acme"), Ok(account.clone()));
    assert_eq!(job(&target, &mut robotd, "acme"), Ok(account.clone()));
    let refused = Err("SLOT_NOT_OF_TENANT".into());
    assert_eq!(job(&target, &mut robotd, "globex"), refused);
    target.host.kill_broker();
    target.host.start_broker();
    let mut robotd = connect(&target.host);
    assert_eq!(job(&target, &mut robotd, "globex"), refused);
    let listed = target.host.control(&["slot", "list", "--json"]);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    assert_eq!(listed[0]["tenant"], "acme", "{listed}");
    let released = target.host.control(&["slot", "release-tenant", &account]);
    assert!(released.status.success(), "{released:?}");
    assert_eq!(job(&target, &mut robotd, "globex"), Ok(account));
    assert_eq!(robotd.events(RELEASED).len(), 1);
    assert_eq!(job(&target, &mut robotd, "acme"), refused);
    let busy = robotd.reserve_for(Target::attempt(), "globex", None);
    assert!(busy.is_ok());
    let account = &target.host.slots.accounts()[0];
    let released = target.host.control(&["slot", "release-tenant", account]);
    let text = String::from_utf8_lossy(&released.stderr).into_owned();
    assert!(text.contains("SLOT_IN_USE"), "{text}");
}

fn shared() {
    let target = Target::with(&Options::default(), |policy, _| {
        policy.replace("[session]\n", "[session]\nshare-slots = true\n")
    });
    let mut robotd = connect(&target.host);
    for tenant in ["acme", "globex", "globex", "acme"] {
        assert!(job(&target, &mut robotd, tenant).is_ok(), "{tenant}");
    }
    let changes = robotd.events(CHANGED);
    assert_eq!(changes.len(), 2, "{changes:?}");
    assert!(changes[0].contains("acme") && changes[0].contains("globex"));
}

/// Waits where another could find it.
const WAITS: &str = "import socket, time
name = socket.socket(socket.AF_UNIX); name.bind('\\0of-acme'); name.listen()
port = socket.socket(); port.bind(('127.0.0.1', 47311)); port.listen()
time.sleep(1000)
";

/// Its exit code says what it found.
const LOOKS: &str = "import socket, sys
def connects(one, to):
    try: one.connect(to); return 1
    except OSError: return 0
sys.exit(connects(socket.socket(socket.AF_UNIX), '\\0of-acme') + 2 * connects(socket.socket(), ('127.0.0.1', 47311)))
";

fn begin(target: &Target, robotd: &mut Robotd, tenant: &str, code: &str) -> (AttemptRef, String) {
    let attempt = Target::attempt();
    let (digest, archive) = target.package(code);
    let reserved = robotd.reserve_for(attempt, tenant, None);
    let (account, challenge) = reserved.expect("a slot");
    let mut order = target.order(attempt, challenge, digest);
    order.tenant = tenant.into();
    assert_eq!(robotd.start(attempt, &target.sign(&order)), Ok(true));
    let asked = Request::Package { attempt };
    assert_eq!(robotd.ask(asked, &[archive.as_fd()]), Reply::Done);
    (attempt, account)
}

fn no_meeting() {
    let target = Target::new(&Options {
        slots: 2,
        ..Options::default()
    });
    let mut robotd = connect(&target.host);
    let (first, account) = begin(&target, &mut robotd, "acme", WAITS);
    robotd.await_phase(first, order::Phase::Running);
    let account = sys::account::by_name(&account).expect("a look-up");
    let uid = account.expect("the account").uid;
    tests::eventually("the first one's name", || {
        let bots = sys::account::processes_of_uid(uid).expect("processes");
        let names = bots
            .iter()
            .filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/net/unix")).ok());
        let mut names = names;
        names.any(|names| names.contains("@of-acme")).then_some(())
    });
    let (second, other) = begin(&target, &mut robotd, "globex", LOOKS);
    let (result, _) = robotd.result(second);
    assert_eq!(
        result.exit_code,
        Some(0),
        "1 = by name, 2 = by port: {result:#?}"
    );
    assert_ne!(other, target.host.slots.accounts()[0]);
    let mode = StopMode::Kill;
    assert_eq!(
        robotd.ask(
            Request::Stop {
                attempt: first,
                mode
            },
            &[]
        ),
        Reply::Done
    );
    assert_eq!(robotd.result(first).0.outcome, Outcome::Stopped);
}
