//! Starting, watching and ending processes, and what a process is allowed to do.
//!
//! * into being: [`fork`] with namespaces and a cgroup, [`Launch::exec`]
//! * while it lives: [`Process`] (a pidfd, which a reused pid can't fake), [`start_time`]
//! * its end: [`Process::wait`], [`reap_any`], [`Exit`], [`end_now`], [`signal_group`]
//! * what it may do: [`become_user`], [`become_user_for_good`], [`drop_capabilities`],
//!   [`set_limit`], [`limit_at_most`], [`no_new_privileges`]

mod attributes;
mod capabilities;
mod end;
mod error;
mod exec;
mod fds;
mod fork;
mod identity;
mod limits;
mod namespaces;
mod pidfd;
mod spawn;
mod stat;
mod wait;

pub use attributes::{
    can_deny_exec_gain, deny_exec_gain, die_with_parent, lock_memory, no_new_privileges,
    not_dumpable, restore_signals, set_child_subreaper, set_hostname, set_session, set_umask,
};
pub use capabilities::{Capability, drop_capabilities, keep_capabilities};
pub use end::{end_now, signal_group, signal_namespace};
pub use error::Error;
pub use exec::{ExecWatch, Launch, Program, end_unstarted, exec_report};
pub use fds::{close_fds_except, close_on_exec_from, take_inherited};
pub use fork::{Fork, Namespaces, fork, is_single_threaded};
pub use identity::{Identity, become_user, become_user_for_good};
pub use limits::{Limit, limit_to_at_most, set_limit};
pub use namespaces::join_namespaces;
pub use pidfd::{Delivery, Process};
pub use spawn::Spawn;
pub use stat::{StartTime, start_time};
pub use wait::{Exit, Reaped, reap_any};

pub(crate) use fork::fork_for_system_calls;
