//! What must hold for any bytes, for each parser that the bytes of a stranger reach on the privileged side.
//!
//! Shared by the fuzz targets and by the test that replays the corpus (`fuzz_corpus`), so that
//! neither can claim less than the other. The first byte chooses where a parser has several doors.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::LazyLock;

use order::{
    AgentId, AttemptRef, Challenge, Expectation, JobResult, KeyId, Order, OrderError, Purpose,
    Renewal, Signed, SigningKey, VerifyingKey, verify,
};
use package::{Limits, Manifest, PackagePath, Signature};
use privsep::{admin, attendant, broker as calls, doorbell, session};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The conversations of `privsep`: what robotd, a session, an attendant or robotctl can send.
pub(crate) fn decoder(bytes: &[u8]) {
    let Some((door, packet)) = bytes.split_first() else {
        return;
    };
    match door % 11 {
        0 => packet_of::<calls::Call>(packet),
        1 => packet_of::<calls::Answer>(packet),
        2 => packet_of::<session::FromSession>(packet),
        3 => packet_of::<session::ToSession>(packet),
        4 => packet_of::<attendant::FromAttendant>(packet),
        5 => packet_of::<attendant::ToAttendant>(packet),
        6 => packet_of::<doorbell::FromAttendant>(packet),
        7 => packet_of::<doorbell::ToAttendant>(packet),
        8 => packet_of::<admin::Request>(packet),
        9 => packet_of::<admin::Reply>(packet),
        _ => document_of::<session::Spec>(packet),
    }
}

/// What is accepted means one thing: written again it fits again and is read as the same.
fn packet_of<T: Serialize + DeserializeOwned + PartialEq + Debug>(packet: &[u8]) {
    let Ok(message) = privsep::decode::<T>(packet) else {
        return;
    };
    let again = privsep::encode(&message).expect("what came in a packet fits one");
    assert!(
        again.len() <= packet.len(),
        "grew from {} bytes",
        packet.len()
    );
    assert_eq!(privsep::decode::<T>(&again).as_ref(), Ok(&message));
    let longer = [&again[..], &[0]].concat();
    assert!(
        privsep::decode::<T>(&longer).is_err(),
        "a byte too many is taken"
    );
}

fn document_of<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let Ok(document) = privsep::decode_document::<T>(bytes) else {
        return;
    };
    let again = privsep::encode_document(&document).expect("it was read");
    let back: T = privsep::decode_document(&again).expect("it was written");
    assert_eq!(privsep::encode_document(&back).expect("it was read"), again);
}

/// The policy file. Root writes it, but what it lets pass becomes arguments, paths and unit names.
pub(crate) fn policy(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(policy) = broker::Policy::parse(text) else {
        return;
    };
    let accounts = policy
        .slots
        .iter()
        .flat_map(|slot| [&slot.account, &slot.attendant]);
    let mut names: Vec<&str> = accounts.map(String::as_str).collect();
    names.extend([
        policy.agent.user.as_str(),
        policy.packages.unpack_user.as_str(),
        "root",
    ]);
    for slot in &policy.slots {
        for name in [&slot.account, &slot.attendant] {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
            assert!(
                name.bytes().all(plain) && !name.starts_with('-'),
                "{name:?}"
            );
        }
    }
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all, "two roles share an account");
    let paths = &policy.paths;
    let own = [
        &paths.state,
        &paths.runtime,
        &paths.spool,
        &paths.jobs,
        &paths.trust,
        &paths.programs,
    ];
    assert!(
        own.into_iter()
            .chain(policy.interpreters.values())
            .all(|path| path.is_absolute())
    );
}

/// The host that orders of the corpus are for.
pub(crate) struct Host {
    /// Signs them.
    pub(crate) key: SigningKey,
    keys: BTreeMap<KeyId, VerifyingKey>,
    /// This host.
    pub(crate) agent: AgentId,
    /// The reservation.
    pub(crate) attempt: AttemptRef,
    /// Its challenge.
    pub(crate) challenge: Challenge,
}

/// The clock of that host, milliseconds since 1970.
pub(crate) const NOW: u64 = 1_800_000_000_000;

/// Always the same: a corpus outlives the process that found it.
pub(crate) static HOST: LazyLock<Host> = LazyLock::new(|| {
    let key = SigningKey::from_seed(&[7; 32]);
    Host {
        keys: BTreeMap::from([(key.public().id(), key.public())]),
        key,
        agent: "01900000-0000-7000-8000-000000000001"
            .parse()
            .expect("an id"),
        attempt: "01900000-0000-7000-8000-000000000002.1"
            .parse()
            .expect("an attempt"),
        challenge: Challenge([9; 32]),
    }
});

impl Host {
    /// Whether it takes this order, signed.
    pub(crate) fn takes(&self, body: &[u8]) -> bool {
        self.judge(&self.key.sign(Purpose::Order, body.to_vec()))
            .is_ok()
    }

    fn judge(&self, signed: &Signed) -> Result<Order, OrderError> {
        verify(
            signed,
            &Expectation {
                keys: &self.keys,
                agent: self.agent,
                attempt: self.attempt,
                challenge: Some(self.challenge),
                now_unix_ms: NOW,
            },
        )
    }
}

/// Signed documents: an order that was signed, one that was not, a renewal, a result.
pub(crate) fn order(bytes: &[u8]) {
    let Some((door, body)) = bytes.split_first() else {
        return;
    };
    match door % 4 {
        0 => signed_order(body),
        1 => unsigned_order(body),
        2 => json_of::<Renewal>(body),
        _ => json_of::<JobResult>(body),
    }
}

fn signed_order(body: &[u8]) {
    let signed = HOST.key.sign(Purpose::Order, body.to_vec());
    match HOST.judge(&signed) {
        Ok(order) => {
            assert_eq!(
                (order.agent, order.attempt, order.v),
                (HOST.agent, HOST.attempt, 1)
            );
            assert_eq!(order.challenge, HOST.challenge.to_base64());
            assert!(order.limits.out_of_range().is_none());
            let plain = |part: &str| !matches!(part, "" | "." | "..");
            assert!(order.entry.split('/').all(plain), "{:?}", order.entry);
            let loads = |name: &String| name.starts_with("LD_") || name.starts_with("PYTHON");
            assert!(!order.env.keys().any(loads), "{:?}", order.env);
            let nul = |text: &String| text.contains('\0');
            assert!(!order.args.iter().chain(order.env.values()).any(nul));
        }
        Err(error) => assert!(!matches!(
            error,
            OrderError::SignatureInvalid | OrderError::KeyUnknown(_)
        )),
    }
}

/// The first 64 bytes are the signature. Nobody guesses one; nothing is parsed before it.
fn unsigned_order(bytes: &[u8]) {
    let (signature, body) = bytes.split_at(bytes.len().min(64));
    let signed = Signed {
        body: body.to_vec(),
        key_id: HOST.key.public().id(),
        signature: signature.to_vec(),
    };
    let refused = HOST
        .judge(&signed)
        .expect_err("a forged signature was taken");
    assert!(
        matches!(
            refused,
            OrderError::SignatureInvalid | OrderError::TooLarge(_)
        ),
        "{refused}"
    );
}

fn json_of<T: Serialize + DeserializeOwned + PartialEq + Debug>(body: &[u8]) {
    let Ok(document) = serde_json::from_slice::<T>(body) else {
        return;
    };
    let again = serde_json::to_vec(&document).expect("it was read");
    assert_eq!(
        serde_json::from_slice::<T>(&again).expect("it was written"),
        document
    );
}

const MIB: u64 = 1 << 20;

/// So small that no run takes long; the bounds themselves are what is tried.
const SMALL: Limits = Limits {
    max_files: 64,
    max_total_bytes: MIB,
    max_file_bytes: MIB / 2,
    max_packed_bytes: MIB,
    max_ratio: 50,
    ratio_from_bytes: MIB / 16,
};

/// A package: the stream as it comes, the tar stream inside a frame, the manifest, the signature.
pub(crate) fn archive(bytes: &[u8]) {
    let Some((door, rest)) = bytes.split_first() else {
        return;
    };
    match door % 4 {
        0 => opened(rest),
        1 => opened(&zstd::bulk::compress(rest, 1).expect("compressed")),
        2 => manifest(rest),
        _ => {
            if let Ok(signature) = Signature::parse(rest) {
                assert_eq!(signature.encode(), rest, "two spellings of one signature");
            }
        }
    }
}

fn opened(archive: &[u8]) {
    match package::check(archive, &SMALL) {
        Ok(opened) => admitted(&opened.manifest),
        Err(error) => assert!(!error.to_string().chars().any(char::is_control), "{error}"),
    }
}

fn manifest(bytes: &[u8]) {
    let Ok(manifest) = Manifest::parse(bytes) else {
        return;
    };
    let again = manifest.encode().expect("it was read");
    let back = Manifest::parse(&again).expect("it was written");
    assert_eq!(back.encode().expect("it was read"), again);
    if SMALL.admit(&manifest).is_ok() {
        admitted(&manifest);
    }
}

/// What is written to disk stays below its folder and collides with nothing.
fn admitted(manifest: &Manifest) {
    let paths: Vec<&str> = manifest
        .files()
        .iter()
        .map(|file| file.path.as_str())
        .collect();
    for path in &paths {
        let plain = |part: &str| !matches!(part, "" | "." | "..");
        assert!(
            path.split('/').all(plain) && !path.contains('\0'),
            "{path:?}"
        );
        assert!(PackagePath::parse(path).is_ok(), "{path:?}");
    }
    assert!(paths.is_sorted() && paths.windows(2).all(|pair| pair[0] != pair[1]));
    assert!(
        manifest.total_bytes() <= SMALL.max_total_bytes && paths.len() as u64 <= SMALL.max_files
    );
}

/// `/proc/PID/mountinfo`. The absence of a mount is evidence, so no line may go missing.
pub(crate) fn mountinfo(bytes: &[u8]) {
    let lines = bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    match sys::mount::parse(bytes) {
        Ok(mounts) => {
            assert_eq!(mounts.len(), lines.count());
            for mount in mounts {
                assert!(!mount.kind.is_empty() && !mount.mount_point.as_os_str().is_empty());
            }
        }
        Err(odd) => {
            assert!(odd.number >= 1 && odd.text.len() <= 200);
            assert!(!odd.to_string().chars().any(char::is_control), "{odd}");
        }
    }
}
