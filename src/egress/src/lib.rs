//! robotd-egress: the one way out of a job's network.
//!
//! A job's network namespace has nothing but loopback, and rules that redirect every connection and
//! every question for a name to sockets that init made there. This process listens on them from the
//! host's namespace, decides, and connects. It has a user of its own per slot and no rights: what it
//! can't reach by itself no bot reaches through it. The bot is its enemy, and so is whoever answers.
//!
//! ```text
//!  inside                                                                       outside
//!   any TCP ───────► redirected ─┐            ┌── gate: rules, kinds, routes
//!   HTTP proxy ────► proxy ──────┴─► crossing ┤                              ─► host:port
//!   names ─────────► names ─────────┐         └── relay: bytes, counted
//!   other packets ─► packets        └─► upstream ───────────────────────────► resolver
//!                        └─► denials, ledger ─► descriptor 3: the session
//! ```

mod error;
mod harden;
mod session;
mod waiting;

mod denials;
mod ledger;

mod gate;
mod names;

mod crossing;
mod outside;
mod relay;

mod packets;
mod proxy;
mod redirected;

mod app;

pub use app::run;
