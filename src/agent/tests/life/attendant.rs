//! An attendant that writes what the test says.

use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};

use order::AttemptRef;
use privsep::doorbell::{FromAttendant, ToAttendant};
use prost::Message as _;
use spool::{Batch, Durability, Epoch, LaneDir, LaneKey, Limits, Writer};
use sys::fdpass::Listener;
use sys::poll::Watch;
use wire::v1;

use crate::robotd::Places;

pub(crate) struct Attendant {
    pub(crate) folder: PathBuf,
    writer: Writer,
    bell: Sender<FromAttendant>,
    wake: std::sync::Arc<sys::poll::Event>,
}

impl Attendant {
    pub(crate) fn start(places: &Places, attempt: AttemptRef) -> Self {
        let folder = places.state.join("spool").join(attempt.to_string());
        fs::create_dir_all(folder.join("blobs")).unwrap();
        let socket = places.run.join("jobs").join(attempt.to_string());
        fs::create_dir_all(&socket).unwrap();
        let dir = LaneDir::open(&folder).unwrap();
        LaneKey::generate().unwrap().store(&dir).unwrap();
        let writer = Writer::create(
            &dir,
            LaneKey::load(&dir).unwrap(),
            Epoch::random().unwrap(),
            Limits::default(),
        )
        .unwrap();
        let listener = Listener::bind(&socket.join("attendant.sock"), 0o600).unwrap();
        let (bell, rings) = channel::<FromAttendant>();
        let wake = std::sync::Arc::new(sys::poll::Event::new().unwrap());
        let woken = std::sync::Arc::clone(&wake);
        let epoch = *writer.epoch().as_bytes();
        std::thread::spawn(move || {
            let mut last = FromAttendant::Written {
                epoch,
                last_seq: 0,
                ended: false,
            };
            let mut peers = Vec::new();
            loop {
                let mut watches = [Watch::readable(&listener), Watch::readable(&*woken)];
                sys::poll::wait(&mut watches, None).unwrap();
                if let Some(peer) = listener.try_accept().unwrap() {
                    let mut buffer = [0; 64];
                    if let Ok(Some(received)) = peer.recv(&mut buffer) {
                        assert_eq!(
                            privsep::decode::<ToAttendant>(&buffer[..received.len]),
                            Ok(ToAttendant::Subscribe)
                        );
                        let _ = peer.send(&privsep::encode(&last).unwrap(), &[]);
                        peers.push(peer);
                    }
                }
                woken.take().unwrap();
                // What nobody listens to yet waits.
                while !peers.is_empty() {
                    match rings.try_recv() {
                        Ok(ring) => {
                            let packet = privsep::encode(&ring).unwrap();
                            peers.retain(|peer| peer.send(&packet, &[]).is_ok());
                            if matches!(ring, FromAttendant::Written { .. }) {
                                last = ring;
                            }
                        }
                        Err(std::sync::mpsc::TryRecvError::Empty) => break,
                        Err(std::sync::mpsc::TryRecvError::Disconnected) => return,
                    }
                }
            }
        });
        Self {
            folder,
            writer,
            bell,
            wake,
        }
    }

    pub(crate) fn print(&mut self, text: &str) {
        let line = v1::LogLine {
            source: v1::LogSource::Stdout.into(),
            severity: 6,
            text: text.to_owned().into(),
            terminated: true,
            continued: false,
            redactions: 0,
        };
        let batch = v1::RecordBatch {
            base_time_unix_nano: 1,
            records: vec![v1::Record {
                time_delta_nano: 0,
                body: Some(v1::record::Body::Log(line)),
            }],
        };
        self.writer
            .append(Batch::plain(1, &batch.encode_to_vec()), Durability::Later)
            .unwrap();
        self.ring(false);
    }

    pub(crate) fn blob(&self, bytes: &[u8]) -> order::Sha256Hex {
        use sha2::Digest as _;
        let sha256 = order::Sha256Hex(sha2::Sha256::digest(bytes).into());
        let fresh = self.folder.join("blobs/.new");
        fs::write(&fresh, bytes).unwrap();
        fs::rename(fresh, self.folder.join("blobs").join(sha256.to_string())).unwrap();
        sha256
    }

    pub(crate) fn want(&self, name: &str) {
        self.bell
            .send(FromAttendant::SecretWanted { name: name.into() })
            .unwrap();
        self.wake.raise().unwrap();
    }

    /// Says anything.
    pub(crate) fn lie(&self, message: FromAttendant) {
        self.bell.send(message).unwrap();
        self.wake.raise().unwrap();
    }

    /// Its segment files, oldest first.
    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        let items = fs::read_dir(&self.folder).unwrap();
        let mut found: Vec<_> = items
            .map(|item| item.unwrap().path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "seg"))
            .collect();
        found.sort();
        found
    }

    fn ring(&self, ended: bool) {
        let last_seq = self.writer.next_seq().get() - 1;
        self.bell
            .send(FromAttendant::Written {
                epoch: *self.writer.epoch().as_bytes(),
                last_seq,
                ended,
            })
            .unwrap();
        self.wake.raise().unwrap();
    }

    /// The lane as the result names it.
    pub(crate) fn finish(mut self) -> (String, u64) {
        let last = self.writer.finish().unwrap().get();
        self.ring(true);
        (self.writer.epoch().to_string(), last)
    }
}

impl Drop for Attendant {
    fn drop(&mut self) {
        // Its thread ends with the bell's sender.
        let (gone, _) = channel();
        self.bell = gone;
        let _ = self.wake.raise();
    }
}
