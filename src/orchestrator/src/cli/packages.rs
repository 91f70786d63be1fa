//! Packing on the administrator's side; the server sees only finished packages.

use std::io::Read as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use package::{Labels, Packing, PrivateKey, pack};

use super::{pretty, say};
use crate::admin::{Client, Frame, Request};
use crate::refused::Refused;

/// Sent at a time.
const PIECE: usize = 256 << 10;

pub(super) async fn push(
    data_dir: &Path,
    path: &Path,
    sign: Option<&Path>,
    name: Option<String>,
    json: bool,
) -> Result<(), Refused> {
    let key = sign.map(read_key).transpose()?;
    let packing = Packing {
        labels: Labels {
            name,
            ..Labels::default()
        },
        key: key.as_ref(),
        ..Packing::default()
    };
    let mut packed = pack(path, &packing)
        .map_err(|error| Refused::invalid(&error.code().to_string(), chain(&error)))?;
    let request = Request::PackagePush {
        sha256: packed.sha256.to_string(),
    };
    let mut client = Client::ask(data_dir, &request).await?;
    loop {
        let mut piece = vec![0; PIECE];
        let read = packed
            .archive
            .read(&mut piece)
            .map_err(|error| Refused::io("can't read the package of", path, &error))?;
        if read == 0 {
            break;
        }
        piece.truncate(read);
        client.send(&Frame::Bytes(piece)).await?;
    }
    client.send(&Frame::End).await?;
    let pushed = client.answer().await?;
    match json {
        true => say(&pretty(&pushed)),
        false => say(pushed["sha256"].as_str().unwrap_or_default()),
    }
}

/// An error with its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

fn read_key(path: &Path) -> Result<PrivateKey, Refused> {
    PrivateKey::read(path)
        .map_err(|error| Refused::invalid(&error.code().to_string(), chain(&error)))
}

/// Makes a publisher's key and its public half beside it.
pub(super) fn keygen(out: &Path) -> Result<(), Refused> {
    let failed = |error: package::PrivateKeyError| {
        Refused::invalid(&error.code().to_string(), chain(&error))
    };
    let key = PrivateKey::generate().map_err(failed)?;
    key.write_new(out).map_err(failed)?;
    let mut public = out.as_os_str().to_owned();
    public.push(".pub");
    let public = std::path::PathBuf::from(public);
    let pem = key
        .public()
        .to_pem()
        .map_err(|error| Refused::invalid("KEY_INVALID", error.to_string()))?;
    std::fs::write(&public, pem).map_err(|error| Refused::io("can't write", &public, &error))?;
    let raw = BASE64.encode(key.public().to_bytes());
    say(&format!(
        "key-id {}\npublic {raw}\nfiles {} {}",
        key.public().key_id(),
        out.display(),
        public.display()
    ))
}
