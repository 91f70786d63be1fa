//! `robotctl enroll`: pins the order key, then has robotd enrol.
//!
//! The pin is root's own: it decides which orders the broker carries out, so it never passes
//! through robotd. It is written first; a pinned key without an enrolment does nothing.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use agent::control::{self, Ask, Reply};
use agent::exit;
use agent::token::{MAX_BYTES, Token};
use order::{AgentId, VerifyingKey};
use serde::Serialize;
use serde_json::json;

use crate::ask::PATIENCE;
use crate::outcome::{Bad, Good, Outcome, unexpected};

/// The file that robotd-broker reads.
const PIN: &str = "orchestrator.json";

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Pin {
    v: u32,
    agent_id: AgentId,
    order_keys: [VerifyingKey; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    root_key: Option<VerifyingKey>,
    /// Hosts of its addresses: no job's network leads there.
    orchestrator: Vec<String>,
}

pub(crate) fn enroll(socket: &Path, token: &Path, trust_dir: &Path) -> Outcome {
    let token = read(token)?;
    writable(trust_dir)?;
    let pinned = token.clone();
    let name = token.agent_name.clone();
    let url = token.link_url.clone();
    match control::ask(
        socket,
        &Ask::Enroll {
            token: Box::new(token),
        },
        PATIENCE,
    )? {
        Reply::Enrolled { agent_id } => {
            // Not before: a token that is refused must not take the pin of an enrolment that
            // works. The same token pins again when this was interrupted.
            pin(&pinned, trust_dir)?;
            Ok(Good {
                text: format!(
                    "This host is enrolled as {name} ({agent_id}) at {url}. `robotctl status` shows the link."
                ),
                json: json!({"agent_id": agent_id, "agent_name": name, "link_url": url}),
            })
        }
        other => Err(unexpected(other)),
    }
}

/// Found out before the token is used up.
fn writable(folder: &Path) -> Result<(), Bad> {
    let tried = fs::create_dir_all(folder).and_then(|()| tempfile::tempfile_in(folder));
    tried
        .map(drop)
        .map_err(|source| unwritable(&folder.join(PIN), &source))
}

fn unwritable(path: &Path, source: &io::Error) -> Bad {
    let exit = if source.kind() == io::ErrorKind::PermissionDenied {
        exit::NO_PERMISSION
    } else {
        exit::CANNOT_CREATE
    };
    let detail = format!(
        "can't write {}: {source}; run robotctl as root",
        path.display()
    );
    Bad::new("PIN_UNWRITABLE", detail, exit)
}

fn read(path: &Path) -> Result<Token, Bad> {
    let failed = |source: io::Error| {
        let exit = if source.kind() == io::ErrorKind::PermissionDenied {
            exit::NO_PERMISSION
        } else {
            exit::NO_INPUT
        };
        Bad::new(
            "TOKEN_UNREADABLE",
            format!("can't read the token {}: {source}", path.display()),
            exit,
        )
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    let parsed = Token::parse(&bytes, sys::clock::unix_ms());
    parsed.map_err(|reason| {
        Bad::new(
            reason.code(),
            format!("{}: {reason}", path.display()),
            exit::DATA,
        )
    })
}

/// Names and addresses in the token's URLs, each once.
fn hosts(token: &Token) -> Vec<String> {
    let host = |url: &str| {
        let authority = url.split_once("://")?.1.split('/').next()?;
        let (host, _) = authority.rsplit_once(':')?;
        let plain = host.trim_start_matches('[').trim_end_matches(']');
        Some(plain.to_ascii_lowercase())
    };
    let urls = [&token.link_url, &token.enroll_url];
    let mut hosts: Vec<String> = urls.into_iter().filter_map(|url| host(url)).collect();
    hosts.dedup();
    hosts
}

/// Replaced whole, readable for all: it holds public keys only.
fn pin(token: &Token, folder: &Path) -> Result<(), Bad> {
    let path = folder.join(PIN);
    let failed = |source: io::Error| unwritable(&path, &source);
    let document = Pin {
        v: 1,
        agent_id: token.agent_id,
        order_keys: [token.order_key],
        root_key: token.root_key,
        orchestrator: hosts(token),
    };
    let mut bytes = serde_json::to_vec_pretty(&document).map_err(|error| failed(error.into()))?;
    bytes.push(b'\n');
    fs::create_dir_all(folder).map_err(failed)?;
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .tempfile_in(folder)
        .map_err(failed)?;
    file.write_all(&bytes).map_err(failed)?;
    file.as_file()
        .set_permissions(fs::Permissions::from_mode(0o644))
        .map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(&path).map_err(|error| failed(error.error))?;
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;

    use super::*;

    fn token(folder: &Path, expires_unix_ms: u64) -> std::path::PathBuf {
        let path = folder.join("token.json");
        let token = json!({
            "v": 1,
            "agent_id": AgentId::new(),
            "agent_name": "host-1",
            "link_url": "https://o:1",
            "enroll_url": "https://o:2",
            "root_sha256": "00".repeat(32),
            "secret": BASE64.encode([1; 32]),
            "order_key": order::SigningKey::generate().unwrap().public(),
            "expires_unix_ms": expires_unix_ms,
        });
        fs::write(&path, token.to_string()).unwrap();
        path
    }

    #[test]
    fn the_pin_holds_agent_and_key_and_is_readable_for_all() {
        let folder = tempfile::tempdir().unwrap();
        let token = read(&token(folder.path(), u64::MAX)).unwrap();
        pin(&token, &folder.path().join("trust.d")).unwrap();
        let path = folder.path().join("trust.d").join(PIN);
        let written: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(
            written,
            json!({"v": 1, "agent-id": token.agent_id, "order-keys": [token.order_key], "orchestrator": ["o"]})
        );
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o644
        );
    }

    #[test]
    fn a_token_that_is_too_old_pins_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let trust = folder.path().join("trust.d");
        let bad = enroll(Path::new("/nowhere"), &token(folder.path(), 1), &trust).unwrap_err();
        assert_eq!((bad.code.as_str(), bad.exit), ("TOKEN_EXPIRED", exit::DATA));
        assert!(!trust.exists());
    }

    #[test]
    fn a_missing_token_is_a_missing_input() {
        let bad = enroll(
            Path::new("/nowhere"),
            Path::new("/no-token"),
            Path::new("/no-dir"),
        )
        .unwrap_err();
        assert_eq!(bad.exit, exit::NO_INPUT);
    }
}
