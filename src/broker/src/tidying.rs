//! What the package store lets go: packages of revoked publishers, those that nobody used for
//! long, and the least recently used ones when it is full. Never one that an attempt has or was
//! promised.
//!
//! A package leaves the store by one rename; what is left of it then is removed at leisure, and
//! after a crash with all that was being taken in.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use events::Code;
use order::Sha256Hex;
use privsep::Refusal;
use sys::beneath::{Dir, Kind, Mounts};

use crate::attempts::Stage;
use crate::broker::Broker;
use crate::policy::PackagePolicy;
use crate::work::Job;

/// How often the store is looked through while no package comes.
const EVERY: Duration = Duration::from_secs(6 * 3600);

/// Deepest tree that is counted; a manifest allows less.
const DEEPEST: usize = 64;

/// One entry of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Absent = no package: what a removal left that was cut short.
    pub(crate) digest: Option<Sha256Hex>,
    pub(crate) name: PathBuf,
    pub(crate) bytes: u64,
    /// Seconds since 1970.
    pub(crate) used: i64,
    pub(crate) revoked: bool,
}

/// Looks through the store. Its trees are root's and were checked when they came.
pub(crate) fn survey(
    store: &Path,
    is_revoked: impl Fn(&Path) -> bool,
) -> Result<Vec<Kept>, sys::beneath::Error> {
    let root = Dir::open_root(store, Mounts::Stay)?;
    let mut found = Vec::new();
    for entry in root.entries()? {
        let name = entry?.name;
        let facts = root.facts(&name)?;
        let path = store.join(&name);
        let whole = path.join(package::MANIFEST_NAME).is_file();
        let digest = name.to_str().and_then(|name| name.parse().ok());
        let bytes = match facts.kind {
            Kind::Folder => bytes_of(&root.open_dir(&name)?, DEEPEST)?,
            _ => facts.allocated,
        };
        found.push(Kept {
            digest: digest.filter(|_| whole),
            bytes: bytes + facts.allocated,
            used: facts.modified,
            revoked: whole && is_revoked(&path),
            name: name.into(),
        });
    }
    Ok(found)
}

fn bytes_of(folder: &Dir, deepest: usize) -> Result<u64, sys::beneath::Error> {
    let mut bytes = 0;
    for entry in folder.entries()? {
        let name = entry?.name;
        let facts = folder.facts(&name)?;
        bytes += facts.allocated;
        if facts.kind == Kind::Folder && deepest > 0 {
            bytes += bytes_of(&folder.open_dir(&name)?, deepest - 1)?;
        }
    }
    Ok(bytes)
}

/// What has to go, and why.
fn victims<'a>(
    kept: &'a [Kept],
    in_use: &BTreeSet<Sha256Hex>,
    policy: &PackagePolicy,
    now_s: i64,
) -> Vec<(&'a Kept, &'static str)> {
    let free = |entry: &&Kept| entry.digest.is_none_or(|digest| !in_use.contains(&digest));
    let oldest = now_s - i64::try_from(policy.keep_days * 24 * 3600).unwrap_or(i64::MAX);
    let mut go = Vec::new();
    let mut stay: Vec<&Kept> = Vec::new();
    for entry in kept {
        match entry {
            Kept { digest: None, .. } => go.push((entry, "its removal was cut short")),
            _ if !free(&entry) => stay.push(entry),
            Kept { revoked: true, .. } => go.push((entry, "its publisher was revoked")),
            Kept { used, .. } if *used < oldest => go.push((entry, "nobody used it for long")),
            _ => stay.push(entry),
        }
    }
    let mut bytes: u64 = stay.iter().map(|entry| entry.bytes).sum();
    stay.sort_by_key(|entry| entry.used);
    for entry in stay.into_iter().filter(free) {
        if bytes <= policy.store_mib << 20 {
            break;
        }
        bytes -= entry.bytes;
        go.push((entry, "its space is needed"));
    }
    go
}

impl Broker {
    /// When the store is looked through next, by CLOCK_BOOTTIME.
    pub(crate) fn tidy_soon(&mut self) {
        self.tidy_at = sys::clock::boottime();
    }

    pub(crate) fn tidy_if_due(&mut self) {
        let now = sys::clock::boottime();
        if self.tidy_at <= now {
            self.tidy_at = now + EVERY;
            let store = Box::new(self.store.clone());
            self.workers.give(Job::Survey { store });
        }
    }

    /// The store was looked through. What has to go leaves it here, in the loop: no attempt can be
    /// promised a package meanwhile.
    pub(crate) fn surveyed(&mut self, outcome: Result<Vec<Kept>, sys::beneath::Error>) {
        let kept = match outcome {
            Ok(kept) => kept,
            Err(error) => {
                return self.operator(&format!(
                    "the package store can't be looked through: {}",
                    crate::text(&error)
                ));
            }
        };
        let Some(in_use) = self.packages_in_use() else {
            return;
        };
        let now = i64::try_from(sys::clock::unix_ms() / 1000).unwrap_or(i64::MAX);
        let go = victims(&kept, &in_use, &self.policy.packages, now);
        for (entry, why) in go {
            match self.store.take_out(&entry.name) {
                Ok(path) => self.workers.give(Job::Remove { path }),
                Err(refusal) => {
                    self.operator(&refusal.to_string());
                    continue;
                }
            }
            let event = Self::event_now(Code::PackageRemoved)
                .with("package", entry.name.display().to_string())
                .with("bytes", entry.bytes)
                .with("reason", why);
            self.event(event, None);
        }
    }

    /// Packages that attempts have or were promised; `None` when one of them is not known: its
    /// record is of a broker that did not write it down.
    fn packages_in_use(&self) -> Option<BTreeSet<Sha256Hex>> {
        let alive = self
            .attempts
            .values()
            .filter(|held| !matches!(held.stage, Stage::Ended { .. }));
        alive.map(|held| held.package).collect()
    }
}

/// Gives an entry of the store a name in the staging directory, where nothing is found under it.
pub(crate) fn take_out(store: &Path, staging: &Path, name: &Path) -> Result<PathBuf, Refusal> {
    let from = store.join(name);
    let number = sys::clock::boottime().as_nanos();
    let to = staging.join(format!("removed-{number}-{}", name.display()));
    let failed = |error: &std::io::Error| {
        let detail = format!("can't take {} out of the store: {error}", from.display());
        Refusal::new("STORE_FAILED", detail)
    };
    std::fs::rename(&from, &to).map_err(|error| failed(&error))?;
    let synced = std::fs::File::open(store).and_then(|store| store.sync_all());
    synced.map_err(|error| failed(&error))?;
    Ok(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3600;
    const NOW: i64 = 1_800_000_000;

    fn kept(number: u8, mib: u64, days_ago: i64) -> Kept {
        Kept {
            digest: Some(Sha256Hex([number; 32])),
            name: number.to_string().into(),
            bytes: mib << 20,
            used: NOW - days_ago * DAY,
            revoked: false,
        }
    }

    fn gone(kept: &[Kept], in_use: &[u8], store_mib: u64) -> Vec<String> {
        let in_use = in_use
            .iter()
            .map(|number| Sha256Hex([*number; 32]))
            .collect();
        let policy = PackagePolicy {
            store_mib,
            keep_days: 30,
            ..PackagePolicy::default()
        };
        let go = victims(kept, &in_use, &policy, NOW);
        go.iter()
            .map(|(entry, _)| entry.name.display().to_string())
            .collect()
    }

    #[test]
    fn the_least_recently_used_go_first_and_only_as_many_as_needed() {
        let all = [kept(1, 10, 1), kept(2, 10, 5), kept(3, 10, 3)];
        assert_eq!(gone(&all, &[], 30), Vec::<String>::new());
        assert_eq!(gone(&all, &[], 20), ["2"]);
        assert_eq!(gone(&all, &[], 19), ["2", "3"]);
        assert_eq!(
            gone(&all, &[2], 19),
            ["3", "1"],
            "one in use is never taken"
        );
        assert_eq!(gone(&all, &[1, 2, 3], 0), Vec::<String>::new());
    }

    #[test]
    fn what_is_old_revoked_or_half_removed_goes_whatever_the_space() {
        let mut all = [kept(1, 1, 31), kept(2, 1, 29), kept(3, 1, 0), kept(4, 1, 0)];
        all[2].revoked = true;
        all[3].digest = None;
        assert_eq!(gone(&all, &[], 100), ["1", "3", "4"]);
        assert_eq!(gone(&all, &[1, 3], 100), ["4"]);
    }

    #[test]
    fn a_removal_that_was_cut_short_blocks_nothing() {
        let state = tempfile::tempdir().unwrap();
        let (store, staging) = (state.path().join("store"), state.path().join("staging"));
        std::fs::create_dir_all(&staging).unwrap();
        let digest = Sha256Hex([7; 32]).to_string();
        // As a removal in place leaves it: files first, the manifest among them.
        std::fs::create_dir_all(store.join(&digest).join("files/deep")).unwrap();
        let found = survey(&store, |_| false).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].digest, None);
        let out = take_out(&store, &staging, &found[0].name).unwrap();
        assert!(out.starts_with(&staging) && out.is_dir());
        assert!(!store.join(&digest).exists());
        assert!(survey(&store, |_| false).unwrap().is_empty());
    }
}
