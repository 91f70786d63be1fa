//! Agents that break the protocol or do not read: they hear why, and nobody else feels it.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Status};
use wire::v1;
use wire::v1::connect_request::Body as Say;

use super::agent::Agent;
use super::publisher::{LOG, Publisher, frame, line, running};
use super::server::{Server, until};
use crate::config;

const MALFORMED: u64 = 100_402;
const LINK_LOST: u64 = 100_008;

/// Bytes as they are, where a message should be.
#[derive(Clone, Copy, Default)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        prost::bytes::BufMut::put_slice(out, &item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        use prost::bytes::Buf as _;
        Ok(Some(bytes.copy_to_bytes(bytes.remaining()).to_vec()))
    }
}

/// Says these bytes on a stream of this call; how the stream ends.
async fn say_bytes(agent: &Agent, call: &'static str, said: Vec<Vec<u8>>) -> Status {
    let mut client = tonic::client::Grpc::new(agent.channel().await.unwrap());
    client.ready().await.unwrap();
    let (say, stream) = mpsc::channel(8);
    for bytes in said {
        say.send(bytes).await.unwrap();
    }
    let request = tonic::Request::new(ReceiverStream::new(stream));
    let path = http::uri::PathAndQuery::from_static(call);
    let mut heard = match client.streaming(request, path, Bytes).await {
        Ok(heard) => heard.into_inner(),
        Err(status) => return status,
    };
    // Ours stays open: it is the server that ends it.
    loop {
        match heard.message().await {
            Ok(Some(_)) => {}
            Ok(None) => return Status::ok("ended without a reason"),
            Err(status) => return status,
        }
    }
}

const CONNECT: &str = "/robotd.link.v1.LinkService/Connect";
const PUBLISH: &str = "/robotd.link.v1.LinkService/Publish";

fn hello(agent: &Agent) -> Vec<u8> {
    let request = v1::ConnectRequest {
        message_seq: 1,
        body: Some(Say::Hello(agent.hello())),
    };
    prost::Message::encode_to_vec(&request)
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_oversize_messages_end_their_stream_with_a_code_and_nothing_else() {
    let server = Server::start().await;
    let agent = Agent::enrolled(&server, "a").await;
    let bystander = Agent::enrolled(&server, "b").await;
    let mut session = bystander.connect(bystander.hello()).await;
    // Field 2 of 31 bytes with one byte behind it.
    let garbage = vec![0x12, 31, 0xff];
    let large = vec![0; config::MAX_CONTROL + 1];
    let larger = vec![0; config::MAX_BULK + (64 << 10) + 1];
    let malformed = (Code::InvalidArgument, "MESSAGE_MALFORMED");
    let too_large = (Code::ResourceExhausted, "MESSAGE_TOO_LARGE");
    let cases = [
        (CONNECT, vec![garbage.clone()], malformed),
        (CONNECT, vec![hello(&agent), garbage.clone()], malformed),
        (CONNECT, vec![large.clone()], too_large),
        (CONNECT, vec![hello(&agent), large], too_large),
        (PUBLISH, vec![garbage], malformed),
        (PUBLISH, vec![larger], too_large),
    ];
    let count = cases.len();
    for (at, (call, said, (code, reason))) in cases.into_iter().enumerate() {
        let status = say_bytes(&agent, call, said).await;
        assert_eq!(status.code(), code, "case {at}: {status}");
        assert!(status.message().starts_with(reason), "case {at}: {status}");
        session.heartbeat(Vec::new(), 3).await;
    }
    assert_eq!(server.count(MALFORMED).await, count);
    // The same agent comes back in order.
    let mut again = agent.connect(agent.hello()).await;
    again.heartbeat(Vec::new(), 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_exactly_the_largest_size_is_taken() {
    let server = Server::start().await;
    let agent = Agent::enrolled(&server, "a").await;
    let mut session = agent.connect(agent.hello()).await;
    // Goodbye has a reason; tags and lengths take a few bytes of the message.
    let reason = "x".repeat(config::MAX_CONTROL - 16);
    session
        .say(Say::Goodbye(v1::Goodbye {
            reason,
            ..v1::Goodbye::default()
        }))
        .await;
    session.heartbeat(Vec::new(), 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_headers_are_refused_and_the_connection_goes_on() {
    let server = Server::start().await;
    let agent = Agent::enrolled(&server, "a").await;
    let mut link = agent.link().await;
    let query = || v1::QueryArtifactRequest {
        sha256: vec![0; 32].into(),
    };
    let mut flooded = tonic::Request::new(query());
    for number in 0..1000 {
        let name = format!("x-{number}");
        let name: tonic::metadata::MetadataKey<tonic::metadata::Ascii> = name.parse().unwrap();
        let value = "a value of some length".parse().unwrap();
        flooded.metadata_mut().insert(name, value);
    }
    link.query_artifact(flooded).await.unwrap_err();
    let answer = link.query_artifact(query()).await.unwrap();
    assert!(!answer.into_inner().complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_does_not_read_is_disconnected_and_delays_nobody() {
    let server = Server::start().await;
    let slow = Agent::enrolled(&server, "slow").await;
    let other = Agent::enrolled(&server, "other").await;
    let mut theirs = other.connect(other.hello()).await;
    let mut session = slow.connect_slowly(slow.hello()).await;
    // Each message has an answer, and nobody takes the answers.
    let flood = tokio::spawn(async move {
        loop {
            let lease_id = "x".repeat(200);
            let bad = Say::LeaseRelease(v1::LeaseRelease { lease_id, fence: 1 });
            if !session.try_say(bad).await {
                return session;
            }
        }
    });
    until("the end of the slow agent's session", async || {
        theirs.heartbeat(Vec::new(), 3).await;
        (server.count(LINK_LOST).await == 1).then_some(())
    })
    .await;
    theirs.heartbeat(Vec::new(), 3).await;
    flood.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_does_not_read_its_acknowledgements_delays_nobody() {
    let server = Server::start().await;
    let (slow, session, job, _) = running(&server).await;
    let publisher = Publisher::open(&slow, &session, &job).await;
    // Frames until the server takes no more: the same one, which is a repeat from then on.
    let once = frame(v1::Lane::Log, LOG, 1, vec![line(b"a", true)]);
    let flood = tokio::spawn(async move { publisher.flood(once).await });
    let other = Agent::enrolled(&server, "b").await;
    let mut theirs = other.connect(other.hello()).await;
    for _ in 0..20 {
        theirs.heartbeat(Vec::new(), 3).await;
    }
    until("the output of the slow agent", async || {
        let shown = server.show(&job.job_id).await;
        (shown["log"]["stdout"]["lines"] == 1).then_some(())
    })
    .await;
    flood.abort();
    drop(tokio::time::timeout(Duration::from_secs(5), flood).await);
    assert_eq!(server.show(&job.job_id).await["log"]["stdout"]["lines"], 1);
}
