//! A hostile bot against its sandbox. Each bot tries and prints a line for each try; what must
//! not work is compared with what it printed, its result, the events, and what is left.

mod calls;
mod files;
mod kernel;
mod policy;

use std::path::Path;

use serde_json::Value;
use tests::{Host, Leftovers, Options};

/// Every claim of this folder.
pub(crate) fn claims() -> Vec<(&'static str, fn())> {
    [calls::CLAIMS, files::CLAIMS, kernel::CLAIMS, policy::CLAIMS].concat()
}

/// What every bot of this folder begins with.
const KIT: &str = include_str!("bots/kit.py");

/// A job that tried something.
struct Tried {
    host: Host,
    report: Value,
    /// `NAME VERDICT`, as the bot printed them.
    lines: Vec<(String, String)>,
}

fn host(policy: &str) -> Host {
    let mut options = Options::default();
    options.policy += policy;
    Host::start(&options)
}

/// Runs a bot to its end under a profile; it must end well, its wipe be complete, nothing left.
fn run(profile: &str, code: &str) -> Tried {
    run_on(host(""), profile, code, &[])
}

/// In the host's network, for what its own would hide too.
fn run_outside(profile: &str, code: &str) -> Tried {
    let host = host("[network]\nprofiles = [\"host\"]\n");
    tried(host, profile, code, &[], "host")
}

/// The same, on this host and with programs of ours in the package.
fn run_on(host: Host, profile: &str, code: &str, programs: &[&Path]) -> Tried {
    tried(host, profile, code, programs, "none")
}

fn tried(host: Host, profile: &str, code: &str, programs: &[&Path], network: &str) -> Tried {
    let folder = host.dir.join("packages/tries");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("bot.py"), format!("{KIT}\n{code}")).expect("a write");
    for program in programs {
        let name = program.file_name().expect("a name");
        std::fs::copy(program, folder.join(name)).expect("a copy");
    }
    let package = host.push_folder(&folder, &["--name", "tries"]);
    let report = host.run_job(&package, &["--sandbox", profile, "--network", network]);
    let job = report["job_id"].as_str().expect("an id");
    let said = |stream| String::from_utf8_lossy(&host.stream(job, stream)).into_owned();
    let (out, err) = (said("stdout"), said("stderr"));
    let told = format!("{report:#}\n{out}\n{err}");
    assert_eq!(report["outcome"], "SUCCEEDED", "{told}{}", host.all_logs());
    assert_eq!(report["wipe"]["complete"], true, "{told}");
    assert_eq!(report["wipe"]["leftovers"], serde_json::json!([]), "{told}");
    assert_eq!(
        Leftovers::of(&host.slots.accounts()),
        Leftovers::default(),
        "{told}"
    );
    let lines = out.lines().filter_map(|line| line.split_once(' '));
    let lines = lines.map(|(name, verdict)| (name.to_owned(), verdict.to_owned()));
    Tried {
        lines: lines.collect(),
        host,
        report,
    }
}

impl Tried {
    /// What came of this try.
    fn of(&self, name: &str) -> &str {
        let line = self.lines.iter().find(|(own, _)| own == name);
        line.map_or_else(
            || panic!("{name} was not tried: {:?}", self.lines),
            |(_, verdict)| verdict,
        )
    }

    /// Every try has one of these verdicts.
    fn all_are(&self, verdicts: &[&str]) {
        assert!(!self.lines.is_empty(), "nothing was tried");
        for (name, verdict) in &self.lines {
            assert!(
                verdicts.contains(&verdict.as_str()),
                "{name}: {verdict}, not one of {verdicts:?}"
            );
        }
    }

    fn sandbox(&self, field: &str) -> &Value {
        &self.report["sandbox"][field]
    }
}
