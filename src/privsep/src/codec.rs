//! One postcard value per packet, nothing after it.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest packet. Bounds what the privileged side reads into memory for one message. The largest is
/// the report of a job that brought about all that it can: some 70,000 bytes.
pub const MAX_PACKET: usize = 96 * 1024;

/// Why a packet is refused. The connection that brought it is closed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecodeError {
    /// More than [`MAX_PACKET`].
    #[error("a packet of {0} bytes, at most {MAX_PACKET} are accepted")]
    TooLarge(usize),
    /// Not a value of the expected type.
    #[error("not a message of this conversation")]
    Malformed,
    /// A value with something behind it.
    #[error("{0} bytes after the message")]
    Trailing(usize),
}

/// Encodes one message. `Err` carries its size when it does not fit a packet.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, DecodeError> {
    let bytes = postcard::to_allocvec(message).map_err(|_| DecodeError::Malformed)?;
    if bytes.len() > MAX_PACKET {
        Err(DecodeError::TooLarge(bytes.len()))
    } else {
        Ok(bytes)
    }
}

/// Encodes a document that travels in a sealed memfd because it can be larger than a packet.
pub fn encode_document<T: Serialize>(document: &T) -> Result<Vec<u8>, DecodeError> {
    postcard::to_allocvec(document).map_err(|_| DecodeError::Malformed)
}

/// Decodes such a document; whoever reads the memfd bounds its size.
pub fn decode_document<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (document, rest) = postcard::take_from_bytes(bytes).map_err(|_| DecodeError::Malformed)?;
    if rest.is_empty() {
        Ok(document)
    } else {
        Err(DecodeError::Trailing(rest.len()))
    }
}

/// Decodes one packet.
pub fn decode<T: DeserializeOwned>(packet: &[u8]) -> Result<T, DecodeError> {
    if packet.len() > MAX_PACKET {
        return Err(DecodeError::TooLarge(packet.len()));
    }
    let (message, rest) = postcard::take_from_bytes(packet).map_err(|_| DecodeError::Malformed)?;
    if rest.is_empty() {
        Ok(message)
    } else {
        Err(DecodeError::Trailing(rest.len()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{attendant, broker, doorbell, egress, session};

    #[test]
    fn a_message_comes_back_and_nothing_may_follow_it() {
        let mut packet = encode(&broker::Request::Sync).unwrap();
        assert_eq!(decode(&packet), Ok(broker::Request::Sync));
        packet.push(0);
        assert_eq!(
            decode::<broker::Request>(&packet),
            Err(DecodeError::Trailing(1))
        );
    }

    #[test]
    fn an_oversize_packet_is_refused_unread() {
        let packet = vec![0; MAX_PACKET + 1];
        assert_eq!(
            decode::<broker::Request>(&packet),
            Err(DecodeError::TooLarge(MAX_PACKET + 1))
        );
    }

    proptest! {
        #[test]
        fn garbage_never_panics(packet in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = decode::<broker::Call>(&packet);
            let _ = decode::<broker::Answer>(&packet);
            let _ = decode::<session::FromSession>(&packet);
            let _ = decode::<session::ToSession>(&packet);
            let _ = decode::<attendant::FromAttendant>(&packet);
            let _ = decode::<attendant::ToAttendant>(&packet);
            let _ = decode::<egress::FromEgress>(&packet);
            let _ = decode_document::<egress::Rules>(&packet);
            let _ = decode::<doorbell::FromAttendant>(&packet);
            let _ = decode::<doorbell::ToAttendant>(&packet);
        }
    }
}
