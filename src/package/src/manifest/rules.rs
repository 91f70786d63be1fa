//! The rules that hold for every manifest, wherever it comes from.

use super::{Automation, Draft, FileEntry, MAX_FILES, ManifestError};
use crate::collision;
use crate::path::shown;

const NAME_RULE: &str = "1 to 64 letters, digits, '.', '_' or '-', starting with a letter or digit";
const VERSION_RULE: &str = "1 to 64 of A-Z a-z 0-9 . _ + -, starting with a letter or digit";
const LANGUAGE_RULE: &str = "1 to 32 of a-z 0-9 . _ + # -";
/// What eleven octal digits hold, the size field of a tar header.
const MAX_FILE_BYTES: u64 = 0o77_777_777_777;
const FREE_TEXT_RULE: &str = "1 to 128 characters without control characters";

/// Checks all of them and says where in the list the entry point stands.
pub(super) fn check(draft: &Draft) -> Result<usize, ManifestError> {
    check_name(&draft.name)?;
    check_version(&draft.version)?;
    draft.language.as_deref().map_or(Ok(()), check_language)?;
    draft.automation.as_ref().map_or(Ok(()), check_automation)?;
    if draft.files.len() > MAX_FILES {
        return Err(ManifestError::TooManyFiles {
            count: draft.files.len(),
        });
    }
    check_sizes(&draft.files)?;
    check_collisions(&draft.files)?;
    check_order(&draft.files)?;
    let found = draft.files.iter().position(|file| file.path == draft.entry);
    found.ok_or_else(|| ManifestError::EntryMissing {
        entry: draft.entry.clone(),
    })
}

/// The rule for names: 1 to 64 letters and digits of any script, `.`, `_`, `-`.
///
/// # Errors
/// When the name breaks it.
pub fn check_name(name: &str) -> Result<(), ManifestError> {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-');
    let ok = name.chars().count() <= 64
        && name.chars().next().is_some_and(char::is_alphanumeric)
        && name.chars().all(allowed);
    label(ok, "package name", name, NAME_RULE)
}

/// The rule for versions: 1 to 64 of ASCII letters, digits, `.`, `_`, `+`, `-`.
///
/// # Errors
/// When the version breaks it.
pub fn check_version(version: &str) -> Result<(), ManifestError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'+' | b'-');
    let ok = version.len() <= 64
        && version
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric())
        && version.bytes().all(allowed);
    label(ok, "package version", version, VERSION_RULE)
}

fn check_language(language: &str) -> Result<(), ManifestError> {
    let allowed = |b: u8| {
        b.is_ascii_lowercase()
            || b.is_ascii_digit()
            || matches!(b, b'.' | b'_' | b'+' | b'#' | b'-')
    };
    let ok = (1..=32).contains(&language.len()) && language.bytes().all(allowed);
    label(ok, "language", language, LANGUAGE_RULE)
}

fn check_automation(automation: &Automation) -> Result<(), ManifestError> {
    let texts = [
        ("automation name", &automation.name),
        ("automation version", &automation.version),
    ];
    for (what, text) in texts {
        let text = text.as_deref().unwrap_or("-");
        let ok = (1..=128).contains(&text.chars().count()) && !text.chars().any(char::is_control);
        label(ok, what, text, FREE_TEXT_RULE)?;
    }
    Ok(())
}

fn label(
    ok: bool,
    what: &'static str,
    text: &str,
    rule: &'static str,
) -> Result<(), ManifestError> {
    match ok {
        true => Ok(()),
        false => Err(ManifestError::Label {
            what,
            shown: shown(text.as_bytes()),
            rule,
        }),
    }
}

fn check_sizes(files: &[FileEntry]) -> Result<(), ManifestError> {
    if let Some(file) = files.iter().find(|file| file.size > MAX_FILE_BYTES) {
        return Err(ManifestError::FileTooLarge {
            path: file.path.clone(),
        });
    }
    let sum = files
        .iter()
        .try_fold(0u64, |sum, file| sum.checked_add(file.size));
    sum.map(|_| ()).ok_or(ManifestError::SizeOverflow)
}

fn check_collisions(files: &[FileEntry]) -> Result<(), ManifestError> {
    let paths: Vec<_> = files.iter().map(|file| &file.path).collect();
    match collision::first(&paths) {
        Some((first, second)) => Err(ManifestError::Collision { first, second }),
        None => Ok(()),
    }
}

fn check_order(files: &[FileEntry]) -> Result<(), ManifestError> {
    match files.windows(2).find(|pair| pair[0].path >= pair[1].path) {
        Some(pair) => Err(ManifestError::Unsorted {
            path: pair[1].path.clone(),
        }),
        None => Ok(()),
    }
}
