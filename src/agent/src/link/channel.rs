//! One TCP connection with TLS and HTTP/2 on it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

use super::failure::Failure;
use super::tap::{Tap, Tapped};

/// A write that nobody acknowledges for this long breaks the connection.
const USER_TIMEOUT: Duration = Duration::from_secs(30);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(20);
const KEEPALIVE_WITHIN: Duration = Duration::from_secs(10);

/// Windows of the bulk connection: enough for 100 Mbit/s at 80 ms, and no larger, since more
/// gave no throughput. The control connection keeps HTTP/2's small ones.
const BULK_STREAM_WINDOW: u32 = 1 << 20;
const BULK_CONNECTION_WINDOW: u32 = 2 << 20;

/// Bytes that the kernel keeps unsent: what it has can't be overtaken any more, so it has no more than
/// keeps the connection busy.
const UNSENT: u32 = 128 * 1024;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Small messages that must not wait.
    Control,
    /// Everything else.
    Bulk,
}

/// Connects now. The tap knows better than a failed call why it failed.
pub(super) async fn connect(
    url: &str,
    tls: ClientConfig,
    purpose: Purpose,
    within: Duration,
) -> Result<(Channel, Tap), Failure> {
    let endpoint =
        Endpoint::from_shared(url.to_owned()).map_err(|error| Failure::of_connect(&error))?;
    let mut endpoint = endpoint
        .http2_keep_alive_interval(KEEPALIVE_EVERY)
        .keep_alive_timeout(KEEPALIVE_WITHIN)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true);
    if purpose == Purpose::Bulk {
        endpoint = endpoint
            .initial_stream_window_size(BULK_STREAM_WINDOW)
            .initial_connection_window_size(BULK_CONNECTION_WINDOW);
    }
    let (tls, tap) = (TlsConnector::from(Arc::new(tls)), Tap::default());
    let tapped = tap.clone();
    let connector = tower::service_fn(move |uri: Uri| {
        let (tls, tap) = (tls.clone(), tapped.clone());
        async move {
            open(&uri, tls)
                .await
                .map(|stream| TokioIo::new(Tapped::new(stream, tap)))
        }
    });
    match tokio::time::timeout(within, endpoint.connect_with_connector(connector)).await {
        Ok(Ok(channel)) => Ok((channel, tap)),
        Ok(Err(error)) => Err(tap.explain(Failure::of_connect(&error))),
        Err(_) => Err(Failure::Network(format!(
            "{url} did not answer within {within:?}"
        ))),
    }
}

async fn open(uri: &Uri, tls: TlsConnector) -> io::Result<TlsStream<TcpStream>> {
    let invalid = |what| io::Error::new(io::ErrorKind::InvalidInput, format!("{uri} {what}"));
    let host = uri
        .host()
        .ok_or_else(|| invalid("names no host"))?
        .trim_matches(['[', ']']);
    let port = uri.port_u16().ok_or_else(|| invalid("names no port"))?;
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| invalid("names no host that a certificate can name"))?;
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.set_tcp_notsent_lowat(UNSENT)?;
    tls.connect(name, stream).await
}
