//! The order keys: which ones are here, which set of them hosts accept, and which one signs.
//!
//! `order.key` is the first one. Others lie in `order-keys/`. A set that the offline root key signed
//! (`key-set.json`) says which ones count; without one the first signs.

use std::path::{Path, PathBuf};

use order::{KeyId, KeySet, Signed, SigningKey, VerifyingKey};

use crate::durable;
use crate::refused::Refused;

/// All of it.
pub(crate) struct Keyring {
    data_dir: PathBuf,
    held: Vec<SigningKey>,
    root: Option<VerifyingKey>,
    set: Option<(Signed, KeySet)>,
    /// Of `held`: the one that signs.
    signs: usize,
}

impl Keyring {
    /// Reads the data directory; makes the first key.
    pub(crate) fn open(data_dir: &Path) -> Result<Self, Refused> {
        let first = data_dir.join("order.key");
        let first = match read_key(&first)? {
            Some(key) => key,
            None => make_key(&first)?,
        };
        let mut held = vec![first];
        let folder = data_dir.join("order-keys");
        durable::private_dir(&folder)?;
        let fail = |error: std::io::Error| Refused::io("can't list", &folder, &error);
        for entry in std::fs::read_dir(&folder).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            if path.extension().is_some_and(|ending| ending == "key") {
                held.extend(read_key(&path)?);
            }
        }
        let root = read_root(&data_dir.join("root.pub"))?;
        let set = read_set(&data_dir.join("key-set.json"), root)?;
        let mut keyring = Self {
            data_dir: data_dir.to_owned(),
            held,
            root,
            set,
            signs: 0,
        };
        keyring.signs = keyring.choose(keyring.set.as_ref().map(|(_, set)| set))?;
        Ok(keyring)
    }

    /// The first key of the set that is here and counts now; without a set the first one of all.
    fn choose(&self, set: Option<&KeySet>) -> Result<usize, Refused> {
        let Some(set) = set else { return Ok(0) };
        let now = crate::clock::Clock.unix_ms();
        let counts = |key: &&order::OrderKey| key.not_after_unix_ms.is_none_or(|until| until > now);
        let place =
            |known: &order::OrderKey| self.held.iter().position(|held| held.public() == known.key);
        set.keys.iter().filter(counts).find_map(place).ok_or_else(|| {
            Refused::state(
                "ORDER_KEY_NOT_IN_SET",
                format!(
                    "key set {} names no order key that this server holds: hosts would refuse every order; \
                     sign a newer set with a key of `key list`",
                    set.version
                ),
            )
        })
    }

    /// The key that signs orders and renewals.
    pub(crate) fn signing(&self) -> &SigningKey {
        // `signs` is a place in `held`, which never shrinks.
        &self.held[self.signs]
    }

    /// One that this server holds, whether it signs now or did once.
    pub(crate) fn named(&self, id: &KeyId) -> Option<VerifyingKey> {
        let mut held = self.held.iter().map(SigningKey::public);
        held.find(|key| key.id() == *id)
    }

    /// The public root key, for tokens.
    pub(crate) fn root(&self) -> Option<VerifyingKey> {
        self.root
    }

    /// The set in force, as hosts are told it.
    pub(crate) fn set(&self) -> Option<&Signed> {
        self.set.as_ref().map(|(signed, _)| signed)
    }

    /// The version of the set in force, and the keys here with whether each is in it.
    pub(crate) fn shown(&self) -> serde_json::Value {
        let set = self.set.as_ref().map(|(_, set)| set);
        let keys = self.held.iter().enumerate().map(|(at, held)| {
            let public = held.public();
            let known = set.and_then(|set| set.keys.iter().find(|known| known.key == public));
            serde_json::json!({
                "key": public.id(), "public": public, "signs": at == self.signs,
                "in_set": known.is_some(),
                "until_unix_ms": known.and_then(|known| known.not_after_unix_ms),
            })
        });
        serde_json::json!({
            "root_key": self.root.map(VerifyingKey::id), "key_set": set.map(|set| set.version),
            "revoked": set.map(|set| &set.revoked), "keys": keys.collect::<Vec<_>>(),
        })
    }

    /// Whose signature counts on sets, for hosts that enrol from now on. One that is in use stays.
    pub(crate) fn trust_root(&mut self, root: VerifyingKey) -> Result<(), Refused> {
        if self.set.is_some() && self.root != Some(root) {
            return Err(Refused::state(
                "ROOT_KEY_IN_USE",
                "a key set of another root key is in force; hosts that pinned that root would take no newer one",
            ));
        }
        durable::write_private(&self.data_dir.join("root.pub"), root.to_base64().as_bytes())?;
        self.root = Some(root);
        Ok(())
    }

    /// One more key; it signs nothing until a set names it.
    pub(crate) fn make(&mut self) -> Result<VerifyingKey, Refused> {
        let key = SigningKey::generate()
            .map_err(|error| Refused::unavailable("RANDOM_FAILED", error.to_string()))?;
        let public = key.public();
        let path = self
            .data_dir
            .join("order-keys")
            .join(format!("{}.key", public.id()));
        durable::write_private(&path, key.seed().as_slice())?;
        self.held.push(key);
        Ok(public)
    }

    /// Puts a set into force.
    pub(crate) fn install(&mut self, file: &str) -> Result<&KeySet, Refused> {
        let root = self.root.ok_or_else(|| {
            let detail = "no root key is trusted; `key trust-root` says which";
            Refused::state("ROOT_KEY_MISSING", detail)
        })?;
        let (signed, set) = parse(file.as_bytes(), root)?;
        if let Some((_, known)) = &self.set
            && set.version <= known.version
        {
            let detail = format!("key set {} is in force already", known.version);
            return Err(Refused::state("KEY_SET_ROLLBACK", detail));
        }
        let signs = self.choose(Some(&set))?;
        durable::write_private(
            &self.data_dir.join("key-set.json"),
            signed.to_file().as_bytes(),
        )?;
        self.signs = signs;
        Ok(&self.set.insert((signed, set)).1)
    }
}

fn parse(file: &[u8], root: VerifyingKey) -> Result<(Signed, KeySet), Refused> {
    let signed = Signed::from_file(file).ok_or_else(|| {
        let detail = "this is no key set; `key sign` writes them";
        Refused::invalid("KEY_SET_MALFORMED", detail)
    })?;
    let set = KeySet::verify(&signed, root)
        .map_err(|error| Refused::invalid(error.code(), error.to_string()))?;
    Ok((signed, set))
}

/// A private key of 32 bytes that nobody else may read.
pub(crate) fn read_key(path: &Path) -> Result<Option<SigningKey>, Refused> {
    let Some(seed) = durable::read_private(path)? else {
        return Ok(None);
    };
    let seed: &[u8; 32] = seed.as_slice().try_into().map_err(|_| {
        Refused::state(
            "ORDER_KEY_INVALID",
            format!("{} must hold 32 bytes", path.display()),
        )
    })?;
    Ok(Some(SigningKey::from_seed(seed)))
}

/// Makes a private key where none is.
pub(crate) fn make_key(path: &Path) -> Result<SigningKey, Refused> {
    let key = SigningKey::generate()
        .map_err(|error| Refused::unavailable("RANDOM_FAILED", error.to_string()))?;
    durable::write_private(path, key.seed().as_slice())?;
    Ok(key)
}

fn read_root(path: &Path) -> Result<Option<VerifyingKey>, Refused> {
    let Some(text) = durable::read_private(path)? else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&text).unwrap_or_default();
    VerifyingKey::from_base64(text.trim())
        .map(Some)
        .map_err(|error| Refused::state("ROOT_KEY_INVALID", format!("{}: {error}", path.display())))
}

fn read_set(path: &Path, root: Option<VerifyingKey>) -> Result<Option<(Signed, KeySet)>, Refused> {
    match (durable::read_private(path)?, root) {
        (None, _) => Ok(None),
        (Some(bytes), Some(root)) => parse(&bytes, root).map(Some),
        (Some(_), None) => Err(Refused::state(
            "ROOT_KEY_MISSING",
            format!(
                "{} is there and root.pub is not; restore it",
                path.display()
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use order::{OrderKey, Purpose};

    use super::*;

    fn signed(root: &SigningKey, version: u64, keys: &[VerifyingKey]) -> String {
        let keys = keys.iter().map(|key| OrderKey {
            key: *key,
            not_after_unix_ms: None,
        });
        let set = KeySet {
            v: 1,
            version,
            keys: keys.collect(),
            revoked: vec![],
        };
        root.sign(Purpose::KeySet, serde_json::to_vec(&set).unwrap())
            .to_file()
    }

    #[test]
    fn a_rotated_key_signs_also_after_a_restart_and_no_older_set_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let root = SigningKey::generate().unwrap();
        let mut keyring = Keyring::open(dir.path()).unwrap();
        let first = keyring.signing().public();
        assert_eq!(
            keyring
                .install(&signed(&root, 1, &[first]))
                .unwrap_err()
                .code,
            "ROOT_KEY_MISSING"
        );
        keyring.trust_root(root.public()).unwrap();
        let second = keyring.make().unwrap();
        assert_eq!(keyring.signing().public(), first, "it signs nothing yet");
        keyring
            .install(&signed(&root, 2, &[second, first]))
            .unwrap();
        assert_eq!(keyring.signing().public(), second);
        let mut again = Keyring::open(dir.path()).unwrap();
        assert_eq!(again.signing().public(), second);
        assert_eq!(again.set(), keyring.set());
        let code = |keyring: &mut Keyring, file: &str| keyring.install(file).unwrap_err().code;
        assert_eq!(
            code(&mut again, &signed(&root, 1, &[first])),
            "KEY_SET_ROLLBACK"
        );
        let stranger = SigningKey::generate().unwrap();
        let foreign = signed(&root, 3, &[stranger.public()]);
        assert_eq!(code(&mut again, &foreign), "ORDER_KEY_NOT_IN_SET");
        let forged = signed(&stranger, 3, &[second]);
        assert_eq!(code(&mut again, &forged), "KEY_SET_ROOT_UNKNOWN");
        assert_eq!(code(&mut again, "{}"), "KEY_SET_MALFORMED");
        let other = again.trust_root(stranger.public()).unwrap_err();
        assert_eq!(other.code, "ROOT_KEY_IN_USE");
        assert_eq!(
            again.signing().public(),
            second,
            "what was refused changed nothing"
        );
    }
}
