//! Whose orders count: what `robotctl enroll` pinned, and the newest set of keys that the pinned
//! root signed.
//!
//! Read anew for each order, so that an enrolment or a rotated key needs no restart.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use order::{AgentId, KeyId, KeySet, OrderKey, Signed, VerifyingKey};
use privsep::Refusal;
use serde::Deserialize;

use crate::policy::Paths;
use crate::record::write_whole;

const PINNED: &str = "orchestrator.json";
const MAX_BYTES: u64 = 64 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Pinned {
    v: u32,
    agent_id: AgentId,
    order_keys: Vec<VerifyingKey>,
    #[serde(default)]
    root_key: Option<VerifyingKey>,
    /// Hosts of its addresses. Enrolments of before have none.
    #[serde(default)]
    orchestrator: Vec<String>,
}

/// Trust anchors of this host.
pub(crate) struct Trust {
    pub(crate) agent: AgentId,
    /// Signs sets of keys; none was pinned = the keys of the enrolment count until the next.
    pub(crate) root: Option<VerifyingKey>,
    /// The set in force; 0 = none, the pinned keys count.
    pub(crate) version: u64,
    pub(crate) keys: Vec<OrderKey>,
    pub(crate) revoked: Vec<KeyId>,
    /// Names and addresses of the orchestrator.
    pub(crate) orchestrator: Vec<String>,
}

/// Why a key does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoKey {
    Unknown,
    Revoked,
    Expired,
}

impl NoKey {
    /// The end of a code: `ORDER_KEY_` or `RENEWAL_KEY_` and this.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Revoked => "REVOKED",
            Self::Expired => "EXPIRED",
        }
    }

    pub(crate) fn why(self) -> &'static str {
        match self {
            Self::Unknown => "is signed with a key that is not pinned",
            Self::Revoked => "is signed with a key that was revoked",
            Self::Expired => "is signed with a key that was retired",
        }
    }
}

impl Trust {
    /// Reads what counts now.
    pub(crate) fn read(paths: &Paths) -> Result<Self, Refusal> {
        let pinned = read_pinned(&paths.trust)?;
        let mut trust = Self {
            agent: pinned.agent_id,
            root: pinned.root_key,
            version: 0,
            keys: pinned.order_keys.into_iter().map(unlimited).collect(),
            revoked: vec![],
            orchestrator: pinned.orchestrator,
        };
        if let Some((_, set)) = stored(&paths.state, trust.root)? {
            (trust.version, trust.keys, trust.revoked) = (set.version, set.keys, set.revoked);
        }
        Ok(trust)
    }

    /// The key of this name, if it counts at this time (milliseconds since 1970).
    pub(crate) fn key(&self, id: &KeyId, now: u64) -> Result<VerifyingKey, NoKey> {
        if self.revoked.contains(id) {
            return Err(NoKey::Revoked);
        }
        let known = self.keys.iter().find(|known| known.key.id() == *id);
        let known = known.ok_or(NoKey::Unknown)?;
        match known.not_after_unix_ms {
            Some(until) if until < now => Err(NoKey::Expired),
            _ => Ok(known.key),
        }
    }

    /// The keys that count at this time.
    pub(crate) fn keys_at(&self, now: u64) -> BTreeMap<KeyId, VerifyingKey> {
        let ids = self.keys.iter().map(|known| known.key.id());
        ids.filter_map(|id| Some((id.clone(), self.key(&id, now).ok()?)))
            .collect()
    }
}

/// What became of a set that was brought.
pub(crate) enum Applied {
    /// It is in force and on the disk.
    Now(KeySet),
    /// It was already.
    Before(u64),
}

/// Puts a signed set into force: the root signed it and it is newer than what was.
pub(crate) fn apply(paths: &Paths, signed: &Signed) -> Result<Applied, Refusal> {
    let pinned = read_pinned(&paths.trust)?;
    let Some(root) = pinned.root_key else {
        let detail = "this host pinned no root key, so that no set of order keys counts; \
                      enrol it again with a token that carries one";
        return Err(Refusal::new("KEY_SET_NO_ROOT", detail));
    };
    let set = KeySet::verify(signed, root)
        .map_err(|error| Refusal::new(error.code(), error.to_string()))?;
    if let Some((before, known)) = stored(&paths.state, Some(root))? {
        if before == *signed {
            return Ok(Applied::Before(known.version));
        }
        if set.version <= known.version {
            let detail = format!(
                "key set {} is not newer than {}, which is in force",
                set.version, known.version
            );
            return Err(Refusal::new("KEY_SET_ROLLBACK", detail));
        }
    }
    let kept = write_whole(&file(&paths.state), signed.to_file().as_bytes());
    kept.map_err(|error| Refusal::new("STATE_NOT_DURABLE", crate::text(&error)))?;
    Ok(Applied::Now(set))
}

fn unlimited(key: VerifyingKey) -> OrderKey {
    OrderKey {
        key,
        not_after_unix_ms: None,
    }
}

fn read_pinned(directory: &Path) -> Result<Pinned, Refusal> {
    let path = directory.join(PINNED);
    let refuse = |reason: String| {
        Refusal::new(
            "NOT_ENROLLED",
            format!("{reason}; run `robotctl enroll --token FILE` as root"),
        )
    };
    let bytes = sys::files::read_trusted(&path, sys::Uid::from_raw(0), MAX_BYTES)
        .map_err(|error| refuse(crate::text(&error)))?;
    let pinned: Pinned = serde_json::from_slice(&bytes)
        .map_err(|error| refuse(format!("{} can't be read: {error}", path.display())))?;
    if pinned.v != 1 || pinned.order_keys.is_empty() {
        return Err(refuse(format!("{} names no order key", path.display())));
    }
    Ok(pinned)
}

fn file(state: &Path) -> PathBuf {
    state.join("keys/key-set.json")
}

/// The set in force. One of another root belongs to an enrolment that is over; one that is damaged
/// must not make keys count again that it had taken away.
fn stored(state: &Path, root: Option<VerifyingKey>) -> Result<Option<(Signed, KeySet)>, Refusal> {
    let Some(root) = root else { return Ok(None) };
    let path = file(state);
    let damaged = |why: String| {
        let detail = format!(
            "{}: {why}; remove it and apply the newest key set with `robotctl trust apply`",
            path.display()
        );
        Refusal::new("KEY_SET_DAMAGED", detail)
    };
    let bytes = match std::fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|error| damaged(error.to_string()))?,
    };
    let signed = Signed::from_file(&bytes).ok_or_else(|| damaged("it is no key set".into()))?;
    if signed.key_id != root.id() {
        return Ok(None);
    }
    let set = KeySet::verify(&signed, root).map_err(|error| damaged(error.to_string()))?;
    Ok(Some((signed, set)))
}

#[cfg(test)]
mod tests {
    use order::{Purpose, SigningKey};

    use super::*;

    struct Rig {
        _folder: tempfile::TempDir,
        paths: Paths,
        root: SigningKey,
        first: SigningKey,
    }

    impl Rig {
        fn new() -> Self {
            let folder = tempfile::tempdir_in("/var/lib").unwrap();
            let paths = Paths {
                state: folder.path().join("state"),
                trust: folder.path().join("trust.d"),
                ..Paths::default()
            };
            std::fs::create_dir_all(paths.state.join("keys")).unwrap();
            std::fs::create_dir(&paths.trust).unwrap();
            let rig = Self {
                _folder: folder,
                paths,
                root: SigningKey::generate().unwrap(),
                first: SigningKey::generate().unwrap(),
            };
            rig.pin(Some(&rig.root));
            rig
        }

        fn pin(&self, root: Option<&SigningKey>) {
            let mut pinned = serde_json::json!({"v": 1, "agent-id": AgentId::new(), "order-keys": [self.first.public()]});
            if let Some(root) = root {
                pinned["root-key"] = serde_json::json!(root.public());
            }
            std::fs::write(self.paths.trust.join(PINNED), pinned.to_string()).unwrap();
        }

        fn set(&self, version: u64, keys: &[OrderKey], revoked: Vec<KeyId>) -> Signed {
            let set = KeySet {
                v: 1,
                version,
                keys: keys.to_vec(),
                revoked,
            };
            self.root
                .sign(Purpose::KeySet, serde_json::to_vec(&set).unwrap())
        }

        fn code(&self, signed: &Signed) -> String {
            apply(&self.paths, signed)
                .err()
                .map(|refusal| refusal.code)
                .unwrap_or_default()
        }
    }

    #[test]
    fn a_set_replaces_the_pinned_keys_and_never_goes_back() {
        let rig = Rig::new();
        let second = SigningKey::generate().unwrap();
        let (old, new) = (rig.first.public(), second.public());
        assert_eq!(Trust::read(&rig.paths).unwrap().key(&old.id(), 0), Ok(old));
        let retired = OrderKey {
            key: old,
            not_after_unix_ms: Some(1000),
        };
        let two = rig.set(2, &[unlimited(new), retired], vec![]);
        assert_eq!(rig.code(&two), "");
        let trust = Trust::read(&rig.paths).unwrap();
        assert_eq!(trust.key(&new.id(), 2000), Ok(new));
        assert_eq!(trust.key(&old.id(), 1000), Ok(old));
        assert_eq!(trust.key(&old.id(), 1001), Err(NoKey::Expired));
        assert_eq!(trust.keys_at(1001).len(), 1);
        assert!(matches!(apply(&rig.paths, &two), Ok(Applied::Before(2))));
        for version in [1, 2] {
            let older = rig.set(version, &[unlimited(old)], vec![]);
            assert_eq!(rig.code(&older), "KEY_SET_ROLLBACK", "{version}");
        }
        let three = rig.set(3, &[unlimited(new)], vec![old.id()]);
        assert_eq!(rig.code(&three), "");
        let trust = Trust::read(&rig.paths).unwrap();
        assert_eq!(trust.key(&old.id(), 0), Err(NoKey::Revoked));
        assert_eq!(rig.code(&two), "KEY_SET_ROLLBACK");
    }

    #[test]
    fn a_host_without_a_root_takes_no_set_and_a_new_enrolment_forgets_the_old_ones() {
        let rig = Rig::new();
        let second = SigningKey::generate().unwrap();
        let set = rig.set(5, &[unlimited(second.public())], vec![]);
        rig.pin(None);
        assert_eq!(rig.code(&set), "KEY_SET_NO_ROOT");
        rig.pin(Some(&rig.root));
        assert_eq!(rig.code(&set), "");
        rig.pin(Some(&SigningKey::generate().unwrap()));
        let trust = Trust::read(&rig.paths).unwrap();
        assert_eq!(trust.version, 0);
        assert!(trust.key(&rig.first.public().id(), 0).is_ok());
        assert_eq!(rig.code(&set), "KEY_SET_ROOT_UNKNOWN");
    }

    #[test]
    fn a_damaged_set_makes_no_key_count_again() {
        let rig = Rig::new();
        let set = rig.set(
            1,
            &[unlimited(SigningKey::generate().unwrap().public())],
            vec![],
        );
        assert_eq!(rig.code(&set), "");
        for damage in [&b""[..], b"{}", b"\xff"] {
            std::fs::write(file(&rig.paths.state), damage).unwrap();
            let refusal = Trust::read(&rig.paths).err().unwrap();
            assert_eq!(refusal.code, "KEY_SET_DAMAGED");
        }
        let mut forged = set;
        forged.body[5] ^= 1;
        std::fs::write(file(&rig.paths.state), forged.to_file()).unwrap();
        assert!(Trust::read(&rig.paths).is_err());
    }
}
