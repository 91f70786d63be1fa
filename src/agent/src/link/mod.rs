//! The link to the orchestrator: one identity, two connections, one session.
//!
//! ```text
//!  no identity ──enrol──► connecting ──hello, welcome──► online
//!                          ▲   │ full jitter, 1 to 60 s    │
//!                          └───┴────── network lost ◄──────┤
//!                          refused ◄── certificate refused, identity revoked
//!                            └─ tried again every ten minutes, or by a new enrolment
//! ```
//!
//! `driver` owns the machine above; `session` is one pass through "online": the control stream,
//! and beside it `publish` (lanes, each by its `delivery`), `blobs` (files), `transfers` (packages, secrets), `views`
//! (screens) and `renewal` on the bulk connection, where `traffic` says who goes first. `failure` tells what an error means. Jobs go on in every state.

mod backoff;
mod blobs;
mod channel;
mod delivery;
mod driver;
mod enrolment;
mod failure;
mod flight;
mod identity;
mod open;
mod private;
mod publish;
mod read;
mod renewal;
mod say;
mod session;
mod tap;
mod tls;
mod traffic;
mod transfers;
mod understand;
mod views;

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use crate::audit::Audit;
use crate::config::Config;
use crate::control::LinkStatus;
use crate::exchange::{Command, Mail, Standing, Transfer, View};
use crate::host::Host;
use crate::ids::Incarnation;
use crate::spool::Lanes;
use crate::token::Token;

pub(crate) use driver::Driver;
pub(crate) use enrolment::EnrolError;
pub(crate) use traffic::Traffic;

/// The broker's public keys, which enrolment registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RegisteredKeys {
    /// Ed25519, 32 bytes.
    pub(crate) result_key: Vec<u8>,
    /// X25519, 32 bytes.
    pub(crate) secret_key: Vec<u8>,
}

/// A wish to enrol, from robotctl.
#[derive(Debug)]
pub(crate) struct Enrol {
    /// Read and checked.
    pub(crate) token: Box<Token>,
    /// What the broker said of itself.
    pub(crate) keys: RegisteredKeys,
    /// Who this host is now.
    pub(crate) answer: oneshot::Sender<Result<order::AgentId, EnrolError>>,
}

/// What the link works with.
pub(crate) struct Parts {
    /// Places and patience.
    pub(crate) config: Arc<Config>,
    /// This process and boot.
    pub(crate) incarnation: Incarnation,
    /// Facts and load.
    pub(crate) host: Host,
    /// Lanes to deliver.
    pub(crate) lanes: Lanes,
    /// Security events.
    pub(crate) audit: Audit,
    /// What robotd says of itself.
    pub(crate) standing: watch::Receiver<Standing>,
    /// To the jobs.
    pub(crate) commands: mpsc::Sender<Command>,
    /// Where the link stands, for robotctl.
    pub(crate) status: watch::Sender<LinkStatus>,
    /// What is under way on the bulk connection.
    pub(crate) traffic: Traffic,
}

/// What comes to the link from inside.
pub(crate) struct Inlets {
    /// From the jobs, now.
    pub(crate) urgent: mpsc::Receiver<Mail>,
    /// Over the bulk connection.
    pub(crate) transfers: mpsc::Receiver<Transfer>,
    /// Live views, the same way.
    pub(crate) views: mpsc::Receiver<View>,
    /// From robotctl.
    pub(crate) enrols: mpsc::Receiver<Enrol>,
}
