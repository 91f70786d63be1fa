//! What a sandbox costs at a job's start, over plain fork and exec. Needs root and a release build:
//!
//! ```text
//! cargo build --release --workspace --bins && cargo bench -p tests --bench start
//! ```
//!
//! From the open session to the bot's first instruction by the host's clock: namespaces, root, limits,
//! Landlock, the filters' compilation, fork, exec. The bot is bash, which tells the time by itself.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tests::{Host, Options};

/// Jobs of each kind; what is told is their median.
const JOBS: usize = 21;

const BOT: &str = "#!/bin/bash\necho \"$EPOCHREALTIME\"\n";

const ENTRY: &str = "name = \"clock\"\nentry = \"bot.sh\"\n";

const POLICY: &str = "[sandbox]\nprofiles = [\"script\", \"browser\", \"legacy\"]\n\
                      legacy.without = [\"seccomp\", \"landlock\", \"mdwe\"]\n";

fn main() {
    let mut options = Options::default();
    options.policy += POLICY;
    let host = Host::start(&options);
    let package = host.push("clock", &[("bot.sh", BOT), ("robotd.toml", ENTRY)], None);
    println!("{:40} {}", "plain fork and exec", told(plain(&host)));
    for (profile, what) in [
        ("legacy", "namespaces and root alone"),
        ("script", "script: and seccomp, Landlock, MDWE"),
        ("browser", "browser: and seccomp, Landlock"),
    ] {
        let times = (0..JOBS).map(|_| job(&host, &package, profile)).collect();
        println!("{what:40} {}", told(times));
    }
}

/// The same program, started by this process.
fn plain(host: &Host) -> Vec<f64> {
    let program = host.dir.join("packages/clock/bot.sh");
    let one = || {
        let began = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("a clock");
        let output = Command::new(&program).output().expect("a program");
        first_instruction(&output.stdout) - began.as_secs_f64() * 1e3
    };
    (0..JOBS).map(|_| one()).collect()
}

fn job(host: &Host, package: &str, profile: &str) -> f64 {
    let report = host.run_job(package, &["--sandbox", profile]);
    assert_eq!(report["outcome"], "SUCCEEDED", "{report:#}");
    let job = report["job_id"].as_str().expect("an id");
    first_instruction(&host.stream(job, "stdout")) - step(&report, "SESSION_OPEN")
}

/// Milliseconds since 1970.
fn first_instruction(said: &[u8]) -> f64 {
    let text = String::from_utf8_lossy(said);
    text.trim().parse::<f64>().expect("a time") * 1e3
}

fn step(report: &Value, phase: &str) -> f64 {
    let steps = report["timeline"].as_array().expect("a timeline");
    let step = steps.iter().find(|step| step["phase"] == phase);
    step.and_then(|step| step["at_unix_ms"].as_f64())
        .expect("a step")
}

fn told(mut times: Vec<f64>) -> String {
    times.sort_by(f64::total_cmp);
    let (least, most) = (times[0], times[times.len() - 1]);
    format!("{:.1} ms ({least:.1}-{most:.1})", times[times.len() / 2])
}
