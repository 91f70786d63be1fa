//! Claims about real PAM: real modules, rules in /etc/pam.d and accounts of the host, which the
//! tests make and remove. They need root.
//!
//! A process leads one session only and PAM modules are not safe with threads, so each test
//! starts this program again for itself alone.

#![expect(
    clippy::unwrap_used,
    reason = "these are tests; clippy does not see that of the functions that they share"
)]

mod accounts;
mod order;
mod rig;
