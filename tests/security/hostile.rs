//! A robotd that was taken over asks for everything that it must not have.

use std::fs::{File, OpenOptions};
use std::io::{Seek as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;

use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use order::{Outcome, Phase, Sha256Hex};
use privsep::broker::{Reply, Request, StopMode};
use tests::{Leftovers, Options, eventually};

use crate::robotd::{Robotd, Target, connect};

/// Every claim of this file.
pub(crate) const CLAIMS: &[(&str, fn())] = &[
    (
        "hostile::robotd_can_not_invent_a_job_nor_act_on_one_that_is_not_there",
        invented,
    ),
    (
        "hostile::robotd_can_delete_nothing_but_what_has_ended",
        deleted,
    ),
    (
        "hostile::a_stop_that_robotd_withholds_comes_by_the_orders_own_end",
        withheld,
    ),
    (
        "hostile::a_hundred_thousand_requests_leave_broker_and_job_as_they_were",
        flood,
    ),
    (
        "hostile::a_robotd_that_reads_no_answers_is_cut_off_and_nothing_else_is",
        deaf,
    ),
    (
        "hostile::packets_that_are_too_long_or_cut_end_the_connection",
        packets,
    ),
    (
        "hostile::no_strange_descriptor_is_taken_for_an_order_or_a_package",
        descriptors,
    ),
    (
        "hostile::what_is_changed_after_it_was_handed_over_is_not_what_runs",
        swapped,
    ),
    (
        "hostile::a_robotd_that_connects_again_and_again_disturbs_no_job",
        reconnecting,
    ),
];

fn target() -> (Target, Robotd) {
    let target = Target::new(&Options::default());
    let robotd = connect(&target.host);
    (target, robotd)
}

/// A job that runs until it is told to stop.
fn running(target: &Target, robotd: &mut Robotd) -> order::AttemptRef {
    let attempt = Target::attempt();
    let (digest, archive) = target.package("import time\ntime.sleep(1000)\n");
    let challenge = robotd.reserve(attempt);
    let order = target.order(attempt, challenge, digest);
    assert_eq!(robotd.start(attempt, &target.sign(&order)), Ok(true));
    let asked = Request::Package { attempt };
    assert_eq!(robotd.ask(asked, &[archive.as_fd()]), Reply::Done);
    robotd.await_phase(attempt, Phase::Running);
    attempt
}

fn stop(target: &Target, robotd: &mut Robotd, attempt: order::AttemptRef) {
    let mode = StopMode::Kill;
    assert_eq!(
        robotd.ask(Request::Stop { attempt, mode }, &[]),
        Reply::Done
    );
    let (result, _) = robotd.result(attempt);
    assert_eq!(result.outcome, Outcome::Stopped, "{result:#?}");
    assert_eq!(robotd.ask(Request::Forget { attempt }, &[]), Reply::Done);
    let accounts = target.host.slots.accounts();
    assert_eq!(Leftovers::of(&accounts), Leftovers::default());
}

fn invented() {
    let (target, mut robotd) = target();
    let attempt = Target::attempt();
    let order = target.order(attempt, [0; 32], Sha256Hex([1; 32]));
    let signed = target.sign(&order);
    // Without a reservation, with the orchestrator's own signature.
    assert_eq!(
        robotd.start(attempt, &signed),
        Err("ATTEMPT_UNKNOWN".into())
    );
    let file = tempfile();
    let seal = || vec![0; 32];
    let renewal = target.orders.sign(order::Purpose::Renewal, b"{}".to_vec());
    let mode = StopMode::Kill;
    let name = || "erp".to_owned();
    for (request, code) in [
        (Request::Package { attempt }, "ATTEMPT_UNKNOWN"),
        (Request::Stop { attempt, mode }, "ATTEMPT_UNKNOWN"),
        (Request::Renew { attempt, renewal }, "ATTEMPT_UNKNOWN"),
        (
            Request::Secret {
                attempt,
                name: name(),
                encapsulated_key: seal(),
                ciphertext: seal(),
            },
            "ATTEMPT_UNKNOWN",
        ),
        // Nothing to give back and nothing to drop: no effect.
        (Request::Cancel { attempt }, "Done"),
        (Request::Forget { attempt }, "Done"),
    ] {
        assert_eq!(robotd.code(request, &[file.as_fd()]), code);
    }
    // A challenge that it chose itself.
    robotd.reserve(attempt);
    assert_eq!(robotd.start(attempt, &signed), Err("ORDER_REPLAYED".into()));
    let asked = Request::Package { attempt };
    assert_eq!(robotd.code(asked, &[file.as_fd()]), "PACKAGE_NOT_AWAITED");
    let accounts = target.host.slots.accounts();
    assert_eq!(Leftovers::of(&accounts), Leftovers::default());
}

fn deleted() {
    let (target, mut robotd) = target();
    let attempt = running(&target, &mut robotd);
    assert_eq!(
        robotd.code(Request::Forget { attempt }, &[]),
        "ATTEMPT_NOT_ENDED"
    );
    assert_eq!(
        robotd.code(Request::Cancel { attempt }, &[]),
        "ATTEMPT_STARTED"
    );
    let asked = Request::Reserve {
        attempt,
        account: None,
        tenant: "acme".into(),
        package: Sha256Hex([0; 32]),
    };
    assert_eq!(robotd.code(asked, &[]), "ATTEMPT_STARTED");
    let refusal = privsep::Refusal::new("PACKAGE_UNAVAILABLE", "it says so");
    assert_eq!(
        robotd.code(Request::PackageFailed { attempt, refusal }, &[]),
        "PACKAGE_NOT_AWAITED"
    );
    let spool = target
        .host
        .dir
        .join("agent/spool")
        .join(attempt.to_string());
    assert!(spool.is_dir(), "the job's lane is untouched");
    assert!(robotd.events(100_403).len() >= 2, "each is an event");
    stop(&target, &mut robotd, attempt);
    assert!(eventually("the lane's removal", || (!spool.exists()).then_some(true)));
}

fn withheld() {
    let target = Target::new(&Options::default());
    let mut robotd = connect(&target.host);
    let attempt = Target::attempt();
    let (digest, archive) = target.package("import time\ntime.sleep(1000)\n");
    let challenge = robotd.reserve(attempt);
    let mut order = target.order(attempt, challenge, digest);
    order.hard_end_ms = 3_000;
    assert_eq!(robotd.start(attempt, &target.sign(&order)), Ok(true));
    let asked = Request::Package { attempt };
    assert_eq!(robotd.ask(asked, &[archive.as_fd()]), Reply::Done);
    // It says nothing more, and goes.
    drop(robotd);
    let kept = target
        .host
        .dir
        .join("broker/results")
        .join(format!("{attempt}.json"));
    eventually("the result on the disk", || kept.exists().then_some(()));
    let accounts = target.host.slots.accounts();
    assert_eq!(Leftovers::of(&accounts), Leftovers::default());
    let mut robotd = connect(&target.host);
    robotd.ask(Request::Sync, &[]);
    let (result, _) = robotd.result(attempt);
    assert!(
        matches!(result.outcome, Outcome::TimedOut | Outcome::LeaseLost),
        "{result:#?}"
    );
    assert!(result.wipe.expect("a wipe").complete);
}

fn memory(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let text = line.expect("memory").trim().trim_end_matches(" kB");
    text.trim().parse::<u64>().expect("a number") * 1024
}

fn descriptors_of(pid: i32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("descriptors")
        .count()
}

fn flood() {
    let (target, mut robotd) = target();
    let attempt = running(&target, &mut robotd);
    let pid = target.host.broker_pid();
    let (before, open) = (memory(pid), descriptors_of(pid));
    let mode = StopMode::Kill;
    let kinds = [
        Request::Sync,
        Request::Forget { attempt },
        Request::Package { attempt },
        Request::Stop {
            attempt: Target::attempt(),
            mode,
        },
    ];
    for turn in 0..1_000 {
        for _ in 0..25 {
            for request in &kinds {
                assert!(robotd.send_only(request.clone()), "turn {turn}");
            }
            robotd.catch_up();
        }
    }
    let grown = memory(pid).saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes more");
    assert_eq!(descriptors_of(pid), open);
    let told = ["100403", "100204"].map(|code| robotd.events(code.parse().expect("a code")).len());
    let told: usize = told.iter().sum();
    assert!(
        (1..2_000).contains(&told),
        "{told} events of 75,000 refusals"
    );
    stop(&target, &mut robotd, attempt);
}

fn deaf() {
    let (target, mut robotd) = target();
    let attempt = running(&target, &mut robotd);
    let mut sent = 0;
    while sent < 100_000 && robotd.send_only(Request::Sync) {
        sent += 1;
    }
    assert!(sent < 100_000, "it was never cut off");
    let mut robotd = connect(&target.host);
    let Reply::Held(held) = robotd.ask(Request::Sync, &[]) else {
        panic!("the broker lives")
    };
    assert_eq!(held.len(), 1);
    stop(&target, &mut robotd, attempt);
}

fn packets() {
    let (target, mut first) = target();
    let attempt = Target::attempt();
    first.reserve(attempt);
    let asked = Request::PackageFailed {
        attempt,
        refusal: privsep::Refusal::new("X", "x".repeat(500)),
    };
    let whole = privsep::encode(&privsep::broker::Call {
        number: 1,
        request: asked,
    })
    .expect("a packet");
    let mut hostile: Vec<Vec<u8>> = (1..whole.len())
        .step_by(50)
        .map(|end| whole[..end].to_vec())
        .collect();
    hostile.push([whole.as_slice(), b"x"].concat());
    hostile.push(vec![0xff; privsep::MAX_PACKET]);
    hostile.push(vec![0; privsep::MAX_PACKET + 1]);
    for packet in hostile {
        let robotd = connect(&target.host);
        robotd.send_raw(&packet);
        assert!(robotd.is_cut_off(), "{} bytes", packet.len());
    }
    let mut again = connect(&target.host);
    let Reply::Held(held) = again.ask(Request::Sync, &[]) else {
        panic!("the broker lives")
    };
    assert_eq!(held.len(), 1, "the reservation is still there");
}

fn tempfile() -> OwnedFd {
    let fd = memfd_create(c"strange", MFdFlags::MFD_ALLOW_SEALING).expect("a memfd");
    File::from(fd.try_clone().expect("a descriptor"))
        .write_all(b"x")
        .expect("a write");
    fd
}

fn open(path: &str, flags: i32) -> OwnedFd {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(flags);
    options.open(path).expect(path).into()
}

/// Each with what it gets as a package.
fn strange(target: &Target) -> Vec<(&'static str, &'static str, OwnedFd)> {
    let path = |name: &str| target.host.dir.join(name).display().to_string();
    let fifo = path("fifo");
    nix::unistd::mkfifo(fifo.as_str(), nix::sys::stat::Mode::S_IRUSR).expect("a FIFO");
    // Not every machine has one.
    let mem = path("mem");
    let (kind, mode) = (
        nix::sys::stat::SFlag::S_IFCHR,
        nix::sys::stat::Mode::S_IRUSR,
    );
    let number = nix::sys::stat::makedev(1, 1);
    nix::sys::stat::mknod(mem.as_str(), kind, mode, number).expect("a device");
    let sparse = path("sparse");
    let file = File::create(&sparse).expect("a file");
    file.set_len(1 << 42).expect("a length");
    let plain = path("plain");
    std::fs::write(&plain, "x").expect("a write");
    let (pipe, _) = nix::unistd::pipe().expect("a pipe");
    let socket = std::os::unix::net::UnixStream::pair().expect("a pair").0;
    let directory = open("/etc", libc::O_DIRECTORY);
    vec![
        ("a directory", "PACKAGE_NOT_A_FILE", directory),
        (
            "a FIFO",
            "PACKAGE_NOT_A_FILE",
            open(&fifo, libc::O_NONBLOCK),
        ),
        ("a pipe", "PACKAGE_NOT_A_FILE", pipe),
        ("a socket", "PACKAGE_NOT_A_FILE", socket.into()),
        ("/dev/mem", "PACKAGE_NOT_A_FILE", open(&mem, libc::O_PATH)),
        ("/dev/zero", "PACKAGE_NOT_A_FILE", open("/dev/zero", 0)),
        (
            "a path only",
            "PACKAGE_UNREADABLE",
            open(&plain, libc::O_PATH),
        ),
        ("a sparse file", "PACKAGE_TOO_LARGE", open(&sparse, 0)),
        (
            "the memory of a process",
            "PACKAGE_UNREADABLE",
            open("/proc/self/mem", 0),
        ),
    ]
}

fn descriptors() {
    let target = Target::new(&Options {
        policy: "[packages]\nallow-unsigned = true\nmax-mib = 1\n".into(),
        ..Options::default()
    });
    let mut robotd = connect(&target.host);
    for (what, code, fd) in strange(&target) {
        let attempt = Target::attempt();
        let challenge = robotd.reserve(attempt);
        let signed = target.sign(&target.order(attempt, challenge, Sha256Hex([1; 32])));
        let request = Request::Start {
            attempt,
            key_id: signed.key_id.clone(),
            signature: signed.signature.clone(),
        };
        let as_order = robotd.code(request.clone(), &[fd.as_fd()]);
        assert_eq!(as_order, "ORDER_NOT_SEALED", "{what}");
        let many = robotd.code(request, &[fd.as_fd(), fd.as_fd(), fd.as_fd()]);
        assert_eq!(many, "DESCRIPTORS_TOO_MANY", "{what}");
        assert_eq!(robotd.start(attempt, &signed), Ok(true));
        let asked = Request::Package { attempt };
        assert_eq!(robotd.ask(asked, &[fd.as_fd()]), Reply::Done, "{what}");
        let (result, _) = robotd.result(attempt);
        assert_eq!(
            (result.outcome, result.code.as_str()),
            (Outcome::NotStarted, code),
            "{what}: {result:#?}"
        );
        assert_eq!(robotd.ask(Request::Forget { attempt }, &[]), Reply::Done);
    }
    for folder in ["store", "staging"] {
        let path = target.host.dir.join("broker").join(folder);
        assert_eq!(
            std::fs::read_dir(path).expect("a folder").count(),
            0,
            "{folder}"
        );
    }
}

fn swapped() {
    let (target, mut robotd) = target();
    let attempt = Target::attempt();
    let challenge = robotd.reserve(attempt);
    let (digest, mut archive) = target.package("print('ours')\n");
    let signed = target.sign(&target.order(attempt, challenge, digest));
    let request = Request::Start {
        attempt,
        key_id: signed.key_id.clone(),
        signature: signed.signature.clone(),
    };
    // Whoever may still write to it could change it between the check and the use.
    let unsealed = memfd_create(c"order", MFdFlags::MFD_ALLOW_SEALING).expect("a memfd");
    let mut writer = File::from(unsealed.try_clone().expect("a descriptor"));
    writer.write_all(&signed.body).expect("a write");
    let ask = |robotd: &mut Robotd, fd: BorrowedFd<'_>| robotd.code(request.clone(), &[fd]);
    assert_eq!(ask(&mut robotd, unsealed.as_fd()), "ORDER_NOT_SEALED");
    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    let size = SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK;
    fcntl(&unsealed, FcntlArg::F_ADD_SEALS(size)).expect("seals");
    assert_eq!(ask(&mut robotd, unsealed.as_fd()), "ORDER_NOT_SEALED");
    assert_eq!(robotd.start(attempt, &signed), Ok(true));
    // The package is changed after robotd handed it over: what counts is what was copied.
    archive.rewind().expect("a seek");
    let mut other = archive.try_clone().expect("a descriptor");
    let asked = Request::Package { attempt };
    other.write_all(b"something else").expect("a write");
    other.rewind().expect("a seek");
    assert_eq!(robotd.ask(asked, &[archive.as_fd()]), Reply::Done);
    let (result, _) = robotd.result(attempt);
    assert_eq!(
        (result.outcome, result.code.as_str()),
        (Outcome::NotStarted, "PACKAGE_DIGEST_MISMATCH"),
        "{result:#?}"
    );
    assert_eq!(
        std::fs::read_dir(target.host.dir.join("broker/store"))
            .expect("a folder")
            .count(),
        0
    );
}

fn reconnecting() {
    let (target, mut robotd) = target();
    let attempt = running(&target, &mut robotd);
    let pid = target.host.broker_pid();
    let open = descriptors_of(pid);
    for _ in 0..500 {
        drop(connect(&target.host));
    }
    let mut robotd = connect(&target.host);
    robotd.ask(Request::Sync, &[]);
    assert!(descriptors_of(pid) <= open, "no descriptor stays");
    assert_eq!(target.host.broker_pid(), pid);
    stop(&target, &mut robotd, attempt);
}
