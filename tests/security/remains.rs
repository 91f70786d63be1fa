//! What is still on the host after a job is listed, and nothing else is there.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use order::{AttemptRef, Outcome};
use privsep::broker::{Reply, Request, StopMode};
use serde_json::Value;
use tests::{Options, eventually};

use crate::robotd::{Robotd, Target, connect};

/// Every claim of this file.
pub(crate) const CLAIMS: &[(&str, fn())] = &[
    (
        "remains::every_file_of_a_job_is_listed_with_what_ends_it_and_goes_by_it",
        listed,
    ),
    ("remains::only_root_may_ask_for_it", root_only),
];

/// Not of any job.
const OWN: [&str; 1] = ["broker/keys"];

fn remains(target: &Target) -> Vec<Value> {
    let output = target.host.control(&["remains", "--json"]);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn kinds(remains: &[Value]) -> Vec<&str> {
    remains
        .iter()
        .filter_map(|one| one["what"].as_str())
        .collect()
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&entry.path(), found),
            _ => found.push(entry.path()),
        }
    }
}

/// Files below the directories of broker and robotd that no line of the list covers.
fn unlisted(target: &Target, remains: &[Value]) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for place in ["broker", "agent"] {
        files(&target.host.dir.join(place), &mut all);
    }
    files(&target.host.run.join("a"), &mut all);
    let own = |path: &PathBuf| {
        OWN.iter()
            .any(|own| path.starts_with(target.host.dir.join(own)))
    };
    let covered = |path: &PathBuf| {
        let mut places = remains.iter().filter_map(|one| one["path"].as_str());
        places.any(|place| path.starts_with(place))
    };
    all.retain(|path| !own(path) && !covered(path));
    all
}

fn begin(target: &Target, robotd: &mut Robotd, code: &str) -> AttemptRef {
    let attempt = Target::attempt();
    let (digest, archive) = target.package(code);
    let challenge = robotd.reserve(attempt);
    let order = target.order(attempt, challenge, digest);
    assert_eq!(robotd.start(attempt, &target.sign(&order)), Ok(true));
    let asked = Request::Package { attempt };
    assert_eq!(robotd.ask(asked, &[archive.as_fd()]), Reply::Done);
    attempt
}

fn listed() {
    let target = Target::new(&Options::default());
    let mut robotd = connect(&target.host);
    assert_eq!(kinds(&remains(&target)), ["started attempts"], "a new host");
    let attempt = begin(
        &target,
        &mut robotd,
        "import time\nprint('up')\ntime.sleep(1000)\n",
    );
    robotd.await_phase(attempt, order::Phase::Running);
    let during = remains(&target);
    assert!(kinds(&during).contains(&"running job"), "{during:#?}");
    assert_eq!(
        unlisted(&target, &during),
        Vec::<PathBuf>::new(),
        "{during:#?}"
    );
    let mode = StopMode::Kill;
    robotd.ask(Request::Stop { attempt, mode }, &[]);
    assert_eq!(robotd.result(attempt).0.outcome, Outcome::Stopped);
    let after = remains(&target);
    let expected = [
        "output",
        "result",
        "package",
        "started attempts",
        "tenants of slots",
    ];
    let found: Vec<_> = kinds(&after)
        .into_iter()
        .filter(|kind| *kind != "sockets")
        .collect();
    assert_eq!(found, expected, "{after:#?}");
    assert_eq!(
        unlisted(&target, &after),
        Vec::<PathBuf>::new(),
        "{after:#?}"
    );
    let lane = after
        .iter()
        .find(|one| one["what"] == "output")
        .expect("the lane");
    assert_eq!(lane["of"], attempt.to_string());
    assert_eq!(lane["tenant"], "acme");
    assert!(lane["bytes"].as_u64() > Some(0), "{lane}");
    assert!(
        lane["kept"]
            .as_str()
            .is_some_and(|kept| kept.contains("key")),
        "{lane}"
    );
    let package = after
        .iter()
        .find(|one| one["what"] == "package")
        .expect("the package");
    assert!(
        package["until_unix_ms"].as_u64() > Some(sys::clock::unix_ms()),
        "{package}"
    );
    assert_eq!(robotd.ask(Request::Forget { attempt }, &[]), Reply::Done);
    let left = eventually("the lane's removal", || {
        let left = remains(&target);
        (!kinds(&left).contains(&"output")).then_some(left)
    });
    assert_eq!(
        kinds(&left),
        ["package", "started attempts", "tenants of slots"],
        "{left:#?}"
    );
    assert_eq!(unlisted(&target, &left), Vec::<PathBuf>::new(), "{left:#?}");
}

fn root_only() {
    let target = Target::new(&Options::default());
    let nobody = sys::account::by_name("nobody")
        .expect("a look-up")
        .expect("nobody");
    let socket = target.host.run.join("b/admin.sock");
    let refused = crate::robotd::as_user(nobody.uid, nobody.gid, || {
        sys::fdpass::Seqpacket::connect(&socket)
    });
    assert!(refused.is_err());
}
