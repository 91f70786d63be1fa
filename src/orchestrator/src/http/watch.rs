//! The live view of one job: a page, and the stream that it reads.
//!
//! A message of the stream: four bytes of length, big endian; so many bytes of JSON; then the pictures
//! of its `parts`, each of `bytes` bytes. One with `alive` and nothing else says that nothing changed.

use std::convert::Infallible;
use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http_body_util::{Either, Full, StreamBody};
use hyper::StatusCode;
use hyper::body::{Bytes, Frame};
use hyper::header::HeaderValue;
use order::JobId;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_stream::wrappers::ReceiverStream;

use super::{Answer, Progress, finish};
use crate::app::App;
use crate::refused::Refused;
use crate::view::{Change, Seat, Watcher};

/// Without a change the page is told so, this often.
const ALIVE_EVERY: Duration = Duration::from_secs(5);

const PAGE: &str = include_str!("watch.html");

/// Only what stands in the page itself may run or style it, and it speaks to this server alone.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let policy = format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        hash("<script>", "</script>"),
        hash("<style>", "</style>")
    );
    // Without a policy nothing of the page works, which is the safe side.
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

fn hash(begin: &str, end: &str) -> String {
    let inside = PAGE
        .split_once(begin)
        .and_then(|(_, rest)| rest.split_once(end));
    let text = inside.map_or("", |(text, _)| text);
    format!("sha256-{}", BASE64.encode(Sha256::digest(text)))
}

/// The page; the same for every job, whose name it takes from its own address.
pub(super) fn page() -> Answer {
    let body = Either::Left(Full::new(Bytes::from_static(PAGE.as_bytes())));
    finish(
        StatusCode::OK,
        "text/html; charset=utf-8",
        POLICY.clone(),
        body,
    )
}

/// What the page reads for as long as it is open.
pub(super) async fn screen(
    app: &App,
    progress: Progress,
    job: JobId,
    who: Watcher,
) -> Result<Answer, Refused> {
    let seat = Seat::take(&app.desk, job, who).await?;
    // One piece beside the one that is being written: who is slow skips, nothing is queued.
    let (pieces, body) = mpsc::channel(1);
    tokio::spawn(tell(seat, Pieces { pieces, progress }));
    let policy = HeaderValue::from_static("default-src 'none'");
    let body = Either::Right(StreamBody::new(ReceiverStream::new(body)));
    Ok(finish(
        StatusCode::OK,
        "application/octet-stream",
        policy,
        body,
    ))
}

/// The way to one page. A connection that does not get on is closed, and this with it.
struct Pieces {
    pieces: mpsc::Sender<Result<Frame<Bytes>, Infallible>>,
    progress: Progress,
}

impl Pieces {
    /// False when the page is closed.
    async fn send(&self, piece: Bytes) -> bool {
        let sent = self.pieces.send(Ok(Frame::data(piece))).await.is_ok();
        self.progress.send_replace(Instant::now());
        sent
    }

    async fn facts(&self, facts: &Value) -> bool {
        let text = facts.to_string();
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        let message = [&length.to_be_bytes(), text.as_bytes()].concat();
        self.send(message.into()).await
    }

    async fn change(&self, change: &Change) -> bool {
        if !self.facts(&change.facts()).await {
            return false;
        }
        for part in &change.parts {
            if !self.send(part.picture.webp.clone()).await {
                return false;
            }
        }
        true
    }
}

async fn tell(mut seat: Seat, pieces: Pieces) {
    loop {
        let told = tokio::select! {
            change = seat.next() => match change {
                Some(change) => pieces.change(&change).await,
                None => return,
            },
            () = sleep(ALIVE_EVERY) => pieces.facts(&json!({"alive": true})).await,
            () = pieces.pieces.closed() => return,
        };
        if !told {
            return;
        }
    }
}
