//! A broker that does what the test says, over a real seqpacket socket.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use order::{
    AttemptRef, JobResult, KeyId, LogTotals, MAX_BODY, Outcome, Phase, PhaseAt, Purpose, SigningKey,
};
use privsep::Refusal;
use privsep::broker::{Answer, Call, Held, HeldState, Notice, Reply, Request, Slot, SlotState};
use sys::fdpass::{Listener, Seqpacket};
use sys::poll::{Event, Watch};

const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(crate) struct Known {
    pub(crate) held: BTreeMap<AttemptRef, Held>,
    results: BTreeMap<AttemptRef, (Vec<u8>, KeyId, Vec<u8>)>,
    /// Every request, in order.
    pub(crate) asked: Vec<Request>,
    pub(crate) orders: Vec<Vec<u8>>,
    pub(crate) packages: Vec<Vec<u8>>,
    /// What Start asks for.
    pub(crate) package_needed: bool,
    /// Dies at the next Start, with or without having made it durable.
    pub(crate) die_at_start: Option<bool>,
    pub(crate) refuse_start: Option<Refusal>,
    connection: Option<Arc<Seqpacket>>,
}

struct Shared {
    known: Mutex<Known>,
    changed: Condvar,
    key: SigningKey,
    agent: order::AgentId,
}

/// The state outlives the process, as the real one's does on disk.
pub(crate) struct Broker {
    path: PathBuf,
    shared: Arc<Shared>,
    running: Option<(Arc<Event>, JoinHandle<()>)>,
}

impl Broker {
    pub(crate) fn start(path: &Path, agent: order::AgentId) -> Self {
        let shared = Shared {
            known: Mutex::default(),
            changed: Condvar::new(),
            key: SigningKey::generate().unwrap(),
            agent,
        };
        let mut broker = Self {
            path: path.to_owned(),
            shared: Arc::new(shared),
            running: None,
        };
        broker.come_back();
        broker
    }

    /// Starts to listen, with what was known before.
    pub(crate) fn come_back(&mut self) {
        let listener = Listener::bind(&self.path, 0o600).unwrap();
        let stop = Arc::new(Event::new().unwrap());
        let (shared, stopped) = (Arc::clone(&self.shared), Arc::clone(&stop));
        let thread = std::thread::spawn(move || accept(&shared, &listener, &stopped));
        self.running = Some((stop, thread));
    }

    /// Closes everything at once.
    pub(crate) fn go(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            let _ = stop.raise();
            let ended = thread.join();
            assert!(
                ended.is_ok() || std::thread::panicking(),
                "the broker's thread panicked"
            );
            if let Ok(mut known) = self.shared.known.lock() {
                known.connection = None;
            }
            let _ = std::fs::remove_file(&self.path);
        }
    }

    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Known) -> T) -> T {
        look(&mut self.shared.known.lock().unwrap())
    }

    /// Waits until it is so.
    pub(crate) fn wait<T>(&self, what: &str, mut ready: impl FnMut(&mut Known) -> Option<T>) -> T {
        let mut known = self.shared.known.lock().unwrap();
        loop {
            if let Some(found) = ready(&mut known) {
                return found;
            }
            let (next, timed_out) = self.shared.changed.wait_timeout(known, PATIENCE).unwrap();
            known = next;
            assert!(
                !timed_out.timed_out(),
                "the broker never saw: {what}; asked: {:#?}",
                known.asked
            );
        }
    }

    pub(crate) fn wait_for(&self, what: &str, mut is: impl FnMut(&Request) -> bool) -> Request {
        self.wait(what, |known| {
            known.asked.iter().find(|request| is(request)).cloned()
        })
    }

    /// A step happens; told when somebody listens.
    pub(crate) fn phase(&self, attempt: AttemptRef, phase: Phase) {
        let at = PhaseAt {
            phase,
            at_unix_ms: sys::clock::unix_ms(),
        };
        let mut known = self.shared.known.lock().unwrap();
        let held = known.held.get_mut(&attempt).unwrap();
        held.timeline.push(at);
        held.state = HeldState::Running(phase);
        tell(&known, &Notice::Phase { attempt, at });
    }

    /// The attempt ends.
    pub(crate) fn end(&self, attempt: AttemptRef, lane: Option<(String, u64)>) -> Vec<u8> {
        let (lane_epoch, lane_last_seq) = lane.unwrap_or_default();
        let mut known = self.shared.known.lock().unwrap();
        let held = known.held.get_mut(&attempt).unwrap();
        held.state = HeldState::Ended;
        let result = JobResult {
            sandbox: None,
            remarks: Vec::new(),
            ended_by: order::EndedBy::of("", "", Some(0), None),
            usage: None,
            not_enforced: Vec::new(),
            v: 1,
            attempt,
            agent: self.shared.agent,
            order_sha256: None,
            package: None,
            outcome: Outcome::Succeeded,
            code: String::new(),
            detail: String::new(),
            exit_code: Some(0),
            signal: None,
            timeline: held.timeline.clone(),
            license: None,
            secrets: Vec::new(),
            session: None,
            log: LogTotals::default(),
            artifacts: vec![],
            screenshots: 0,
            lane_epoch,
            lane_last_seq,
            processes_killed: 0,
            network: None,
            wipe: None,
        };
        let signed = self
            .shared
            .key
            .sign(Purpose::Result, serde_json::to_vec(&result).unwrap());
        let body = signed.body.clone();
        known
            .results
            .insert(attempt, (signed.body, signed.key_id, signed.signature));
        tell_end(&known, attempt);
        body
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.go();
    }
}

fn tell(known: &Known, notice: &Notice) {
    if let Some(connection) = &known.connection {
        let packet = privsep::encode(&Answer::Notice(notice.clone())).unwrap();
        // A robotd that was killed in this moment learns it from the next sync.
        let _ = connection.send(&packet, &[]);
    }
}

fn tell_end(known: &Known, attempt: AttemptRef) {
    let Some((body, key_id, signature)) = known.results.get(&attempt) else {
        return;
    };
    let Some(connection) = &known.connection else {
        return;
    };
    let memory = sys::memfd::sealed(c"result", body).unwrap();
    let notice = Notice::Ended {
        attempt,
        key_id: key_id.clone(),
        signature: signature.clone(),
    };
    let packet = privsep::encode(&Answer::Notice(notice)).unwrap();
    let _ = connection.send(&packet, &[memory.as_fd()]);
}

fn accept(shared: &Arc<Shared>, listener: &Listener, stop: &Arc<Event>) {
    loop {
        let mut watches = [Watch::readable(listener), Watch::readable(&**stop)];
        sys::poll::wait(&mut watches, None).unwrap();
        if watches[1].is_ready() {
            return;
        }
        let Some(connection) = listener.try_accept().unwrap() else {
            continue;
        };
        let connection = Arc::new(connection);
        shared.known.lock().unwrap().connection = Some(Arc::clone(&connection));
        if !serve(shared, &connection, stop) {
            return;
        }
    }
}

/// False when the broker is to end.
fn serve(shared: &Shared, connection: &Seqpacket, stop: &Event) -> bool {
    let mut buffer = vec![0; privsep::MAX_PACKET];
    loop {
        let mut watches = [Watch::readable(connection), Watch::readable(stop)];
        sys::poll::wait(&mut watches, None).unwrap();
        if watches[1].is_ready() {
            return false;
        }
        let Ok(Some(received)) = connection.recv(&mut buffer) else {
            return true;
        };
        let call: Call = privsep::decode(&buffer[..received.len]).unwrap();
        let mut known = shared.known.lock().unwrap();
        known.asked.push(call.request.clone());
        shared.changed.notify_all();
        let Some(reply) = answer(shared, &mut known, &call.request, received.fds) else {
            known.connection = None;
            return true;
        };
        let ended: Vec<AttemptRef> = known.results.keys().copied().collect();
        let packet = privsep::encode(&Answer::Reply {
            number: call.number,
            reply,
        })
        .unwrap();
        if connection.send(&packet, &[]).is_err() {
            return true;
        }
        if call.request == Request::Sync {
            ended
                .into_iter()
                .for_each(|attempt| tell_end(&known, attempt));
        }
    }
}

/// None: the broker dies before it answers.
fn answer(
    shared: &Shared,
    known: &mut Known,
    request: &Request,
    fds: Vec<std::os::fd::OwnedFd>,
) -> Option<Reply> {
    Some(match request {
        Request::Hello { .. } => Reply::Welcome {
            version: privsep::VERSION,
            result_key: shared.key.public().to_bytes(),
            secret_key: [9; 32],
            slots: vec![
                Slot {
                    account: "robot00".into(),
                    state: SlotState::Free,
                },
                Slot {
                    account: "robot01".into(),
                    state: SlotState::Free,
                },
            ],
            abilities: None,
            missing: vec![],
        },
        Request::Sync => Reply::Held(known.held.values().cloned().collect()),
        Request::Reserve { attempt, .. } => {
            known.held.insert(
                *attempt,
                Held {
                    attempt: *attempt,
                    state: HeldState::Reserved,
                    timeline: vec![],
                },
            );
            Reply::Reserved {
                account: "robot00".into(),
                challenge: [3; 32],
                package_cached: !known.package_needed,
            }
        }
        Request::Cancel { attempt } => {
            known.held.remove(attempt);
            Reply::Done
        }
        Request::Start { attempt, .. } => return start(known, *attempt, &fds),
        Request::Package { attempt } => {
            use std::io::Read as _;
            let mut bytes = Vec::new();
            let file = std::fs::File::from(fds.into_iter().next().unwrap());
            { &file }.read_to_end(&mut bytes).unwrap();
            known.packages.push(bytes);
            known.held.get_mut(attempt).unwrap().state = HeldState::Running(Phase::Started);
            Reply::Done
        }
        Request::Forget { attempt } => {
            known.held.remove(attempt);
            known.results.remove(attempt);
            Reply::Done
        }
        _ => Reply::Done,
    })
}

fn start(known: &mut Known, attempt: AttemptRef, fds: &[std::os::fd::OwnedFd]) -> Option<Reply> {
    let body = sys::memfd::read_sealed(fds[0].as_fd(), MAX_BODY).unwrap();
    known.orders.push(body);
    if let Some(refusal) = known.refuse_start.take() {
        return Some(Reply::Refused(refusal));
    }
    let durable = known.die_at_start.take();
    if durable == Some(false) {
        known.held.remove(&attempt);
        return None;
    }
    let state = if known.package_needed {
        HeldState::AwaitsPackage
    } else {
        HeldState::Running(Phase::Started)
    };
    known.held.get_mut(&attempt).unwrap().state = state;
    durable.is_none().then_some(Reply::Started {
        package_needed: known.package_needed,
    })
}
