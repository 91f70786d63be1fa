//! What the link's TLS negotiates, and what HTTP/2 announces on it.

use rustls::{NamedGroup, ProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::agent::Agent;
use super::server::Server;
use crate::config;

#[tokio::test(flavor = "multi_thread")]
async fn the_key_exchange_is_hybrid_and_nothing_can_be_resumed() {
    let server = Server::start().await;
    let agent = Agent::enrolled(&server, "a").await;
    for _ in 0..2 {
        let stream = agent.raw().await.unwrap();
        let (_, session) = stream.get_ref();
        assert_eq!(session.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(
            session
                .negotiated_key_exchange_group()
                .map(|group| group.name()),
            Some(NamedGroup::X25519MLKEM768)
        );
        assert_eq!(session.alpn_protocol(), Some(b"h2".as_slice()));
        // The second time the client would have something to offer, had it been given a ticket.
        assert_eq!(session.handshake_kind(), Some(rustls::HandshakeKind::Full));
        assert_eq!(session.tls13_tickets_received(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_announces_its_limits() {
    const MAX_CONCURRENT_STREAMS: u16 = 3;
    const MAX_HEADER_LIST_SIZE: u16 = 6;
    let server = Server::start().await;
    let agent = Agent::enrolled(&server, "a").await;
    let mut stream = agent.raw().await.unwrap();
    // The preface and empty settings, as RFC 9113 has them.
    let hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    stream.write_all(hello).await.unwrap();
    let mut header = [0; 9];
    stream.read_exact(&mut header).await.unwrap();
    assert_eq!(header[3], 4, "the first frame is SETTINGS");
    let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
    let mut settings = vec![0; length as usize];
    stream.read_exact(&mut settings).await.unwrap();
    let announced = |wanted: u16| {
        settings.chunks_exact(6).find_map(|pair| {
            let id = u16::from_be_bytes([pair[0], pair[1]]);
            let value = u32::from_be_bytes([pair[2], pair[3], pair[4], pair[5]]);
            (id == wanted).then_some(value)
        })
    };
    assert_eq!(announced(MAX_CONCURRENT_STREAMS), Some(config::MAX_STREAMS));
    assert_eq!(announced(MAX_HEADER_LIST_SIZE), Some(config::MAX_HEADERS));
}
