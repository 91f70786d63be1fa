//! What is still on this host of jobs: everything of it, with what ends it. The loop says what it
//! knows, a thread of its own counts what lies on the disk.

use std::path::{Path, PathBuf};

use order::AttemptRef;
use privsep::admin::{MAX_REMAINS, Remain, RemainKind, Reply};
use privsep::{Refusal, encode, encode_document};
use sys::beneath::{Dir, Kind, Mounts};
use sys::fdpass::Seqpacket;

use crate::attempts::Stage;
use crate::broker::Broker;
use crate::work::Job;

/// Names that are counted below one place: robotd and attendants fill some of them.
const MOST_NAMES: u64 = 200_000;

/// Deepest folder that is looked into.
const DEEPEST: usize = 32;

/// Places that list no more entries than this, one by one.
const MOST_LINES: usize = 2_000;

/// Where what remains lies.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    state: PathBuf,
    spool: PathBuf,
    jobs: PathBuf,
    keep_days: u64,
    /// Tenants of attempts that the broker knows.
    tenants: Vec<(AttemptRef, String)>,
}

impl Broker {
    /// Answers robotctl, later.
    pub(crate) fn tell_remains(&mut self, socket: Seqpacket) {
        let tenants = self.attempts.iter().filter_map(|(attempt, held)| {
            let tenant = held.bound.as_ref()?.tenant.clone();
            Some((*attempt, tenant))
        });
        let places = Places {
            state: self.policy.paths.state.clone(),
            spool: self.policy.paths.spool.clone(),
            jobs: self.policy.paths.jobs.clone(),
            keep_days: self.policy.packages.keep_days,
            tenants: tenants.collect(),
        };
        self.workers.give(Job::CountRemains {
            socket,
            known: self.known_remains(),
            places,
        });
    }

    /// What needs no look at the disk.
    fn known_remains(&self) -> Vec<Remain> {
        let alive = self.attempts.iter().filter(|(_, held)| {
            !matches!(held.stage, Stage::Ended { .. } | Stage::Reserved { .. })
        });
        let record = |account: &str| {
            path_text(
                &self
                    .policy
                    .paths
                    .state
                    .join("slots")
                    .join(format!("{account}.json")),
            )
        };
        let jobs = alive.map(|(attempt, held)| Remain {
            path: record(&held.account),
            files: 1,
            tenant: held.bound.as_ref().map(|bound| bound.tenant.clone()),
            why: format!("account {}", held.account),
            ..remain(RemainKind::Job, attempt.to_string())
        });
        let slots = self
            .quarantined
            .iter()
            .map(|(account, (_, refusal))| Remain {
                tenant: self.tenants.of(account).map(str::to_owned),
                path: record(account),
                why: refusal.to_string(),
                files: 1,
                ..remain(RemainKind::Quarantine, account.clone())
            });
        jobs.chain(slots).collect()
    }
}

fn remain(kind: RemainKind, name: String) -> Remain {
    Remain {
        kind,
        name,
        tenant: None,
        path: String::new(),
        files: 0,
        bytes: 0,
        partial: false,
        until_unix_ms: None,
        why: String::new(),
    }
}

fn path_text(path: &Path) -> String {
    path.display().to_string()
}

/// Counts what lies on the disk and answers.
pub(crate) fn answer(socket: &Seqpacket, mut known: Vec<Remain>, places: &Places) {
    known.extend(places.count());
    known.sort_by(|one, other| (one.kind, &one.name).cmp(&(other.kind, &other.name)));
    let document = encode_document(&known).ok();
    let fits = document.filter(|document| document.len() <= MAX_REMAINS);
    let reply = match &fits {
        Some(_) => Reply::Remains,
        None => Reply::Refused(Refusal::new(
            "ANSWER_TOO_LARGE",
            "more remains than can be listed; look below the broker's and robotd's state directories",
        )),
    };
    // Whoever asked may have gone.
    let _ = crate::broker::send(socket, &encode(&reply), fits.as_deref());
}

impl Places {
    fn count(&self) -> Vec<Remain> {
        let state = |name: &str| self.state.join(name);
        let mut all = self.attempts(RemainKind::Lane, &self.spool);
        all.extend(self.attempts(RemainKind::Sockets, &self.jobs));
        all.extend(self.attempts(RemainKind::Result, &state("results")));
        all.extend(self.packages());
        all.extend(each(RemainKind::Staging, &state("staging"), MOST_LINES));
        all.extend(whole(RemainKind::Outbox, &state("audit")));
        all.extend(whole(RemainKind::Replay, &state("nonces")));
        all.extend(one(RemainKind::Tenants, &self.state, "tenants.json"));
        // robotd keeps its own beside the spool.
        if let Some(own) = self.spool.parent() {
            all.extend(whole(RemainKind::Journal, &own.join("jobs")));
            all.extend(whole(RemainKind::OwnLanes, &own.join("lanes")));
            all.extend(whole(RemainKind::Fetched, &own.join("tmp")));
        }
        all
    }

    /// Entries that are named after attempts.
    fn attempts(&self, kind: RemainKind, place: &Path) -> Vec<Remain> {
        let mut found = each(kind, place, MOST_LINES);
        for remain in &mut found {
            let name = remain.name.trim_end_matches(".json").to_owned();
            let attempt = name.parse::<AttemptRef>().ok();
            let known = self
                .tenants
                .iter()
                .find(|(known, _)| Some(*known) == attempt);
            remain.tenant = known.map(|(_, tenant)| tenant.clone());
            remain.name = name;
        }
        found
    }

    fn packages(&self) -> Vec<Remain> {
        let mut found = each(RemainKind::Package, &self.state.join("store"), MOST_LINES);
        for remain in &mut found {
            let used = std::fs::metadata(&remain.path).and_then(|facts| facts.modified());
            let since = used
                .ok()
                .and_then(|used| used.duration_since(std::time::UNIX_EPOCH).ok());
            let kept_ms = self.keep_days * 24 * 3_600_000;
            remain.until_unix_ms = since
                .and_then(|since| u64::try_from(since.as_millis()).ok())
                .map(|since| since + kept_ms);
        }
        found
    }
}

/// Every entry of a place.
fn each(kind: RemainKind, place: &Path, most: usize) -> Vec<Remain> {
    let Ok(folder) = Dir::open_root(place, Mounts::Stay) else {
        return vec![];
    };
    let entries = folder.entries().into_iter().flatten().flatten();
    let names = entries.take(most).map(|entry| entry.name);
    names
        .filter_map(|name| {
            let mut found = Remain {
                path: path_text(&place.join(&name)),
                ..remain(kind, name.to_string_lossy().into_owned())
            };
            count_entry(&folder, name.as_ref(), &mut found, DEEPEST).ok()?;
            Some(found)
        })
        .collect()
}

/// A place as one, when something is in it.
fn whole(kind: RemainKind, place: &Path) -> Option<Remain> {
    let folder = Dir::open_root(place, Mounts::Stay).ok()?;
    let mut found = Remain {
        path: path_text(place),
        ..remain(kind, String::new())
    };
    count_folder(&folder, &mut found, DEEPEST).ok()?;
    (found.files > 0).then_some(found)
}

fn one(kind: RemainKind, place: &Path, name: &str) -> Option<Remain> {
    let folder = Dir::open_root(place, Mounts::Stay).ok()?;
    let mut found = Remain {
        path: path_text(&place.join(name)),
        ..remain(kind, String::new())
    };
    count_entry(&folder, Path::new(name), &mut found, DEEPEST).ok()?;
    Some(found)
}

fn count_folder(
    folder: &Dir,
    into: &mut Remain,
    deepest: usize,
) -> Result<(), sys::beneath::Error> {
    for entry in folder.entries()? {
        if into.files >= MOST_NAMES {
            into.partial = true;
            return Ok(());
        }
        let name = entry?.name;
        // It may have gone since it was listed: its owner lives.
        let _ = count_entry(folder, name.as_ref(), into, deepest);
    }
    Ok(())
}

fn count_entry(
    folder: &Dir,
    name: &Path,
    into: &mut Remain,
    deepest: usize,
) -> Result<(), sys::beneath::Error> {
    let facts = folder.facts(name)?;
    into.files += 1;
    into.bytes += facts.allocated;
    match (facts.kind, deepest) {
        (Kind::Folder, 0) => into.partial = true,
        (Kind::Folder, _) => count_folder(&folder.open_dir(name)?, into, deepest - 1)?,
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_others_fill_is_counted_within_bounds_and_no_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let mut deep = folder.path().join("place");
        for _ in 0..DEEPEST + 5 {
            deep.push("d");
        }
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(folder.path().join("place/file"), vec![1; 10_000]).unwrap();
        std::os::unix::fs::symlink("/", folder.path().join("place/out")).unwrap();
        let found = whole(RemainKind::OwnLanes, &folder.path().join("place")).unwrap();
        assert!(found.partial, "{found:?}");
        assert!(found.bytes >= 10_000 && found.files < 60, "{found:?}");
        assert!(whole(RemainKind::OwnLanes, &folder.path().join("missing")).is_none());
    }
}
