//! The loop: waits for whoever speaks or ends next, and acts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use events::Code;
use privsep::session::ToSession;
use privsep::{MAX_PACKET, Refusal, decode};
use sys::beneath::{Dir, Mounts};
use sys::fdpass::{Listener, Seqpacket};
use sys::poll::{Signals, Watch as Poll};
use sys::process::Limit;
use sys::pulse::Pulse;

use crate::broker::{Broker, PEERS, SessionPeer, Who};
use crate::fences::Fences;
use crate::generation::Generation;
use crate::keys::{KeyError, Keys};
use crate::policy::{BackendChoice, Policy, PolicyError};
use crate::rate::Rate;
use crate::record::{RecordError, Records};
use crate::store::Store;
use crate::tenants::LastTenants;
use crate::work::{Done, Workers};

/// A policy is a page of text.
const MAX_POLICY: u64 = 1 << 20;

/// Why the broker does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("robotd-broker must run as root; start its service")]
    NotRoot,
    #[error("policy {0}")]
    PolicyFile(PathBuf, #[source] sys::files::TrustError),
    #[error("policy {0} is not UTF-8")]
    PolicyText(PathBuf),
    #[error("policy {0} is refused")]
    Policy(PathBuf, #[source] PolicyError),
    #[error("{0}")]
    AgentUser(Refusal),
    #[error("the broker's keys")]
    Keys(#[from] KeyError),
    #[error("the broker's state")]
    Records(#[from] RecordError),
    #[error("the broker's socket")]
    Socket(#[from] sys::fdpass::Error),
    #[error("directory {0}")]
    Directory(PathBuf, #[source] sys::beneath::Error),
    #[error(
        "session.backend = \"pam\" with systemd as PID 1: its user manager would outlive each job; \
         write \"auto\""
    )]
    PamUnderSystemd,
    #[error("{0} was not made by root; remove it and start the broker again")]
    Foreign(PathBuf),
    #[error("the owner of {0}")]
    Owner(PathBuf, #[source] std::io::Error),
    #[error("waiting for events")]
    Poll(#[from] sys::poll::Error),
}

struct Sockets {
    agent: Listener,
    session: Listener,
    admin: Listener,
    signals: Signals,
}

/// Keys and opened secrets are in it: no core file, no look by others, no swap.
fn keep_memory() {
    let kept = sys::process::not_dumpable()
        .and_then(|()| sys::process::set_limit(Limit::Core(0)))
        .and_then(|()| sys::process::lock_memory());
    if let Err(error) = kept {
        eprintln!(
            "robotd-broker: its memory is not kept out of swap and dumps: {}",
            crate::text(&error)
        );
    }
}

/// Runs until SIGTERM. Sessions go on without it and end by their own deadlines.
pub(crate) fn run(policy: &Path) -> Result<(), StartError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(StartError::NotRoot);
    }
    keep_memory();
    let policy = read_policy(policy).inspect_err(policy_event)?;
    let signals = Signals::of_a_program()?;
    if policy.session.backend == BackendChoice::Pam && crate::launch::systemd_runs() {
        return Err(StartError::PamUnderSystemd);
    }
    let (mut broker, sockets) = build(policy, signals)?;
    broker.recover()?;
    broker.look_around();
    broker.probe_host();
    broker.operator(&format!(
        "ready, {} slots, sessions by {}",
        broker.policy.slots.len(),
        broker.backend.name()
    ));
    ready();
    let mut pulse = Pulse::of_this_program();
    loop {
        pulse.beat();
        let woken = wait(&broker, &sockets, pulse.next())?;
        for source in woken {
            match source {
                Source::Signals => {
                    if stops(&sockets.signals)? {
                        return Ok(());
                    }
                }
                Source::AgentListener => broker.accept_agent(&sockets.agent)?,
                Source::SessionListener => broker.accept_session(&sockets.session)?,
                Source::AdminListener => broker.accept_admin(&sockets.admin)?,
                Source::Agent => broker.read_agent(),
                Source::Session(pid) => {
                    broker.read_session(pid);
                }
                Source::Work => broker.take_work(),
                Source::Process(pid) => broker.reap(pid),
            }
        }
        broker.expire();
    }
}

fn read_policy(path: &Path) -> Result<Policy, StartError> {
    let bytes = sys::files::read_trusted(path, sys::Uid::from_raw(0), MAX_POLICY)
        .map_err(|error| StartError::PolicyFile(path.to_owned(), error))?;
    let text = String::from_utf8(bytes).map_err(|_| StartError::PolicyText(path.to_owned()))?;
    Policy::parse(&text).map_err(|error| StartError::Policy(path.to_owned(), error))
}

/// robotd learns nothing of it: without a policy there is no broker. The journal does.
fn policy_event(error: &StartError) {
    let event = Broker::event_now(Code::PolicyRefused).with("reason", crate::text(error));
    if let Err(error) = events::journal::Sender::new("robotd-broker").send(&event) {
        eprintln!("robotd-broker: {}", crate::text(&error));
    }
}

fn build(policy: Policy, signals: Signals) -> Result<(Broker, Sockets), StartError> {
    let agent_uid =
        crate::starting::known_account(&policy.agent.user).map_err(StartError::AgentUser)?;
    let (agent_uid, agent_gid) = (agent_uid.uid.as_raw(), agent_uid.gid.as_raw());
    let records = Records::open(&policy.paths.state)?;
    let tenants = LastTenants::open(&policy.paths.state, &records.slots()?)?;
    crate::wiping::make_store(&policy.volume.store);
    let keys = Keys::load_or_make(&policy.paths.state)?;
    let sockets = bind(&policy, agent_uid, agent_gid, signals)?;
    let host = nix::unistd::gethostname()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let broker = Broker {
        backend: crate::launch::backend(policy.session.backend),
        store: Store::new(&policy),
        tidy_at: sys::clock::boottime(),
        outbox: crate::outbox::Outbox::new(&policy.paths.state),
        keys,
        records,
        tenants,
        fences: Fences::open(&policy.paths.state)?,
        generation: Generation::now(),
        workers: Workers::start()?,
        journal: events::journal::Sender::new("robotd-broker"),
        host,
        agent_id: crate::trust::Trust::read(&policy.paths)
            .ok()
            .map(|trust| trust.agent),
        agent_uid,
        attempts: BTreeMap::new(),
        told_not_enforced: BTreeSet::new(),
        quarantined: BTreeMap::new(),
        agent: None,
        refusals: Rate::new(crate::agent_calls::REFUSALS_A_MINUTE),
        sessions: vec![],
        watched: vec![],
        recovering: BTreeMap::new(),
        logins: BTreeMap::new(),
        looked_around: false,
        closings: BTreeMap::new(),
        last_closing: 0,
        abilities: None,
        probe_until: None,
        policy,
    };
    Ok((broker, sockets))
}

fn bind(policy: &Policy, uid: u32, gid: u32, signals: Signals) -> Result<Sockets, StartError> {
    let runtime = &policy.paths.runtime;
    directory(runtime, gid, 0o750)?;
    // robotd reads what the attendants write below these; only root makes entries.
    directory(&policy.paths.spool, gid, 0o750)?;
    directory(&policy.paths.jobs, gid, 0o750)?;
    let agent = Listener::bind(&runtime.join("broker.sock"), 0o600)?;
    let path = agent.path().to_owned();
    std::os::unix::fs::chown(&path, Some(uid), Some(gid))
        .map_err(|error| StartError::Owner(path, error))?;
    let session = Listener::bind(&runtime.join("session.sock"), 0o600)?;
    let admin = Listener::bind(&runtime.join("admin.sock"), 0o600)?;
    Ok(Sockets {
        agent,
        session,
        admin,
        signals,
    })
}

/// Makes a directory of the broker's. What is above may belong to robotd, which could put a link
/// or a directory of its own in its place: only what root made is used, and only by descriptor.
fn directory(path: &Path, gid: u32, mode: u32) -> Result<(), StartError> {
    let failed = |error: sys::beneath::Error| StartError::Directory(path.to_owned(), error);
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(StartError::Foreign(path.to_owned()));
    };
    // It may be a mount of its own: a spool with its own disk, a unit's ReadWritePaths=.
    let parent = Dir::open_root(parent, Mounts::Cross).map_err(failed)?;
    let made = match parent.create_dir(name, 0o700) {
        Err(sys::beneath::Error::Create {
            source: sys::Errno::EEXIST,
            ..
        }) => parent.open_dir(name),
        made => made,
    };
    let made = made.map_err(failed)?;
    if !made.own_facts().map_err(failed)?.uid.is_root() {
        return Err(StartError::Foreign(path.to_owned()));
    }
    made.set_owner(sys::Uid::from_raw(0), gid.into())
        .map_err(failed)?;
    made.set_mode(mode).map_err(failed)
}

/// sd_notify(3), where a service manager asked for it.
fn ready() {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let sent = std::os::unix::net::UnixDatagram::unbound()
        .and_then(|socket| socket.send_to(b"READY=1", path));
    if let Err(error) = sent {
        eprintln!("robotd-broker: the service manager was not told: {error}");
    }
}

fn stops(signals: &Signals) -> Result<bool, StartError> {
    let mut stop = false;
    while let Some(received) = signals.take()? {
        stop |= matches!(received.signal, sys::Signal::SIGTERM | sys::Signal::SIGINT);
    }
    Ok(stop)
}

/// Who woke the loop. Peers are named by pid: handling one can end another.
#[derive(Clone, Copy)]
enum Source {
    Signals,
    AgentListener,
    SessionListener,
    AdminListener,
    Agent,
    Session(i32),
    Work,
    Process(i32),
}

fn wait(
    broker: &Broker,
    sockets: &Sockets,
    beat: Option<Duration>,
) -> Result<Vec<Source>, StartError> {
    let mut sources = vec![
        Source::Signals,
        Source::AgentListener,
        Source::SessionListener,
        Source::AdminListener,
        Source::Work,
    ];
    let mut polls = vec![
        Poll::readable(&sockets.signals),
        Poll::readable(&sockets.agent),
        Poll::readable(&sockets.session),
        Poll::readable(&sockets.admin),
        Poll::readable(broker.workers.bell()),
    ];
    if let Some(agent) = &broker.agent {
        sources.push(Source::Agent);
        polls.push(Poll::readable(agent));
    }
    for peer in &broker.sessions {
        sources.push(Source::Session(peer.pid));
        polls.push(Poll::readable(&peer.socket));
    }
    for watched in &broker.watched {
        sources.push(Source::Process(watched.process.pid().as_raw()));
        polls.push(Poll::readable(&watched.process));
    }
    let due = broker.next_deadline().into_iter().chain(beat).min();
    let timeout = due.map(|due| due.saturating_sub(sys::clock::boottime()));
    sys::poll::wait(&mut polls, timeout)?;
    let ready = sources
        .into_iter()
        .zip(&polls)
        .filter(|(_, poll)| poll.is_ready());
    Ok(ready.map(|(source, _)| source).collect())
}

impl Broker {
    fn accept_agent(&mut self, listener: &Listener) -> Result<(), StartError> {
        let Some(socket) = listener.try_accept()? else {
            return Ok(());
        };
        if self.peer_is(&socket, self.agent_uid, "broker.sock") {
            // The newest one counts: an older one belongs to a robotd that is gone or stuck.
            self.agent = Some(socket);
        }
        Ok(())
    }

    fn accept_session(&mut self, listener: &Listener) -> Result<(), StartError> {
        let Some(socket) = listener.try_accept()? else {
            return Ok(());
        };
        if self.sessions.len() < PEERS && self.peer_is(&socket, 0, "session.sock") {
            let pid = socket.peer()?.pid.as_raw();
            self.sessions.retain(|peer| peer.pid != pid);
            self.sessions.push(SessionPeer {
                socket,
                pid,
                who: Who::Unknown,
            });
        }
        Ok(())
    }

    /// robotctl asks once per connection and waits; it has a second to say what.
    fn accept_admin(&mut self, listener: &Listener) -> Result<(), StartError> {
        let Some(socket) = listener.try_accept()? else {
            return Ok(());
        };
        if self.peer_is(&socket, 0, "admin.sock") {
            let mut buffer = vec![0; MAX_PACKET];
            if let Ok(Some(received)) = socket.recv_within(&mut buffer, Duration::from_secs(1)) {
                self.on_admin(socket, &buffer[..received.len]);
            }
        }
        Ok(())
    }

    fn peer_is(&mut self, socket: &Seqpacket, uid: u32, name: &str) -> bool {
        match socket.peer() {
            Ok(peer) if peer.uid.as_raw() == uid => true,
            Ok(peer) => {
                let event = Self::event_now(Code::PeerRefused)
                    .with("socket", name)
                    .with("uid", peer.uid.as_raw());
                self.event(event, None);
                false
            }
            Err(_) => false,
        }
    }

    fn read_agent(&mut self) {
        let Some(agent) = &self.agent else { return };
        let mut buffer = vec![0; MAX_PACKET];
        match agent.try_recv(&mut buffer) {
            Ok(Some(received)) => match decode(&buffer[..received.len]) {
                Ok(call) => self.on_call(call, received.fds),
                Err(error) => self.drop_agent(&crate::text(&error)),
            },
            Ok(None) => self.agent = None,
            Err(sys::fdpass::Error::WouldBlock) => {}
            Err(error) => self.drop_agent(&crate::text(&error)),
        }
    }

    fn drop_agent(&mut self, reason: &str) {
        self.agent = None;
        let event = Self::event_now(Code::MessageMalformed)
            .with("socket", "broker.sock")
            .with("reason", reason);
        self.bounded_event(event, None);
    }

    /// Reads one message of a session; `false` when there is nothing more to read.
    fn read_session(&mut self, pid: i32) -> bool {
        let Some(at) = self.sessions.iter().position(|peer| peer.pid == pid) else {
            return false;
        };
        let mut buffer = vec![0; MAX_PACKET];
        let outcome = match self.sessions[at].socket.try_recv(&mut buffer) {
            Ok(Some(received)) => match decode(&buffer[..received.len]) {
                Ok(message) => self.on_session(at, message),
                Err(error) => Err(Refusal::new("MESSAGE_MALFORMED", error.to_string())),
            },
            Ok(None) => {
                self.sessions.retain(|peer| peer.pid != pid);
                return false;
            }
            Err(sys::fdpass::Error::WouldBlock) => return false,
            Err(error) => Err(Refusal::new("MESSAGE_MALFORMED", crate::text(&error))),
        };
        if let Err(refusal) = outcome {
            self.sessions.retain(|peer| peer.pid != pid);
            let event = Self::event_now(Code::MessageMalformed)
                .with("socket", "session.sock")
                .with("reason", refusal.to_string());
            self.event(event, None);
            return false;
        }
        true
    }

    fn take_work(&mut self) {
        for done in self.workers.take() {
            match done {
                Done::Told => {}
                Done::Surveyed { outcome } => self.surveyed(outcome),
                Done::TakenIn { attempt, taken } => self.package_taken(attempt, taken),
                Done::UserClosed {
                    account,
                    number,
                    leftovers,
                } => self.user_closed(&account, number, leftovers),
                Done::UserBound { attempt, outcome } => {
                    let problem = outcome.err();
                    self.tell_session(&attempt, &ToSession::Limited { problem }, None);
                }
                Done::UnitStarted { about, outcome } => self.unit_started(about, outcome),
                Done::StraysKilled { outcome } => self.strays_killed(outcome),
                Done::Seen(seen) => self.seen(seen),
                Done::Removed { path, outcome } => {
                    if let Err(error) = outcome {
                        let path = path.display();
                        self.operator(&format!("{path} is not removed: {}", crate::text(&error)));
                    }
                }
            }
        }
    }

    fn reap(&mut self, pid: i32) {
        let Some(at) = self
            .watched
            .iter()
            .position(|watched| watched.process.pid().as_raw() == pid)
        else {
            return;
        };
        let watched = self.watched.swap_remove(at);
        if watched.child {
            let _ = watched.process.try_wait();
        }
        // What it said before it ended comes first; at the end of the conversation, or when
        // nothing more is there, its peer is gone.
        while self.read_session(pid) {}
        self.sessions.retain(|peer| peer.pid != pid);
        self.watched.retain(|other| other.what != watched.what);
        self.on_ended(&watched.what);
    }
}
