//! One PAM session, opened and closed by a process that has nothing else to do.
//!
//! ```text
//!  start ─► [authenticate] ─► account ─► establish_credentials ─► open_session
//!                                                                      │   the job runs
//!  end ◄─ delete_credentials ◄─ close_session ◄────────────────────────┘
//! ```
//!
//! A [`Transaction`] keeps that order and undoes what was done when it is dropped. PAM modules
//! change the process that calls them (cgroup, login uid, keyring, limits, groups) and are not
//! safe with threads, so it belongs into a single-threaded process that leads one session and
//! then exits; a second session in the same process is refused.
//!
//! Code map: [`Transaction`] is the handle and its phases; `conversation` is what modules can
//! ask and say; `ffi` is the part of libpam that is used (pam(3), Linux-PAM 1.3 and later).

mod conversation;
mod error;
mod ffi;
mod password;
mod transaction;

pub use error::{Error, Failure};
pub use password::{Password, PasswordError};
pub use transaction::{Phase, Transaction};
