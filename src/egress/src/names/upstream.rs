//! Asking the host's resolvers, or those that the policy names. A question has a socket and a number of
//! its own: who wants to answer in a resolver's place has to guess both.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::files;
use super::message::{self, Family, Said};

/// One try at one resolver, and tries at each.
const ANSWER: Duration = Duration::from_secs(3);
const TRIES: u32 = 2;

/// Answers that hold shorter or longer are taken as if they held so long: a resolver that is asked for
/// every connection anew would be flooded, and one that says "for ever" may be wrong.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(3600);

/// What the host's file says holds until it is read again.
const FILE: Duration = Duration::from_secs(30);

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Addresses, maybe none of this family, and how long they hold.
    Addresses(Vec<IpAddr>, Duration),
    /// There is no such name.
    NoName,
    /// Nobody answered.
    Nothing,
}

/// Looks a name up, first in the host's own file.
pub(super) async fn look_up(name: &str, family: Family, named: &[SocketAddr]) -> Found {
    let own = files::hosts(name, family);
    if !own.is_empty() {
        return Found::Addresses(own, FILE);
    }
    let resolvers = if named.is_empty() {
        files::resolvers()
    } else {
        named.to_vec()
    };
    for _ in 0..TRIES {
        for resolver in &resolvers {
            match ask(*resolver, name, family).await {
                Ok(Said::Addresses(addresses, ttl)) => {
                    return Found::Addresses(addresses, ttl.clamp(SHORTEST, LONGEST));
                }
                Ok(Said::NoName) => return Found::NoName,
                // The next one may know.
                _ => {}
            }
        }
    }
    Found::Nothing
}

async fn ask(resolver: SocketAddr, name: &str, family: Family) -> io::Result<Said> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    let Some(question) = message::question(u16::from_ne_bytes(id), name, family) else {
        return Ok(Said::NoName);
    };
    let said = timeout(ANSWER, by_datagram(resolver, &question, family)).await??;
    if said == Said::Truncated {
        return timeout(ANSWER, by_stream(resolver, &question, family)).await?;
    }
    Ok(said)
}

async fn by_datagram(resolver: SocketAddr, question: &[u8], family: Family) -> io::Result<Said> {
    let any: IpAddr = if resolver.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    // From then on the kernel takes datagrams of this one peer only.
    socket.connect(resolver).await?;
    socket.send(question).await?;
    let mut buffer = [0; 2048];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let said = message::heard(question, &buffer[..length], family);
        if said != Said::Foreign {
            return Ok(said);
        }
    }
}

async fn by_stream(resolver: SocketAddr, question: &[u8], family: Family) -> io::Result<Said> {
    let mut stream = TcpStream::connect(resolver).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream
        .write_all(&[&length.to_be_bytes()[..], question].concat())
        .await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Ok(message::heard(question, &answer, family))
}
