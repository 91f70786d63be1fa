//! Who logs in and out, as logind tells it.

use std::time::Duration;

use futures_lite::StreamExt as _;
use zbus::{Connection, OwnedObjectPath};

use super::AGAIN;
use super::logind::{self, Login};
use crate::privileges::Taken;

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Everybody who is logged in: at the beginning, and after the bus was away.
    Everybody(Vec<Login>),
    /// Somebody logged in.
    In(Login),
    /// The session of this id has ended.
    Out(String),
    /// Somebody took the rights of another user; so many others before were not told.
    Rights(Taken, u32),
    /// logind or the journal can't be listened to, for this reason; it is tried again.
    Deaf(String),
}

/// Longest pause between two tries; the first is [`AGAIN`], each next one twice as long.
const LONGEST: Duration = Duration::from_secs(30);

/// Tells what it sees until `tell` says that nobody listens.
pub(crate) fn watch(tell: impl Fn(Seen) -> bool) {
    zbus::block_on(async {
        let mut pause = AGAIN;
        loop {
            let mut heard = false;
            let hearing = |seen| {
                heard = true;
                tell(seen)
            };
            let error = match listen(hearing).await {
                Ok(()) => return,
                Err(error) => error,
            };
            pause = if heard {
                AGAIN
            } else {
                (pause * 2).min(LONGEST)
            };
            // dbus restarts in a second; what lasts longer is told, once.
            let lasts = !heard && (AGAIN * 16..AGAIN * 32).contains(&pause);
            if lasts && !tell(Seen::Deaf(error.to_string())) {
                return;
            }
            async_io::Timer::after(pause).await;
        }
    });
}

/// `Ok` when nobody listens any more.
async fn listen(mut tell: impl FnMut(Seen) -> bool) -> zbus::Result<()> {
    let connection = Connection::system().await?;
    let manager = logind::manager(&connection).await?;
    // Before the list: who logs in meanwhile is told, perhaps twice.
    let mut signals = manager.receive_all_signals().await?;
    let mut owners = manager.receive_owner_changed().await?;
    if !tell(Seen::Everybody(logind::sessions(&connection).await?)) {
        return Ok(());
    }
    loop {
        let signal = async { signals.next().await };
        // A logind that was restarted has forgotten who left meanwhile, and begins its ids anew.
        let restarted = async {
            owners.next().await;
            None
        };
        let Some(signal) = futures_lite::FutureExt::or(signal, restarted).await else {
            break;
        };
        let header = signal.header();
        let member = header.member().map(|member| member.as_str().to_owned());
        let body = signal.body();
        let Ok((id, path)) = body.deserialize::<(String, OwnedObjectPath)>() else {
            continue;
        };
        let seen = match member.as_deref() {
            Some("SessionNew") => {
                // None: over before it could be looked at, as cron's are where each is a session.
                let found = logind::session(&connection, id, path.as_str()).await?;
                found.filter(Login::is_somebody).map(Seen::In)
            }
            Some("SessionRemoved") => Some(Seen::Out(id)),
            _ => None,
        };
        if seen.is_some_and(|seen| !tell(seen)) {
            return Ok(());
        }
    }
    Err(zbus::Error::InputOutput(std::sync::Arc::new(
        std::io::ErrorKind::ConnectionReset.into(),
    )))
}
