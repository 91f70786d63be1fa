//! A robotd that was taken over: it speaks the broker's contract and says what it likes.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::unistd::{Gid, Uid, setegid, seteuid};
use order::{
    AgentId, AttemptRef, JobId, JobResult, Lease, LeaseId, Limits, Order, Profiles, Purpose,
    Screenshots, Sha256Hex, Signed, SigningKey,
};
use privsep::broker::{Answer, Call, Notice, Reply, Request};
use privsep::{MAX_PACKET, decode, encode};
use sys::fdpass::Seqpacket;
use tests::{AGENT_USER, Host};

/// A host with a broker alone, enrolled by hand.
pub(crate) struct Target {
    pub(crate) host: Host,
    pub(crate) agent: AgentId,
    pub(crate) orders: SigningKey,
    /// Offline, in the hands of who runs the orchestrator.
    pub(crate) root: SigningKey,
}

/// Each lease has a fence of its own, as an honest orchestrator sees to.
static FENCE: AtomicU64 = AtomicU64::new(7);

/// The conversation with the broker.
pub(crate) struct Robotd {
    socket: Seqpacket,
    number: u32,
    notices: Vec<(Notice, Option<Vec<u8>>)>,
}

/// Connects as the user robotd.
pub(crate) fn connect(host: &Host) -> Robotd {
    let user = sys::account::by_name(AGENT_USER)
        .expect("a look-up")
        .expect("user robotd");
    let socket = as_user(user.uid, user.gid, || {
        Seqpacket::connect(&host.run.join("b/broker.sock"))
    });
    let mut robotd = Robotd {
        socket: socket.expect("a connection"),
        number: 0,
        notices: vec![],
    };
    robotd.ask(
        Request::Hello {
            version: privsep::VERSION,
        },
        &[],
    );
    robotd
}

/// Does something under another effective user.
pub(crate) fn as_user<T>(uid: Uid, gid: Gid, work: impl FnOnce() -> T) -> T {
    setegid(gid).expect("a group");
    seteuid(uid).expect("a user");
    let done = work();
    seteuid(Uid::from_raw(0)).expect("root again");
    setegid(Gid::from_raw(0)).expect("root again");
    done
}

impl Robotd {
    /// Asks and waits for the answer.
    pub(crate) fn ask(&mut self, request: Request, fds: &[BorrowedFd<'_>]) -> Reply {
        self.number += 1;
        let packet = encode(&Call {
            number: self.number,
            request,
        })
        .expect("a packet");
        self.socket.send(&packet, fds).expect("a send");
        loop {
            match self.receive() {
                Some((Answer::Reply { number, reply }, _)) if number == self.number => {
                    return reply;
                }
                Some((Answer::Notice(notice), document)) => self.notices.push((notice, document)),
                other => panic!("no answer: {other:?}"),
            }
        }
    }

    /// Sends a request without waiting for its answer; `false` when the connection is over.
    pub(crate) fn send_only(&mut self, request: Request) -> bool {
        self.number += 1;
        let number = self.number;
        let packet = encode(&Call { number, request }).expect("a packet");
        self.socket.send(&packet, &[]).is_ok()
    }

    /// Hears what there is until the answer to the last request.
    pub(crate) fn catch_up(&mut self) {
        loop {
            match self.receive() {
                Some((Answer::Reply { number, .. }, _)) if number == self.number => return,
                Some((Answer::Notice(notice), document)) => self.notices.push((notice, document)),
                Some(_) => {}
                None => panic!("the broker is gone"),
            }
        }
    }

    /// Sends bytes as they are.
    pub(crate) fn send_raw(&self, bytes: &[u8]) {
        self.socket.send(bytes, &[]).expect("a send");
    }

    /// Whether the broker has ended the connection.
    pub(crate) fn is_cut_off(&self) -> bool {
        let mut buffer = vec![0; MAX_PACKET];
        loop {
            match self
                .socket
                .recv_within(&mut buffer, Duration::from_secs(30))
            {
                Ok(Some(_)) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    fn receive(&self) -> Option<(Answer, Option<Vec<u8>>)> {
        let mut buffer = vec![0; MAX_PACKET];
        let received = self
            .socket
            .recv_within(&mut buffer, Duration::from_secs(60))
            .ok()??;
        let document = received.fds.first().map(|fd| {
            sys::memfd::read_sealed(fd.as_fd(), order::MAX_RESULT).expect("a sealed document")
        });
        Some((
            decode(&buffer[..received.len]).expect("a message"),
            document,
        ))
    }

    /// The code of a refusal, or what came instead.
    pub(crate) fn code(&mut self, request: Request, fds: &[BorrowedFd<'_>]) -> String {
        match self.ask(request, fds) {
            Reply::Refused(refusal) => refusal.code,
            other => format!("{other:?}"),
        }
    }

    /// Waits for the end of an attempt.
    pub(crate) fn result(&mut self, attempt: AttemptRef) -> (JobResult, Signed) {
        loop {
            let at = self.notices.iter().position(|(notice, _)| matches!(notice, Notice::Ended { attempt: own, .. } if *own == attempt));
            if let Some(at) = at {
                let (
                    Notice::Ended {
                        key_id, signature, ..
                    },
                    Some(body),
                ) = self.notices.remove(at)
                else {
                    panic!("a result without its document");
                };
                let result = serde_json::from_slice(&body).expect("a result");
                return (
                    result,
                    Signed {
                        body,
                        key_id,
                        signature,
                    },
                );
            }
            match self.receive() {
                Some((Answer::Notice(notice), document)) => self.notices.push((notice, document)),
                other => panic!("no result: {other:?}"),
            }
        }
    }

    /// Waits for a step of an attempt.
    pub(crate) fn await_phase(&mut self, attempt: AttemptRef, phase: order::Phase) {
        let seen = |(notice, _): &(Notice, _)| match notice {
            Notice::Phase { attempt: own, at } => *own == attempt && at.phase == phase,
            _ => false,
        };
        while !self.notices.iter().any(seen) {
            match self.receive() {
                Some((Answer::Notice(notice), document)) => self.notices.push((notice, document)),
                other => panic!("no {phase:?}: {other:?}"),
            }
        }
    }

    /// Security events with this code that were told so far.
    pub(crate) fn events(&self, code: u32) -> Vec<String> {
        let of_code = |(notice, _): &(Notice, _)| match notice {
            Notice::Event {
                code: own, body, ..
            } if *own == code => Some(body.clone()),
            _ => None,
        };
        self.notices.iter().filter_map(of_code).collect()
    }

    /// Reserves a slot and returns the challenge.
    pub(crate) fn reserve(&mut self, attempt: AttemptRef) -> [u8; 32] {
        match self.ask(
            Request::Reserve {
                attempt,
                account: None,
                tenant: "acme".into(),
                package: Sha256Hex([0; 32]),
            },
            &[],
        ) {
            Reply::Reserved { challenge, .. } => challenge,
            other => panic!("not reserved: {other:?}"),
        }
    }

    /// Reserves a slot for a tenant; its account and the challenge, or the code of the refusal.
    pub(crate) fn reserve_for(
        &mut self,
        attempt: AttemptRef,
        tenant: &str,
        account: Option<&str>,
    ) -> Result<(String, [u8; 32]), String> {
        let request = Request::Reserve {
            attempt,
            account: account.map(str::to_owned),
            tenant: tenant.into(),
            package: Sha256Hex([0; 32]),
        };
        match self.ask(request, &[]) {
            Reply::Reserved {
                account, challenge, ..
            } => Ok((account, challenge)),
            Reply::Refused(refusal) => Err(refusal.code),
            other => panic!("{other:?}"),
        }
    }

    /// Starts with these exact bytes.
    pub(crate) fn start(&mut self, attempt: AttemptRef, signed: &Signed) -> Result<bool, String> {
        let document = sys::memfd::sealed(c"order", &signed.body).expect("a memfd");
        let request = Request::Start {
            attempt,
            key_id: signed.key_id.clone(),
            signature: signed.signature.clone(),
        };
        match self.ask(request, &[document.as_fd()]) {
            Reply::Started { package_needed } => Ok(package_needed),
            Reply::Refused(refusal) => Err(refusal.code),
            other => panic!("{other:?}"),
        }
    }
}

impl Target {
    /// A broker whose host is enrolled with an order key that the test holds.
    pub(crate) fn new(options: &tests::Options) -> Self {
        Self::with(options, |policy, _| policy)
    }

    /// The same with another policy, made for the accounts of its slots.
    pub(crate) fn with(
        options: &tests::Options,
        policy: impl FnOnce(String, &[String]) -> String,
    ) -> Self {
        let mut host = Host::prepare(options);
        let accounts = host.slots.accounts();
        host.edit_policy(|text| policy(text, &accounts));
        let (agent, orders) = (AgentId::new(), SigningKey::generate().expect("a key"));
        let root = SigningKey::generate().expect("a key");
        let pinned = serde_json::json!({
            "v": 1, "agent-id": agent, "order-keys": [orders.public()], "root-key": root.public(),
        });
        std::fs::write(
            host.dir.join("etc/trust.d/orchestrator.json"),
            pinned.to_string(),
        )
        .expect("a write");
        host.start_broker();
        Self {
            host,
            agent,
            orders,
            root,
        }
    }

    /// A fresh attempt.
    pub(crate) fn attempt() -> AttemptRef {
        AttemptRef {
            job: JobId::new(),
            number: 1,
        }
    }

    /// An order that this host accepts.
    pub(crate) fn order(
        &self,
        attempt: AttemptRef,
        challenge: [u8; 32],
        package: Sha256Hex,
    ) -> Order {
        let now = sys::clock::unix_ms();
        Order {
            v: 1,
            attempt,
            agent: self.agent,
            challenge: order::Challenge(challenge).to_base64(),
            not_before_unix_ms: now,
            not_after_unix_ms: now + 60_000,
            package,
            publisher: None,
            entry: "bot.py".into(),
            args: vec![],
            env: BTreeMap::new(),
            params: BTreeMap::new(),
            account: None,
            display: None,
            account_secret: None,
            screenshots: Screenshots::default(),
            limits: Limits {
                run_ms: 60_000,
                stop_grace_ms: 1_000,
                volume_bytes: 64 << 20,
                ..Limits::default()
            },
            secrets: vec!["erp".into()],
            profiles: Profiles {
                sandbox: "script".into(),
                network: "none".into(),
            },
            lease: Lease {
                id: LeaseId::new(),
                fence: FENCE.fetch_add(1, Ordering::Relaxed),
                pool: "default".into(),
                ttl_ms: 120_000,
                ticks_ns: u64::try_from(sys::clock::boottime().as_nanos()).expect("a clock"),
            },
            hard_end_ms: 120_000,
            tenant: "acme".into(),
            requester: "ada".into(),
            approver: None,
            data_class: "internal".into(),
        }
    }

    /// Signs an order.
    pub(crate) fn sign(&self, order: &Order) -> Signed {
        self.orders
            .sign(Purpose::Order, serde_json::to_vec(order).expect("JSON"))
    }

    /// Packs a bot of one Python file; returns its digest and the archive.
    pub(crate) fn package(&self, code: &str) -> (Sha256Hex, std::fs::File) {
        let folder = self
            .host
            .dir
            .join("packages")
            .join(JobId::new().to_string());
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("bot.py"), code).expect("a write");
        pack(&folder, None)
    }

    /// The same with more bytes beside it that can't be compressed, signed by a publisher.
    pub(crate) fn large_package(
        &self,
        code: &str,
        bytes: usize,
        key: Option<&package::PrivateKey>,
    ) -> (Sha256Hex, std::fs::File) {
        let name = JobId::new().to_string();
        let folder = self.host.dir.join("packages").join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("bot.py"), code).expect("a write");
        let mut random = std::fs::File::open("/dev/urandom")
            .expect("random bytes")
            .take(bytes as u64);
        let mut file = std::fs::File::create(folder.join("ballast")).expect("a file");
        std::io::copy(&mut random, &mut file).expect("a write");
        pack(&folder, key)
    }
}

fn pack(folder: &Path, key: Option<&package::PrivateKey>) -> (Sha256Hex, std::fs::File) {
    let packing = package::Packing {
        key,
        ..package::Packing::default()
    };
    let packed = package::pack(folder, &packing).expect("a package");
    (Sha256Hex(*packed.sha256.as_bytes()), packed.archive)
}
