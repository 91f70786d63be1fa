//! init: pid 1 of the job. It builds the job's root, becomes the bot's account for good, and
//! then starts what it is told and tells what ended. When it dies, all die.
//!
//! Runs in the child of the leader's fork; from the moment it has become the account it is as
//! powerless as the bot, and not dumpable, so that the bot can't reach into it.

mod display;
mod limits;
mod network;
mod proc;
mod programs;
mod root;
mod serve;

pub(crate) use programs::nothing;

use std::os::fd::OwnedFd;

use privsep::Refusal;
use privsep::session::Spec;
use sys::fdpass::Seqpacket;
use sys::process::Identity;

use crate::inner::{FromInit, say};
use crate::leader::Variable;
use crate::sandbox::Plan;

/// What init needs of the monitor.
pub(crate) struct Inherited {
    /// Conversation with the monitor.
    pub(crate) monitor: Seqpacket,
    /// Write end of the bot's standard output.
    pub(crate) stdout: OwnedFd,
    /// Write end of the bot's standard error.
    pub(crate) stderr: OwnedFd,
    /// MIT-MAGIC-COOKIE-1, for a job with a display.
    pub(crate) cookie: Option<[u8; 16]>,
}

/// The story of init. Its result is the exit code.
pub(crate) fn run(spec: &Spec, inherited: Inherited, environment: &[Variable]) -> i32 {
    let prepared = prepare(spec, &inherited);
    let outcome = prepared.and_then(|plan| serve::serve(spec, &inherited, environment, &plan));
    match outcome {
        Ok(()) => 0,
        Err(refusal) => {
            let _ = say(&inherited.monitor, &FromInit::Refused(refusal), &[]);
            1
        }
    }
}

fn prepare(spec: &Spec, inherited: &Inherited) -> Result<Plan, Refusal> {
    use std::os::fd::AsFd as _;
    let failed = |error: &dyn std::error::Error| crate::refusal("SANDBOX_FAILED", error);
    sys::process::set_umask(0o022);
    let plan = Plan::of(&spec.sandbox)?;
    sys::process::set_hostname(&host_name(spec)).map_err(|error| failed(&error))?;
    root::build(spec, plan.proc_is_writable())?;
    if let Some(cookie) = &inherited.cookie {
        display::prepare(&spec.account, cookie).map_err(|error| failed(&error))?;
    }
    let socket = root::listen()?;
    network::open(spec, &inherited.monitor)?;
    become_bot(spec).map_err(|error| failed(&error))?;
    // Last: what stands above needs what this takes away.
    let sandbox = plan.confine_init(&root::writable(spec))?;
    say(
        &inherited.monitor,
        &FromInit::Ready(sandbox),
        &[socket.as_fd()],
    )?;
    Ok(plan)
}

/// The job's own: the host's name is none of its business. The end of the id is its random part.
fn host_name(spec: &Spec) -> String {
    let id = spec.attempt.job.to_string();
    let (_, random) = id.split_at(id.len().saturating_sub(8));
    format!("robot-{random}")
}

/// For good: no capability, no way to get one, no set-user-id program that works.
fn become_bot(spec: &Spec) -> Result<(), sys::process::Error> {
    let groups = vec![spec.account.gid.into()];
    let identity = Identity {
        uid: spec.account.uid.into(),
        gid: spec.account.gid.into(),
        groups,
    };
    for limit in limits::of(spec) {
        sys::process::limit_to_at_most(limit)?;
    }
    sys::process::become_user_for_good(&identity)?;
    sys::process::no_new_privileges()?;
    // After the change of user, which sets it again.
    sys::process::not_dumpable()?;
    sys::process::set_umask(0o077);
    Ok(())
}
