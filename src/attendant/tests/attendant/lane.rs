//! What is in a lane, as robotd would read it.

use std::path::Path;

use prost::Message;
use sha2::{Digest, Sha256};
use spool::{Codec, Epoch, LaneDir, LaneKey, Next, Reader};
use wire::v1::record::Body;
use wire::v1::{Gap, LogLine, LogSource, RecordBatch};

/// All records of an epoch, and whether it is ended.
pub(crate) fn records(spool: &Path, epoch: [u8; 16]) -> (Vec<Body>, bool) {
    let dir = LaneDir::open(spool).unwrap();
    let key = LaneKey::load(&dir).unwrap();
    let mut reader = Reader::open(&dir, key, Epoch::from_bytes(epoch)).unwrap();
    let mut bodies = Vec::new();
    loop {
        match reader.read().unwrap() {
            Next::Frame(frame) => {
                assert_eq!(crc32c::crc32c(&frame.payload), frame.header.crc32c);
                let raw = match frame.header.codec {
                    Codec::Plain => frame.payload,
                    Codec::Zstd => {
                        zstd::bulk::decompress(&frame.payload, frame.header.raw_bytes as usize)
                            .unwrap()
                    }
                };
                assert_eq!(raw.len(), frame.header.raw_bytes as usize);
                let batch = RecordBatch::decode(raw.as_slice()).unwrap();
                assert_eq!(batch.records.len(), frame.header.record_count as usize);
                bodies.extend(batch.records.into_iter().map(|record| record.body.unwrap()));
            }
            Next::Lost(range) => panic!("records {range:?} are lost"),
            Next::Waiting => return (bodies, false),
            Next::Ended(last) => {
                assert_eq!(last.get(), bodies.len() as u64);
                return (bodies, true);
            }
        }
    }
}

pub(crate) fn lines(bodies: &[Body], source: LogSource) -> Vec<&LogLine> {
    let log = bodies.iter().filter_map(|body| {
        if let Body::Log(line) = body {
            Some(line)
        } else {
            None
        }
    });
    log.filter(|line| line.source() == source).collect()
}

/// The stream that the records stand for.
pub(crate) fn stream(bodies: &[Body], source: LogSource) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut open = false;
    for line in lines(bodies, source) {
        assert_eq!(line.continued, open);
        bytes.extend_from_slice(&line.text);
        if line.terminated {
            bytes.push(b'\n');
        }
        open = !line.terminated;
    }
    bytes
}

pub(crate) fn gaps(bodies: &[Body]) -> Vec<&Gap> {
    bodies
        .iter()
        .filter_map(|body| {
            if let Body::Gap(gap) = body {
                Some(gap)
            } else {
                None
            }
        })
        .collect()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    order::Sha256Hex(Sha256::digest(bytes).into()).to_string()
}
