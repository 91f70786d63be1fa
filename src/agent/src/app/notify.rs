//! sd_notify(3): what the service manager is told, when there is one.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// robotd can be asked and takes jobs.
pub(super) fn ready() {
    tell("READY=1");
}

/// robotd ends on purpose.
pub(super) fn stopping() {
    tell("STOPPING=1");
}

/// Tells in half of the time that was asked for that the runtime still turns.
pub(super) async fn watchdog() {
    let micros = std::env::var("WATCHDOG_USEC")
        .ok()
        .and_then(|text| text.parse::<u64>().ok());
    let Some(micros) = micros.filter(|micros| *micros > 1) else {
        return;
    };
    let mut beat = tokio::time::interval(Duration::from_micros(micros / 2));
    loop {
        beat.tick().await;
        tell("WATCHDOG=1");
    }
}

fn tell(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let sent = UnixDatagram::unbound().and_then(|socket| {
        let bytes = path.as_encoded_bytes();
        let address = match bytes.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&path)?,
        };
        socket.send_to_addr(state.as_bytes(), &address)
    });
    if let Err(reason) = sent {
        tracing::debug!(%reason, state, "the service manager can't be told");
    }
}
