//! What each kind of scratch volume costs: making it, 256 MiB and 2,500 files written and read by a bot,
//! and the wipe. Kinds take turns, so that other work on the machine meets all of them.
//!
//! `cargo build --workspace --bins --profile P && cargo bench -p tests --bench volumes --profile P`, as root.

use std::collections::BTreeMap;

use serde_json::Value;
use tests::{Host, Options};

/// Unless an argument says how many.
const ROUNDS: usize = 7;

/// Name and lines of the policy's `[volume]`. dm-crypt only where the host has it.
const KINDS: [(&str, &str); 6] = [
    ("tmpfs", "backend = \"tmpfs\""),
    ("plain", "backend = \"plain\""),
    ("fscrypt", "backend = \"fscrypt\""),
    (
        "fscrypt, deep scan",
        "backend = \"fscrypt\"\ndeep-scan = \"always\"",
    ),
    ("dm-crypt", "backend = \"dm-crypt\""),
    (
        "dm-crypt, deep scan",
        "backend = \"dm-crypt\"\ndeep-scan = \"always\"",
    ),
];

const BOT: &str = r#"
import os, time
def timed(what, work):
    began = time.monotonic()
    work()
    print(what, int((time.monotonic() - began) * 1000), flush=True)
piece = os.urandom(1 << 20)
def big():
    with open('/tmp/big', 'wb') as file:
        for _ in range(256):
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
def many():
    for folder in range(50):
        os.mkdir(f'/tmp/{folder}')
        for number in range(50):
            with open(f'/tmp/{folder}/{number}', 'wb') as file:
                file.write(piece[:4096])
timed('big', big)
timed('many', many)
"#;

/// From one step of the timeline to another.
fn between(report: &Value, from: &str, to: &str) -> Option<u64> {
    let steps = report["timeline"].as_array()?;
    let at = |phase: &str| {
        let step = steps.iter().find(|step| step["phase"] == phase)?;
        step["at_unix_ms"].as_u64()
    };
    Some(at(to)?.saturating_sub(at(from)?))
}

fn measure(host: &Host, package: &str) -> Option<BTreeMap<&'static str, u64>> {
    let report = host.run_job(package, &["--volume", "512M"]);
    if report["code"] == "VOLUME_BACKEND_MISSING" {
        return None;
    }
    assert_eq!(report["outcome"], "SUCCEEDED", "{report:#}");
    assert_eq!(report["wipe"]["complete"], true, "{report:#}");
    let job = report["job_id"].as_str()?;
    let said = String::from_utf8(host.stream(job, "stdout")).ok()?;
    let told = |what: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(what))?;
        line.trim().parse().ok()
    };
    Some(BTreeMap::from([
        (
            "1 session process, volume made",
            between(&report, "PACKAGE_READY", "VOLUME_READY")?,
        ),
        ("2 256 MiB written and synced", told("big")?),
        ("3 2,500 files of 4 KiB written", told("many")?),
        ("4 wipe", report["wipe"]["duration_ms"].as_u64()?),
    ]))
}

fn median(values: &mut [u64]) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

fn main() {
    let asked = std::env::args().find_map(|argument| argument.parse().ok());
    let rounds: usize = asked.unwrap_or(ROUNDS);
    let hosts: Vec<_> = KINDS
        .iter()
        .map(|(name, volume)| {
            let host = Host::start(&Options {
                volume: (*volume).to_owned(),
                ..Options::default()
            });
            let package = host.push_python("writer", BOT);
            (*name, host, package)
        })
        .collect();
    let mut seen: BTreeMap<(&str, &str), Vec<u64>> = BTreeMap::new();
    for round in 0..=rounds {
        for (name, host, package) in &hosts {
            let Some(figures) = measure(host, package) else {
                continue;
            };
            // The first warms caches and loads modules.
            for (what, value) in figures.into_iter().filter(|_| round > 0) {
                seen.entry((what, name)).or_default().push(value);
            }
        }
        eprintln!("round {round} of {rounds}");
    }
    println!(
        "| ms: median (least–most), × plain | {} |",
        KINDS.map(|(name, _)| name).join(" | ")
    );
    println!("|---|{}", "---|".repeat(KINDS.len()));
    let steps: Vec<_> = seen.keys().map(|(what, _)| *what).collect();
    let mut last = "";
    for what in steps
        .into_iter()
        .filter(|what| std::mem::replace(&mut last, what) != *what)
    {
        let plain = median(&mut seen.get(&(what, "plain")).cloned().unwrap_or_default()).max(1);
        let cells = KINDS.map(|(name, _)| match seen.get(&(what, name)) {
            None => "–".to_owned(),
            Some(values) => {
                let mut values = values.clone();
                let middle = median(&mut values);
                let (least, most) = (values[0], values[values.len() - 1]);
                let ratio = middle as f64 / plain as f64;
                format!("{middle} ({least}–{most}), ×{ratio:.2}")
            }
        });
        println!("| {} | {} |", &what[2..], cells.join(" | "));
    }
}
