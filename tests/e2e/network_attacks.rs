//! What a hostile bot tries with its network, and what stays as it was.

use std::collections::BTreeSet;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tests::procs::running;
use tests::{Host, Options, Peers, eventually};

use crate::network::{TRY, host, names, run};

const PRIVATE: &str = "private = [\"10.231.0.0/16\", \"fd77::/16\"]";

/// Code and target of everything that was refused, as the orchestrator's events tell it.
fn refused(host: &Host) -> BTreeSet<(String, String)> {
    let text = |event: &serde_json::Value, key: &str| {
        let data = event
            .get("data")
            .filter(|data| data.is_object())
            .unwrap_or(event);
        data[key].as_str().unwrap_or_default().to_owned()
    };
    let events = host.events(100_801);
    events
        .iter()
        .map(|event| (text(event, "reason_code"), text(event, "asked")))
        .collect()
}

fn has(found: &BTreeSet<(String, String)>, code: &str, asked: &str) -> bool {
    found.contains(&(code.to_owned(), asked.to_owned()))
}

/// Everything that attack 33 names, in one bot.
const EVERYTHING: &str = r#"
import struct
def attempt(what, work):
    try: print(what, work())
    except OSError as error: print(what, type(error).__name__)
def query(name, kind=1):
    labels = b''.join(bytes([len(part)]) + part.encode() for part in name.split('.'))
    return struct.pack('!HHHHHH', 7, 0x100, 1, 0, 0, 0) + labels + b'\0' + struct.pack('!HH', kind, 1)
def asks(server, name, kind=1):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(20); one.sendto(query(name, kind), (server, 53)); answer = one.recv(512)
    return 'rcode %d answers %d' % (answer[3] & 15, struct.unpack('!H', answer[6:8])[0])
def datagram(host, port, family=socket.AF_INET):
    with socket.socket(family, socket.SOCK_DGRAM) as one:
        one.connect((host, port)); one.send(b'quic?'); one.settimeout(5); return one.recv(100)
print('port', talk(FOUR, 7002))
print('port of a name', talk('erp.test', 7001))
print('port over six', talk(SIX, 7002))
print('name', talk('other.test', 7000))
print('address', talk('10.231.200.200', 443))
print('metadata', talk('169.254.169.254', 80))
print('host', talk(NEAR, int(sys.argv[1])))
print('host by loopback', talk('127.0.0.1', int(sys.argv[1])))
print('egress itself', talk('127.0.0.1', 15))
attempt('quic', lambda: datagram(FOUR, 443))
attempt('quic over six', lambda: datagram(SIX, 443, socket.AF_INET6))
attempt('multicast', lambda: datagram('239.255.255.250', 1900))
attempt('ping', lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP))
attempt('raw', lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
attempt('packet', lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)))
attempt('tunnel', lambda: asks('9.9.9.9', 'c2VjcmV0.tunnel.test'))
attempt('tunnel by text', lambda: asks('9.9.9.9', 'erp.test', 16))
attempt('other resolver', lambda: asks('9.9.9.9', 'erp.test'))
print('allowed', talk('erp.test', 7000))
print('inherited', sorted(os.listdir('/proc/self/fd'))[:4], any('socket' in os.readlink('/proc/self/fd/' + fd) for fd in ('0', '1', '2')))
print('interfaces', sorted(name for _, name in socket.if_nameindex()))
"#;

#[test]
fn whatever_a_profile_does_not_name_is_refused_and_told() {
    let peers = Peers::start(&names());
    let host = host(&peers, &["erp.test:7000"], PRIVATE);
    // A service of the host, on all of its addresses.
    let service = std::net::TcpListener::bind("0.0.0.0:0").expect("a listener");
    let port = service.local_addr().expect("an address").port().to_string();
    let code = format!(
        "FOUR, SIX, NEAR = {:?}, {:?}, {:?}\n{EVERYTHING}",
        peers.four, peers.six, peers.near
    );
    let (report, said) = run(&host, &code, &["--arg", &port]);
    assert_eq!(report["outcome"], "SUCCEEDED", "{report:#}{said}");
    assert_eq!(
        said,
        "port ConnectionResetError\nport of a name ConnectionResetError\nport over six ConnectionResetError\n\
         name gaierror\naddress ConnectionResetError\nmetadata ConnectionResetError\nhost ConnectionResetError\n\
         host by loopback ConnectionRefusedError\negress itself ConnectionResetError\nquic PermissionError\n\
         quic over six PermissionError\nmulticast OSError\nping PermissionError\nraw PermissionError\n\
         packet PermissionError\ntunnel rcode 3 answers 0\ntunnel by text rcode 0 answers 0\n\
         other resolver rcode 0 answers 1\nallowed helloend 5\n\ninherited ['0', '1', '2', '3'] False\n\
         interfaces ['lo']\n"
    );
    let found = refused(&host);
    for (code, asked) in [
        ("PORT_NOT_ALLOWED", format!("tcp {}:7001", peers.four)),
        ("PORT_NOT_ALLOWED", format!("tcp {}:7002", peers.four)),
        ("NAME_NOT_ALLOWED", "name other.test".to_owned()),
        ("NAME_NOT_ALLOWED", "name c2vjcmv0.tunnel.test".to_owned()),
        ("ADDRESS_NOT_ALLOWED", "tcp 10.231.200.200:443".to_owned()),
        ("ADDRESS_FORBIDDEN", "tcp 169.254.169.254:80".to_owned()),
        ("ADDRESS_FORBIDDEN", format!("tcp {}:{port}", peers.near)),
        ("ADDRESS_FORBIDDEN", "the egress itself".to_owned()),
        ("PROTOCOL_NOT_ALLOWED", format!("udp {}:443", peers.four)),
        ("PROTOCOL_NOT_ALLOWED", format!("udp [{}]:443", peers.six)),
    ] {
        assert!(
            has(&found, code, &asked)
                || (code == "PORT_NOT_ALLOWED" && has(&found, "ADDRESS_NOT_ALLOWED", &asked)),
            "{code} {asked}: {found:#?}"
        );
    }
    let heard = peers.heard();
    // The orchestrator's own name is looked up by the egress, to keep the bot from its addresses.
    let only = |line: &String| {
        line == "ready"
            || line == "tcp 7000"
            || ["dns erp.test ", "dns localhost "]
                .iter()
                .any(|own| line.starts_with(own))
    };
    assert!(heard.iter().all(only), "{heard:?}");
    service.set_nonblocking(true).expect("a listener");
    assert!(service.accept().is_err(), "nobody reached the host");
    assert_eq!(
        report["network"]["connections"], 1,
        "{:#}",
        report["network"]
    );
    assert!(
        report["network"]["refused"].as_u64() >= Some(12),
        "{:#}",
        report["network"]
    );
    host.assert_nothing_left();
}

#[test]
fn a_name_that_leads_elsewhere_the_second_time_is_refused() {
    let known = json!({
        "flip.test": [["FOUR"], ["127.0.0.1"]],
        "meta.test": [["169.254.169.254"]],
        "inner.test": [["192.168.77.7"]],
        "both.test": [["127.0.0.1", "FOUR"]],
    });
    let peers = Peers::start(&known);
    let allow = [
        "flip.test:*",
        "meta.test:*",
        "inner.test:*",
        "both.test:7000",
    ];
    let host = host(&peers, &allow, &format!("{PRIVATE}\nproxy = true"));
    // Its resolver says one second; the bot asks until it hears something else.
    let code = "import time\n\
        print('first', talk('flip.test', 7000))\n\
        began = time.monotonic()\n\
        def holds():\n    try: return socket.gethostbyname('flip.test') and time.monotonic() - began < 60\n    except OSError: return False\n\
        while holds(): time.sleep(0.1)\n\
        print('then', talk('flip.test', 7000))\n\
        print('by proxy', get('http://flip.test:8080/', {'http': os.environ['http_proxy']}))\n\
        for name in ('meta.test', 'inner.test'): print(name, talk(name, 80))\n\
        print('both', talk('both.test', 7000))\n";
    let (report, said) = run(&host, code, &[]);
    assert_eq!(report["outcome"], "SUCCEEDED", "{report:#}{said}");
    assert_eq!(
        said,
        "first helloend 5\n\nthen gaierror\nby proxy 403\nmeta.test gaierror\ninner.test gaierror\nboth helloend 5\n\n"
    );
    let found = refused(&host);
    assert!(
        has(&found, "ADDRESS_FORBIDDEN", "name flip.test"),
        "{found:#?}"
    );
    assert!(
        has(&found, "ADDRESS_FORBIDDEN", "name meta.test"),
        "{found:#?}"
    );
    assert!(has(&found, "NAME_REBOUND", "name inner.test"), "{found:#?}");
    host.assert_nothing_left();
}

#[test]
fn the_proxy_leads_to_what_the_profile_names_and_nowhere_else() {
    let peers = Peers::start(&names());
    let host = host(
        &peers,
        &["erp.test:7000", "*.sub.erp.test:8080"],
        &format!("{PRIVATE}\nproxy = true"),
    );
    let orchestrator =
        std::fs::read(host.dir.join("orchestrator/addresses.json")).expect("addresses");
    let orchestrator: serde_json::Value = serde_json::from_slice(&orchestrator).expect("JSON");
    let link = orchestrator["link"]
        .as_str()
        .expect("an address")
        .to_owned();
    let code = r#"
def tunnel(to):
    with socket.create_connection(('127.0.0.1', 3128), 20) as one:
        one.sendall(b'CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n' % to.encode())
        head = one.recv(4096).split(b'\r\n')[0].decode()
        if '200' not in head: return head
        one.sendall(b'hello'); one.shutdown(socket.SHUT_WR)
        heard = b''
        while more := one.recv(4096): heard += more
        return heard.decode()
print('page', get('http://www.sub.erp.test:8080/x', None or {'http': os.environ['HTTP_PROXY']}))
print('other', get('http://other.test:8080/x', {'http': os.environ['HTTP_PROXY']}))
print('tunnel', tunnel('erp.test:7000'))
for to in sys.argv[1:]: print(to.split(':')[-1] if to.startswith('127') else to, tunnel(to))
with socket.create_connection(('127.0.0.1', 3128), 20) as one:
    one.sendall(b'GET http://www.sub.erp.test:8080/ HTTP/1.1\r\n' + b'X: ' + b'y' * 40000 + b'\r\n\r\n')
    print('long', one.recv(4096).split(b'\r\n')[0].decode())
"#;
    let to = [
        "erp.test:7001",
        "other.test:7000",
        "[::1]:7000",
        "169.254.169.254:80",
        "nonsense",
        link.as_str(),
    ];
    let arguments: Vec<&str> = to.iter().flat_map(|to| ["--arg", *to]).collect();
    let (report, said) = run(&host, code, &arguments);
    assert_eq!(report["outcome"], "SUCCEEDED", "{report:#}{said}");
    let port = link.rsplit(':').next().expect("a port");
    let forbidden = "HTTP/1.1 403 Forbidden";
    assert_eq!(
        said,
        format!(
            "page page /x of www.sub.erp.test:8080\nother 403\ntunnel helloend 5\n\nerp.test:7001 {forbidden}\n\
             other.test:7000 {forbidden}\n[::1]:7000 {forbidden}\n169.254.169.254:80 {forbidden}\n\
             nonsense HTTP/1.1 400 Bad Request\n{port} {forbidden}\n\
             long HTTP/1.1 431 Request Header Fields Too Large\n"
        )
    );
    let found = refused(&host);
    assert!(
        has(&found, "ADDRESS_FORBIDDEN", &format!("proxy {link}")),
        "{found:#?}"
    );
    let network = &report["network"];
    let peer = network["peers"]
        .as_array()
        .expect("peers")
        .iter()
        .find(|peer| peer["port"] == 7000);
    let peer = peer.expect("the echo");
    assert_eq!(
        (&peer["name"], &peer["bytes_sent"]),
        (&json!("erp.test"), &json!(5)),
        "{network:#}"
    );
    assert_eq!(peer["bytes_received"], 11, "{network:#}");
    host.assert_nothing_left();
}

#[test]
fn a_profile_that_the_host_does_not_have_starts_nothing() {
    let host = Host::start(&Options::default());
    let package = host.push_python("bot", "print('ran')");
    for profile in ["host", "erp", "None"] {
        let report = host.run_job(&package, &["--network", profile]);
        assert_eq!(report["outcome"], "NOT_STARTED", "{report:#}");
        assert!(
            report.to_string().contains("NETWORK_NOT_ALLOWED"),
            "{report:#}"
        );
    }
    let report = host.run_job(&package, &[]);
    assert_eq!(
        report["outcome"], "SUCCEEDED",
        "none is allowed: {report:#}"
    );
    host.assert_nothing_left();
}

#[test]
fn two_jobs_at_once_meet_by_no_abstract_socket_and_no_port() {
    let peers = Peers::start(&names());
    let host = Host::start(&Options {
        slots: 2,
        licenses: 2,
        policy: peers.policy(&["erp.test:7000"], PRIVATE),
        ..Options::default()
    });
    let waits = format!(
        "{TRY}import threading\n\
         one = socket.socket(socket.AF_UNIX); one.bind('\\0rendezvous'); one.listen()\n\
         two = socket.socket(); two.bind(('0.0.0.0', 9000)); two.listen()\n\
         print('up', flush=True)\nthreading.Event().wait()\n"
    );
    let seeks = format!(
        "{TRY}def meets():\n    try: socket.socket(socket.AF_UNIX).connect('\\0rendezvous'); return True\n    except OSError: return False\n\
         print(meets(), talk('127.0.0.1', 9000), sum('@' in line for line in open('/proc/net/unix')))\n"
    );
    let first = host.push_python("first", &waits);
    let job = host.submit(&first, &["--network", "erp", "--stop-grace", "1s"]);
    host.says(&job, "up");
    let second = host.push_python("second", &seeks);
    for network in ["erp", "none"] {
        let report = host.run_job(&second, &["--network", network]);
        let id = report["job_id"].as_str().expect("an id");
        let said = String::from_utf8(host.stream(id, "stdout")).expect("text");
        assert_eq!(
            said, "False ConnectionRefusedError 0\n",
            "{network}: {report:#}"
        );
    }
    host.ask(&["job", "stop", &job]);
    assert_eq!(host.report(&job)["outcome"], "STOPPED");
    host.assert_nothing_left();
}

/// Rules, routes, interfaces and settings of the host's own network.
fn state() -> String {
    let run = |program: &str, args: &[&str]| {
        let output = Command::new(program)
            .args(args)
            .output()
            .expect("a program");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let all = [
        run("/usr/sbin/nft", &["list", "ruleset"]),
        run("/usr/sbin/ip", &["route", "show", "table", "all"]),
        run("/usr/sbin/ip", &["-o", "link"]),
        run("/usr/sbin/ip", &["rule"]),
        run("/usr/sbin/sysctl", &["-a", "--pattern", "^net"]),
    ];
    // What counts instead of being set, and the cables of other tests on this machine (this file's
    // hosts, the testbed's machines), which come and go meanwhile.
    let moves = [
        "_count", "10.231.", "fd77:", "ve-tb", "vb-tb", "rn1a", "rn2a", "rn3a", "rn4a", "rn5a",
        "rn6a", "rn7a", "rn8a", "rn9a",
    ];
    let all = all.join("\n");
    let stays = |line: &&str| !moves.iter().any(|word| line.contains(word));
    all.lines().filter(stays).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_hosts_own_firewall_routes_and_sysctls_are_as_before() {
    let peers = Peers::start(&names());
    let host = host(&peers, &["erp.test:7000"], PRIVATE);
    let before = state();
    let package = host.push_python(
        "bot",
        &format!("{TRY}import threading\nprint('up', talk('erp.test', 7000), flush=True)\nthreading.Event().wait()\n"),
    );
    let job = host.submit(&package, &["--network", "erp", "--stop-grace", "1s"]);
    host.says(&job, "up helloend");
    assert_eq!(state(), before, "while it runs");
    host.ask(&["job", "stop", &job]);
    assert_eq!(host.report(&job)["outcome"], "STOPPED");
    assert_eq!(state(), before, "afterwards");
    host.assert_nothing_left();
}

fn egress_of(host: &Host) -> Option<i32> {
    let name = &host.slots.egresses()[0];
    let account = sys::account::by_name(name)
        .expect("a look-up")
        .expect("the account");
    running("robotd-egress", account.uid.as_raw())
        .first()
        .copied()
}

fn kill_egress(host: &Host) {
    let pid = eventually("an egress", || egress_of(host));
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("a kill");
    eventually("its end", || (egress_of(host) != Some(pid)).then_some(()));
}

#[test]
fn an_egress_that_is_killed_breaks_connections_and_leads_nowhere_else_and_the_fourth_time_ends_the_job()
 {
    let peers = Peers::start(&names());
    let host = host(&peers, &["erp.test:7000"], PRIVATE);
    let code = r#"
one = socket.create_connection(('erp.test', 7000), 20)
one.sendall(b'WAIT'); print('open', one.recv(100), flush=True)
try: print('broken', one.recv(100), flush=True)
except OSError as error: print('broken', type(error).__name__, flush=True)
print('again', talk('erp.test', 7000), flush=True)
print('refused', talk(sys.argv[1], 7002), flush=True)
import threading; threading.Event().wait()
"#;
    let package = host.push_python("bot", &format!("{TRY}{code}"));
    let job = host.submit(
        &package,
        &[
            "--network",
            "erp",
            "--arg",
            &peers.four,
            "--stop-grace",
            "1s",
        ],
    );
    host.says(&job, "open b'waited");
    kill_egress(&host);
    host.says(&job, "refused ConnectionResetError");
    let said = String::from_utf8(host.stream(&job, "stdout")).expect("text");
    assert!(
        said.contains("broken") && said.contains("again helloend 5"),
        "{said}"
    );
    for _ in 0..3 {
        kill_egress(&host);
    }
    let report = host.report(&job);
    assert_eq!(
        (&report["outcome"], &report["code"]),
        (&json!("INTERRUPTED"), &json!("EGRESS_LOST")),
        "{report:#}"
    );
    assert!(!host.events(100_802).is_empty());
    // What the lost ones had told is in the sums.
    assert!(
        report["network"]["connections"].as_u64() >= Some(1),
        "{:#}",
        report["network"]
    );
    host.assert_nothing_left();
}

#[test]
fn a_flood_of_connections_waits_and_takes_bounded_memory() {
    let peers = Peers::start(&names());
    let host = host(
        &peers,
        &["erp.test:7000"],
        &format!("{PRIVATE}\nconnections = 8"),
    );
    let code = r#"
held = []
for number in range(60):
    one = socket.socket(); one.setblocking(False)
    try: one.connect((sys.argv[1], 7000))
    except BlockingIOError: pass
    held.append(one)
socket.gethostbyname('erp.test')
print('held', flush=True)
import threading; threading.Event().wait()
"#;
    let package = host.push_python(
        "bot",
        &format!("{TRY}socket.gethostbyname('erp.test')\n{code}"),
    );
    let job = host.submit(
        &package,
        &[
            "--network",
            "erp",
            "--arg",
            &peers.four,
            "--stop-grace",
            "1s",
        ],
    );
    host.says(&job, "held");
    eventually("the limit to be told", || {
        refused(&host)
            .iter()
            .any(|(code, _)| code == "CONNECTION_LIMIT")
            .then_some(())
    });
    let opened = peers
        .heard()
        .iter()
        .filter(|line| *line == "tcp 7000")
        .count();
    assert!(opened <= 8, "{opened} connections");
    let pid = egress_of(&host).expect("an egress");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a status");
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("a size");
    let kib: u64 = kib
        .trim()
        .trim_end_matches(" kB")
        .trim()
        .parse()
        .expect("a number");
    assert!(kib < 32 * 1024, "{kib} KiB");
    host.ask(&["job", "stop", &job]);
    assert_eq!(host.report(&job)["outcome"], "STOPPED");
    host.assert_nothing_left();
}
