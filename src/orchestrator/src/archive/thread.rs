//! The archive's thread: rounds of append, sync and commit.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use order::AgentId;
use tokio::sync::{mpsc, oneshot};
use wire::v1;

use super::accept::{Gain, Lane, name};
use super::file::FrameFile;
use crate::config;
use crate::core::{Desk, LaneKey};
use crate::refused::Refused;

/// Batches that share one sync.
const ROUND: usize = 64;
/// Open lanes; beyond it the ones that gained nothing lately are closed.
const MAX_OPEN: usize = 512;

type Answer<T> = oneshot::Sender<Result<T, Refused>>;

enum Work {
    Open {
        agent: AgentId,
        lanes: Vec<v1::LanePosition>,
        answer: Answer<Vec<v1::LaneResume>>,
    },
    Frames {
        agent: AgentId,
        frames: Vec<v1::RecordFrame>,
        answer: Answer<Vec<v1::LaneAck>>,
    },
}

/// A way to hand frames to the archive.
#[derive(Clone)]
pub(crate) struct Archive {
    work: mpsc::Sender<Work>,
}

fn stopped() -> Refused {
    Refused::unavailable("SERVER_STOPPING", "the archive is stopping")
}

impl Archive {
    /// Where each lane goes on; lanes that the agent may not have are absent.
    pub(crate) async fn open(
        &self,
        agent: AgentId,
        lanes: Vec<v1::LanePosition>,
    ) -> Result<Vec<v1::LaneResume>, Refused> {
        let (answer, answered) = oneshot::channel();
        let work = Work::Open {
            agent,
            lanes,
            answer,
        };
        self.work.send(work).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }

    /// Makes frames durable; answers when they are.
    pub(crate) async fn publish(
        &self,
        agent: AgentId,
        frames: Vec<v1::RecordFrame>,
    ) -> Result<Vec<v1::LaneAck>, Refused> {
        let (answer, answered) = oneshot::channel();
        let work = Work::Frames {
            agent,
            frames,
            answer,
        };
        self.work.send(work).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }
}

/// Starts the archive's thread after cutting off what a crash left behind.
pub(crate) fn start(data_dir: &Path, desk: Desk) -> Result<Archive, Refused> {
    recover(data_dir, &desk)?;
    let (work, queue) = mpsc::channel(config::ARCHIVE_QUEUE);
    let mut keeper = Keeper {
        data_dir: data_dir.to_owned(),
        desk,
        open: HashMap::new(),
    };
    std::thread::Builder::new()
        .name("archive".to_owned())
        .spawn(move || keeper.run(queue))
        .map_err(|error| Refused::unavailable("THREAD_FAILED", error.to_string()))?;
    Ok(Archive { work })
}

/// Every lane's file must hold what was acknowledged; one that does not is loud and stays closed.
fn recover(data_dir: &Path, desk: &Desk) -> Result<(), Refused> {
    for lane in desk.ask_blocking(|core| core.lanes())?? {
        if lane.bytes == 0 {
            continue;
        }
        if let Err(refused) = FrameFile::open(data_dir, &lane) {
            tracing::error!(lane = name(lane.agent, &lane), %refused, "a lane can't be recovered");
        }
    }
    Ok(())
}

struct Keeper {
    data_dir: PathBuf,
    desk: Desk,
    open: HashMap<LaneKey, Lane>,
}

type Batch = (AgentId, Vec<v1::RecordFrame>, Answer<Vec<v1::LaneAck>>);

impl Keeper {
    fn run(&mut self, mut queue: mpsc::Receiver<Work>) {
        let mut waiting = Vec::new();
        while queue.blocking_recv_many(&mut waiting, ROUND) > 0 {
            let mut batches = Vec::new();
            for work in waiting.drain(..) {
                match work {
                    Work::Open {
                        agent,
                        lanes,
                        answer,
                    } => drop(answer.send(self.open_lanes(agent, &lanes))),
                    Work::Frames {
                        agent,
                        frames,
                        answer,
                    } => batches.push((agent, frames, answer)),
                }
            }
            if !batches.is_empty() {
                self.round(batches);
            }
            if self.open.len() > MAX_OPEN {
                self.open.clear();
            }
        }
    }

    fn open_lanes(
        &mut self,
        agent: AgentId,
        lanes: &[v1::LanePosition],
    ) -> Result<Vec<v1::LaneResume>, Refused> {
        let mut resumes = Vec::new();
        for at in lanes {
            let key = LaneKey {
                agent,
                lane: at.lane,
                epoch: at.epoch.to_vec(),
            };
            if let Some(lane) = self.lane(&key, at)? {
                resumes.push(v1::LaneResume {
                    lane: at.lane,
                    epoch: at.epoch.clone(),
                    durable_seq: lane.durable.durable_seq,
                    window_bytes: config::WINDOW,
                });
            }
        }
        Ok(resumes)
    }

    fn lane(&mut self, key: &LaneKey, at: &v1::LanePosition) -> Result<Option<&mut Lane>, Refused> {
        if !self.open.contains_key(key) {
            let (agent, at) = (key.agent, at.clone());
            let row = self
                .desk
                .ask_blocking(move |core| core.open_lane(agent, &at))??;
            let Some(row) = row else {
                return Ok(None);
            };
            let lane = Lane {
                file: FrameFile::open(&self.data_dir, &row)?,
                durable: row,
                broken: 0,
            };
            self.open.insert(key.clone(), lane);
        }
        Ok(self.open.get_mut(key))
    }

    /// One sync and one commit for all batches. When anything fails nothing of the round counts:
    /// the agents send it again.
    fn round(&mut self, batches: Vec<Batch>) {
        let mut gains = BTreeMap::new();
        let mut keys: HashMap<LaneKey, usize> = HashMap::new();
        let mut taken = Vec::new();
        for (agent, frames, answer) in batches {
            let outcome = self.take(agent, &frames, &mut gains, &mut keys);
            taken.push((answer, outcome));
        }
        let order: BTreeMap<usize, LaneKey> = keys.into_iter().map(|(key, at)| (at, key)).collect();
        let durable = self.make_durable(&gains, &order);
        if durable.is_err() {
            self.forget(&order);
        }
        for (answer, outcome) in taken {
            let reply = outcome.and_then(|lanes| {
                durable.clone()?;
                Ok(lanes
                    .into_iter()
                    .filter_map(|at| {
                        let lane = self.open.get(order.get(&at)?)?;
                        Some(gains.get(&at)?.ack(&lane.durable))
                    })
                    .collect())
            });
            drop(answer.send(reply));
        }
    }

    /// The lanes that these frames touched, by their number in the round.
    fn take(
        &mut self,
        agent: AgentId,
        frames: &[v1::RecordFrame],
        gains: &mut BTreeMap<usize, Gain>,
        keys: &mut HashMap<LaneKey, usize>,
    ) -> Result<Vec<usize>, Refused> {
        let mut touched = Vec::new();
        for frame in frames {
            let key = LaneKey {
                agent,
                lane: frame.lane,
                epoch: frame.epoch.to_vec(),
            };
            // A lane that was closed for room is found again without its job: the store has it.
            let at = v1::LanePosition {
                lane: frame.lane,
                epoch: frame.epoch.clone(),
                ..v1::LanePosition::default()
            };
            if !self.open.contains_key(&key) && at.lane() != v1::Lane::Log && at.epoch.len() == 16 {
                let known = self.lane_is_known(&key)?;
                if !known {
                    return Err(not_open(&key));
                }
            }
            let lane = self.lane(&key, &at)?.ok_or_else(|| not_open(&key))?;
            let next = keys.len();
            let number = *keys.entry(key).or_insert(next);
            let gain = gains
                .entry(number)
                .or_insert_with(|| Gain::new(&lane.durable));
            gain.take(lane, frame)?;
            if !touched.contains(&number) {
                touched.push(number);
            }
        }
        Ok(touched)
    }

    fn lane_is_known(&self, key: &LaneKey) -> Result<bool, Refused> {
        let wanted = key.clone();
        self.desk
            .ask_blocking(move |core| core.store().lane(wanted.agent, wanted.lane, &wanted.epoch))?
            .map(|row| row.is_some())
            .map_err(Refused::from)
    }

    fn make_durable(
        &mut self,
        gains: &BTreeMap<usize, Gain>,
        order: &BTreeMap<usize, LaneKey>,
    ) -> Result<(), Refused> {
        let mut committed = Vec::new();
        for (at, gain) in gains {
            let Some(lane) = order.get(at).and_then(|key| self.open.get(key)) else {
                continue;
            };
            if !gain.is_empty(&lane.durable) {
                lane.file.sync()?;
                committed.push(gain.committed(&lane.durable));
            }
        }
        if committed.is_empty() {
            return Ok(());
        }
        let rows: Vec<_> = committed.iter().map(|gained| gained.lane.clone()).collect();
        self.desk
            .ask_blocking(move |core| core.commit(&committed))??;
        for row in rows {
            let lane = self
                .open
                .values_mut()
                .find(|lane| lane.durable.id == row.id);
            if let Some(lane) = lane {
                lane.durable = row;
            }
        }
        Ok(())
    }

    /// After a failure the files are opened anew: a descriptor whose sync failed may have lost
    /// pages and says nothing about it the second time.
    fn forget(&mut self, order: &BTreeMap<usize, LaneKey>) {
        for key in order.values() {
            if let Some(lane) = self.open.remove(key) {
                tracing::error!(
                    lane = name(key.agent, &lane.durable),
                    "a round of output was not made durable"
                );
                lane.file.cut(lane.durable.bytes);
            }
        }
    }
}

fn not_open(key: &LaneKey) -> Refused {
    Refused::state(
        "LANE_NOT_OPEN",
        format!(
            "lane {} {} was not opened by PublishOpen",
            key.lane,
            super::hex(&key.epoch)
        ),
    )
}
