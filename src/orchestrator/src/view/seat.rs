//! One watcher's place before a screen. Dropping it ends the watch.

use std::time::Duration;

use order::JobId;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::{Change, Screen};
use crate::core::Desk;
use crate::refused::Refused;

/// Who wants to look on.
#[derive(Clone, Debug)]
pub(crate) struct Watcher {
    /// For the events.
    pub(crate) by: String,
    /// Pictures a second that are told at most, however many there are.
    pub(crate) most_per_second: u32,
}

/// A watcher's place.
pub(crate) struct Seat {
    screen: watch::Receiver<Screen>,
    seen: Option<u64>,
    /// There is something to tell, not before `due`.
    news: bool,
    due: Instant,
    pause: Duration,
    /// Its end tells the core.
    _taken: oneshot::Sender<()>,
}

impl Seat {
    pub(crate) async fn take(desk: &Desk, job: JobId, who: Watcher) -> Result<Self, Refused> {
        let (taken, left) = oneshot::channel();
        let (give, given) = oneshot::channel();
        let pause = Duration::from_secs(1) / who.most_per_second.max(1);
        // In a task of its own: whoever gives up while the core answers has left as well.
        tokio::spawn(hold(desk.clone(), job, who, give, left));
        let screen = given
            .await
            .map_err(|_| Refused::unavailable("SERVER_STOPPING", "the server is stopping"))??;
        Ok(Self {
            screen,
            seen: None,
            news: true,
            due: Instant::now(),
            pause,
            _taken: taken,
        })
    }

    /// What has changed, the newest state at once for who was slow; none after the last. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Change> {
        if !self.news {
            self.screen.changed().await.ok()?;
            self.news = true;
        }
        sleep_until(self.due).await;
        let change = self.screen.borrow_and_update().since(self.seen);
        (self.news, self.seen) = (false, change.seen);
        self.due = Instant::now() + self.pause;
        Some(change)
    }
}

/// Keeps the place until `left` ends.
async fn hold(
    desk: Desk,
    job: JobId,
    who: Watcher,
    give: oneshot::Sender<Result<watch::Receiver<Screen>, Refused>>,
    left: oneshot::Receiver<()>,
) {
    let asked = desk.ask(move |core| core.look_on(job, who)).await;
    let place = match asked.and_then(|answer| answer) {
        Ok(place) => place,
        // Who gave up needs no reason.
        Err(refused) => return drop(give.send(Err(refused))),
    };
    drop(give.send(Ok(place.screen)));
    // An error is what is waited for.
    let _ = left.await;
    // A server that stops has no watchers any more.
    let _ = desk
        .ask(move |core| core.look_away(job, place.watcher))
        .await;
}
