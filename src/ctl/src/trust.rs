//! `robotctl trust`: whose orders count on this host, and a newer set of keys for one that the
//! orchestrator does not reach.

use std::path::Path;

use agent::exit;
use order::Signed;
use privsep::admin::{Reply, Request, TrustShown};
use serde_json::json;

use crate::outcome::{Bad, Good, Outcome};
use crate::show::{moment, table};
use crate::slots::{ask, unexpected};

/// No set of keys is larger.
const MOST_BYTES: u64 = 128 * 1024;

pub(crate) fn list(socket: &Path) -> Outcome {
    match ask(socket, &Request::Trust)? {
        Reply::Trust(shown) => Ok(Good {
            text: text(&shown),
            json: json!({
                "agent_id": shown.agent, "root_key": shown.root, "key_set": shown.version,
                "keys": shown.keys.iter().map(|line| json!({
                    "key": line.key, "state": line.state, "until_unix_ms": line.until_unix_ms,
                })).collect::<Vec<_>>(),
            }),
        }),
        other => Err(unexpected(other)),
    }
}

pub(crate) fn apply(socket: &Path, file: &Path) -> Outcome {
    let signed = read(file)?;
    match ask(socket, &Request::ApplyKeySet { signed })? {
        Reply::Applied(version) => Ok(Good {
            text: format!("Key set {version} is in force. `robotctl trust list` shows it."),
            json: json!({"key_set": version}),
        }),
        other => Err(unexpected(other)),
    }
}

fn read(path: &Path) -> Result<Signed, Bad> {
    let unreadable = |detail: String, exit| {
        let detail = format!("can't read the key set {}: {detail}", path.display());
        Bad::new("KEY_SET_UNREADABLE", detail, exit)
    };
    let facts = std::fs::metadata(path);
    let facts = facts.map_err(|error| unreadable(error.to_string(), exit::NO_INPUT))?;
    if !facts.is_file() || facts.len() > MOST_BYTES {
        return Err(unreadable("it is no small file".into(), exit::DATA));
    }
    let bytes = std::fs::read(path);
    let bytes = bytes.map_err(|error| unreadable(error.to_string(), exit::NO_INPUT))?;
    let detail = "it is none; `robot-orchestrator key sign` writes them";
    Signed::from_file(&bytes).ok_or_else(|| unreadable(detail.into(), exit::DATA))
}

fn text(shown: &TrustShown) -> String {
    let root = shown.root.as_ref().map_or("none pinned", |root| &root.0);
    let set = match shown.version {
        0 => "none; the keys of the enrolment count".to_owned(),
        version => version.to_string(),
    };
    let head = table(&[
        vec!["agent".into(), shown.agent.to_string()],
        vec!["root key".into(), root.to_owned()],
        vec!["key set".into(), set],
    ]);
    let mut rows = vec![["KEY", "STATE", "UNTIL"].map(str::to_owned).to_vec()];
    rows.extend(shown.keys.iter().map(|line| {
        let until = line.until_unix_ms.map_or("-".to_owned(), moment);
        vec![line.key.0.clone(), line.state.clone(), until]
    }));
    format!("{head}\n\n{}", table(&rows))
}

#[cfg(test)]
mod tests {
    use order::{AgentId, KeyId, NIL};
    use privsep::admin::TrustLine;

    use super::*;

    #[test]
    fn whose_orders_count_stands_in_columns() {
        let line = |key: &str, state: &str, until| TrustLine {
            key: KeyId(key.into()),
            state: state.into(),
            until_unix_ms: until,
        };
        let shown = TrustShown {
            agent: AgentId(NIL),
            root: Some(KeyId("0123456789abcdef".into())),
            version: 3,
            keys: vec![
                line("aaaaaaaaaaaaaaaa", "accepted", None),
                line("bbbbbbbbbbbbbbbb", "retired", Some(1_800_000_000_000)),
            ],
        };
        assert_eq!(
            text(&shown),
            "agent     00000000-0000-0000-0000-000000000000\n\
             root key  0123456789abcdef\n\
             key set   3\n\n\
             KEY               STATE     UNTIL\n\
             aaaaaaaaaaaaaaaa  accepted  -\n\
             bbbbbbbbbbbbbbbb  retired   2027-01-15 08:00:00 UTC"
        );
    }

    #[test]
    fn a_file_that_is_no_key_set_is_told_before_anybody_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("set.json");
        std::fs::write(&path, "{}").unwrap();
        let bad = apply(Path::new("/nowhere"), &path).unwrap_err();
        assert_eq!(
            (bad.code.as_str(), bad.exit),
            ("KEY_SET_UNREADABLE", exit::DATA)
        );
        let bad = apply(Path::new("/nowhere"), folder.path()).unwrap_err();
        assert_eq!(bad.exit, exit::DATA);
    }
}
