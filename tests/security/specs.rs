//! What an order may say: an orchestrator that was taken over asks for too much, or for what no
//! order can mean. Each gets its stable code where it belongs, and an event.

use order::{Order, Purpose, Sha256Hex};
use serde_json::{Value, json};
use tests::Options;

use crate::robotd::{Target, connect};

/// Every claim of this file.
pub(crate) const CLAIMS: &[(&str, fn())] = &[
    (
        "specs::an_order_that_asks_for_what_no_order_may_is_refused_with_its_code",
        refused,
    ),
    (
        "specs::no_name_that_loads_code_gets_into_the_bots_environment",
        environment,
    ),
];

/// The order as JSON with one thing changed, signed by the real key.
fn changes() -> Vec<(&'static str, &'static str, Value)> {
    let long = "x".repeat(5000);
    vec![
        ("ORDER_FIELD_REFUSED", "/entry", json!("../bot.py")),
        ("ORDER_FIELD_REFUSED", "/entry", json!("/bin/sh")),
        ("ORDER_FIELD_REFUSED", "/entry", json!("a/../../bot.py")),
        ("ORDER_FIELD_REFUSED", "/entry", json!("./bot.py")),
        ("ORDER_FIELD_REFUSED", "/entry", json!("bot.py\0.sh")),
        ("ORDER_FIELD_REFUSED", "/entry", json!(long)),
        ("ORDER_FIELD_REFUSED", "/entry", json!("")),
        ("ORDER_FIELD_REFUSED", "/args", json!(["a\0b"])),
        ("ORDER_FIELD_REFUSED", "/secrets", json!(["a b"])),
        ("ORDER_FIELD_REFUSED", "/secrets", json!(["e\0rp"])),
        ("ORDER_FIELD_REFUSED", "/secrets", json!(vec!["x"; 65])),
        ("ORDER_FIELD_REFUSED", "/account-secret", json!("erp")),
        ("ORDER_FIELD_REFUSED", "/limits/run-ms", json!(u64::MAX)),
        ("ORDER_FIELD_REFUSED", "/limits/volume-bytes", json!(0)),
        (
            "ORDER_FIELD_REFUSED",
            "/limits/stop-grace-ms",
            json!(1_u64 << 40),
        ),
        (
            "LIMIT_ABOVE_POLICY",
            "/limits/volume-bytes",
            json!(1_u64 << 39),
        ),
        (
            "LIMIT_ABOVE_POLICY",
            "/limits/run-ms",
            json!(6 * 24 * 3_600_000_u64),
        ),
        ("ORDER_MALFORMED", "/limits/run-ms", json!(-1)),
        ("ORDER_MALFORMED", "/limits/run-ms", json!(1.5)),
        ("ORDER_MALFORMED", "/limits/run-ms", json!("60000")),
        ("ORDER_MALFORMED", "/limits/run-as", json!("root")),
        ("ORDER_MALFORMED", "/lease/fence", json!(-7)),
        ("ORDER_MALFORMED", "/run-as", json!("root")),
        ("ORDER_MALFORMED", "/interpreter", json!("/bin/sh")),
        ("ORDER_MALFORMED", "/cwd", json!("../..")),
        ("ORDER_MALFORMED", "/screenshots/format", json!("bmp")),
        ("ORDER_MALFORMED", "/package", json!("../../etc")),
        ("ORDER_MALFORMED", "/v", json!(2)),
        ("ACCOUNT_NOT_ALLOWED", "/account", json!("root")),
        ("ACCOUNT_NOT_ALLOWED", "/account", json!("robotd")),
        ("ACCOUNT_NOT_ALLOWED", "/account", json!("nobody")),
        ("ACCOUNT_NOT_ALLOWED", "/account", json!("1000")),
        ("ACCOUNT_NOT_ALLOWED", "/account", json!("../root")),
        ("ACCOUNT_NOT_ALLOWED", "/account", json!("")),
        ("PROFILE_NOT_ALLOWED", "/profiles/sandbox", json!("")),
        (
            "PROFILE_NOT_ALLOWED",
            "/profiles/sandbox",
            json!("script\0"),
        ),
        ("NETWORK_NOT_ALLOWED", "/profiles/network", json!("../host")),
        ("LEASE_FROM_FUTURE", "/lease/ticks-ns", json!(u64::MAX)),
        ("LEASE_ENDED", "/lease/ttl-ms", json!(0)),
    ]
}

fn put(order: &Order, place: &str, value: Value) -> Vec<u8> {
    let mut whole = serde_json::to_value(order).expect("JSON");
    let (parent, name) = place.rsplit_once('/').expect("a place");
    let parent = whole.pointer_mut(parent).expect("a place");
    parent[name] = value;
    serde_json::to_vec(&whole).expect("JSON")
}

fn refused() {
    let target = Target::new(&Options::default());
    let mut robotd = connect(&target.host);
    let attempt = Target::attempt();
    let challenge = robotd.reserve(attempt);
    let order = target.order(attempt, challenge, Sha256Hex([1; 32]));
    let mut wrong = Vec::new();
    let changes = changes();
    let count = changes.len();
    for (code, place, value) in changes {
        let shown: String = value.to_string().chars().take(40).collect();
        let body = put(&order, place, value);
        let refused = robotd.start(attempt, &target.orders.sign(Purpose::Order, body));
        if refused.as_ref().err().map(String::as_str) != Some(code) {
            wrong.push(format!("{place} = {shown}: {refused:?} instead of {code}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let events = robotd.events(100_203);
    assert_eq!(events.len(), count, "each is an event");
    let body = serde_json::to_vec(&order).expect("JSON");
    for (what, body) in [
        ("a field twice", [b"{\"v\":1,", &body[1..]].concat()),
        ("more behind it", [body.as_slice(), b"{}"].concat()),
        ("another object", b"[]".to_vec()),
        ("no UTF-8", body.iter().map(|byte| byte | 0x80).collect()),
        ("deep nesting", b"[".repeat(60_000)),
    ] {
        let refused = robotd.start(attempt, &target.orders.sign(Purpose::Order, body));
        assert_eq!(refused, Err("ORDER_MALFORMED".into()), "{what}");
    }
    assert_eq!(robotd.start(attempt, &target.sign(&order)), Ok(true));
}

fn environment() {
    let target = Target::new(&Options::default());
    let mut robotd = connect(&target.host);
    let attempt = Target::attempt();
    let challenge = robotd.reserve(attempt);
    for name in [
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "LD_AUDIT",
        "PYTHONPATH",
        "PYTHONSTARTUP",
        "PYTHONHOME",
        "PERL5LIB",
        "PERL5OPT",
        "RUBYOPT",
        "NODE_OPTIONS",
        "NODE_PATH",
        "JAVA_TOOL_OPTIONS",
        "_JAVA_OPTIONS",
        "BASH_ENV",
        "ENV",
        "SHELLOPTS",
        "IFS",
        "PATH",
        "GCONV_PATH",
        "GTK_MODULES",
        "QT_PLUGIN_PATH",
        "HOME",
        "USER",
        "XDG_RUNTIME_DIR",
        "ROBOT_SOCKET",
        "A=B",
        "",
        "1A",
        "A\0B",
        "A B",
        "Ä",
    ] {
        let mut order = target.order(attempt, challenge, Sha256Hex([1; 32]));
        order.env.insert(name.into(), "x".into());
        let refused = robotd.start(attempt, &target.sign(&order));
        assert_eq!(refused, Err("ORDER_FIELD_REFUSED".into()), "{name:?}");
    }
    let mut order = target.order(attempt, challenge, Sha256Hex([1; 32]));
    order.env.insert("LANG".into(), "C.UTF-8".into());
    assert_eq!(robotd.start(attempt, &target.sign(&order)), Ok(true));
}
