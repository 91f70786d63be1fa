//! The programs of a job: the display with its window manager and bus, and the bot.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use privsep::Refusal;
use privsep::session::Spec;
use sys::process::{Fork, Launch, Namespaces, Process, Program, exec_report};

use crate::leader::Variable;
use crate::sandbox::{Plan, Unconfined};

/// Where a job finds programs: its own command first.
const PATH: &str = "/run/robot/bin:/usr/local/bin:/usr/bin:/bin";

/// Cookie file of the display, for the server and its clients.
pub(super) const XAUTHORITY: &str = "Xauthority";

/// Starts a program of the job and waits until it really runs.
pub(super) fn start(
    argv: &[String],
    env: &[Variable],
    fds: &[BorrowedFd<'_>],
    plan: &Plan,
) -> Result<Process, Refusal> {
    let failed = |error: &dyn std::error::Error| {
        let code = "PROGRAM_NOT_STARTED";
        Refusal::new(
            code,
            format!(
                "{}: {}",
                argv.first().map_or("", String::as_str),
                crate::text(error)
            ),
        )
    };
    let argv_c = strings(argv.iter().cloned()).map_err(|error| failed(&error))?;
    let env_c = strings(env.iter().map(|(name, value)| format!("{name}={value}")))
        .map_err(|error| failed(&error))?;
    let (watch, report) = exec_report().map_err(|error| failed(&error))?;
    match sys::process::fork(Namespaces::NONE, None).map_err(|error| failed(&error))? {
        Fork::Parent(child) => {
            drop(report);
            watch.wait(&argv_c[0]).map_err(|error| failed(&error))?;
            Ok(child)
        }
        Fork::Child => {
            let program = Program::Path(&argv_c[0]);
            let launch = Launch {
                program,
                argv: &argv_c,
                env: &env_c,
                fds,
                report: Some(report.as_fd()),
            };
            // A group of its own: a stop reaches all of it, a terminal none of it.
            let Err(error) = confined(plan, &launch);
            sys::process::end_unstarted(error.errno(), Some(report.as_fd()))
        }
    }
}

/// Becomes the program; the filter comes last before it, since this process's own calls would
/// have to pass it.
fn confined(plan: &Plan, launch: &Launch<'_>) -> Result<Infallible, Unconfined> {
    sys::process::set_session()?;
    plan.confine_program()?;
    Ok(launch.exec()?)
}

fn strings(texts: impl Iterator<Item = String>) -> Result<Vec<CString>, std::ffi::NulError> {
    texts.map(CString::new).collect()
}

/// /dev/null for whoever has nothing to read or say.
pub(crate) fn nothing() -> Result<OwnedFd, Refusal> {
    let file = File::options().read(true).write(true).open("/dev/null");
    file.map(OwnedFd::from)
        .map_err(|error| crate::refusal("SANDBOX_FAILED", &error))
}

/// The environment of everything in the job: the session's, cleaned of the ways to the host's
/// user manager, then the job's own.
pub(super) fn environment(
    spec: &Spec,
    session: &[Variable],
    display: Option<u32>,
) -> Vec<Variable> {
    let runtime = format!("/run/user/{}", spec.account.uid);
    let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut env: Vec<Variable> = vec![
        own("LANG", "C.UTF-8"),
        own("TMPDIR", "/tmp"),
        own("SHELL", "/bin/sh"),
    ];
    let kept = session
        .iter()
        .filter(|(name, _)| !name.starts_with("DBUS_"));
    env.extend(kept.cloned());
    env.extend([
        own("PATH", PATH),
        own("HOME", &spec.account.home),
        own("USER", &spec.account.name),
        own("LOGNAME", &spec.account.name),
        own("XDG_RUNTIME_DIR", &runtime),
        own("ROBOT_JOB_ID", &spec.attempt.job.to_string()),
        own("ROBOT_SOCKET", "/run/robot/job.sock"),
        own("ROBOT_ARTIFACTS", "/run/robot/artifacts"),
        own("ROBOT_PARAMS", "/run/robot/params.json"),
    ]);
    if let Some(number) = display {
        env.push(own("DISPLAY", &format!(":{number}")));
        env.push(own("XAUTHORITY", &format!("{runtime}/{XAUTHORITY}")));
        env.push(own(
            "DBUS_SESSION_BUS_ADDRESS",
            &format!("unix:path={runtime}/bus"),
        ));
    }
    if spec
        .egress
        .as_ref()
        .is_some_and(|egress| egress.rules.proxy)
    {
        env.extend(super::network::proxy_variables());
    }
    env.extend(spec.env.iter().cloned());
    last_wins(env)
}

fn last_wins(env: Vec<Variable>) -> Vec<Variable> {
    let by_name: std::collections::BTreeMap<_, _> = env.into_iter().collect();
    by_name.into_iter().collect()
}

/// The bot's command line: the entry point itself, or its interpreter.
pub(super) fn bot(spec: &Spec) -> Vec<String> {
    let entry = format!("/work/{}", spec.entry);
    spec.interpreter
        .iter()
        .cloned()
        .chain([entry])
        .chain(spec.args.iter().cloned())
        .collect()
}
