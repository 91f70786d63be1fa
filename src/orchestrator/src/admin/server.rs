//! The server's end of the socket: who may speak, and one task per connection.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};

use super::answer::answer;
use super::protocol::{Frame, Request, read, write};
use crate::app::App;
use crate::durable;
use crate::events::{self, Event};
use crate::refused::Refused;

/// Connections at the same time; followers of logs are among them.
const AT_ONCE: usize = 64;

/// Opens the socket and serves it until told to stop.
pub(crate) fn serve(
    app: Arc<App>,
    mut stop: watch::Receiver<bool>,
) -> Result<tokio::task::JoinHandle<()>, Refused> {
    let path = app.addresses.admin.clone();
    let fail = |error: std::io::Error| Refused::io("can't open", &path, &error);
    // The lock on the data directory says that no other server uses it.
    durable::remove(&path).map_err(fail)?;
    let listener = UnixListener::bind(&path).map_err(fail)?;
    // The directory is 0700; this is the second door.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(fail)?;
    Ok(tokio::spawn(async move {
        let at_once = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            let Ok((stream, _)) = accepted else { continue };
            let Ok(permit) = at_once.clone().acquire_owned().await else {
                return;
            };
            let app = app.clone();
            tokio::spawn(async move {
                converse(app, stream).await;
                drop(permit);
            });
        }
    }))
}

async fn converse(app: Arc<App>, mut stream: UnixStream) {
    if let Err(refused) = one(&app, &mut stream).await {
        // Who has gone does not need to hear it.
        let _ = write(&mut stream, &Frame::Refused(refused)).await;
    }
}

async fn one(app: &Arc<App>, stream: &mut UnixStream) -> Result<(), Refused> {
    let by = authorise(app, stream).await?;
    let Frame::Json(value) = read(stream).await? else {
        return Err(Refused::invalid("ADMIN_FRAME_INVALID", "a request is JSON"));
    };
    let request: Request = serde_json::from_value(value)
        .map_err(|error| Refused::invalid("ADMIN_REQUEST_INVALID", error.to_string()))?;
    answer(app, stream, request, by).await
}

/// The name of the peer's account, when it may give commands.
async fn authorise(app: &App, stream: &UnixStream) -> Result<String, Refused> {
    let uid = stream
        .peer_cred()
        .map_err(|error| Refused::denied("PEER_UNKNOWN", error.to_string()))?
        .uid();
    if uid != 0 && uid != nix::unistd::geteuid().as_raw() {
        let text = format!("uid {uid} may not use the admin socket");
        let event = Event::own(
            events::COMMAND_REFUSED,
            crate::clock::Clock.unix_ms(),
            text.clone(),
        )
        .user(&uid.to_string());
        app.desk.ask(move |core| core.record(event)).await?;
        return Err(Refused::denied("PEER_NOT_ALLOWED", text));
    }
    let account = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid))
        .ok()
        .flatten();
    Ok(account.map_or_else(|| format!("uid {uid}"), |account| account.name))
}
