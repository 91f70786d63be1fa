//! Another host, as far as a network goes: a namespace of its own behind a veth pair, with servers. So no
//! claim about the network needs anybody else's.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;

const SERVER: &str = include_str!("server.py");

/// A host beside the one under test: TCP echo at 7000 to 7002, UDP echo at 443 and 7000, pages at 8080,
/// a resolver. Gone when dropped.
pub struct Peers {
    namespace: String,
    /// Its IPv4 address.
    pub four: String,
    /// Its IPv6 address.
    pub six: String,
    /// This host's end of the cable.
    pub near: String,
    server: Child,
    heard: Arc<Mutex<Vec<String>>>,
}

fn ip(args: &[&str]) {
    let done = Command::new("/usr/sbin/ip")
        .args(args)
        .output()
        .expect("ip(8)");
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "ip {args:?}: {said}");
}

impl Peers {
    /// Starts it. `names` is what its resolver knows: a name to its answers, each a list of addresses, of
    /// which the last one stays. `FOUR` and `SIX` stand for its own addresses.
    ///
    /// # Panics
    /// When namespace, cable or servers can't be made.
    pub fn start(names: &Value) -> Self {
        static NUMBER: AtomicU8 = AtomicU8::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("rbt{}n{number}", std::process::id());
        let (near, far) = (format!("rn{number}a{}", std::process::id()), "far");
        let at = |host: u8| {
            (
                format!("10.231.{number}.{host}"),
                format!("fd77:{number:x}::{host}"),
            )
        };
        let ((near4, near6), (four, six)) = (at(1), at(2));
        ip(&["netns", "add", &namespace]);
        ip(&[
            "link", "add", &near, "type", "veth", "peer", "name", far, "netns", &namespace,
        ]);
        ip(&["addr", "add", &format!("{near4}/30"), "dev", &near]);
        ip(&[
            "-6",
            "addr",
            "add",
            &format!("{near6}/64"),
            "dev",
            &near,
            "nodad",
        ]);
        ip(&["link", "set", &near, "up"]);
        let inside = ["-n", &namespace];
        ip(&[&inside[..], &["link", "set", "lo", "up"]].concat());
        ip(&[
            &inside[..],
            &["addr", "add", &format!("{four}/30"), "dev", far],
        ]
        .concat());
        ip(&[
            &inside[..],
            &[
                "-6",
                "addr",
                "add",
                &format!("{six}/64"),
                "dev",
                far,
                "nodad",
            ],
        ]
        .concat());
        ip(&[&inside[..], &["link", "set", far, "up"]].concat());
        let names = names
            .to_string()
            .replace("FOUR", &four)
            .replace("SIX", &six);
        let mut server = Command::new("/usr/sbin/ip")
            .args([
                "netns",
                "exec",
                &namespace,
                "/usr/bin/python3",
                "-c",
                SERVER,
            ])
            .args([&names, &four, &six])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the servers start");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(server.stdout.take().expect("a pipe")).lines();
        let writes = Arc::clone(&heard);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                writes.lock().expect("a list").push(line);
            }
        });
        let peers = Self {
            namespace,
            four,
            six,
            near: near4,
            server,
            heard,
        };
        crate::eventually("the servers", || {
            peers.heard().contains(&"ready".to_owned()).then_some(())
        });
        peers
    }

    /// What arrived there so far, a line each.
    ///
    /// # Panics
    /// Never, but for a panic elsewhere.
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().expect("a list").clone()
    }

    /// A policy whose profile `erp` has these rules, with `FOUR` and `SIX` as above, and asks the
    /// resolver there.
    pub fn policy(&self, allow: &[&str], more: &str) -> String {
        let rules: Vec<String> = allow.iter().map(|rule| format!("{rule:?}")).collect();
        let text = format!(
            "[packages]\nallow-unsigned = true\n[network]\nprofiles = [\"none\", \"host\"]\n\
             resolvers = [\"FOUR\"]\n[[network.profile]]\nname = \"erp\"\nallow = [{}]\n{more}\n",
            rules.join(", ")
        );
        text.replace("FOUR", &self.four).replace("SIX", &self.six)
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        // The cable goes with the namespace.
        let _ = Command::new("/usr/sbin/ip")
            .args(["netns", "del", &self.namespace])
            .status();
    }
}
