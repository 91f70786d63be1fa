//! The reference orchestrator: one program, no server to install, all state
//! under `--data-dir`.
//!
//! Reading order: `cli` parses a command line; `serve` goes to `app`, which
//! builds every part; all other commands go through the socket of `admin`.
//! Decisions are made by `core`, one thread that owns jobs, leases and
//! sessions and writes each decision to `store` before anybody hears of it.
//! `archive` makes output durable before it is acknowledged. `link`,
//! `enroll` and `identity` speak to agents through `tls`, whose
//! certificates come from `ca`; `keys` are those that sign orders. `view` has the screens that somebody looks on at.

mod admin;
mod app;
mod archive;
mod blobs;
mod ca;
mod certificate;
mod cli;
mod clock;
mod config;
mod core;
mod durable;
mod enroll;
mod events;
mod http;
mod identity;
mod keys;
mod link;
mod ready;
mod refused;
mod spec;
mod store;
mod tls;
mod vault;
mod view;

pub use cli::run;

#[cfg(test)]
mod tests;
