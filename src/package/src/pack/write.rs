//! Writing the canonical archive: second reading of the source.

use std::fs::File;
use std::io::Write;

use zstd::stream::write::Encoder;

use super::PackError;
use super::source::{Member, Source};
use crate::archive::ustar;
use crate::digest::Running;
use crate::manifest::{FileEntry, Manifest};
use crate::path::shown;
use crate::signature::Signature;
use crate::{FILES_NAME, MANIFEST_NAME, SIGNATURE_NAME};

/// Fixed, as the digest of a package depends on it: good for text, and its window is within what
/// openers allow.
const LEVEL: i32 = 9;

pub(super) fn archive(
    source: &mut dyn Source,
    manifest: &Manifest,
    bytes: &[u8],
    signature: Option<&Signature>,
    staged: File,
) -> Result<File, PackError> {
    let mut encoder = encoder(staged).map_err(PackError::Write)?;
    small(&mut encoder, MANIFEST_NAME, bytes)?;
    if let Some(signature) = signature {
        small(&mut encoder, SIGNATURE_NAME, &signature.encode())?;
    }
    for (at, listed) in manifest.files().iter().enumerate() {
        let member = source.members()[at].clone();
        file(&mut encoder, source, &member, listed)?;
    }
    encoder.write_all(&ustar::END).map_err(PackError::Write)?;
    encoder.finish().map_err(PackError::Write)
}

fn encoder(staged: File) -> std::io::Result<Encoder<'static, File>> {
    let mut encoder = Encoder::new(staged, LEVEL)?;
    encoder.include_checksum(true)?;
    Ok(encoder)
}

fn small(encoder: &mut impl Write, name: &str, bytes: &[u8]) -> Result<(), PackError> {
    let size = bytes.len() as u64;
    let padding = vec![0; ustar::padding(size)];
    let blocks = [&ustar::headers(name, size, 0o644), bytes, &padding].concat();
    encoder.write_all(&blocks).map_err(PackError::Write)
}

/// The header was derived from the first reading, so a file that grew, shrank or changed since
/// must stop everything: the manifest is signed already.
fn file(
    encoder: &mut impl Write,
    source: &mut dyn Source,
    member: &Member,
    listed: &FileEntry,
) -> Result<(), PackError> {
    let name = format!("{FILES_NAME}/{}", listed.path);
    let headers = ustar::headers(&name, listed.size, listed.mode());
    encoder.write_all(&headers).map_err(PackError::Write)?;
    let mut running = Running::default();
    source.read(member, &mut |part| {
        running.add(part);
        encoder.write_all(part).map_err(PackError::Write)
    })?;
    if running.finish() != (listed.sha256, listed.size) {
        return Err(PackError::SourceChanged {
            path: shown(listed.path.as_str().as_bytes()),
        });
    }
    encoder
        .write_all(&vec![0; ustar::padding(listed.size)])
        .map_err(PackError::Write)
}
