//! The resolver that a job sees. It knows the names that the job's profile allows, and no others: a
//! question is never passed on as it came, so that nothing can be told by asking.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use domain::base::iana::Rcode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::message::{self, Asked};
use super::{Answer, NoAnswer};
use crate::crossing::Border;

/// Questions in work at once; what comes beyond is dropped, as a busy resolver does.
const AT_ONCE: usize = 64;

/// Connections of questions at once, and how long one may be silent.
const STREAMS: usize = 8;
const SILENT: Duration = Duration::from_secs(10);

/// No question is longer.
const LONGEST: usize = 1024;

/// After an error of the socket: the kernel is short of something that others free.
const PAUSE: Duration = Duration::from_millis(100);

/// A bot's own cache keeps an answer no longer than this: it is asked again while the job runs.
const TTL: Duration = Duration::from_secs(300);

/// Questions over UDP, for ever.
pub(crate) async fn serve_datagrams(border: Arc<Border>, socket: UdpSocket) {
    let socket = Arc::new(socket);
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut buffer = [0; LONGEST];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
            continue;
        };
        let (border, socket, question) = (
            Arc::clone(&border),
            Arc::clone(&socket),
            buffer[..length].to_vec(),
        );
        tokio::spawn(async move {
            reply(&border, &socket, from, &question).await;
            drop(place);
        });
    }
}

async fn reply(border: &Border, socket: &UdpSocket, to: SocketAddr, question: &[u8]) {
    if let Some(answer) = answer(border, question).await {
        // Who asked may be gone.
        let _ = socket.send_to(&answer, to).await;
    }
}

/// Questions over TCP, for ever.
pub(crate) async fn serve_streams(border: Arc<Border>, listener: TcpListener) {
    let room = Arc::new(Semaphore::new(STREAMS));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let border = Arc::clone(&border);
        tokio::spawn(async move {
            let _ = converse(&border, stream).await;
            drop(place);
        });
    }
}

async fn converse(border: &Border, mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        let length = usize::from(timeout(SILENT, stream.read_u16()).await??);
        if length > LONGEST {
            return Ok(());
        }
        let mut question = vec![0; length];
        timeout(SILENT, stream.read_exact(&mut question)).await??;
        let Some(answer) = answer(border, &question).await else {
            return Ok(());
        };
        let length = u16::try_from(answer.len()).map_err(std::io::Error::other)?;
        let framed = [&length.to_be_bytes()[..], &answer].concat();
        timeout(SILENT, stream.write_all(&framed)).await??;
    }
}

async fn answer(border: &Border, question: &[u8]) -> Option<Vec<u8>> {
    let none = |rcode| message::answer(question, rcode, &[], Duration::ZERO);
    let (name, family) = match message::read(question) {
        Asked::Name(name, family) => (name, family),
        Asked::Odd(rcode) => return none(rcode),
        Asked::Noise => return None,
    };
    if let Err(denied) = border.gate.by_name(&name, None) {
        border.deny(&format!("name {name}"), &denied);
        return none(Rcode::NXDOMAIN);
    }
    // An allowed name has addresses here, and nothing else.
    let Some(family) = family else {
        return none(Rcode::NOERROR);
    };
    match border.names.look_up(&name, family).await {
        Ok(Answer { addresses, ttl }) => {
            message::answer(question, Rcode::NOERROR, &addresses, ttl.min(TTL))
        }
        Err(NoAnswer::Denied(denied)) => {
            border.deny(&format!("name {name}"), &denied);
            none(Rcode::NXDOMAIN)
        }
        Err(NoAnswer::Unknown) => none(Rcode::NXDOMAIN),
        Err(NoAnswer::Failed) => none(Rcode::SERVFAIL),
    }
}
