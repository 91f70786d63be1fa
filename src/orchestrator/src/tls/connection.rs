//! A connection that knows its peer, and that can be closed from outside.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use order::AgentId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::Peer;
use crate::clock::Clock;

/// Time for a last message (SessionRevoked) to leave.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The switch that closes all connections of each agent.
#[derive(Clone, Default)]
pub(crate) struct Connections(Arc<Mutex<HashMap<AgentId, watch::Sender<()>>>>);

impl Connections {
    fn watch(&self, agent: AgentId) -> watch::Receiver<()> {
        let mut switches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let switch = switches
            .entry(agent)
            .or_insert_with(|| watch::channel(()).0);
        switch.subscribe()
    }

    /// Closes every open connection of an agent, and none that it opens later.
    pub(crate) fn close(&self, agent: AgentId) {
        let mut switches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Dropping the sender is the signal.
        switches.remove(&agent);
    }
}

/// A TLS connection. Reading fails once it is to be closed or its peer's certificate has expired:
/// TLS itself never looks at a certificate again.
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    over: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_over: bool,
}

impl Connection {
    pub(crate) fn new(stream: TlsStream<TcpStream>, peer: Peer, connections: &Connections) -> Self {
        let over: Pin<Box<dyn Future<Output = ()> + Send>> = match &peer.identity {
            None => Box::pin(std::future::pending()),
            Some(identity) => {
                let mut switch = connections.watch(identity.agent);
                let left = identity.not_after_ms.saturating_sub(Clock.unix_ms());
                Box::pin(async move {
                    tokio::select! {
                        () = tokio::time::sleep(Duration::from_millis(left)) => {}
                        // Only the drop of the sender ends this: nothing is ever sent.
                        _ = switch.changed() => tokio::time::sleep(LAST_WORDS).await,
                    }
                })
            }
        };
        Self {
            stream,
            peer,
            over,
            is_over: false,
        }
    }

    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if !self.is_over {
            self.is_over = self.over.as_mut().poll(cx).is_ready();
        }
        match self.is_over {
            true => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the peer's identity does not stand any more",
            )),
            false => Ok(()),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
