//! One robotd-session and the broker. The socket's peer must be root and the process that the
//! broker started (or its unit's main process).

use order::{
    ArtifactTotal, AttemptRef, LogTotals, Outcome, PhaseAt, SandboxPart, SandboxProfile,
    SandboxSummary, SecretUse, SessionSummary, Unenforced, Usage, VolumeBackend, VolumeReport,
    WipeReport,
};
use serde::{Deserialize, Serialize};

use crate::abilities::Abilities;
use crate::broker::StopMode;
use crate::refusal::Refusal;

/// What a session says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromSession {
    /// First message, also after the broker's restart. Answer to the first one: [`ToSession::Spec`].
    Hello {
        /// Which attempt it was started for.
        attempt: AttemptRef,
        /// Set when it has its spec already and only reconnects: the steps that it took so far.
        timeline: Option<Vec<PhaseAt>>,
    },
    /// First message of `robotd-session --teardown`. Answer: [`ToSession::Teardown`].
    TeardownHello {
        /// The slot's account.
        account: String,
    },
    /// What the teardown did and could not do.
    TornDown {
        /// Outside of the volume.
        swept: Swept,
        /// The volume, if it is known what it was.
        volume: Option<VolumeReport>,
    },
    /// A volume of this kind is about to be made: who tears it down has to know.
    VolumeChosen(VolumeBackend),
    /// First message of `robotd-session --probe`. Answer: [`ToSession::Probe`].
    ProbeHello,
    /// What the probe found. Answer: [`ToSession::Recorded`].
    Abilities(Abilities),
    /// A step was done.
    Phase(PhaseAt),
    /// Something that security people want to know while the job goes on.
    Notice {
        /// Of which kind.
        kind: NoticeKind,
        /// What happened.
        refusal: Refusal,
    },
    /// The job's network refused something to the bot.
    NetworkRefused(crate::egress::Denial),
    /// The account's password ([`Spec::account_secret`]) is wanted. Answer: [`ToSession::Secret`] or
    /// [`ToSession::SecretRefused`] with its name.
    PasswordWanted,
    /// The account's session is open: have systemd bound its slice so, before the bot's first
    /// instruction. Answer: [`ToSession::Limited`].
    LimitsWanted(Resources),
    /// All processes are gone as far as the session can tell: have logind close the account's
    /// user and prove it. Answer: [`ToSession::UserClosed`].
    CloseUser,
    /// The attempt is over; this is all that the session knows. Answer: [`ToSession::Recorded`],
    /// after which the session exits.
    Report(Box<Report>),
}

/// What a session tells while its job goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoticeKind {
    /// The attendant died and was started again.
    AttendantLost,
    /// Something in the artifacts directory was not handed over.
    ArtifactRefused,
    /// The job's egress died and was started again.
    EgressLost,
    /// An administrator of the host began to look on over VNC.
    LookedOn,
    /// And does so no more.
    LooksNoMore,
}

/// What a session is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToSession {
    /// What to run. Three descriptors come along: the [`Spec`] in a sealed memfd; the attempt's
    /// spool directory and the directory of the attendant's socket, opened as directories.
    Spec,
    /// To [`FromSession::TeardownHello`].
    Teardown(Teardown),
    /// To [`FromSession::ProbeHello`].
    Probe {
        /// Where images of volumes lie.
        store: String,
    },
    /// End the bot.
    Stop(StopMode),
    /// The lease holds until this CLOCK_BOOTTIME.
    LeaseUntil {
        /// Nanoseconds.
        boottime_ns: u64,
    },
    /// A secret for the attendant, or the account's password, in a sealed memfd sent along.
    Secret {
        /// Which.
        name: String,
    },
    /// A secret could not be had.
    SecretRefused {
        /// Which.
        name: String,
        /// Why.
        refusal: Refusal,
    },
    /// To [`FromSession::LimitsWanted`].
    Limited {
        /// Why the slice could not be bounded.
        problem: Option<Refusal>,
    },
    /// To [`FromSession::CloseUser`]: nothing is left when the account's user is proven gone.
    UserClosed {
        /// What is left.
        leftovers: Vec<String>,
    },
    /// To [`FromSession::Report`]: durable.
    Recorded,
}

/// How a session is opened on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// PAM with logind: session id and runtime directory are asserted.
    Logind,
    /// PAM alone, where PID 1 is not systemd.
    Pam,
}

impl Backend {
    /// As it stands in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Logind => "logind",
            Self::Pam => "pam",
        }
    }
}

/// All that one session needs to run one attempt. Made by the broker from its policy and the
/// verified order; nothing in it comes from robotd.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// Which attempt.
    pub attempt: AttemptRef,
    /// The bot's account.
    pub account: Account,
    /// The attendant's account.
    pub attendant: Account,
    /// Directory of `robotd-attendant` and of `robotjob`, the bot's own command, which is bound
    /// into the sandbox.
    pub program_dir: String,
    /// How sessions are opened.
    pub backend: Backend,
    /// PAM service, `robotd`.
    pub pam_service: String,
    /// uid of robotd, the only peer of the attendant's socket.
    pub robotd_uid: u32,
    /// The package's tree in the store. A path, because overlayfs takes no directory that was opened in
    /// another mount namespace.
    pub package_tree: String,
    /// The interpreter for the entry point, absolute; absent = the entry is executed itself.
    pub interpreter: Option<String>,
    /// Entry point relative to the package.
    pub entry: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Environment on top of the session's.
    pub env: Vec<(String, String)>,
    /// Parameters, a JSON object.
    pub params_json: String,
    /// Absent = none.
    pub display: Option<order::Display>,
    /// When to take pictures.
    pub screenshots: Screenshots,
    /// From the start of the leader to the bot's program, milliseconds.
    pub session_ms: u64,
    /// From RUNNING to the soft stop, milliseconds.
    pub run_ms: u64,
    /// From SIGTERM to the kill, milliseconds.
    pub stop_grace_ms: u64,
    /// The bot is stopped when it did nothing for so long, milliseconds; 0 = it may.
    pub idle_ms: u64,
    /// Size of the scratch volume.
    pub volume_bytes: u64,
    /// Files, directories and links on it.
    pub volume_files: u64,
    /// Open files of each process.
    pub open_files: u64,
    /// What all processes of the job may use together.
    pub resources: Resources,
    /// How it is made.
    pub volume: crate::volume::Rules,
    /// Output that is kept.
    pub log_bytes: u64,
    /// All artifacts together.
    pub artifact_bytes: u64,
    /// Secrets that the bot may ask for.
    pub secrets: Vec<String>,
    /// Name of the secret that is the account's password; absent = the session opens without one.
    pub account_secret: Option<String>,
    /// CLOCK_BOOTTIME after which the bot is killed whatever happened, nanoseconds.
    pub hard_end_ns: u64,
    /// CLOCK_BOOTTIME at which the lease ends unless it is renewed, nanoseconds.
    pub lease_until_ns: u64,
    /// Stop the bot when the lease ends; otherwise it finishes.
    pub stop_at_lease_end: bool,
    /// The bot may use the host's network; otherwise it has a namespace of its own.
    pub host_network: bool,
    /// What it may reach from there; absent = loopback only.
    pub egress: Option<Egress>,
    /// What keeps its programs in.
    pub sandbox: Sandbox,
}

/// A sandbox profile, and what this host's policy has it go without.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// Which profile.
    pub profile: SandboxProfile,
    /// Parts to go without; none but for `legacy`.
    pub without: Vec<SandboxPart>,
}

impl Sandbox {
    /// Whether this part is left out. Only `legacy` can go without any, whatever stands here.
    pub fn goes_without(&self, part: SandboxPart) -> bool {
        self.profile.grants().opt_outs && self.without.contains(&part)
    }

    /// Whether its programs may make user namespaces.
    pub fn grants_user_namespaces(&self) -> bool {
        self.profile.grants().user_namespaces || self.goes_without(SandboxPart::NoUserNamespaces)
    }

    /// Whether its programs may execute memory that they wrote.
    pub fn grants_new_code(&self) -> bool {
        self.profile.grants().new_code || self.goes_without(SandboxPart::Mdwe)
    }
}

/// The way out of a job's own network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Egress {
    /// The account of `robotd-egress`, for this slot alone.
    pub account: Account,
    /// What it lets through.
    pub rules: crate::egress::Rules,
}

/// What all processes of a job may use together: bounds of its control group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Memory, bytes. Swap is never used.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub processes: u64,
    /// Percent of one processor; absent = no quota.
    pub cpu_percent: Option<u64>,
    /// Share of processor time, 1 to 10000.
    pub cpu_weight: u64,
    /// Share of the disks, 1 to 10000.
    pub io_weight: u64,
    /// Bytes read and bytes written in a second, for each disk; absent = unbounded.
    pub io_bytes_per_second: Option<u64>,
    /// Directories of the host on the disks that this is about.
    pub io_paths: Vec<String>,
}

/// What a teardown needs: it undoes whatever a session may have left, without its help.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Teardown {
    /// The bot's account.
    pub account: Account,
    /// The attendant's account.
    pub attendant: Account,
    /// The account of its egress, where the slot has one.
    pub egress: Option<Account>,
    /// How sessions are opened.
    pub backend: Backend,
    /// The attempt that used the slot last; absent when nobody knows.
    pub attempt: Option<AttemptRef>,
    /// What its volume was; absent when nobody knows.
    pub volume: Option<VolumeBackend>,
    /// Where images of volumes lie.
    pub volume_store: String,
    /// Its monitor, if it still lives: pid and start time in clock ticks since boot.
    pub session: Option<(i32, u64)>,
}

/// What was found and removed outside the scratch volume, and what could not be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swept {
    /// One line per kind, for example `sysv-shm: 2`.
    pub swept: Vec<String>,
    /// One line each; empty = proven clean.
    pub leftovers: Vec<String>,
    /// Processes that had to be killed.
    pub processes_killed: u32,
}

/// When to take pictures, and what they must not show. As in the order, which can't be encoded here:
/// its JSON leaves absent fields out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Screenshots {
    /// When the display is ready.
    pub on_start: bool,
    /// When the bot fails.
    pub on_failure: bool,
    /// Each so many milliseconds.
    pub every_ms: Option<u64>,
    /// Whether somebody may look on.
    pub live_view: bool,
    /// Of the pictures.
    pub format: order::PictureFormat,
    /// What is painted over.
    pub masks: order::Masks,
    /// Longest pause of capture after a secret was handed out, milliseconds; 0 = none.
    pub secret_pause_ms: u64,
}

impl Default for Screenshots {
    /// None at all.
    fn default() -> Self {
        Self {
            on_start: false,
            on_failure: false,
            every_ms: None,
            live_view: false,
            format: order::PictureFormat::Png,
            masks: order::Masks::default(),
            secret_pause_ms: 0,
        }
    }
}

/// An account of the host, resolved by the broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Home directory.
    pub home: String,
}

/// What a session knows at the end. The broker adds ids and signs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// What went wrong, when something of ours or of the order did.
    pub refusal: Option<Refusal>,
    /// Exit code of the bot.
    pub exit_code: Option<i32>,
    /// Signal that killed it.
    pub signal: Option<i32>,
    /// The steps.
    pub timeline: Vec<PhaseAt>,
    /// What the bot was given; at most as many as its order names.
    pub secrets: Vec<SecretUse>,
    /// The OS session.
    pub session: Option<SessionSummary>,
    /// Output totals.
    pub log: LogTotals,
    /// Artifacts; few enough for a packet ([`crate::attendant::MAX_ARTIFACTS`]).
    pub artifacts: Vec<ArtifactTotal>,
    /// Number of screenshots.
    pub screenshots: u32,
    /// Epoch of the attempt's lane, hex.
    pub lane_epoch: String,
    /// Its last record.
    pub lane_last_seq: u64,
    /// Processes killed after the bot's own end.
    pub processes_killed: u32,
    /// What the job used.
    pub usage: Option<Usage>,
    /// Limits of the order that were not in force.
    pub not_enforced: Vec<Unenforced>,
    /// What went over its egress; absent when it had none.
    pub network: Option<order::NetworkUse>,
    /// The wipe.
    pub wipe: Option<WipeReport>,
    /// The sandbox; absent when it never stood.
    pub sandbox: Option<SandboxSummary>,
}
