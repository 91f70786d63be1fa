//! Where fuzzing starts from: one honest specimen of each thing that the parsers take, and the forms
//! of attack that the tests know, so that mutation starts behind the first check and not before it.

use order::{AttemptRef, KeyId, Limits, Phase, PhaseAt, Purpose, Sha256Hex};
use package::{Digest, Draft, FileEntry, Manifest, PackagePath, PrivateKey};
use privsep::{Refusal, admin, attendant, broker as calls, doorbell, session};
use serde::Serialize;
use serde_json::json;

use super::claims::{HOST, NOW};

/// A target's name with its seeds.
pub(crate) fn all() -> [(&'static str, Vec<Vec<u8>>); 5] {
    [
        ("decoder", decoder()),
        ("policy", policy()),
        ("order", order()),
        ("archive", archive()),
        ("mountinfo", mountinfo()),
    ]
}

fn behind(door: u8, bytes: &[u8]) -> Vec<u8> {
    [&[door], bytes].concat()
}

fn packet<T: Serialize>(door: u8, message: &T) -> Vec<u8> {
    behind(door, &privsep::encode(message).expect("fits a packet"))
}

fn decoder() -> Vec<Vec<u8>> {
    let attempt = HOST.attempt;
    let refusal = || Refusal::new("SLOT_QUARANTINED", "two keys are left");
    let name = || "portal/password".to_owned();
    let at = PhaseAt {
        phase: Phase::Running,
        at_unix_ms: NOW,
    };
    let call = |request| packet(0, &calls::Call { number: 7, request });
    let reply = |reply| packet(1, &calls::Answer::Reply { number: 7, reply });
    let slot = calls::Slot {
        account: "robot01".into(),
        state: calls::SlotState::Quarantined(refusal()),
    };
    let held = calls::Held {
        attempt,
        state: calls::HeldState::Running(Phase::Running),
        timeline: vec![at; 9],
    };
    let swept = session::Swept {
        swept: vec!["sysv-shm: 2".into()],
        leftovers: vec![],
        processes_killed: 3,
    };
    vec![
        call(calls::Request::Hello {
            version: privsep::VERSION,
        }),
        call(calls::Request::Sync),
        call(calls::Request::Reserve {
            attempt,
            account: Some("robot01".into()),
            tenant: "acme".into(),
            package: Sha256Hex([7; 32]),
        }),
        call(calls::Request::Start {
            attempt,
            key_id: KeyId("00".repeat(8)),
            signature: vec![1; 64],
        }),
        call(calls::Request::Renew {
            attempt,
            renewal: HOST.key.sign(Purpose::Renewal, renewal(attempt)),
        }),
        call(calls::Request::Stop {
            attempt,
            mode: calls::StopMode::Kill,
        }),
        call(calls::Request::Secret {
            attempt,
            name: name(),
            encapsulated_key: vec![2; 32],
            ciphertext: vec![3; 48],
        }),
        call(calls::Request::SecretFailed {
            attempt,
            name: name(),
            refusal: refusal(),
        }),
        reply(calls::Reply::Held(vec![held])),
        reply(calls::Reply::Reserved {
            account: "robot01".into(),
            challenge: [9; 32],
            package_cached: true,
        }),
        packet(1, &calls::Answer::Notice(calls::Notice::Slot(slot.clone()))),
        packet(
            2,
            &session::FromSession::Hello {
                attempt,
                timeline: Some(vec![at]),
            },
        ),
        packet(
            2,
            &session::FromSession::TornDown {
                swept,
                volume: None,
            },
        ),
        packet(
            2,
            &session::FromSession::Notice {
                kind: session::NoticeKind::ArtifactRefused,
                refusal: refusal(),
            },
        ),
        packet(
            3,
            &session::ToSession::LeaseUntil {
                boottime_ns: u64::MAX,
            },
        ),
        packet(
            3,
            &session::ToSession::SecretRefused {
                name: name(),
                refusal: refusal(),
            },
        ),
        packet(
            4,
            &attendant::FromAttendant::Finished(attendant::Totals::default()),
        ),
        packet(
            5,
            &attendant::ToAttendant::Display {
                number: 99,
                vnc: true,
                cookie: [5; 16],
            },
        ),
        packet(
            5,
            &attendant::ToAttendant::Artifact {
                name: b"out/\xff.csv".to_vec(),
            },
        ),
        packet(
            6,
            &doorbell::FromAttendant::Written {
                epoch: [1; 16],
                last_seq: 1 << 40,
                ended: true,
            },
        ),
        packet(
            7,
            &doorbell::ToAttendant::Watch {
                most_per_second: 10,
            },
        ),
        packet(
            8,
            &admin::Request::Recover {
                account: "robot01".into(),
            },
        ),
        packet(
            9,
            &admin::Reply::Slots(vec![admin::SlotLine {
                slot,
                tenant: Some("acme".into()),
                bound_to: vec![],
            }]),
        ),
        // A list that claims to be longer than any packet, and a number that never ends.
        vec![9, 0, 0xff, 0xff, 0xff, 0xff, 0x0f],
        vec![
            0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        ],
    ]
}

fn policy() -> Vec<Vec<u8>> {
    let shipped = include_str!("../../packaging/policy.toml");
    let odd = [
        "",
        "[[slot]]\naccount = \"root\"\nattendant = \"x\"\n",
        "[[slot]]\naccount = \"a\"\nattendant = \"a\"\n",
        "[interpreters]\npy = \"usr/bin/python3\"\n",
        "[limits]\nrun-minutes = -1\n",
        "[paths]\nstate = \"/var/../etc\"\n",
    ];
    let mut seeds = vec![shipped.as_bytes().to_vec()];
    seeds.extend(odd.map(|text| text.as_bytes().to_vec()));
    seeds
}

fn renewal(attempt: AttemptRef) -> Vec<u8> {
    let renewal = json!({"v": 1, "attempt": attempt, "agent": HOST.agent, "lease": HOST.agent,
        "fence": 1, "ttl-ms": 60_000, "ticks-ns": 1});
    renewal.to_string().into_bytes()
}

/// An order that this host takes.
pub(crate) fn honest_order() -> serde_json::Value {
    json!({
        "v": 1, "attempt": HOST.attempt, "agent": HOST.agent, "challenge": HOST.challenge.to_base64(),
        "not-before-unix-ms": NOW, "not-after-unix-ms": NOW + 60_000, "package": Sha256Hex([7; 32]),
        "entry": "bot.py", "args": ["--month", "11"], "env": {"LANG": "de_DE.UTF-8"}, "params": {"rows": [1, 2]},
        "display": {"kind": "xvfb", "width": 1280, "height": 800, "depth": 24},
        "screenshots": order::Screenshots::default(), "limits": Limits::default(), "secrets": ["portal/password"],
        "profiles": {"sandbox": "script", "network": "none"},
        "lease": {"id": HOST.agent, "fence": 1, "pool": "p", "ttl-ms": 1, "ticks-ns": 1},
        "hard-end-ms": 1000, "tenant": "t", "requester": "r", "data-class": "internal",
    })
}

fn order() -> Vec<Vec<u8>> {
    let with = |key: &str, value: serde_json::Value| {
        let mut order = honest_order();
        order[key] = value;
        behind(0, order.to_string().as_bytes())
    };
    let signed = HOST
        .key
        .sign(Purpose::Result, honest_order().to_string().into_bytes());
    vec![
        with("v", json!(1)),
        with("entry", json!("../../bin/sh")),
        with("env", json!({"LD_PRELOAD": "/tmp/x.so"})),
        with("args", json!(["a\0b"])),
        with("unknown", json!(null)),
        with("not-after-unix-ms", json!(u64::MAX)),
        behind(1, &[&signed.signature[..], &signed.body].concat()),
        behind(2, &renewal(HOST.attempt)),
        behind(
            3,
            br#"{"v":1,"outcome":"FAILED","code":"","detail":"","exit-code":null,"timeline":[]}"#,
        ),
    ]
}

const FILES: [(&str, &[u8]); 3] = [
    ("a.txt", b"first"),
    ("bot.py", b"print(1)"),
    ("z/last.txt", b"last"),
];

/// A signed package as its stream of tar.
fn tar() -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let path = |text: &str| PackagePath::parse(text).expect("a valid path");
    let file = |(name, contents): &(&str, &[u8])| FileEntry {
        path: path(name),
        size: contents.len() as u64,
        executable: false,
        sha256: Digest::of(contents),
    };
    let draft = Draft {
        name: "forged".into(),
        version: "1".into(),
        entry: path("bot.py"),
        language: None,
        automation: None,
        files: FILES.iter().map(file).collect(),
    };
    let manifest = Manifest::new(draft)
        .expect("valid")
        .encode()
        .expect("encodes");
    let signature = PrivateKey::generate()
        .expect("a key")
        .sign(&manifest)
        .encode();
    let mut tar = entry("manifest.json", &manifest);
    tar.extend(entry("manifest.sig", &signature));
    for (name, contents) in FILES {
        tar.extend(entry(&format!("files/{name}"), contents));
    }
    tar.extend([0; 1024]);
    (tar, manifest, signature)
}

/// One entry as POSIX describes it.
fn entry(name: &str, contents: &[u8]) -> Vec<u8> {
    let mut header = [0; 512];
    let mut put =
        |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", contents.len()));
    put(136, "00000000000\0");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut entry = header.to_vec();
    entry.extend_from_slice(contents);
    entry.resize(entry.len().next_multiple_of(512), 0);
    entry
}

/// A package that is opened without complaint.
pub(crate) fn honest_archive() -> Vec<u8> {
    zstd::bulk::compress(&tar().0, 1).expect("compressed")
}

fn archive() -> Vec<Vec<u8>> {
    let (tar, manifest, signature) = tar();
    let hostile = [
        entry("../escape", b"x"),
        entry("/etc/passwd", b"x"),
        vec![0; 4096],
    ]
    .concat();
    let bomb = zstd::bulk::compress(&vec![0; 8 << 20], 1).expect("compressed");
    vec![
        behind(0, &honest_archive()),
        behind(0, &bomb),
        behind(0, &[honest_archive(), b"junk".to_vec()].concat()),
        behind(1, &tar),
        behind(1, &hostile),
        behind(2, &manifest),
        behind(
            2,
            br#"{"v":1,"name":"x","version":"1","entry":"../x","files":[]}"#,
        ),
        behind(3, &signature),
    ]
}

fn mountinfo() -> Vec<Vec<u8>> {
    let lines: [&[u8]; 5] = [
        b"36 35 98:0 /mnt1 /mnt\\040two rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue\n",
        b"1 0 0:1 / / rw - tmpfs  rw\n1 0 0:1 / /mnt/\\040-\\040proc rw - tmpfs none rw\n",
        b"1 0 0:1 / / rw shared:1",
        b"-1 0 0:1 / / rw - t s o",
        b"22 28 0:20 / /sys rw\\777 - sysfs sys\\011fs rw\n\n",
    ];
    lines.map(<[u8]>::to_vec).to_vec()
}
