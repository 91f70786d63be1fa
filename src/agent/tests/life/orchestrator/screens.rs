//! Live views: every call, every frame, answered when the test says so.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use wire::v1;
use wire::v1::stream_screen_request::{Body, Open};

use super::{Orchestrator, Shared, Stream, job_ref};
use order::AttemptRef;
use wire::v1::connect_response::Body as Say;

/// One call of StreamScreen.
pub(crate) struct View {
    pub(crate) open: Open,
    /// Whole frames.
    pub(crate) frames: Vec<Vec<u8>>,
    /// Dropping it ends the call.
    answers: Option<mpsc::Sender<Result<v1::StreamScreenResponse, Status>>>,
    /// The agent ended it.
    pub(crate) ended: bool,
}

pub(super) async fn stream_screen(
    own: &Shared,
    request: Request<Streaming<v1::StreamScreenRequest>>,
) -> Result<Response<Stream<v1::StreamScreenResponse>>, Status> {
    let mut stream = request.into_inner();
    let (answers, receiver) = mpsc::channel(4);
    let own = own.clone();
    tokio::spawn(async move {
        let Ok(Some(v1::StreamScreenRequest {
            body: Some(Body::Open(open)),
        })) = stream.message().await
        else {
            panic!("the first message is no Open");
        };
        let at = own.with(|seen| {
            seen.views.push(View {
                open,
                frames: vec![],
                answers: Some(answers),
                ended: false,
            });
            seen.views.len() - 1
        });
        let mut frame = Vec::new();
        loop {
            own.wait("views are read", |seen| (!seen.hold_views).then_some(()))
                .await;
            let Ok(Some(message)) = stream.message().await else {
                break;
            };
            let Some(Body::Chunk(chunk)) = message.body else {
                panic!("no chunk");
            };
            assert!(chunk.data.len() <= 128 << 10, "the contract's bound");
            frame.extend_from_slice(&chunk.data);
            if chunk.last {
                let whole = std::mem::take(&mut frame);
                own.with(|seen| seen.views[at].frames.push(whole));
            }
        }
        own.with(|seen| seen.views[at].ended = true);
    });
    Ok(Response::new(ReceiverStream::new(receiver)))
}

impl Orchestrator {
    /// Somebody looks on.
    pub(crate) async fn watch(&self, command: &str, attempt: AttemptRef, most_per_second: u32) {
        let watch = v1::WatchScreen {
            job: Some(job_ref(attempt)),
            most_per_second,
        };
        self.say(Say::Command(v1::Command {
            command_id: command.into(),
            body: Some(v1::command::Body::WatchScreen(watch)),
            valid_for: None,
            requested_by: "test".into(),
        }))
        .await;
    }

    /// The frame was taken.
    pub(crate) fn took(&self, view: usize, keyframe_wanted: bool) {
        self.with(|seen| {
            let answers = seen.views[view].answers.as_ref().unwrap();
            answers
                .try_send(Ok(v1::StreamScreenResponse { keyframe_wanted }))
                .unwrap();
        });
    }

    /// Nobody looks on any more.
    pub(crate) fn end_view(&self, view: usize) {
        self.with(|seen| seen.views[view].answers = None);
    }

    /// A whole frame of a call.
    pub(crate) async fn frame(&self, view: usize, number: usize) -> Vec<u8> {
        self.wait("a frame", |seen| {
            seen.views.get(view)?.frames.get(number).cloned()
        })
        .await
    }

    pub(crate) async fn view_ended(&self, view: usize) {
        self.wait("the end of a view", |seen| {
            seen.views.get(view)?.ended.then_some(())
        })
        .await;
    }
}
