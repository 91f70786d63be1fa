//! What keeps a job's programs apart from the kernel and the host, beside namespaces and mounts.
//!
//! ```text
//! init, once it is the bot's account:   limits, Landlock        for all that it starts
//! each program, between fork and exec:  MDWE, seccomp           init itself forks by clone3
//! ```
//!
//! What differs between profiles is one table, `order::PROFILES`; [`Plan`] reads it. The lists of
//! system calls are in `lists/`, a reason on each line.

mod calls;
mod landlock;

use order::{Mdwe, SandboxPart, SandboxSummary};
use privsep::Refusal;
use privsep::session::Sandbox;

use calls::Calls;

/// A sandbox, decided and compiled, not yet in force.
pub(crate) struct Plan {
    pub(crate) sandbox: Sandbox,
    mdwe: Mdwe,
    calls: Option<Calls>,
}

impl Plan {
    /// Reads the table; asks the kernel what it can.
    pub(crate) fn of(sandbox: &Sandbox) -> Result<Self, Refusal> {
        let mdwe = match sandbox.grants_new_code() {
            true => Mdwe::Off,
            false if sys::process::can_deny_exec_gain() => Mdwe::Kernel,
            false if sandbox.goes_without(SandboxPart::Seccomp) => Mdwe::Off,
            false => Mdwe::Seccomp,
        };
        let filtered = !sandbox.goes_without(SandboxPart::Seccomp);
        let calls = filtered.then(|| Calls::of(sandbox, mdwe)).transpose();
        Ok(Self {
            sandbox: sandbox.clone(),
            mdwe,
            calls: calls.map_err(|error| crate::refusal("SANDBOX_FAILED", &error))?,
        })
    }

    pub(crate) fn proc_is_writable(&self) -> bool {
        self.sandbox.grants_user_namespaces()
    }

    /// What init puts on itself and so on everything in the job. It is the account already.
    pub(crate) fn confine_init(&self, writable: &[String]) -> Result<SandboxSummary, Refusal> {
        let failed = |error: &dyn std::error::Error| crate::refusal("SANDBOX_FAILED", error);
        let without = &self.sandbox.without;
        let landlock = if self.sandbox.goes_without(SandboxPart::Landlock) {
            0
        } else {
            landlock::enforce(writable, self.proc_is_writable()).map_err(|error| failed(&error))?
        };
        Ok(SandboxSummary {
            profile: self.sandbox.profile,
            landlock,
            seccomp: self.calls.is_some(),
            mdwe: self.mdwe,
            without: without.clone(),
        })
    }

    /// What a program of the job is given, between fork and exec: allocates nothing. After it no
    /// process can be made by clone3.
    pub(crate) fn confine_program(&self) -> Result<(), Unconfined> {
        if self.mdwe == Mdwe::Kernel {
            sys::process::deny_exec_gain()?;
        }
        if let Some(calls) = &self.calls {
            calls.apply()?;
        }
        Ok(())
    }
}

/// A program that could not be confined is not started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unconfined {
    #[error(transparent)]
    Attribute(#[from] sys::process::Error),
    #[error(transparent)]
    Calls(#[from] sys::seccomp::Error),
}

impl Unconfined {
    /// For the parent, which learns a number and nothing else.
    pub(crate) fn errno(&self) -> sys::Errno {
        match self {
            Self::Attribute(
                sys::process::Error::Attribute { source, .. }
                | sys::process::Error::Descriptors { source, .. },
            ) => *source,
            // A filter that was compiled is refused for want of memory or by a filter above.
            Self::Calls(_) | Self::Attribute(_) => sys::Errno::EPERM,
        }
    }
}
