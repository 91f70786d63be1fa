//! The package store: what it keeps is checked at every use, what it lets go it lets go whole, and
//! nobody can make it wait for ever.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use order::{AttemptRef, JobResult, KeyId, Outcome, Sha256Hex};
use package::PrivateKey;
use privsep::broker::{Reply, Request, StopMode};
use tests::{Leftovers, Options, eventually};

use crate::robotd::{Robotd, Target, connect};

/// Every claim of this file.
pub(crate) const CLAIMS: &[(&str, fn())] = &[
    (
        "store::packages_of_a_revoked_publisher_are_refused_and_removed",
        revoked,
    ),
    (
        "store::the_least_recently_used_package_goes_and_never_one_in_use",
        full,
    ),
    (
        "store::a_package_that_was_changed_in_the_store_is_not_run_and_fetched_anew",
        changed,
    ),
    (
        "store::a_removal_that_was_cut_short_does_not_block_its_package",
        cut_short,
    ),
    (
        "store::an_opener_that_hangs_is_ended_and_the_next_package_is_taken",
        hanging,
    ),
];

const REMOVED: u32 = 100_220;

fn kept(target: &Target) -> Vec<String> {
    let entries = std::fs::read_dir(store(target)).expect("the store");
    let names = entries.flatten().map(|entry| entry.file_name());
    let mut names: Vec<_> = names
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn store(target: &Target) -> PathBuf {
    target.host.dir.join("broker/store")
}

fn start(
    target: &Target,
    robotd: &mut Robotd,
    digest: Sha256Hex,
    publisher: Option<&KeyId>,
) -> Result<(AttemptRef, bool), String> {
    let attempt = Target::attempt();
    let challenge = robotd.reserve(attempt);
    let mut order = target.order(attempt, challenge, digest);
    order.publisher = publisher.cloned();
    let started = robotd.start(attempt, &target.sign(&order));
    if started.is_err() {
        robotd.ask(Request::Cancel { attempt }, &[]);
    }
    started.map(|needed| (attempt, needed))
}

fn bring(robotd: &mut Robotd, attempt: AttemptRef, archive: &File) {
    use std::io::Seek as _;
    let mut archive = archive.try_clone().expect("a descriptor");
    archive.rewind().expect("a seek");
    let asked = Request::Package { attempt };
    assert_eq!(robotd.ask(asked, &[archive.as_fd()]), Reply::Done);
}

/// Runs a job to its end; whether its package had to be brought.
fn run(
    target: &Target,
    robotd: &mut Robotd,
    package: &(Sha256Hex, File),
    publisher: Option<&KeyId>,
) -> (JobResult, bool) {
    let started = start(target, robotd, package.0, publisher);
    let (attempt, needed) = started.expect("a start");
    if needed {
        bring(robotd, attempt, &package.1);
    }
    let (result, _) = robotd.result(attempt);
    assert_eq!(robotd.ask(Request::Forget { attempt }, &[]), Reply::Done);
    (result, needed)
}

fn revoked() {
    let key = PrivateKey::generate().expect("a key");
    let id = KeyId(key.public().key_id().as_str().to_owned());
    let public = order::VerifyingKey::from_bytes(&key.public().to_bytes()).expect("a key");
    let entry = format!(
        "[[publisher]]\nname = \"gone\"\nkey = \"{}\"\n",
        public.to_base64()
    );
    let mut target = Target::with(&Options::default(), |policy, _| policy + &entry);
    let mut robotd = connect(&target.host);
    let package = target.large_package("print(1)\n", 10, Some(&key));
    let (result, _) = run(&target, &mut robotd, &package, Some(&id));
    assert_eq!(result.outcome, Outcome::Succeeded, "{result:#?}");
    assert_eq!(kept(&target), [package.0.to_string()]);
    target.host.kill_broker();
    target
        .host
        .edit_policy(|policy| policy + "revoked = true\n");
    target.host.start_broker();
    let mut robotd = connect(&target.host);
    eventually("the store without it", || {
        kept(&target).is_empty().then_some(())
    });
    // What was kept for robotd comes after the answer to the first.
    for _ in 0..2 {
        robotd.ask(Request::Sync, &[]);
    }
    let events = robotd.events(REMOVED);
    assert!(
        events.iter().any(|event| event.contains("revoked")),
        "{events:?}"
    );
    let refused = start(&target, &mut robotd, package.0, Some(&id));
    assert_eq!(refused, Err("PUBLISHER_REVOKED".into()));
    // An order that names no publisher: the signature is there all the same.
    let (result, needed) = run(&target, &mut robotd, &package, None);
    assert!(needed);
    assert_eq!(
        (result.outcome, result.code.as_str()),
        (Outcome::NotStarted, "PUBLISHER_REVOKED")
    );
    assert!(kept(&target).is_empty());
    assert_eq!(robotd.events(100_204).len(), 1);
}

fn full() {
    let options = Options {
        slots: 2,
        policy: "[packages]\nallow-unsigned = true\nstore-mib = 1\n".into(),
        ..Options::default()
    };
    let target = Target::new(&options);
    let mut robotd = connect(&target.host);
    let held = target.large_package("import time\ntime.sleep(1000)\n", 700_000, None);
    let (holder, _) = start(&target, &mut robotd, held.0, None).expect("a start");
    bring(&mut robotd, holder, &held.1);
    robotd.await_phase(holder, order::Phase::Running);
    let second = target.large_package("print(2)\n", 700_000, None);
    let (result, _) = run(&target, &mut robotd, &second, None);
    assert_eq!(result.outcome, Outcome::Succeeded, "{result:#?}");
    let third = target.large_package("print(3)\n", 700_000, None);
    let (result, _) = run(&target, &mut robotd, &third, None);
    assert_eq!(result.outcome, Outcome::Succeeded, "{result:#?}");
    eventually("room in the store", || {
        let kept = kept(&target);
        (!kept.contains(&second.0.to_string())).then_some(())
    });
    assert!(kept(&target).contains(&held.0.to_string()), "it is in use");
    robotd.ask(Request::Sync, &[]);
    assert!(!robotd.events(REMOVED).is_empty());
    let stop = Request::Stop {
        attempt: holder,
        mode: StopMode::Kill,
    };
    assert_eq!(robotd.ask(stop, &[]), Reply::Done);
    assert_eq!(robotd.result(holder).0.outcome, Outcome::Stopped);
    let (result, needed) = run(&target, &mut robotd, &second, None);
    assert_eq!(result.outcome, Outcome::Succeeded, "{result:#?}");
    assert!(needed, "it is fetched again");
}

fn changed() {
    let target = Target::new(&Options::default());
    let mut robotd = connect(&target.host);
    let package = target.large_package("print('ours')\n", 10, None);
    assert_eq!(
        run(&target, &mut robotd, &package, None).0.outcome,
        Outcome::Succeeded
    );
    let place = store(&target).join(package.0.to_string()).join("files");
    std::fs::write(place.join("bot.py"), "print('his')\n").expect("a write");
    let (result, needed) = run(&target, &mut robotd, &package, None);
    assert!(!needed);
    assert_eq!(
        (result.outcome, result.code.as_str()),
        (Outcome::NotStarted, "PACKAGE_MANIFEST_MISMATCH"),
        "{result:#?}"
    );
    let (result, needed) = run(&target, &mut robotd, &package, None);
    assert!(needed);
    assert_eq!(result.outcome, Outcome::Succeeded, "{result:#?}");
}

fn cut_short() {
    let mut target = Target::new(&Options::default());
    let mut robotd = connect(&target.host);
    let package = target.large_package("print(1)\n", 10, None);
    assert_eq!(
        run(&target, &mut robotd, &package, None).0.outcome,
        Outcome::Succeeded
    );
    let place = store(&target).join(package.0.to_string());
    // Killed in the middle of it: one time what was first went, one time what was last.
    for gone in ["files/bot.py", "manifest.json"] {
        std::fs::remove_file(place.join(gone)).expect("a removal");
        let (first, _) = run(&target, &mut robotd, &package, None);
        let (result, _) = match first.outcome {
            Outcome::Succeeded => (first, true),
            // The one that finds it damaged removes it.
            _ => run(&target, &mut robotd, &package, None),
        };
        assert_eq!(result.outcome, Outcome::Succeeded, "{gone}: {result:#?}");
    }
    std::fs::remove_file(place.join("manifest.json")).expect("a removal");
    target.host.kill_broker();
    let staging = target.host.dir.join("broker/staging/removed-1-x/files");
    std::fs::create_dir_all(&staging).expect("a folder");
    target.host.start_broker();
    eventually("a store without it", || (!place.exists()).then_some(()));
    let staging = target.host.dir.join("broker/staging");
    eventually("nothing in staging", || {
        let left = std::fs::read_dir(&staging).expect("a folder").count();
        (left == 0).then_some(())
    });
    let mut robotd = connect(&target.host);
    assert_eq!(
        run(&target, &mut robotd, &package, None).0.outcome,
        Outcome::Succeeded
    );
}

fn hanging() {
    let place = tests::Copies::without("robotd-unpack");
    place.put_script("robotd-unpack", "#!/bin/sh\nexec sleep 1000\n");
    let options = Options {
        programs: Some(place.path().to_owned()),
        policy: "[packages]\nallow-unsigned = true\nunpack-seconds = 1\n".into(),
        ..Options::default()
    };
    let target = Target::new(&options);
    let mut robotd = connect(&target.host);
    let package = target.large_package("print(1)\n", 10, None);
    let (result, _) = run(&target, &mut robotd, &package, None);
    assert_eq!(
        (result.outcome, result.code.as_str()),
        (Outcome::NotStarted, "UNPACK_FAILED"),
        "{result:#?}"
    );
    let user = sys::account::by_name("robotd-unpack").expect("a look-up");
    let user = user.expect("the account robotd-unpack");
    let left = sys::account::processes_of_uid(user.uid).expect("processes");
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(
        Leftovers::of(&target.host.slots.accounts()),
        Leftovers::default()
    );
    place.take_away("robotd-unpack");
    place.put_back("robotd-unpack");
    let (result, _) = run(&target, &mut robotd, &package, None);
    assert_eq!(result.outcome, Outcome::Succeeded, "{result:#?}");
}
