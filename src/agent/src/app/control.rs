//! The listening end of `control.sock`.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::control::{Ask, JobLine, LinkStatus, MAX_LINE, Reply, Status};
use crate::exchange::{Blocker, Standing};
use crate::job;
use crate::link::{Enrol, RegisteredKeys};
use crate::privileged::Broker;
use crate::token::Token;

/// Connections at once; more wait in the kernel.
const AT_ONCE: usize = 16;

/// For a question to arrive after the connection was made.
const ASK_WITHIN: Duration = Duration::from_secs(5);

/// For an answer, but to those that wait on purpose.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// For a broker that is just being started.
const BROKER_WITHIN: Duration = Duration::from_secs(10);

/// What answers are made of.
pub(super) struct Desk {
    pub(super) broker: Broker,
    pub(super) standing: watch::Receiver<Standing>,
    pub(super) link: watch::Receiver<LinkStatus>,
    pub(super) asks: mpsc::Sender<job::Ask>,
    pub(super) enrols: mpsc::Sender<Enrol>,
}

pub(super) struct Control {
    listener: UnixListener,
    desk: Arc<Desk>,
}

impl Control {
    /// Takes the name. A socket there is a dead robotd's: the state directory's lock is held.
    pub(super) fn listen(path: &Path, desk: Desk) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
        Ok(Self {
            listener,
            desk: Arc::new(desk),
        })
    }

    pub(super) async fn serve(self) {
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            let Ok(turn) = Arc::clone(&turns).acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let desk = Arc::clone(&self.desk);
                    tokio::spawn(async move {
                        if let Err(reason) = converse(&desk, stream).await {
                            debug!(%reason, "a conversation with robotctl broke");
                        }
                        drop(turn);
                    });
                }
                Err(reason) => {
                    // No descriptor left: it passes when one is closed.
                    warn!(%reason, "robotctl can't be heard");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

async fn converse(desk: &Desk, mut stream: UnixStream) -> io::Result<()> {
    let is_root = stream.peer_cred()?.uid() == 0;
    let (reading, mut writing) = stream.split();
    let mut line = Vec::new();
    let mut bounded = BufReader::new(reading.take(MAX_LINE as u64));
    timeout(ASK_WITHIN, bounded.read_until(b'\n', &mut line)).await??;
    let reply = match serde_json::from_slice::<Ask>(&line) {
        Ok(ask) if is_root || ask.only_looks() => answer(desk, ask).await,
        Ok(_) => Reply::refused("NOT_ROOT", "only root may ask for this; run it with sudo"),
        Err(reason) => Reply::refused(
            "ASK_MALFORMED",
            format!(
                "the question can't be read: {reason}; robotctl and robotd must be of one version"
            ),
        ),
    };
    let mut line = serde_json::to_vec(&reply)?;
    line.push(b'\n');
    timeout(ASK_WITHIN, writing.write_all(&line)).await?
}

async fn answer(desk: &Desk, ask: Ask) -> Reply {
    let waits = ask == Ask::Drain { wait: true };
    let reply = async {
        match ask {
            Ask::Status => desk.status(),
            Ask::Jobs => desk.jobs(),
            Ask::Drain { wait } => desk.drain(wait).await,
            Ask::Resume => desk.tell(|answer| job::Ask::Resume { answer }).await,
            Ask::Enroll { token } => desk.enrol(token).await,
        }
    };
    if waits {
        return reply.await;
    }
    let late = || {
        Reply::refused(
            "TIMED_OUT",
            format!("no answer within {ANSWER_WITHIN:?}; look at robotd's log"),
        )
    };
    timeout(ANSWER_WITHIN, reply)
        .await
        .unwrap_or_else(|_| late())
}

fn stopping() -> Reply {
    Reply::refused("STOPPING", "robotd stops; ask again when it is back")
}

impl Desk {
    fn status(&self) -> Reply {
        let standing = self.standing.borrow().clone();
        Reply::Status {
            status: Box::new(Status {
                version: env!("CARGO_PKG_VERSION").into(),
                state: word(&standing.readiness),
                blockers: standing
                    .blockers
                    .iter()
                    .copied()
                    .map(Blocker::code)
                    .map(str::to_owned)
                    .collect(),
                slots: standing.slots,
                free_slots: standing.free_slots,
                jobs: u32::try_from(standing.jobs.len()).unwrap_or(u32::MAX),
                link: self.link.borrow().clone(),
                spool_used_bytes: standing.spool_used_bytes,
                spool_limit_bytes: standing.spool_limit_bytes,
                abilities: standing.abilities,
                missing_abilities: standing.missing_abilities,
            }),
        }
    }

    fn jobs(&self) -> Reply {
        let standing = self.standing.borrow().clone();
        let line = |job: &crate::exchange::HeldJob| {
            let lease = standing
                .leases
                .iter()
                .find(|held| held.job == job.attempt.job)
                .map(|held| held.lease);
            JobLine {
                attempt: job.attempt.to_string(),
                phase: word(&job.phase),
                lease: lease.map(|lease| lease.lease.to_string()),
                fence: lease.map(|lease| lease.fence),
            }
        };
        let mut jobs: Vec<_> = standing.jobs.iter().map(line).collect();
        jobs.sort_by(|one, other| one.attempt.cmp(&other.attempt));
        Reply::Jobs { jobs }
    }

    async fn tell(&self, ask: impl FnOnce(oneshot::Sender<()>) -> job::Ask) -> Reply {
        let (answer, answered) = oneshot::channel();
        if self.asks.send(ask(answer)).await.is_err() || answered.await.is_err() {
            return stopping();
        }
        Reply::Done
    }

    async fn drain(&self, wait: bool) -> Reply {
        let reply = self.tell(|answer| job::Ask::Drain { answer }).await;
        if wait && reply == Reply::Done {
            let mut standing = self.standing.clone();
            if standing
                .wait_for(|standing| standing.jobs.is_empty())
                .await
                .is_err()
            {
                return stopping();
            }
        }
        reply
    }

    async fn enrol(&self, token: Box<Token>) -> Reply {
        if let Err(reason) = token.check(sys::clock::unix_ms()) {
            return Reply::refused(reason.code(), reason.to_string());
        }
        let another = self
            .link
            .borrow()
            .agent_id
            .as_ref()
            .is_some_and(|agent| *agent != token.agent_id.to_string());
        if another && !self.standing.borrow().jobs.is_empty() {
            return Reply::refused(
                "JOBS_HELD",
                "this host still holds jobs of another enrolment; run `robotctl drain --wait` first",
            );
        }
        let Ok(keys) = timeout(BROKER_WITHIN, self.broker.wait_for_keys()).await else {
            return Reply::refused(
                "BROKER_UNREACHABLE",
                "robotd-broker does not answer; its keys are registered with the enrolment, so start it first",
            );
        };
        let keys = RegisteredKeys {
            result_key: keys.result_key.to_vec(),
            secret_key: keys.secret_key.to_vec(),
        };
        let (answer, answered) = oneshot::channel();
        if self
            .enrols
            .send(Enrol {
                token,
                keys,
                answer,
            })
            .await
            .is_err()
        {
            return stopping();
        }
        match answered.await {
            Ok(Ok(agent_id)) => Reply::Enrolled { agent_id },
            Ok(Err(reason)) => Reply::refused(reason.code(), reason.to_string()),
            Err(_) => stopping(),
        }
    }
}

/// As it stands in JSON.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}
