//! robotd: the unprivileged side of a host's agent. It talks to the orchestrator, keeps licenses
//! and dispatches jobs to the broker; it never runs a program and sees no plain secret.
//!
//! ```text
//!  app ─► job ─► license, privileged, output ─► spool, audit ─► exchange, ids, config
//!  app ─► link ─► spool, exchange, ids                          spool, audit ─► encode ─► exchange
//! ```
//!
//! `job` and `link` do not know each other. Three lanes join them (see `exchange`): commands in,
//! durable records out through the spool, urgent messages out. Wire types are known to `link`,
//! and those of records to `encode`. `packet` carries the conversations with broker and
//! attendants, `host` looks at the machine; both are leaves.
//!
//! Arrows of the table above that are not drawn: `output` and `privileged` use `packet`; `link` uses
//! `host`, `audit`, `config`, `encode`, and from the public contract `control` and `token`.
//!
//! What robotctl shares with robotd is public: [`config`], [`control`], [`token`], [`exit`].

pub mod config;
pub mod control;
pub mod exit;
pub mod token;

mod exchange;
mod host;
mod ids;
mod packet;

mod audit;
mod encode;
mod spool;

mod license;
mod output;
mod privileged;

mod job;
mod link;

mod app;

pub use app::run;
