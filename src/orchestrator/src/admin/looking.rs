//! Looking on at a running job from the command line.

use std::time::Duration;

use order::JobId;
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::answer::{Answered, closed};
use super::protocol::{Frame, PIECE, write};
use crate::app::App;
use crate::http::Pass;
use crate::refused::Refused;
use crate::view::{Change, Seat, Standing, Watcher};

/// A command that takes no more for this long has its place given up.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);

/// Where a browser can look on, when the server has pages.
pub(super) fn page(app: &App, job: JobId, by: String) -> Result<Value, Refused> {
    let Some(url) = &app.addresses.http_url else {
        return Ok(json!({"page": null}));
    };
    let token = app.passes.once(Pass { by, job: Some(job) })?;
    Ok(json!({"page": format!("{url}/jobs/{job}/watch?token={token}")}))
}

/// Sends what has changed until the job has ended or the command has gone.
pub(super) async fn screen(
    app: &App,
    stream: &mut UnixStream,
    job: JobId,
    who: Watcher,
    pictures: bool,
) -> Answered {
    let mut seat = Seat::take(&app.desk, job, who).await?;
    loop {
        let change = tokio::select! {
            change = seat.next() => change,
            () = closed(stream) => return Ok(()),
        };
        let Some(change) = change else {
            return write(stream, &Frame::End).await;
        };
        let sent = timeout(TAKEN_WITHIN, send(stream, &change, pictures)).await;
        sent.map_err(|_| {
            Refused::unavailable(
                "WATCHER_TOO_SLOW",
                "the command does not read what it asked for",
            )
        })??;
        if let Standing::Over(why) = change.standing {
            return ended(stream, why).await;
        }
    }
}

async fn ended(stream: &mut UnixStream, why: Refused) -> Answered {
    match why.code.as_str() {
        "JOB_NOT_RUNNING" => write(stream, &Frame::End).await,
        _ => Err(why),
    }
}

async fn send(stream: &mut UnixStream, change: &Change, pictures: bool) -> Answered {
    write(stream, &Frame::Json(change.facts())).await?;
    for part in change.parts.iter().filter(|_| pictures) {
        for piece in part.picture.webp.chunks(PIECE) {
            write(stream, &Frame::Bytes(piece.to_vec())).await?;
        }
        write(stream, &Frame::Bytes(Vec::new())).await?;
    }
    Ok(())
}
