//! Builds every part in order, runs them, and takes them down in reverse. No other file builds parts.

mod control;
mod folders;
mod logging;
mod notify;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use events::Code;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

use crate::audit::Audit;
use crate::config::{self, Config};
use crate::control::LinkStatus;
use crate::exchange::{UrgentLine, VIEWS};
use crate::exit;
use crate::host::Host;
use crate::ids::Incarnation;
use crate::job::{self, Board, Dispatch, Entry, Journal};
use crate::link::{self, Driver, Inlets};
use crate::privileged::Broker;
use crate::spool::{LaneError, LaneKind, Lanes, OwnLane};

/// Commands of the orchestrator that may wait for the jobs' owner.
const COMMANDS: usize = 64;

/// Transfers that may wait for the bulk connection.
const TRANSFERS: usize = 64;

/// Questions of robotctl that may wait.
const ASKS: usize = 8;

/// Parts that do not end by then are left: the journal stands as it is.
const CLOSING: Duration = Duration::from_secs(10);

/// Why robotd does not start.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("{}: {source}", path.display())]
    Config {
        path: PathBuf,
        source: config::Error,
    },
    #[error(transparent)]
    Folder(#[from] folders::FolderError),
    #[error("no runtime can be made: {0}")]
    Runtime(io::Error),
    #[error("robotd's own lane can't be opened: {0}")]
    Lane(#[from] LaneError),
    #[error(transparent)]
    Journal(#[from] job::JournalError),
    #[error("can't listen on {}: {source}", path.display())]
    Control { path: PathBuf, source: io::Error },
    #[error("the kernel's boot id can't be read: {0}")]
    BootId(io::Error),
    #[error("signals can't be taken: {0}")]
    Signals(io::Error),
}

impl StartError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Config { .. } => exit::CONFIG,
            Self::Folder(folders::FolderError::InUse { .. }) => exit::TEMPORARY,
            Self::Folder(_) | Self::Lane(_) | Self::Journal(_) | Self::Control { .. } => {
                exit::CANNOT_CREATE
            }
            Self::Runtime(_) | Self::BootId(_) | Self::Signals(_) => exit::OS,
        }
    }
}

/// Runs robotd until it is told to stop.
#[must_use]
pub fn run(config_path: &Path) -> ExitCode {
    match try_run(config_path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            // The log may not be there yet.
            eprintln!("robotd: {reason}");
            ExitCode::from(reason.exit_code())
        }
    }
}

fn try_run(config_path: &Path) -> Result<(), StartError> {
    let read = Config::read(config_path);
    let config = read.map_err(|source| StartError::Config {
        path: config_path.to_owned(),
        source,
    })?;
    logging::start(config.log_level);
    for finding in config.check() {
        warn!(
            key = finding.key,
            what = finding.what,
            remedy = finding.remedy,
            "the configuration is odd"
        );
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(StartError::Runtime)?;
    let outcome = runtime.block_on(serve(Arc::new(config)));
    // A thread that is in a slow disk call must not hold up the end.
    runtime.shutdown_timeout(CLOSING);
    outcome
}

async fn serve(config: Arc<Config>) -> Result<(), StartError> {
    let _lock = folders::prepare(&config)?;
    let stop = until_told()?;
    let app = App::build(config, stop.clone())?;
    app.run(stop).await;
    Ok(())
}

/// Becomes true with the first SIGTERM or SIGINT.
fn until_told() -> Result<watch::Receiver<bool>, StartError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Signals)?;
    let (told, stop) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        told.send_replace(true);
        // The sender stays: its end would look like a change.
        std::future::pending::<()>().await;
    });
    Ok(stop)
}

struct App {
    audit: Audit,
    dispatch: Dispatch,
    entries: Vec<Entry>,
    driver: Driver,
    control: control::Control,
}

impl App {
    /// In the order in which each part needs those before it.
    fn build(config: Arc<Config>, stop: watch::Receiver<bool>) -> Result<Self, StartError> {
        let incarnation = Incarnation::of_this_process().map_err(StartError::BootId)?;
        let host = Host::new(config.state_dir.clone());
        let lanes = Lanes::default();
        let steps = OwnLane::open(LaneKind::Job, &config.lanes_dir().join("job"), &lanes)?;
        let audit_lane = OwnLane::open(LaneKind::Audit, &config.lanes_dir().join("audit"), &lanes)?;
        let audit = Audit::new(audit_lane, &host.facts().hostname);
        let (journal, entries) = Journal::open(&config.jobs_dir())?;
        let board = Board::new();

        let (commands, obeyed) = mpsc::channel(COMMANDS);
        let (transfers, carried) = mpsc::channel(TRANSFERS);
        let (views, viewed) = mpsc::channel(VIEWS);
        let (urgent, mails) = UrgentLine::new();
        let (enrols, wishes) = mpsc::channel(ASKS);
        let (asks, asked) = mpsc::channel(ASKS);
        let (status, link_status) = watch::channel(LinkStatus::default());

        let inlets = Inlets {
            urgent: mails,
            transfers: carried,
            views: viewed,
            enrols: wishes,
        };
        let link = link::Parts {
            config: Arc::clone(&config),
            incarnation: incarnation.clone(),
            host,
            lanes: lanes.clone(),
            audit: audit.clone(),
            standing: board.watch(),
            commands,
            status,
            traffic: link::Traffic::default(),
        };
        let driver = Driver::new(Arc::new(link), inlets, stop);

        let (broker, events) = Broker::start(config.broker_socket.clone());
        let jobs = job::Parts {
            config: Arc::clone(&config),
            boot: incarnation.boot,
            broker: broker.clone(),
            journal,
            steps,
            audit: audit.clone(),
            urgent,
            transfers,
            views,
            lanes,
            board: board.clone(),
        };
        let dispatch = Dispatch::new(Arc::new(jobs), obeyed, events, asked);

        let path = config.control_socket();
        let desk = control::Desk {
            broker,
            standing: board.watch(),
            link: link_status,
            asks,
            enrols,
        };
        let control = control::Control::listen(&path, desk)
            .map_err(|source| StartError::Control { path, source })?;
        Ok(Self {
            audit,
            dispatch,
            entries,
            driver,
            control,
        })
    }

    async fn run(self, mut stop: watch::Receiver<bool>) {
        let Self {
            audit,
            dispatch,
            entries,
            driver,
            control,
        } = self;
        let version = env!("CARGO_PKG_VERSION");
        audit
            .report(audit.event(Code::AgentStarted).with("version", version))
            .await;
        info!(version, "robotd is up");
        notify::ready();
        let mut stopping = stop.clone();
        let told = async move { drop(stopping.wait_for(|stop| *stop).await) };
        let mut jobs = tokio::spawn(dispatch.run(entries, told));
        let mut link = tokio::spawn(driver.run());
        let control = tokio::spawn(control.serve());
        let watchdog = tokio::spawn(notify::watchdog());
        let _ = stop.wait_for(|stop| *stop).await;
        notify::stopping();
        info!("robotd stops; running jobs go on under the broker");
        audit
            .report(
                audit
                    .event(Code::AgentStopped)
                    .with("reason", "told to stop"),
            )
            .await;
        control.abort();
        let closed =
            tokio::time::timeout(CLOSING, async { tokio::join!(&mut link, &mut jobs) }).await;
        if closed.is_err() {
            error!("robotd's parts did not close in time; the next start goes on from the journal");
        }
        watchdog.abort();
    }
}
