//! The policy file: root's ceiling. An order can ask for less, never for more.
//!
//! `/etc/robotd/policy.toml`, owned by root and writable by nobody else. Every default stands
//! here; the shipped file says what each key means.

mod ceiling;
mod check;
mod network;
mod permit;
mod publisher;
mod sandbox;
mod tenancy;
mod volume;

use std::collections::BTreeMap;
use std::path::PathBuf;

use order::{KeyId, VerifyingKey};
use serde::Deserialize;

pub(crate) use ceiling::{permitted, resources};
pub use check::PolicyError;
pub(crate) use network::Network;
use network::NetworkPolicy;
pub(crate) use permit::{interpreter, permit_order};
use sandbox::{HostPolicy, SandboxPolicy};
pub(crate) use volume::VolumePolicy;

/// What this host allows.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Policy {
    /// Who may ask.
    #[serde(default)]
    pub agent: AgentPolicy,
    /// How sessions are opened.
    #[serde(default)]
    pub session: SessionPolicy,
    /// One entry per job that may run at once.
    #[serde(default, rename = "slot")]
    pub slots: Vec<SlotPolicy>,
    /// Which packages are taken.
    #[serde(default)]
    pub packages: PackagePolicy,
    /// Whose signatures on packages count.
    #[serde(default, rename = "publisher")]
    pub publishers: Vec<Publisher>,
    /// Ending of an entry point to absolute path of its interpreter.
    #[serde(default = "default_interpreters")]
    pub interpreters: BTreeMap<String, PathBuf>,
    /// Upper ends.
    #[serde(default)]
    pub limits: LimitPolicy,
    /// What jobs write to.
    #[serde(default)]
    pub(crate) volume: VolumePolicy,
    /// What jobs may reach.
    #[serde(default)]
    pub network: NetworkPolicy,
    /// Which tenant gets what; empty = any tenant that the orchestrator signs for.
    #[serde(default, rename = "tenant")]
    pub tenants: Vec<tenancy::TenantPolicy>,
    /// What happens to a running job when its license lease ends.
    #[serde(default)]
    pub lease: LeasePolicy,
    /// In which sandboxes jobs may run.
    #[serde(default)]
    pub sandbox: SandboxPolicy,
    /// What the host must be able to do.
    #[serde(default)]
    pub host: HostPolicy,
    /// Where things are; for tests and unusual hosts.
    #[serde(default)]
    pub paths: Paths,
}

/// Who may ask.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct AgentPolicy {
    /// The user of robotd.
    pub user: String,
}

impl Default for AgentPolicy {
    fn default() -> Self {
        Self {
            user: "robotd".into(),
        }
    }
}

/// How sessions are opened.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct SessionPolicy {
    /// `auto` takes logind where PID 1 is systemd and PAM alone elsewhere.
    pub backend: BackendChoice,
    /// Name of the PAM service.
    pub pam_service: String,
    /// Whether jobs run while people are logged in.
    pub people: People,
    /// The user that reads the journal for who takes the rights of others.
    pub journal_user: String,
    /// Let a slot pass from one tenant to the next without a word of root's.
    pub share_slots: bool,
}

impl Default for SessionPolicy {
    fn default() -> Self {
        Self {
            backend: BackendChoice::Auto,
            pam_service: "robotd".into(),
            people: People::Allow,
            journal_user: "robotd-journal".into(),
            share_slots: false,
        }
    }
}

/// `session.people`. In any case each log-in is an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum People {
    /// Jobs run.
    Allow,
    /// Jobs run, and their results say that somebody was there.
    Mark,
    /// No job starts; what runs is marked.
    Refuse,
}

/// `session.backend`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackendChoice {
    /// By what PID 1 is.
    Auto,
    /// PAM with logind; without a working logind jobs are refused.
    Logind,
    /// PAM alone.
    Pam,
}

/// An account and the account of its attendant.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SlotPolicy {
    /// The bot's account: uid at least 1000, no password, no login.
    pub account: String,
    /// The attendant's account: no other process runs under it.
    pub attendant: String,
    /// The account of the egress, for jobs whose network profile has rules: as the attendant's.
    #[serde(default)]
    pub egress: Option<String>,
}

/// Which packages are taken.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct PackagePolicy {
    /// Take packages that no publisher signed. The orchestrator alone then decides what runs.
    pub allow_unsigned: bool,
    /// Largest archive.
    pub max_mib: u64,
    /// User of the throw-away process that opens archives.
    pub unpack_user: String,
    /// It is ended when it takes longer.
    pub unpack_seconds: u64,
    /// The least recently used packages go when the store is larger.
    pub store_mib: u64,
    /// A package that nobody used for so many days goes.
    pub keep_days: u64,
}

impl Default for PackagePolicy {
    fn default() -> Self {
        Self {
            allow_unsigned: false,
            max_mib: 512,
            unpack_user: "robotd-unpack".into(),
            unpack_seconds: 600,
            store_mib: 8192,
            keep_days: 30,
        }
    }
}

/// A publisher of packages.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Publisher {
    /// For people.
    pub name: String,
    /// Ed25519 public key, base64.
    pub key: VerifyingKey,
    /// Its signatures count no more; its packages are removed from the store.
    #[serde(default)]
    pub revoked: bool,
    /// Jobs with its packages start until then.
    #[serde(default)]
    pub not_after: Option<toml::value::Datetime>,
}

/// Upper ends of what an order may ask for.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct LimitPolicy {
    /// Longest opening of session, display and program.
    pub session_seconds: u64,
    /// Longest run.
    pub run_minutes: u64,
    /// Longest time between SIGTERM and the kill.
    pub stop_grace_seconds: u64,
    /// Longest time in which a bot may do nothing; 0 = any.
    pub idle_minutes: u64,
    /// Largest scratch volume.
    pub volume_mib: u64,
    /// Most files on it.
    pub volume_files: u64,
    /// Most output that is kept per job.
    pub log_mib: u64,
    /// Most artifacts per job.
    pub artifact_mib: u64,
    /// Most memory of a job.
    pub memory_mib: u64,
    /// Most processes and threads of a job.
    pub processes: u64,
    /// Most processor time, in percent of one processor; 0 = any.
    pub cpu_percent: u64,
    /// Largest share of processor time against other jobs.
    pub cpu_weight: u64,
    /// Largest share of the disks against other jobs.
    pub io_weight: u64,
    /// Most that is read and that is written in a second, for each disk; 0 = any.
    pub io_mib_per_second: u64,
    /// Most open files of each process.
    pub open_files: u64,
}

impl Default for LimitPolicy {
    fn default() -> Self {
        Self {
            session_seconds: 600,
            run_minutes: 24 * 60,
            stop_grace_seconds: 300,
            idle_minutes: 0,
            volume_mib: 2048,
            // Each takes about a KiB of memory that the volume's size does not count.
            volume_files: 262_144,
            log_mib: 4096,
            artifact_mib: 1024,
            memory_mib: 4096,
            processes: 4096,
            cpu_percent: 0,
            cpu_weight: 100,
            io_weight: 100,
            io_mib_per_second: 0,
            open_files: 65_536,
        }
    }
}

/// What happens when a lease ends under a running job.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct LeasePolicy {
    /// `finish` or `stop-at-expiry`.
    pub on_loss: OnLoss,
}

/// `lease.on-loss`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnLoss {
    /// The job goes on to its end, at most to the order's hard end: half an invoice is worse.
    #[default]
    Finish,
    /// The bot is stopped when the lease ends.
    StopAtExpiry,
}

/// Directories. The defaults are those of the package.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Paths {
    /// Store, keys, slots, results: root only.
    pub state: PathBuf,
    /// The broker's sockets.
    pub runtime: PathBuf,
    /// Spools of attempts.
    pub spool: PathBuf,
    /// Sockets of attendants.
    pub jobs: PathBuf,
    /// What `robotctl enroll` pinned.
    pub trust: PathBuf,
    /// robotd-session, robotd-attendant, robotd-unpack, robotjob.
    pub programs: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            state: "/var/lib/robotd-broker".into(),
            runtime: "/run/robotd-broker".into(),
            spool: "/var/lib/robotd/spool".into(),
            jobs: "/run/robotd/jobs".into(),
            trust: "/etc/robotd/trust.d".into(),
            programs: "/usr/libexec/robotd".into(),
        }
    }
}

fn default_interpreters() -> BTreeMap<String, PathBuf> {
    BTreeMap::from([("py".into(), "/usr/bin/python3".into())])
}

impl Policy {
    /// Reads and checks a policy. Every sentence of an error says what to change.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let policy: Self =
            toml::from_str(text).map_err(|error| PolicyError::Syntax(error.to_string()))?;
        check::check(&policy)?;
        Ok(policy)
    }

    /// The publisher with this key id.
    pub fn publisher(&self, id: &KeyId) -> Option<&Publisher> {
        self.publishers
            .iter()
            .find(|publisher| publisher.key.id() == *id)
    }

    /// The slot with this account.
    pub fn slot(&self, account: &str) -> Option<&SlotPolicy> {
        self.slots.iter().find(|slot| slot.account == account)
    }
}
