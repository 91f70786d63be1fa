//! The control stream: sessions, heartbeats, licenses, starts.

use order::{AttemptRef, LeaseId};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use wire::v1;
use wire::v1::connect_request::Body as Said;
use wire::v1::connect_response::Body as Say;

use super::{Seen, Shared, Stream, job_ref};

pub(super) async fn connect(
    own: &Shared,
    request: Request<Streaming<v1::ConnectRequest>>,
) -> Result<Response<Stream<v1::ConnectResponse>>, Status> {
    let mut stream = request.into_inner();
    let Some(v1::ConnectRequest {
        body: Some(Said::Hello(hello)),
        ..
    }) = stream.message().await?
    else {
        return Err(Status::invalid_argument("HELLO_MISSING: no"));
    };
    let (answers, receiver) = mpsc::channel(256);
    let epoch = own.with(|seen| {
        let welcome = seen.welcome(&hello);
        seen.session = Some(answers);
        seen.hellos.push(hello);
        say(seen, 1, Say::Welcome(welcome));
        seen.epoch
    });
    let own = own.clone();
    tokio::spawn(async move {
        while let Ok(Some(message)) = stream.message().await {
            own.with(|seen| seen.hear(message));
        }
        own.with(|seen| {
            if seen.epoch == epoch {
                seen.session = None;
            }
        });
    });
    Ok(Response::new(ReceiverStream::new(receiver)))
}

pub(super) fn say(seen: &mut Seen, acked_seq: u64, body: Say) {
    seen.out_seq += 1;
    if let Some(session) = &seen.session {
        let _ = session.try_send(Ok(v1::ConnectResponse {
            message_seq: seen.out_seq,
            acked_seq,
            body: Some(body),
        }));
    }
}

fn seconds(length: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(length).unwrap()
}

impl Seen {
    fn grant(&mut self, request: &v1::LeaseRequest) -> Say {
        let attempt = AttemptRef {
            job: request.job_id.parse().unwrap(),
            number: request.attempt,
        };
        let known = self
            .leases
            .iter()
            .find(|(_, holder)| **holder == attempt)
            .map(|(lease, _)| *lease);
        if known.is_none() && self.free == 0 {
            let denial = v1::LeaseDenial {
                request_id: request.request_id.clone(),
                reason: v1::LeaseDenialReason::NoneFree.into(),
                ..v1::LeaseDenial::default()
            };
            return Say::LeaseReply(v1::LeaseReply {
                request_id: request.request_id.clone(),
                outcome: Some(v1::lease_reply::Outcome::Denial(denial)),
            });
        }
        let lease = known.unwrap_or_else(|| {
            self.free -= 1;
            self.fence += 1;
            LeaseId::new()
        });
        self.leases.insert(lease, attempt);
        let grant = self.terms(lease, request.agent_ticks_ns, None);
        Say::LeaseReply(v1::LeaseReply {
            request_id: request.request_id.clone(),
            outcome: Some(v1::lease_reply::Outcome::Grant(grant)),
        })
    }

    fn terms(
        &self,
        lease: LeaseId,
        agent_ticks_ns: u64,
        renewal: Option<v1::SignedRenewal>,
    ) -> v1::LeaseGrant {
        v1::LeaseGrant {
            lease_id: lease.to_string(),
            pool: "pool".into(),
            job_id: self.leases[&lease].job.to_string(),
            fence: self.fence,
            ttl: Some(seconds(self.ttl)),
            agent_ticks_ns,
            renewal,
        }
    }

    fn renew(&mut self, beat: &v1::Heartbeat) -> Say {
        let renewal = v1::SignedRenewal {
            body: b"renewal".to_vec().into(),
            key_id: "k".into(),
            signature: vec![0; 64].into(),
        };
        let held = beat
            .renewals
            .iter()
            .filter_map(|held| held.lease_id.parse().ok())
            .filter(|lease| self.leases.contains_key(lease));
        let grants: Vec<_> = held
            .map(|lease| self.terms(lease, beat.agent_ticks_ns, Some(renewal.clone())))
            .collect();
        self.renewals += grants.len() as u64;
        Say::HeartbeatReply(v1::HeartbeatReply {
            agent_ticks_ns: beat.agent_ticks_ns,
            grants,
            denials: vec![],
        })
    }

    fn start(&self, attempt: AttemptRef) -> Option<Say> {
        let body = self.orders.get(&attempt.job)?.clone();
        let order = v1::SignedOrder {
            body: body.into(),
            key_id: "k".into(),
            signature: vec![0; 64].into(),
        };
        Some(Say::JobStart(v1::JobStart {
            job: Some(job_ref(attempt)),
            order: Some(order),
        }))
    }

    fn hear(&mut self, message: v1::ConnectRequest) {
        let Some(body) = message.body else { return };
        self.said.push(body.clone());
        match body {
            Said::Heartbeat(beat) => {
                let reply = self.renew(&beat);
                say(self, message.message_seq, reply);
            }
            Said::LeaseRequest(request) => {
                let reply = self.grant(&request);
                let granted = matches!(
                    &reply,
                    Say::LeaseReply(v1::LeaseReply {
                        outcome: Some(v1::lease_reply::Outcome::Grant(_)),
                        ..
                    })
                );
                say(self, message.message_seq, reply);
                let attempt = AttemptRef {
                    job: request.job_id.parse().unwrap(),
                    number: request.attempt,
                };
                if let Some(start) = self.start(attempt).filter(|_| granted) {
                    say(self, message.message_seq, start);
                }
            }
            Said::LeaseRelease(release) => {
                let lease: LeaseId = release.lease_id.parse().unwrap();
                if self.leases.remove(&lease).is_some() {
                    self.released.push(lease);
                    self.free += 1;
                }
            }
            _ => {}
        }
    }

    fn welcome(&mut self, hello: &v1::Hello) -> v1::Welcome {
        self.epoch += 1;
        let verdicts = hello.jobs.iter().map(|held| v1::JobVerdict {
            job: held.job.clone(),
            action: v1::JobAction::Continue.into(),
        });
        v1::Welcome {
            session_epoch: self.epoch,
            minor: 1,
            heartbeat_interval: Some(seconds(Duration::from_millis(500))),
            silence_limit: Some(seconds(Duration::from_secs(10))),
            lanes: self.resumes(&hello.lanes),
            jobs: verdicts.collect(),
            limits: Some(v1::Limits {
                max_message_bytes: 262_144,
                max_frame_bytes: 4 << 20,
                max_artifact_bytes: 1 << 30,
            }),
            ..v1::Welcome::default()
        }
    }
}
