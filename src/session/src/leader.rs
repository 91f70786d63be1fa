//! The leader: holds the one PAM session, starts init in it, closes it, exits at once.
//!
//! logind moves the leader into the session's scope and never lets it go: that is why it is not
//! the monitor, which has to outlive the kill of that scope.

use std::os::fd::{AsFd as _, OwnedFd};

use pam::{Password, Transaction};
use privsep::Refusal;
use privsep::session::{Backend, Spec};
use sys::Signal;
use sys::fdpass::Seqpacket;
use sys::poll::{Signals, Watch};
use sys::process::{Fork, Namespaces, Process};
use zeroize::Zeroizing;

use crate::init::{self, Inherited};
use crate::inner::{FromLeader, say};
use crate::opened;

/// A variable of the session's environment.
pub(crate) type Variable = (String, String);

/// PAM passes on at most 511 bytes; what is longer gets a better error there.
const MAX_PASSWORD: usize = 4096;

/// The story of the leader. Runs in the child of the monitor's fork; its result is the exit code.
pub(crate) fn run(
    spec: &Spec,
    monitor: &Seqpacket,
    inherited: Inherited,
    password: Option<OwnedFd>,
) -> i32 {
    match lead(spec, monitor, inherited, password) {
        Ok(()) => 0,
        Err(refusal) => {
            // The monitor may be gone: then nobody is left to be told.
            let _ = say(monitor, &FromLeader::Refused(refusal), &[]);
            1
        }
    }
}

fn lead(
    spec: &Spec,
    monitor: &Seqpacket,
    inherited: Inherited,
    password: Option<OwnedFd>,
) -> Result<(), Refusal> {
    let failed = |error: &dyn std::error::Error| crate::refusal("SESSION_NOT_OPENED", error);
    offer_to_oom_killer();
    // Before PAM: a signal must never end the leader between open and close.
    let signals = Signals::new(&[
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGCHLD,
    ]);
    let signals = signals.map_err(|error| failed(&error))?;
    sys::process::set_session().map_err(|error| failed(&error))?;
    let mut session = open(spec, password)?;
    let opened = environment(spec, &mut session).and_then(|environment| {
        let init = start_init(spec, inherited, &environment)?;
        let session_id = value_of(&environment, "XDG_SESSION_ID").unwrap_or_default();
        let pid = init.pid().as_raw();
        say(
            monitor,
            &FromLeader::Opened {
                session_id,
                init: pid,
            },
            &[init.as_fd()],
        )?;
        Ok(init)
    });
    let outcome = opened.map(|init| attend(&init, &signals, monitor));
    let problem = close(session);
    outcome?;
    say(monitor, &FromLeader::Closed { problem }, &[])
}

/// password if there is one, account, groups and credentials, session: in this order
/// (pam_setcred(3) wants the groups set).
fn open(spec: &Spec, password: Option<OwnedFd>) -> Result<Transaction, Refusal> {
    let refuse = |error: &pam::Error| crate::refusal("PAM_REFUSED", error);
    let mut session = Transaction::start(&spec.pam_service, &spec.account.name)
        .map_err(|error| refuse(&error))?;
    session
        .set_requesting_user("root")
        .map_err(|error| refuse(&error))?;
    if let Some(value) = password {
        authenticate(&mut session, value)?;
    }
    session.account().map_err(|error| refuse(&error))?;
    let groups = sys::account::by_name(&spec.account.name).ok().flatten();
    let groups = groups.ok_or_else(|| {
        Refusal::new(
            "ACCOUNT_UNKNOWN",
            format!("account {} is gone", spec.account.name),
        )
    })?;
    nix::unistd::setgroups(&groups.groups)
        .map_err(|error| crate::refusal("SESSION_NOT_OPENED", &error))?;
    session
        .establish_credentials()
        .map_err(|error| refuse(&error))?;
    for (name, value) in wishes(spec) {
        session
            .put_environment(name, &value)
            .map_err(|error| refuse(&error))?;
    }
    session.open_session().map_err(|error| refuse(&error))?;
    Ok(session)
}

/// Once: modules count failures and lock accounts. The password is in no memory but PAM's while the
/// modules look at it, and in none afterwards.
fn authenticate(session: &mut Transaction, value: OwnedFd) -> Result<(), Refusal> {
    if let Err(error) = sys::process::lock_memory() {
        eprintln!(
            "robotd-session: the password is not kept out of swap: {}",
            crate::text(&error)
        );
    }
    let bytes = sys::memfd::read_sealed(value.as_fd(), MAX_PASSWORD)
        .map_err(|error| crate::refusal("PASSWORD_REFUSED", &error))?;
    drop(value);
    let password = Password::new(Zeroizing::new(bytes))
        .map_err(|error| crate::refusal("PASSWORD_REFUSED", &error))?;
    let proven = session.authenticate(password);
    proven.map_err(|error| crate::refusal("PASSWORD_REFUSED", &error))
}

/// What pam_systemd goes by. The class is named because its default differs between versions.
fn wishes(spec: &Spec) -> Vec<(&'static str, String)> {
    let kind = if spec.display.is_some() {
        "x11"
    } else {
        "unspecified"
    };
    vec![
        ("XDG_SESSION_TYPE", kind.to_owned()),
        ("XDG_SESSION_CLASS", "user".to_owned()),
        ("XDG_SESSION_DESKTOP", "robotd".to_owned()),
    ]
}

/// The session's environment. With logind it is proven that there is a session: pam_systemd says
/// nothing when logind refused it (SESSION_BUSY, unknown class, no bus).
fn environment(spec: &Spec, session: &mut Transaction) -> Result<Vec<Variable>, Refusal> {
    let variables = session
        .environment()
        .map_err(|error| crate::refusal("PAM_REFUSED", &error))?;
    let text = |part: std::ffi::OsString| part.into_string().ok();
    let variables: Vec<Variable> = variables
        .into_iter()
        .filter_map(|(name, value)| Some((text(name)?, text(value)?)))
        .collect();
    if spec.backend == Backend::Logind {
        let id = value_of(&variables, "XDG_SESSION_ID");
        let directory = value_of(&variables, "XDG_RUNTIME_DIR");
        opened::prove(spec, id.as_deref(), directory.as_deref())?;
    }
    Ok(variables)
}

fn value_of(variables: &[Variable], name: &str) -> Option<String> {
    variables
        .iter()
        .find(|(own, _)| own == name)
        .map(|(_, value)| value.clone())
}

fn start_init(
    spec: &Spec,
    inherited: Inherited,
    environment: &[Variable],
) -> Result<Process, Refusal> {
    let namespaces = Namespaces {
        mount: true,
        pid: true,
        ipc: true,
        uts: true,
        cgroup: true,
        net: !spec.host_network,
    };
    match sys::process::fork(namespaces, None)
        .map_err(|error| crate::refusal("SESSION_NOT_OPENED", &error))?
    {
        Fork::Parent(init) => Ok(init),
        Fork::Child => {
            let code = init::run(spec, inherited, environment);
            leave(code)
        }
    }
}

/// The unit keeps the supervisor from the kernel's killer of large processes; what faces the bot
/// has to be its first choice instead.
pub(crate) fn offer_to_oom_killer() {
    // A kernel that refuses changes nothing about the job.
    let _ = std::fs::write("/proc/self/oom_score_adj", "500");
}

/// Ends a forked child without running what its parent would run at its end.
pub(crate) fn leave(code: i32) -> ! {
    sys::process::end_now(u8::try_from(code).unwrap_or(1))
}

/// Waits for init's end. A signal (the host stops, logind ends the session) or the monitor's
/// death ends init; the session is closed in any case.
fn attend(init: &Process, signals: &Signals, monitor: &Seqpacket) {
    let mut monitor_lives = true;
    loop {
        let mut watches = vec![Watch::readable(init), Watch::readable(signals)];
        if monitor_lives {
            watches.push(Watch::readable(monitor));
        }
        if sys::poll::wait(&mut watches, None).is_err() {
            let _ = init.send(Signal::SIGKILL);
        }
        let monitor_spoke = watches.get(2).is_some_and(Watch::is_ready);
        if watches[0].is_ready() {
            let _ = init.try_wait();
            return;
        }
        let mut end = false;
        while let Ok(Some(received)) = signals.take() {
            end |= received.signal != Signal::SIGCHLD;
        }
        if monitor_spoke {
            // It never writes on this socket: readable means that it is gone.
            monitor_lives = false;
            end = true;
        }
        if end {
            let _ = init.send(Signal::SIGKILL);
        }
    }
}

/// Closes in reverse; what goes wrong is told, nothing stops it.
fn close(mut session: Transaction) -> String {
    let closed = session.close_session();
    let deleted = session.delete_credentials();
    let steps = [closed, deleted, session.end()];
    let problems = steps
        .into_iter()
        .filter_map(Result::err)
        .map(|error| crate::text(&error));
    problems.collect::<Vec<_>>().join("; ")
}
