//! Accepts connections; each handshake runs in a task of its own, so that a slow one delays nobody.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;

use super::{Connection, Connections, Current, Peer, PeerIdentity};
use crate::config;
use crate::refused::Refused;

/// Connections that are through their handshake and wait to be served.
const SERVED_QUEUE: usize = 64;
/// From one event about a refused certificate to the next; the log has all of them.
const BETWEEN_REFUSALS: Duration = Duration::from_secs(10);
/// After a failed accept (no descriptors left), so that it does not spin.
const PAUSE: Duration = Duration::from_millis(100);

/// Says whether an identity may come in; asked after every handshake.
pub(crate) type Admission = Arc<
    dyn Fn(PeerIdentity) -> Pin<Box<dyn Future<Output = Result<(), Refused>> + Send>> + Send + Sync,
>;

/// Told of a certificate that the handshake itself refused: revoked, expired, of another root.
pub(crate) type Refusals = Arc<dyn Fn(SocketAddr, String) + Send + Sync>;

/// What a listener needs for each connection.
struct Door {
    config: Current,
    connections: Connections,
    /// Trust domain and admission; absent on the enrolment listener.
    admission: Option<(String, Admission)>,
    refusals: Option<Refusals>,
    /// When the last one was told: who has no certificate must not fill the store.
    told: Mutex<Option<Instant>>,
}

/// Serves a listener; the stream gives connections whose peers are known.
pub(crate) fn listen(
    listener: TcpListener,
    config: Current,
    connections: Connections,
    admission: Option<(String, Admission)>,
    refusals: Option<Refusals>,
) -> ReceiverStream<io::Result<Connection>> {
    let (ready, stream) = mpsc::channel(SERVED_QUEUE);
    let door = Arc::new(Door {
        config,
        connections,
        admission,
        refusals,
        told: Mutex::new(None),
    });
    tokio::spawn(accept(listener, door, ready));
    ReceiverStream::new(stream)
}

async fn accept(
    listener: TcpListener,
    door: Arc<Door>,
    ready: mpsc::Sender<io::Result<Connection>>,
) {
    let at_once = Arc::new(Semaphore::new(config::HANDSHAKES_AT_ONCE));
    while !ready.is_closed() {
        let Ok(permit) = at_once.clone().acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ready.closed() => return,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (door, ready) = (door.clone(), ready.clone());
        tokio::spawn(async move {
            let shaken =
                tokio::time::timeout(config::HANDSHAKE_LIMIT, handshake(stream, address, &door))
                    .await;
            drop(permit);
            match shaken {
                Ok(Ok(connection)) => drop(ready.send(Ok(connection)).await),
                Ok(Err(error)) => door.refused(address, &error),
                Err(_) => tracing::info!(%address, "a handshake took too long"),
            }
        });
    }
}

impl Door {
    fn refused(&self, address: SocketAddr, error: &io::Error) {
        tracing::info!(%address, %error, "a connection was refused");
        let certificate = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>())
            .is_some_and(|inner| matches!(inner, rustls::Error::InvalidCertificate(_)));
        if let (true, Some(refusals)) = (certificate, &self.refusals)
            && self.may_tell()
        {
            refusals(address, error.to_string());
        }
    }

    fn may_tell(&self) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let may = told.is_none_or(|last| now.duration_since(last) >= BETWEEN_REFUSALS);
        if may {
            *told = Some(now);
        }
        may
    }
}

async fn handshake(stream: TcpStream, address: SocketAddr, door: &Door) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    let acceptor = TlsAcceptor::from(door.config.load_full());
    let stream = match acceptor.accept(stream).into_fallible().await {
        Ok(stream) => stream,
        Err((error, stream)) => {
            part(stream).await;
            return Err(error);
        }
    };
    let mut peer = Peer {
        address,
        identity: None,
    };
    if let Some((domain, admission)) = &door.admission {
        let (_, session) = stream.get_ref();
        let leaf = session
            .peer_certificates()
            .and_then(<[_]>::first)
            .ok_or_else(|| io::Error::other("no certificate"))?;
        let identity = PeerIdentity::read(leaf, domain).map_err(io::Error::other)?;
        admission(identity.clone())
            .await
            .map_err(io::Error::other)?;
        peer.identity = Some(identity);
    }
    Ok(Connection::new(stream, peer, &door.connections))
}

/// Lets the alert arrive: closing a socket with unread bytes resets the connection, and what was
/// just sent is lost with it. The handshake's time limit bounds this.
async fn part(mut stream: TcpStream) {
    let mut unread = [0; 1024];
    if stream.shutdown().await.is_ok() {
        while stream.read(&mut unread).await.is_ok_and(|read| read > 0) {}
    }
}
