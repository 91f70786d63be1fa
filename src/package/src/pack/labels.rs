//! What the package is called and where it starts: the caller's word, else `robotd.toml` at the
//! root of the source, else what the names of the source and its files suggest.

use std::path::Path;

use serde::Deserialize;

use super::PackError;
use super::source::Source;
use crate::manifest::{Automation, Draft, FileEntry, Manifest};
use crate::path::PackagePath;

const SETTINGS_NAME: &str = "robotd.toml";
const MAX_SETTINGS_BYTES: usize = 64 * 1024;
const DEFAULT_ENTRY: &str = "bot.py";
const DEFAULT_VERSION: &str = "0";

/// Labels of a package; `None` leaves one to `robotd.toml` or to its default. The file
/// `robotd.toml` has the same keys and nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Labels {
    /// Default: name of the folder, or of the zip archive without `.zip`.
    pub name: Option<String>,
    /// Default: `0`.
    pub version: Option<String>,
    /// Default: `bot.py` when there is one.
    pub entry: Option<String>,
    /// No default.
    pub language: Option<String>,
    /// No default.
    pub automation: Option<Automation>,
}

/// Labels that leave nothing open.
pub(super) struct Complete {
    name: String,
    version: String,
    entry: PackagePath,
    language: Option<String>,
    automation: Option<Automation>,
}

impl Complete {
    pub(super) fn with_files(self, files: Vec<FileEntry>) -> Draft {
        let Self {
            name,
            version,
            entry,
            language,
            automation,
        } = self;
        Draft {
            name,
            version,
            entry,
            language,
            automation,
            files,
        }
    }
}

pub(super) fn complete(
    source: &mut dyn Source,
    path: &Path,
    said: &Labels,
) -> Result<Complete, PackError> {
    let written = settings(source)?;
    let said = said.clone();
    let entry = said
        .entry
        .or(written.entry)
        .or_else(|| default_entry(source));
    let name = said.name.or(written.name);
    Ok(Complete {
        name: name.map_or_else(|| default_name(path), Ok)?,
        version: said
            .version
            .or(written.version)
            .unwrap_or_else(|| DEFAULT_VERSION.into()),
        entry: PackagePath::parse(&entry.ok_or(PackError::EntryUnnamed)?)?,
        language: said.language.or(written.language),
        automation: said.automation.or(written.automation),
    })
}

fn settings(source: &mut dyn Source) -> Result<Labels, PackError> {
    let found = source
        .members()
        .iter()
        .find(|member| member.path.as_str() == SETTINGS_NAME);
    let Some(member) = found.cloned() else {
        return Ok(Labels::default());
    };
    let mut bytes = Vec::new();
    source.read(&member, &mut |part| {
        bytes.extend_from_slice(part);
        match bytes.len() > MAX_SETTINGS_BYTES {
            true => Err(PackError::SettingsNotText),
            false => Ok(()),
        }
    })?;
    let text = std::str::from_utf8(&bytes).map_err(|_| PackError::SettingsNotText)?;
    toml::from_str(text).map_err(|error| PackError::Settings(Box::new(error)))
}

fn default_entry(source: &dyn Source) -> Option<String> {
    let mut members = source.members().iter();
    members
        .find(|member| member.path.as_str() == DEFAULT_ENTRY)
        .map(|_| DEFAULT_ENTRY.into())
}

/// The manifest's rule for names judges the result, so that `.` or `my bot` asks for a name.
fn default_name(path: &Path) -> Result<String, PackError> {
    let full = path.canonicalize().map_err(|source| PackError::Read {
        path: path.display().to_string(),
        source,
    })?;
    let name = full
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    Ok(name.strip_suffix(".zip").map(str::to_owned).unwrap_or(name))
}

/// Whether an existing package is what the caller says it is.
pub(super) fn agree(said: &Labels, manifest: &Manifest) -> Result<(), PackError> {
    let found = [
        ("name", said.name.as_deref(), Some(manifest.name())),
        ("version", said.version.as_deref(), Some(manifest.version())),
        (
            "entry point",
            said.entry.as_deref(),
            Some(manifest.entry().path.as_str()),
        ),
        ("language", said.language.as_deref(), manifest.language()),
    ];
    for (what, wanted, found) in found {
        if let Some(wanted) = wanted.filter(|wanted| Some(*wanted) != found) {
            let (found, wanted) = (found.unwrap_or_default().to_owned(), wanted.to_owned());
            return Err(PackError::LabelConflict {
                what,
                found,
                wanted,
            });
        }
    }
    match said.automation.is_some() && said.automation.as_ref() != manifest.automation() {
        true => Err(PackError::LabelConflict {
            what: "automation",
            found: format!("{:?}", manifest.automation()),
            wanted: format!("{:?}", said.automation),
        }),
        false => Ok(()),
    }
}
