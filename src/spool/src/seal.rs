//! Sealing with AES-256-GCM.
//!
//! Each segment has a key of its own, derived (HKDF-SHA-256) from the lane's key, 32 random bytes
//! in the segment's header, and the header itself. A frame's counter is its nonce; the writer
//! never uses one twice in a segment, not even after a write that failed, and never goes on
//! writing a segment that another process began. So no pair of key and nonce repeats whatever
//! was lost from the disk, even when a machine is set back to an older copy of it.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf;

use crate::key::LaneKey;

pub(crate) const TAG_BYTES: usize = 16;
pub(crate) const SALT_BYTES: usize = 32;

const LABEL: &[u8] = b"robotd-spool-segment-v1\0";

pub(crate) struct SegmentKey(LessSafeKey);

impl SegmentKey {
    /// `identity` is all that the segment's header says of it, and of fixed length.
    pub(crate) fn derive(lane: &LaneKey, salt: &[u8; SALT_BYTES], identity: &[u8]) -> Self {
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(lane.bytes());
        let info = [LABEL, identity];
        let key = secret
            .expand(&info, &AES_256_GCM)
            .expect("a 32-byte key is within what HKDF-SHA-256 can give");
        Self(LessSafeKey::new(UnboundKey::from(key)))
    }

    pub(crate) fn seal(&self, counter: u64, header: &[u8], payload: &mut [u8]) -> [u8; TAG_BYTES] {
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce(counter), Aad::from(header), payload)
            .expect("a frame is far below the 64 GiB that GCM can seal");
        let mut out = [0; TAG_BYTES];
        out.copy_from_slice(tag.as_ref());
        out
    }

    /// Leaves the payload in `sealed`, or returns false and leaves it worthless.
    #[must_use]
    pub(crate) fn open(&self, counter: u64, header: &[u8], sealed: &mut Vec<u8>) -> bool {
        let opened = self
            .0
            .open_in_place(nonce(counter), Aad::from(header), sealed);
        let Ok(len) = opened.map(|payload| payload.len()) else {
            return false;
        };
        sealed.truncate(len);
        true
    }
}

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[NONCE_LEN - 8..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(salt: u8, identity: &[u8]) -> SegmentKey {
        SegmentKey::derive(
            &LaneKey::from_bytes(&[9; 32]),
            &[salt; SALT_BYTES],
            identity,
        )
    }

    fn sealed(counter: u64, header: &[u8]) -> Vec<u8> {
        let mut payload = b"said by a bot".to_vec();
        let tag = key(1, b"segment").seal(counter, header, &mut payload);
        payload.extend(tag);
        payload
    }

    #[test]
    fn only_the_same_segment_counter_and_header_open_a_payload() {
        let mut good = sealed(3, b"header");
        assert!(key(1, b"segment").open(3, b"header", &mut good));
        assert_eq!(good, b"said by a bot");

        assert!(
            !key(2, b"segment").open(3, b"header", &mut sealed(3, b"header")),
            "salt"
        );
        assert!(
            !key(1, b"another").open(3, b"header", &mut sealed(3, b"header")),
            "identity"
        );
        assert!(
            !key(1, b"segment").open(4, b"header", &mut sealed(3, b"header")),
            "counter"
        );
        assert!(
            !key(1, b"segment").open(3, b"Header", &mut sealed(3, b"header")),
            "header"
        );
        assert!(
            !key(1, b"segment").open(3, b"header", &mut vec![]),
            "nothing"
        );
    }

    #[test]
    fn the_payload_is_not_to_be_seen_in_what_is_stored() {
        let stored = sealed(1, b"");
        assert!(
            !stored
                .windows(4)
                .any(|part| part == b"said" || part == b" bot")
        );
    }
}
