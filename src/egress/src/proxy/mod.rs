//! The HTTP proxy, for clients that want one: CONNECT, and plain requests with a whole address. Names
//! are looked up here, so the client needs no resolver.

mod head;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::crossing::Border;
use crate::denials::Denied;
use crate::gate::Granted;
use crate::names::{Answer, Family, NoAnswer};
use crate::outside;
use head::{Head, MAX_HEAD, Wanted};

/// From the first byte of a head to its last.
const HEAD: Duration = Duration::from_secs(30);

/// After an accept that failed.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves one listener for ever.
pub(crate) async fn serve(border: Arc<Border>, listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        // Not before: a listener that nobody connects to would keep the place of another's.
        let room = border.room().await;
        let border = Arc::clone(&border);
        tokio::spawn(async move {
            pass(&border, stream).await;
            drop(room);
        });
    }
}

/// Why a request is answered and not passed on.
struct Refused {
    status: &'static str,
    code: &'static str,
    reason: String,
}

impl Refused {
    fn new(status: &'static str, code: &'static str, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self {
            status,
            code,
            reason,
        }
    }

    fn forbidden(denied: Denied) -> Self {
        Self::new("403 Forbidden", denied.code, denied.reason)
    }
}

async fn pass(border: &Border, mut inside: TcpStream) {
    let head = match timeout(HEAD, read_head(&mut inside)).await {
        Ok(Ok(head)) => head,
        Ok(Err(Some(refused))) => return answer(inside, &refused).await,
        // It went away, or never said what it wanted.
        Ok(Err(None)) | Err(_) => return,
    };
    match reach(border, &head.wanted).await {
        Ok((mut peer, name, address)) => {
            let (first, to_bot): (&[u8], &[u8]) = if head.tunnel {
                (&head.rest, b"HTTP/1.1 200 Connection established\r\n\r\n")
            } else {
                (&head.forward, b"")
            };
            let begun = async {
                inside.write_all(to_bot).await?;
                peer.write_all(first).await?;
                if !head.tunnel {
                    peer.write_all(&head.rest).await?;
                }
                Ok::<_, std::io::Error>(())
            };
            if begun.await.is_ok() {
                outside::settle(&inside);
                let _ = inside.set_nodelay(true);
                border.carry(inside, peer, name, address).await;
            }
        }
        Err(refused) => answer(inside, &refused).await,
    }
}

/// Reads until the head is whole. `None`: there is nobody to be answered.
async fn read_head(stream: &mut TcpStream) -> Result<Head, Option<Refused>> {
    let mut bytes = Vec::with_capacity(2048);
    loop {
        let read = stream.read_buf(&mut bytes).await.map_err(|_| None)?;
        if read == 0 {
            return Err(None);
        }
        match Head::parse(&bytes) {
            Ok(Some(head)) => return Ok(head),
            Ok(None) if bytes.len() >= MAX_HEAD => {
                let reason = format!("the head of the request is longer than {MAX_HEAD} bytes");
                let status = "431 Request Header Fields Too Large";
                return Err(Some(Refused::new(status, "HEAD_TOO_LARGE", reason)));
            }
            Ok(None) => {}
            Err(reason) => {
                return Err(Some(Refused::new(
                    "400 Bad Request",
                    "REQUEST_MALFORMED",
                    reason,
                )));
            }
        }
    }
}

/// Connects to what was asked for, when that is allowed. Names are checked, looked up and connected to
/// here: what was checked is what is connected to.
async fn reach(
    border: &Border,
    wanted: &Wanted,
) -> Result<(TcpStream, Granted, SocketAddr), Refused> {
    let deny = |denied: Denied| {
        border.deny(&format!("proxy {wanted}"), &denied);
        Refused::forbidden(denied)
    };
    let (name, addresses) = match wanted.host.parse::<IpAddr>() {
        Ok(address) => {
            let to = SocketAddr::new(address.to_canonical(), wanted.port);
            let remembered = border.names.leading_to(to.ip()).await;
            let name = border.gate.by_address(to, &remembered).map_err(deny)?;
            (name, vec![to.ip()])
        }
        Err(_) => {
            let checked = border.gate.by_name(&wanted.host, Some(wanted.port));
            checked.map_err(deny)?;
            let addresses = addresses(border, wanted).await?;
            (wanted.host.as_str().into(), addresses)
        }
    };
    for address in addresses {
        let to = SocketAddr::new(address, wanted.port);
        if let Ok(peer) = border.connect(to).await {
            return Ok((peer, name, to));
        }
    }
    let reason = format!("{wanted} does not answer");
    Err(Refused::new("502 Bad Gateway", "PEER_UNREACHABLE", reason))
}

async fn addresses(border: &Border, wanted: &Wanted) -> Result<Vec<IpAddr>, Refused> {
    let (mut found, mut denied, mut failed) = (Vec::new(), None, false);
    for family in [Family::V4, Family::V6] {
        match border.names.look_up(&wanted.host, family).await {
            Ok(Answer { addresses, .. }) => found.extend(addresses),
            Err(NoAnswer::Denied(reason)) => denied = Some(reason),
            Err(NoAnswer::Failed) => failed = true,
            Err(NoAnswer::Unknown) => {}
        }
    }
    found.retain(
        |address| match border.gate.led_to(*address, Some(wanted.port)) {
            Ok(()) => true,
            Err(reason) => {
                denied = Some(reason);
                false
            }
        },
    );
    if !found.is_empty() {
        return Ok(found);
    }
    if let Some(denied) = denied {
        border.deny(&format!("proxy {wanted}"), &denied);
        return Err(Refused::forbidden(denied));
    }
    let (code, reason) = if failed {
        ("NAME_FAILED", "no resolver answers")
    } else {
        ("NAME_UNKNOWN", "there is no such name")
    };
    Err(Refused::new("502 Bad Gateway", code, reason))
}

async fn answer(mut stream: TcpStream, refused: &Refused) {
    let body = format!(
        "robotd: {} ({})\n",
        crate::denials::printable(&refused.reason),
        refused.code
    );
    let head = format!(
        "HTTP/1.1 {}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        refused.status,
        body.len()
    );
    let said = timeout(HEAD, stream.write_all((head + &body).as_bytes())).await;
    if matches!(said, Ok(Ok(()))) {
        let _ = stream.shutdown().await;
    }
}
