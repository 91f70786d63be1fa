//! Both ends of a live view: an agent that shows a screen, and a person's command that looks on.

use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use wire::v1;
use wire::v1::connect_response::Body as Heard;
use wire::v1::stream_screen_request::{Body, Chunk, Open};

use super::agent::{Agent, Session};
use super::server::Server;
use crate::admin::{Client, Frame, Request};
use crate::refused::Refused;
use crate::view::outside;
use prost::Message as _;

/// Edge of a tile.
const TILE: u32 = 64;

/// An agent's call.
pub(super) struct Feed {
    say: mpsc::Sender<v1::StreamScreenRequest>,
    words: Streaming<v1::StreamScreenResponse>,
}

impl Feed {
    pub(super) async fn open(agent: &Agent, epoch: u64, job: &v1::JobRef) -> Result<Self, Status> {
        let (say, said) = mpsc::channel(4);
        let open = Body::Open(Open {
            session_epoch: epoch,
            job: Some(job.clone()),
        });
        let message = v1::StreamScreenRequest { body: Some(open) };
        say.send(message).await.unwrap();
        let mut link = agent.link().await;
        let words = link.stream_screen(ReceiverStream::new(said)).await?;
        Ok(Self {
            say,
            words: words.into_inner(),
        })
    }

    /// Shows a frame; whether a whole picture is wanted next.
    pub(super) async fn show(&mut self, frame: &v1::ScreenFrame) -> bool {
        self.send(&frame.encode_to_vec(), 100_000).await;
        self.word().await.unwrap().expect("a word").keyframe_wanted
    }

    /// Sends bytes in pieces, for as long as they are taken.
    pub(super) async fn send(&self, bytes: &[u8], piece: usize) {
        let pieces = bytes.chunks(piece).count();
        for (at, data) in (1..).zip(bytes.chunks(piece)) {
            let chunk = Body::Chunk(Chunk {
                data: data.to_vec().into(),
                last: at == pieces,
            });
            let message = v1::StreamScreenRequest { body: Some(chunk) };
            if self.say.send(message).await.is_err() {
                return;
            }
        }
    }

    pub(super) async fn word(&mut self) -> Result<Option<v1::StreamScreenResponse>, Status> {
        let word = tokio::time::timeout(std::time::Duration::from_secs(30), self.words.message());
        word.await.expect("no word")
    }

    /// Shows bytes that end the call; why.
    pub(super) async fn refused(&mut self, bytes: &[u8], piece: usize) -> Status {
        self.send(bytes, piece).await;
        match self.word().await {
            Err(status) => status,
            Ok(word) => panic!("not refused but {word:?}"),
        }
    }
}

/// A screen of 3x2 tiles, or some of them.
pub(super) fn frame(number: u64, keyframe: bool, tiles: &[u32]) -> v1::ScreenFrame {
    let rows = u32::try_from(tiles.len()).unwrap().div_ceil(4).max(1);
    let picture = match tiles {
        [] => Vec::new(),
        _ => outside(4 * TILE, rows * TILE),
    };
    v1::ScreenFrame {
        number,
        time_unix_nano: number * 1_000_000,
        width: 3 * TILE,
        height: 2 * TILE,
        keyframe,
        tiles: tiles.to_vec(),
        picture: picture.into(),
        columns: 4,
        ..v1::ScreenFrame::default()
    }
}

pub(super) fn whole(number: u64) -> v1::ScreenFrame {
    frame(number, true, &[0, 1, 2, 3, 4, 5])
}

/// A person's command.
pub(super) struct Watch(Client);

impl Watch {
    /// Looks on, and is told where the view stands.
    pub(super) async fn begin(server: &Server, job: &v1::JobRef) -> Self {
        let mut watch = Self::ask(server, &job.job_id, 10).await;
        watch.next().await.unwrap().expect("where it stands");
        watch
    }

    pub(super) async fn ask(server: &Server, job: &str, most_per_second: u32) -> Self {
        let request = Request::JobScreen {
            job: job.to_owned(),
            most_per_second,
            pictures: true,
        };
        Self(Client::ask(&server.data_dir(), &request).await.unwrap())
    }

    /// The next change with its pictures in `facts.pictures`; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Value>, Refused> {
        let mut facts = match self.frame().await? {
            Frame::Json(facts) => facts,
            Frame::End => return Ok(None),
            other => panic!("no facts but {other:?}"),
        };
        let parts = facts["parts"].as_array().unwrap().clone();
        let mut pictures = Vec::new();
        for part in parts {
            let mut picture = Vec::new();
            loop {
                match self.frame().await? {
                    Frame::Bytes(bytes) if bytes.is_empty() => break,
                    Frame::Bytes(bytes) => picture.extend(bytes),
                    other => panic!("no picture but {other:?}"),
                }
            }
            assert_eq!(part["bytes"], picture.len());
            pictures.push(picture);
        }
        facts["pictures"] = pictures.into();
        Ok(Some(facts))
    }

    async fn frame(&mut self) -> Result<Frame, Refused> {
        let next = tokio::time::timeout(std::time::Duration::from_secs(30), self.0.next());
        next.await.expect("nothing is told")
    }

    /// Skips to the first change that is so.
    pub(super) async fn until(&mut self, what: &str, so: impl Fn(&Value) -> bool) -> Value {
        loop {
            let change = self.next().await.unwrap();
            let change = change.unwrap_or_else(|| panic!("it ended before {what}"));
            if so(&change) {
                return change;
            }
        }
    }

    /// All changes that are still told.
    pub(super) async fn rest(mut self) -> Vec<Value> {
        let mut all = Vec::new();
        while let Some(change) = self.next().await.unwrap() {
            all.push(change);
        }
        all
    }
}

impl Session {
    /// The next command to look on.
    pub(super) async fn asked_to_show(&mut self) -> (String, v1::WatchScreen) {
        loop {
            match self.next().await {
                Heard::Command(v1::Command {
                    command_id,
                    body: Some(v1::command::Body::WatchScreen(watch)),
                    ..
                }) => return (command_id, watch),
                Heard::HeartbeatReply(_) => {}
                other => panic!("no wish to look on but {other:?}"),
            }
        }
    }
}
