//! `serve`: the runtime and the operator's log.

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt};

use super::Ended;
use super::arguments::Serve;
use crate::app;
use crate::config::Options;
use crate::refused::Refused;

pub(super) fn run(arguments: &Serve) -> Result<Ended, Refused> {
    log();
    let options = Options {
        data_dir: arguments.place.data_dir.clone(),
        listen: arguments.listen,
        enroll: arguments.enroll,
        http: arguments.http,
        name: arguments.name.clone(),
        lease_ttl: check_ttl(arguments.lease_ttl)?,
        secrets_key: arguments.secrets_key.clone(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Refused::unavailable("RUNTIME_FAILED", error.to_string()))?;
    runtime.block_on(app::serve(options, app::signalled()))?;
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    Ok(Ended::Well)
}

/// Below 4 s the agent's margin of 2 s eats the lease; above 3,000 s the grace covers no drift.
fn check_ttl(ttl: std::time::Duration) -> Result<std::time::Duration, Refused> {
    match (4..=3000).contains(&ttl.as_secs()) {
        true => Ok(ttl),
        false => Err(Refused::invalid(
            "LEASE_TTL_INVALID",
            "--lease-ttl is 4s to 3000s",
        )),
    }
}

/// To the journal where journald reads standard error, to standard error elsewhere.
fn log() {
    let filter = || {
        EnvFilter::try_from_env("ROBOT_ORCHESTRATOR_LOG").unwrap_or_else(|_| EnvFilter::new("info"))
    };
    let journal = std::env::var_os("JOURNAL_STREAM").and_then(|_| tracing_journald::layer().ok());
    match journal {
        Some(layer) => tracing_subscriber::registry()
            .with(layer.with_filter(filter()))
            .init(),
        None => {
            let layer = fmt::layer().with_writer(std::io::stderr).with_ansi(false);
            tracing_subscriber::registry()
                .with(layer.with_filter(filter()))
                .init();
        }
    }
}
