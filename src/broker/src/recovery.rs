//! At start: what the last broker left is taken up or torn down, through the code that closes
//! every job; and the directories that an attempt needs.

use std::ffi::OsStr;
use std::path::Path;

use events::Code;
use order::{AttemptRef, JobResult, KeyId, Signed};
use privsep::Refusal;
use privsep::session::{Account, Spec, Swept};
use sys::beneath::{Dir, Mounts};
use sys::process::{Process, start_time};

use crate::attempts::{Attempt, Stage};
use crate::broker::{Broker, Watch, Watched};
use crate::policy::Policy;
use crate::record::{RecordError, SessionProcess, SlotRecord};
use crate::work::Job;

impl Broker {
    /// Takes up what is on the disk: undelivered results, slots in use, slots in quarantine.
    pub(crate) fn recover(&mut self) -> Result<(), RecordError> {
        for kept in self.records.results()? {
            let result = Signed {
                body: kept.body.into_bytes(),
                key_id: KeyId(kept.key_id.0),
                signature: kept.signature,
            };
            self.attempts.insert(
                kept.attempt,
                restored(String::new(), Stage::Ended { result }),
            );
        }
        for slot in self.records.slots()? {
            self.recover_slot(slot)?;
        }
        if let Err(refusal) = self.store.clear_staging() {
            self.operator(&refusal.to_string());
        }
        self.remove_strays();
        self.remove_stray_images();
        Ok(())
    }

    fn recover_slot(&mut self, slot: SlotRecord) -> Result<(), RecordError> {
        if let Some(refusal) = slot.quarantine {
            self.quarantined
                .insert(slot.account, (slot.attempt, refusal));
            return Ok(());
        }
        if let Some(Stage::Ended { result }) =
            self.attempts.get(&slot.attempt).map(|held| &held.stage)
        {
            // The result was written, the slot neither cleared nor put into quarantine.
            return match dirt_of(&result.body) {
                None => self.records.clear_slot(&slot.account),
                Some(refusal) => {
                    let kept = SlotRecord {
                        quarantine: Some(refusal.clone()),
                        ..slot
                    };
                    self.records.save_slot(&kept)?;
                    self.quarantined
                        .insert(kept.account, (kept.attempt, refusal));
                    Ok(())
                }
            };
        }
        let process = slot.session.clone().unwrap_or(SessionProcess {
            pid: 0,
            start_ticks: 0,
            boot_id: String::new(),
        });
        let mut held = restored(slot.account, Stage::Running { process });
        held.timeline = slot.timeline;
        held.package = Some(slot.bound.package);
        held.bound = Some(slot.bound);
        self.attempts.insert(slot.attempt, held);
        match slot.session.as_ref().and_then(alive) {
            Some(process) => {
                self.watched.push(Watched {
                    process,
                    what: Watch::Session(slot.attempt),
                    child: false,
                });
            }
            None => {
                let event = Self::event_now(Code::LeftoversRemoved)
                    .with("reason", "the broker or the host stopped while the job ran");
                self.event(event, Some(slot.attempt));
                self.session_lost(slot.attempt, "the broker or the host stopped while it ran");
            }
        }
        Ok(())
    }

    /// Directories of attempts that nobody knows: their removal was cut short.
    fn remove_strays(&mut self) {
        for directory in [
            self.policy.paths.spool.clone(),
            self.policy.paths.jobs.clone(),
        ] {
            for entry in std::fs::read_dir(&directory)
                .into_iter()
                .flatten()
                .flatten()
            {
                let name = entry.file_name();
                let attempt = name
                    .to_str()
                    .and_then(|name| name.parse::<AttemptRef>().ok());
                let Some(attempt) = attempt.filter(|attempt| !self.attempts.contains_key(attempt))
                else {
                    continue;
                };
                match crate::ending::take_back(&directory, &attempt) {
                    Ok(()) => self.workers.give(Job::Remove {
                        path: directory.join(name),
                    }),
                    Err(error) => self.operator(&crate::text(&error)),
                }
            }
        }
    }

    /// An administrator's `slot recover` is done.
    pub(crate) fn recovered(&mut self, account: &str, swept: &Swept) {
        let clean = swept.leftovers.is_empty();
        if clean && self.quarantined.remove(account).is_some() {
            if let Err(error) = self.records.clear_slot(account) {
                self.operator(&crate::text(&error));
            }
            self.event(
                Self::event_now(Code::SlotRecovered).with("slot", account),
                None,
            );
            self.notice_slot(account);
        }
        self.answer_recovery(account, swept);
    }
}

fn restored(account: String, stage: Stage) -> Attempt {
    Attempt {
        account,
        stage,
        package: None,
        timeline: vec![],
        started: None,
        bound: None,
        wants_password: false,
    }
}

/// The very process that was written down, if it still runs.
pub(crate) fn alive(known: &SessionProcess) -> Option<Process> {
    if known.boot_id != boot_id() {
        return None;
    }
    let pid = sys::Pid::from_raw(known.pid);
    let process = Process::open(pid).ok()?;
    // Compared after the descriptor is held: a pid that was used again is told apart.
    (start_time(pid).ok()?.0 == known.start_ticks).then_some(process)
}

/// This boot, as the kernel names it.
pub(crate) fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// What a result says about its slot. One that can't be read says nothing good.
fn dirt_of(body: &[u8]) -> Option<Refusal> {
    match serde_json::from_slice::<JobResult>(body) {
        Ok(result) => crate::ending::dirt(result.wipe.as_ref(), result.session.as_ref()),
        Err(error) => Some(Refusal::new("NOT_PROVEN_CLEAN", error.to_string())),
    }
}

/// The two directories of an attempt.
pub(crate) struct AttemptDirectories {
    pub(crate) spool: Dir,
    pub(crate) socket: Dir,
}

/// Makes the directories that the attendant writes and robotd reads: owner attendant, group
/// robotd, set-group-id so that robotd may delete what it has delivered.
pub(crate) fn attempt_directories(
    policy: &Policy,
    spec: &Spec,
) -> Result<AttemptDirectories, Refusal> {
    let group = crate::starting::known_account(&policy.agent.user)?
        .gid
        .as_raw();
    let spool = own_directory(&policy.paths.spool, spec.attempt)?;
    let socket = own_directory(&policy.paths.jobs, spec.attempt)?;
    // While nobody else can reach into the directory.
    write_key(&spool, &spec.attendant, group)?;
    for directory in [&spool, &socket] {
        hand_over(directory, &spec.attendant, group)?;
    }
    Ok(AttemptDirectories { spool, socket })
}

fn own_directory(parent: &Path, attempt: AttemptRef) -> Result<Dir, Refusal> {
    let parent = Dir::open_root(parent, Mounts::Stay).map_err(|error| spool_failed(&error))?;
    let made = parent.create_dir(attempt.to_string(), 0o700);
    let made = made.map_err(|error| spool_failed(&error))?;
    // robotd may own what is above and could have put another directory in its place.
    for directory in [&parent, &made] {
        let facts = directory
            .own_facts()
            .map_err(|error| spool_failed(&error))?;
        if !facts.uid.is_root() {
            let detail = format!("the directory of {attempt} was replaced while it was made");
            return Err(Refusal::new("SPOOL_FAILED", detail));
        }
    }
    Ok(made)
}

fn hand_over(directory: &Dir, owner: &Account, group: u32) -> Result<(), Refusal> {
    let given = directory.set_owner(owner.uid.into(), group.into());
    given.map_err(|error| spool_failed(&error))?;
    // After the change of owner, which clears the set-group-id bit.
    directory
        .set_mode(0o2770)
        .map_err(|error| spool_failed(&error))
}

/// Name of the key file of a lane, as the spool crate expects it.
const KEY: &str = "lane.key";

/// The key that the attempt's records are sealed with. It lies on the same disk: it keeps them
/// from stray readers and makes torn tails visible, it is no proof of erasure.
fn write_key(spool: &Dir, owner: &Account, group: u32) -> Result<(), Refusal> {
    let mut key = zeroize::Zeroizing::new([0; 32]);
    getrandom::fill(key.as_mut())
        .map_err(|error| Refusal::new("NO_RANDOMNESS", error.to_string()))?;
    sys::files::write_atomic(spool, OsStr::new(KEY), key.as_ref(), 0o640)
        .map_err(|error| spool_failed(&error))?;
    let flags = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
    let owned = nix::unistd::fchownat(
        spool,
        KEY,
        Some(owner.uid.into()),
        Some(group.into()),
        flags,
    );
    owned.map_err(|error| spool_failed(&error))
}

fn spool_failed(error: &dyn std::error::Error) -> Refusal {
    Refusal::new("SPOOL_FAILED", crate::text(error))
}
