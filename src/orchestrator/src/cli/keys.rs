//! Order keys and the offline root key that signs sets of them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use order::{KeyId, KeySet, OrderKey, Purpose, Signed, VerifyingKey};
use serde_json::Value;

use super::arguments::Place;
use super::quantity::duration;
use super::{one, say, show};
use crate::admin::Request;
use crate::clock::Clock;
use crate::durable;
use crate::keys::{make_key, read_key};
use crate::refused::Refused;

#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// Show the order keys of this server and which of them count
    List {
        #[command(flatten)]
        place: Place,
        #[arg(long)]
        json: bool,
    },
    /// Make the root key: on a machine that stays offline, needs no server
    Root {
        /// The private key (mode 0600); its public half is printed
        #[arg(long)]
        out: PathBuf,
    },
    /// Name the public root key to every host that enrols from now on
    TrustRoot {
        #[command(flatten)]
        place: Place,
        /// What `key root` printed
        public: String,
    },
    /// Make one more order key; it signs when a set names it first
    New {
        #[command(flatten)]
        place: Place,
    },
    /// Sign the set of order keys that count: with the root key, offline, needs no server
    Sign(Sign),
    /// Sign orders under a new set and tell every host of it
    Install {
        #[command(flatten)]
        place: Place,
        /// What `key sign` wrote
        set: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(super) struct Sign {
    /// The private root key
    #[arg(long)]
    root: PathBuf,
    /// The set before this one; without it this is version 1
    #[arg(long)]
    after: Option<PathBuf>,
    /// A key that counts, base64; the first one signs
    #[arg(long = "key", required = true)]
    keys: Vec<String>,
    /// A key that counts this much longer, as KEY,DURATION
    #[arg(long = "retire", value_parser = retired)]
    retired: Vec<(VerifyingKey, Duration)>,
    /// A key that must not be trusted any more, by its id; jobs under it are ended
    #[arg(long = "revoke")]
    revoked: Vec<String>,
    /// The file to write
    #[arg(long)]
    out: PathBuf,
}

fn retired(text: &str) -> Result<(VerifyingKey, Duration), String> {
    let (key, lasts) = text.split_once(',').ok_or("write KEY,DURATION")?;
    let key = VerifyingKey::from_base64(key).map_err(|error| error.to_string())?;
    duration(lasts)
        .map(|lasts| (key, lasts))
        .map_err(|error| error.to_string())
}

pub(super) async fn run(command: Key) -> Result<(), Refused> {
    match command {
        Key::List { place, json } => {
            let keys = one(&place.data_dir, Request::KeyList).await?;
            show(&keys, json, table)
        }
        Key::Root { out } => root(&out),
        Key::TrustRoot { place, public } => {
            let answer = one(&place.data_dir, Request::KeyTrustRoot { root: public }).await?;
            let id = answer["root_key"].as_str().unwrap_or_default();
            say(&format!("tokens name the root key {id} from now on"))
        }
        Key::New { place } => {
            let key = one(&place.data_dir, Request::KeyNew).await?;
            let text = |name: &str| key[name].as_str().unwrap_or_default().to_owned();
            say(&format!(
                "key-id {}\npublic {}",
                text("key"),
                text("public")
            ))
        }
        Key::Sign(arguments) => sign(&arguments),
        Key::Install { place, set } => install(&place.data_dir, &set).await,
    }
}

fn root(out: &Path) -> Result<(), Refused> {
    if out.exists() {
        let detail = format!(
            "{} is there already; a root key is never replaced",
            out.display()
        );
        return Err(Refused::state("FILE_EXISTS", detail));
    }
    let key = make_key(out)?.public();
    say(&format!("key-id {}\npublic {}", key.id(), key.to_base64()))
}

fn sign(arguments: &Sign) -> Result<(), Refused> {
    let root = read_key(&arguments.root)?.ok_or_else(|| {
        let detail = format!("there is no root key {}", arguments.root.display());
        Refused::not_found("ROOT_KEY_MISSING", detail)
    })?;
    let before = match &arguments.after {
        Some(path) => Some(read_set(path, root.public())?),
        None => None,
    };
    let set = next(arguments, before.as_ref())?;
    set.check()
        .map_err(|error| Refused::invalid(error.code(), error.to_string()))?;
    let body = serde_json::to_vec(&set)
        .map_err(|error| Refused::invalid("KEY_SET_MALFORMED", error.to_string()))?;
    let signed = root.sign(Purpose::KeySet, body);
    durable::write_private(&arguments.out, signed.to_file().as_bytes())?;
    say(&format!(
        "key set {} in {}",
        set.version,
        arguments.out.display()
    ))
}

fn next(arguments: &Sign, before: Option<&KeySet>) -> Result<KeySet, Refused> {
    let mut keys = Vec::new();
    for text in &arguments.keys {
        keys.push(OrderKey {
            key: VerifyingKey::from_base64(text)
                .map_err(|error| Refused::invalid("ORDER_KEY_INVALID", error.to_string()))?,
            not_after_unix_ms: None,
        });
    }
    let now = Clock.unix_ms();
    keys.extend(arguments.retired.iter().map(|(key, lasts)| OrderKey {
        key: *key,
        not_after_unix_ms: Some(now + crate::core::millis(*lasts)),
    }));
    // What was revoked stays so.
    let mut revoked = before.map(|set| set.revoked.clone()).unwrap_or_default();
    for id in arguments.revoked.iter().map(|id| KeyId(id.clone())) {
        if !revoked.contains(&id) {
            revoked.push(id);
        }
    }
    Ok(KeySet {
        v: 1,
        version: before.map_or(0, |set| set.version) + 1,
        keys,
        revoked,
    })
}

fn read_set(path: &Path, root: VerifyingKey) -> Result<KeySet, Refused> {
    let bytes = std::fs::read(path).map_err(|error| Refused::io("can't read", path, &error))?;
    let signed = Signed::from_file(&bytes).ok_or_else(|| {
        let detail = format!("{} is no key set", path.display());
        Refused::invalid("KEY_SET_MALFORMED", detail)
    })?;
    KeySet::verify(&signed, root).map_err(|error| Refused::invalid(error.code(), error.to_string()))
}

async fn install(data_dir: &Path, set: &Path) -> Result<(), Refused> {
    let file =
        std::fs::read_to_string(set).map_err(|error| Refused::io("can't read", set, &error))?;
    let answer = one(data_dir, Request::KeyInstall { file }).await?;
    let signs = answer["signs"].as_str().unwrap_or_default();
    say(&format!(
        "key set {} is in force, {signs} signs orders",
        answer["key_set"]
    ))
}

fn table(value: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("none").to_owned();
    let mut lines = vec![
        format!("root key  {}", text(&value["root_key"])),
        format!(
            "key set   {}",
            value["key_set"]
                .as_u64()
                .map_or("none".into(), |set| set.to_string())
        ),
    ];
    for key in value["keys"].as_array().into_iter().flatten() {
        let state = match (key["signs"] == true, key["in_set"] == true) {
            (true, _) => "signs",
            (false, true) => "counts",
            (false, false) => "in no set",
        };
        lines.push(format!(
            "key       {}  {state:9}  {}",
            text(&key["key"]),
            text(&key["public"])
        ));
    }
    for id in value["revoked"].as_array().into_iter().flatten() {
        lines.push(format!("revoked   {}", text(id)));
    }
    lines.join("\n")
}
