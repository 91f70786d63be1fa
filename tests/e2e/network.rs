//! The network of a job: what its profile allows works for programs that know nothing of it, and is
//! counted.

use serde_json::{Value, json};
use tests::{Host, Options, Peers};

/// What every bot here begins with: one way to say what became of a connection.
pub(crate) const TRY: &str = r#"
import os, socket, sys, urllib.request
def talk(host, port, data=b'hello'):
    try:
        with socket.create_connection((host, port), 20) as one:
            one.sendall(data)
            one.shutdown(socket.SHUT_WR)
            heard = b''
            while more := one.recv(65536): heard += more
            return heard[-40:].decode()
    except OSError as error:
        # A reset that comes before the end of the sending is told by that.
        return 'ConnectionResetError' if error.errno in (32, 107) else type(error).__name__
def get(url, proxies=None):
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies if proxies is not None else {}))
        return opener.open(url, timeout=20).read().decode()
    except OSError as error:
        return getattr(error, 'code', type(error).__name__)
"#;

pub(crate) fn names() -> Value {
    json!({
        "erp.test": [["FOUR", "SIX"]],
        "www.sub.erp.test": [["FOUR"]],
        "other.test": [["FOUR"]],
    })
}

pub(crate) fn host(peers: &Peers, allow: &[&str], more: &str) -> Host {
    Host::start(&Options {
        policy: peers.policy(allow, more),
        ..Options::default()
    })
}

pub(crate) fn run(host: &Host, code: &str, more: &[&str]) -> (Value, String) {
    let package = host.push_python("bot", &format!("{TRY}{code}"));
    let report = host.run_job(&package, &[&["--network", "erp"], more].concat());
    let job = report["job_id"].as_str().expect("an id");
    let said = String::from_utf8(host.stream(job, "stdout")).expect("text");
    (report, said)
}

#[test]
fn allowed_names_and_addresses_are_reached_by_programs_that_know_nothing_of_it() {
    let peers = Peers::start(&names());
    let more = "private = [\"10.231.0.0/16\", \"fd77::/16\"]";
    let host = host(
        &peers,
        &[
            "erp.test:7000",
            "*.sub.erp.test:8080",
            "FOUR:7001",
            "[SIX]:7001",
        ],
        more,
    );
    let code = format!(
        "four, six = {:?}, {:?}\n\
         print('name', talk('erp.test', 7000))\n\
         print('large', talk('ERP.test', 7000, b'x' * 3_000_000))\n\
         print('page', get('http://www.sub.erp.test:8080/a?b=c'))\n\
         print('four', talk(four, 7001))\n\
         print('six', talk(six, 7001))\n\
         print('led', talk(six, 7000))\n\
         print(sorted({{info[4][0] for info in socket.getaddrinfo('erp.test', 7000)}}) == sorted([four, six]))\n\
         print('proxy' in str(os.environ).lower())\n",
        peers.four, peers.six
    );
    let (report, said) = run(&host, &code, &[]);
    assert_eq!(
        report["outcome"],
        "SUCCEEDED",
        "{report:#}{said}{}",
        host.all_logs()
    );
    assert_eq!(
        said,
        "name helloend 5\n\nlarge xxxxxxxxxxxxxxxxxxxxxxxxxxxxend 3000000\n\n\
         page page /a?b=c of www.sub.erp.test:8080\nfour helloend 5\n\nsix helloend 5\n\nled helloend 5\n\nTrue\nFalse\n"
    );
    let network = &report["network"];
    assert_eq!(network["profile"], "erp", "{report:#}");
    assert_eq!(network["refused"], 0, "{network:#}");
    assert_eq!(network["connections"], 6, "{network:#}");
    let heard = peers.heard();
    assert_eq!(
        heard.iter().filter(|line| line.starts_with("tcp")).count(),
        5,
        "{heard:?}"
    );
    host.assert_nothing_left();
}
