//! Records: lanes with their places, acknowledged when they are here.

use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use wire::v1;

use super::{Seen, Shared, Stream, attempt_of};

pub(super) async fn publish(
    own: &Shared,
    request: Request<Streaming<v1::PublishRequest>>,
) -> Result<Response<Stream<v1::PublishResponse>>, Status> {
    let mut stream = request.into_inner();
    let (answers, receiver) = mpsc::channel(64);
    let own = own.clone();
    tokio::spawn(async move {
        while let Ok(Some(message)) = stream.message().await {
            let answer = own.with(|seen| match message.body {
                Some(v1::publish_request::Body::Open(open)) => v1::PublishResponse {
                    acks: vec![],
                    resumes: seen.resumes(&open.lanes),
                },
                Some(v1::publish_request::Body::Frame(frame)) => v1::PublishResponse {
                    acks: vec![seen.take(&frame)],
                    resumes: vec![],
                },
                None => v1::PublishResponse::default(),
            });
            if answers.send(Ok(answer)).await.is_err() {
                return;
            }
        }
    });
    Ok(Response::new(ReceiverStream::new(receiver)))
}

impl Seen {
    fn resume(&mut self, at: &v1::LanePosition) -> v1::LaneResume {
        let lane = self.lanes.entry(at.epoch.to_vec()).or_default();
        lane.attempt = attempt_of(at.job.as_ref());
        v1::LaneResume {
            lane: at.lane,
            epoch: at.epoch.clone(),
            durable_seq: lane.durable,
            window_bytes: 4096,
        }
    }

    pub(super) fn resumes(&mut self, lanes: &[v1::LanePosition]) -> Vec<v1::LaneResume> {
        let refuse = self.refuse_output;
        lanes
            .iter()
            .filter(|lane| !refuse || lane.job.is_none())
            .map(|lane| self.resume(lane))
            .collect()
    }

    fn take(&mut self, frame: &v1::RecordFrame) -> v1::LaneAck {
        assert_eq!(crc32c::crc32c(&frame.payload), frame.crc32c);
        let lane = self
            .lanes
            .get_mut(frame.epoch.as_ref())
            .expect("a frame of a lane that was not opened");
        let mut rewind = false;
        if frame.first_seq == lane.durable + 1 {
            let batch = v1::RecordBatch::decode(frame.payload.clone()).unwrap();
            assert_eq!(batch.records.len(), frame.record_count as usize);
            lane.durable += batch.records.len() as u64;
            lane.records.extend(batch.records);
        } else {
            rewind = frame.first_seq > lane.durable + 1;
        }
        v1::LaneAck {
            lane: frame.lane,
            epoch: frame.epoch.clone(),
            durable_seq: lane.durable,
            window_bytes: 4096,
            rewind,
            rejected: vec![],
        }
    }
}
