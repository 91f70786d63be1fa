//! What robotd asks of the Linux kernel, as a safe interface.
//!
//! With `pam` the only crate that holds unsafe code; everything that runs as root goes through
//! it. Each module is a namespace (`sys::mount::tmpfs`) and fails with its own `Error`, which
//! names the operation and its path or id and carries the kernel's [`Errno`] as its source.
//! Nothing here decides policy: who may ask for what is the broker's business.
//!
//! Code map, in reading order:
//!
//! * waiting and talking: [`clock`], [`poll`], [`pulse`], [`fdpass`], [`memfd`]
//! * processes: [`process`] (fork, exec, wait, identity, capabilities), [`seccomp`], [`account`], [`cgroup`], [`net`]
//! * files: [`beneath`] (hostile trees), [`files`] (files that root must be able to trust), [`mount`]
//! * volumes: [`locked`] (a key on its way to the kernel), [`fscrypt`], [`loopback`], [`dm`]
//! * what an account leaves behind: [`ipc`], [`keyring`], [`account::processes_of_uid`], [`wtmp`]

pub mod clock;
pub mod poll;
pub mod pulse;

pub mod fdpass;
pub mod memfd;

pub mod ability;
pub mod account;
pub mod cgroup;
pub mod net;
pub mod process;
pub mod seccomp;

pub mod beneath;
pub mod files;
pub mod mount;

pub mod dm;
pub mod fscrypt;
pub mod locked;
pub mod loopback;

pub mod ipc;
pub mod keyring;
pub mod wtmp;

pub use nix::errno::Errno;
pub use nix::sys::signal::Signal;
pub use nix::unistd::{Gid, Pid, Uid};
