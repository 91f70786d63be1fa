//! An attendant that writes what the test says.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use order::AttemptRef;
use privsep::doorbell::{FromAttendant, ToAttendant};
use prost::Message as _;
use spool::{Batch, Durability, Epoch, LaneDir, LaneKey, Limits, Writer};
use sys::fdpass::{Listener, Seqpacket};
use sys::poll::Watch;
use wire::v1;

use crate::robotd::Places;

const PATIENCE: Duration = Duration::from_secs(30);

/// What it says, with descriptors.
type Ring = (FromAttendant, Vec<OwnedFd>);

/// What it was told, in order.
type Told = Arc<(Mutex<Vec<ToAttendant>>, Condvar)>;

pub(crate) struct Attendant {
    pub(crate) folder: PathBuf,
    writer: Writer,
    bell: Sender<Ring>,
    wake: Arc<sys::poll::Event>,
    told: Told,
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
        let (bell, rings) = channel::<Ring>();
        let desk = Desk {
            listener: Listener::bind(&socket.join("attendant.sock"), 0o600).unwrap(),
            woken: Arc::new(sys::poll::Event::new().unwrap()),
            rings,
            told: Told::default(),
            last: FromAttendant::Written {
                epoch: *writer.epoch().as_bytes(),
                last_seq: 0,
                ended: false,
            },
            peers: Vec::new(),
        };
        let (wake, told) = (Arc::clone(&desk.woken), Arc::clone(&desk.told));
        std::thread::spawn(move || desk.serve());
        Self {
            folder,
            writer,
            bell,
            wake,
            told,
        }
    }

    /// Waits until it was told so, behind the first `behind` words; how many words that makes.
    pub(crate) fn is_told(&self, behind: usize, wanted: ToAttendant) -> usize {
        let (told, changed) = &*self.told;
        let at = |told: &Vec<ToAttendant>| {
            let mut words = told.iter().enumerate().skip(behind);
            words.find(|(_, word)| **word == wanted).map(|(at, _)| at)
        };
        let waited = changed
            .wait_timeout_while(told.lock().unwrap(), PATIENCE, |told| at(told).is_none())
            .unwrap();
        match at(&waited.0) {
            Some(at) => at + 1,
            None => panic!("never told {wanted:?} behind {behind} of {:?}", *waited.0),
        }
    }

    /// All that it was told.
    pub(crate) fn words(&self) -> Vec<ToAttendant> {
        self.told.0.lock().unwrap().clone()
    }

    /// Shows a frame as a good attendant does.
    pub(crate) fn show(&self, frame: &[u8]) {
        let file = sys::memfd::sealed(c"screen", frame).unwrap();
        self.say(FromAttendant::Screen, vec![file]);
    }

    pub(crate) fn say(&self, message: FromAttendant, fds: Vec<OwnedFd>) {
        self.bell.send((message, fds)).unwrap();
        self.wake.raise().unwrap();
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
        self.say(FromAttendant::SecretWanted { name: name.into() }, vec![]);
    }

    /// Says anything.
    pub(crate) fn lie(&self, message: FromAttendant) {
        self.say(message, vec![]);
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
        let written = FromAttendant::Written {
            epoch: *self.writer.epoch().as_bytes(),
            last_seq,
            ended,
        };
        self.say(written, vec![]);
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

/// Its thread's own.
struct Desk {
    listener: Listener,
    woken: Arc<sys::poll::Event>,
    rings: Receiver<Ring>,
    told: Told,
    last: FromAttendant,
    peers: Vec<Seqpacket>,
}

impl Desk {
    /// Until the attendant is dropped.
    fn serve(mut self) {
        loop {
            let mut watches = vec![
                Watch::readable(&self.listener),
                Watch::readable(&*self.woken),
            ];
            watches.extend(self.peers.iter().map(Watch::readable));
            sys::poll::wait(&mut watches, None).unwrap();
            let ready: Vec<bool> = watches.iter().skip(2).map(Watch::is_ready).collect();
            let mut ready = ready.into_iter();
            let told = &self.told;
            self.peers
                .retain(|peer| !ready.next().unwrap() || hear(peer, told));
            if let Some(peer) = self.listener.try_accept().unwrap() {
                self.welcome(peer);
            }
            self.woken.take().unwrap();
            if !self.ring() {
                return;
            }
        }
    }

    fn welcome(&mut self, peer: Seqpacket) {
        let mut buffer = [0; 64];
        if let Ok(Some(received)) = peer.recv(&mut buffer) {
            assert_eq!(
                privsep::decode::<ToAttendant>(&buffer[..received.len]),
                Ok(ToAttendant::Subscribe)
            );
            let _ = peer.send(&privsep::encode(&self.last).unwrap(), &[]);
            self.peers.push(peer);
        }
    }

    /// What nobody listens to yet waits. False when the attendant is gone.
    fn ring(&mut self) -> bool {
        while !self.peers.is_empty() {
            match self.rings.try_recv() {
                Ok((ring, fds)) => {
                    let packet = privsep::encode(&ring).unwrap();
                    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
                    self.peers.retain(|peer| peer.send(&packet, &fds).is_ok());
                    if matches!(ring, FromAttendant::Written { .. }) {
                        self.last = ring;
                    }
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
        true
    }
}

/// False at the end of the conversation.
fn hear(peer: &Seqpacket, told: &Told) -> bool {
    let mut buffer = [0; 64];
    let Ok(Some(received)) = peer.recv(&mut buffer) else {
        return false;
    };
    let word = privsep::decode(&buffer[..received.len]).unwrap();
    told.0.lock().unwrap().push(word);
    told.1.notify_all();
    true
}
