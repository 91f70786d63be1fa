//! The grammar of the command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use order::VerifyingKey;

use super::masks::{area, window};
use super::quantity::{bytes, display, duration, pair};
use crate::refused::Refused;
use crate::store::EventFilter;

/// Reference orchestrator of robotd: no server to install, all state under --data-dir.
#[derive(Debug, Parser)]
#[command(name = "robot-orchestrator", version)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Where the server keeps its state; its socket is found there.
#[derive(Clone, Debug, Args)]
pub(super) struct Place {
    /// Directory with all state of the server
    #[arg(
        long,
        env = "ROBOT_ORCHESTRATOR_DATA_DIR",
        default_value = "/var/lib/robot-orchestrator"
    )]
    pub(super) data_dir: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the server
    Serve(Serve),
    /// Join tokens
    #[command(subcommand)]
    Token(Token),
    /// Agents
    #[command(subcommand)]
    Agent(Agent),
    /// Order keys, and the offline root key that signs sets of them
    #[command(subcommand)]
    Key(super::keys::Key),
    /// License pools
    #[command(subcommand)]
    License(License),
    /// Packages of bots
    #[command(subcommand)]
    Package(Package),
    /// Secrets that jobs can be granted
    #[command(subcommand)]
    Secret(Secret),
    /// Jobs
    #[command(subcommand)]
    Job(Job),
    /// Certificates of jobs, wherever they come from
    #[command(subcommand)]
    Certificate(CertificateAsk),
    /// Security events
    #[command(subcommand)]
    Event(EventAsk),
}

#[derive(Clone, Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    pub(super) place: Place,
    /// The link's listener
    #[arg(long, default_value = "127.0.0.1:7443")]
    pub(super) listen: SocketAddr,
    /// The enrolment's listener
    #[arg(long, default_value = "127.0.0.1:7444")]
    pub(super) enroll: SocketAddr,
    /// Serve a read-only page; a one-time token is printed at start
    #[arg(long)]
    pub(super) http: Option<SocketAddr>,
    /// The server's name in its certificate and in tokens [default: the host's name]
    #[arg(long)]
    pub(super) name: Option<String>,
    /// How long a license lasts without renewal
    #[arg(long, default_value = "120s", value_parser = duration)]
    pub(super) lease_ttl: Duration,
    /// Key that secrets are encrypted with [default: DATA_DIR.secrets-key]
    #[arg(long)]
    pub(super) secrets_key: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Make a token with which one host can enrol, for one hour
    Create {
        #[command(flatten)]
        place: Place,
        /// Name of the agent
        #[arg(long)]
        agent: String,
        /// Write the token to this file (mode 0600) instead of standard output
        #[arg(long)]
        out: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Agent {
    /// Show all agents
    List {
        #[command(flatten)]
        place: Place,
        #[arg(long)]
        json: bool,
    },
    /// Revoke an agent's certificates and close its connections
    Revoke {
        #[command(flatten)]
        place: Place,
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum License {
    /// Make a pool or change its number of licenses
    Set {
        #[command(flatten)]
        place: Place,
        pool: String,
        count: u32,
    },
    /// Show pools and who holds their licenses
    List {
        #[command(flatten)]
        place: Place,
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Package {
    /// Pack a folder or a zip, or take a finished package, and store it
    Push {
        #[command(flatten)]
        place: Place,
        path: PathBuf,
        /// Sign with this publisher's private key
        #[arg(long, value_name = "KEY")]
        sign: Option<PathBuf>,
        /// Name of the package, when it does not say itself
        #[arg(long)]
        name: Option<String>,
        #[arg(long)]
        json: bool,
    },
    /// Show all packages
    List {
        #[command(flatten)]
        place: Place,
        #[arg(long)]
        json: bool,
    },
    /// Make a publisher's key: OUT (private, mode 0600) and OUT.pub
    Keygen { out: PathBuf },
}

#[derive(Debug, Subcommand)]
pub(super) enum Secret {
    /// Store a secret, read from standard input or a file
    Set {
        #[command(flatten)]
        place: Place,
        name: String,
        /// Read it from here; the bytes are taken as they are
        #[arg(long)]
        file: Option<PathBuf>,
    },
    /// Show names and versions
    List {
        #[command(flatten)]
        place: Place,
        #[arg(long)]
        json: bool,
    },
    /// Delete a secret
    Delete {
        #[command(flatten)]
        place: Place,
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Job {
    /// Queue a job
    Submit(Box<Submit>),
    /// Show the newest jobs
    List {
        #[command(flatten)]
        place: Place,
        #[arg(long)]
        json: bool,
    },
    /// Show everything about one job
    Show {
        #[command(flatten)]
        place: Place,
        job: String,
        #[arg(long)]
        json: bool,
    },
    /// Say what its host proves about a job: license, session, bot, secrets, wipe. Fails unless all holds
    Certificate(Certify),
    /// Stop a job: softly, then by force when its grace is over
    Stop {
        #[command(flatten)]
        place: Place,
        job: String,
        /// By force at once
        #[arg(long)]
        kill: bool,
    },
    /// Print the output of a job
    Logs {
        #[command(flatten)]
        place: Place,
        job: String,
        /// Only this stream: stdout or stderr
        #[arg(long, value_parser = ["stdout", "stderr"])]
        stream: Option<String>,
        /// Go on until the job has ended
        #[arg(short, long)]
        follow: bool,
        /// The exact bytes of the stream (stdout unless --stream says otherwise)
        #[arg(long, conflicts_with = "json")]
        raw: bool,
        /// One JSON object per line of output
        #[arg(long)]
        json: bool,
    },
    /// Ask for a picture of a running job's display now
    Screenshot {
        #[command(flatten)]
        place: Place,
        job: String,
    },
    /// Look on at a running job's screen until the job ends
    Watch(Watch),
    /// Write a job's pictures into a folder
    Screenshots(Fetch),
    /// Write what a job handed back into a folder
    Artifacts(Fetch),
}

#[derive(Debug, Args)]
pub(super) struct Certify {
    #[command(flatten)]
    pub(super) place: Place,
    pub(super) job: String,
    /// Write the certificate to this file, for `certificate verify`
    #[arg(long)]
    pub(super) out: Option<PathBuf>,
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum CertificateAsk {
    /// Check a certificate, without a server. Fails unless all holds
    Verify(Box<Verify>),
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    pub(super) file: PathBuf,
    /// Key that orders must be signed with, base64; without it the file's own counts
    #[arg(long, value_parser = verifying_key)]
    pub(super) order_key: Option<VerifyingKey>,
    /// Key that results of the host must be signed with, base64; without it the file's own counts
    #[arg(long, value_parser = verifying_key)]
    pub(super) result_key: Option<VerifyingKey>,
    #[arg(long)]
    pub(super) json: bool,
}

fn verifying_key(text: &str) -> Result<VerifyingKey, String> {
    VerifyingKey::from_base64(text).map_err(|error| error.to_string())
}

#[derive(Debug, Args)]
pub(super) struct Watch {
    #[command(flatten)]
    pub(super) place: Place,
    pub(super) job: String,
    /// Most pictures a second, 1 to 10
    #[arg(long, default_value_t = 2)]
    pub(super) fps: u32,
    /// Write each picture into this folder; made when it does not exist
    #[arg(long)]
    pub(super) out: Option<PathBuf>,
    /// File format of the pictures
    #[arg(long, default_value = "png", requires = "out")]
    pub(super) format: Format,
    /// One JSON object per change
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Fetch {
    #[command(flatten)]
    pub(super) place: Place,
    /// Folder; made when it does not exist
    #[arg(long)]
    pub(super) out: PathBuf,
    pub(super) job: String,
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Submit {
    #[command(flatten)]
    pub(super) place: Place,
    /// Digest of a package, or its name: the newest of that name then
    #[arg(long)]
    pub(super) package: String,
    /// Entry point [default: what the package says]
    #[arg(long)]
    pub(super) entry: Option<String>,
    /// Argument for the bot; can be given several times
    #[arg(long = "arg", allow_hyphen_values = true)]
    pub(super) args: Vec<String>,
    /// Environment variable K=V
    #[arg(long, value_parser = pair)]
    pub(super) env: Vec<(String, String)>,
    /// Parameter K=V (a text) or K:=JSON
    #[arg(long, value_parser = pair)]
    pub(super) param: Vec<(String, String)>,
    /// License pool
    #[arg(long, default_value = "default")]
    pub(super) pool: String,
    /// Account wished for [default: that of a free slot]
    #[arg(long)]
    pub(super) account: Option<String>,
    /// Secret that is the account's password: the session is opened with it, the bot can't ask for it
    #[arg(long, value_name = "NAME")]
    pub(super) account_secret: Option<String>,
    /// Network profile of the host's policy; none: loopback only
    #[arg(long, default_value = "none", value_name = "PROFILE")]
    pub(super) network: String,
    /// [xvfb:|xvnc:]WIDTHxHEIGHT[xDEPTH] or none
    #[arg(long, default_value = "1280x800", value_parser = display)]
    pub(super) display: Size,
    #[command(flatten)]
    pub(super) pictures: Pictures,
    /// From the opening of the session to the bot's start
    #[arg(long, default_value = "2m", value_parser = duration)]
    pub(super) session_timeout: Duration,
    /// Run limit
    #[arg(long, default_value = "1h", value_parser = duration)]
    pub(super) timeout: Duration,
    /// From the soft stop to the kill
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub(super) stop_grace: Duration,
    #[command(flatten)]
    pub(super) bounds: Bounds,
    /// Only on this agent
    #[arg(long)]
    pub(super) agent: Option<String>,
    /// Sandbox profile: script, browser, office or legacy; the host's policy says which it takes
    #[arg(long, value_name = "PROFILE", default_value = "script", value_parser = sandbox)]
    pub(super) sandbox: order::SandboxProfile,
    /// Grant a secret; can be given several times
    #[arg(long = "secret", value_name = "NAME")]
    pub(super) secrets: Vec<String>,
    #[arg(long, default_value = "default")]
    pub(super) tenant: String,
    #[arg(long, default_value = "internal")]
    pub(super) data_class: String,
    #[arg(long, default_value = "")]
    pub(super) group: String,
    #[arg(long, default_value = "")]
    pub(super) repository: String,
    /// Name of the automation [default: the package's]
    #[arg(long, default_value = "")]
    pub(super) automation: String,
    #[arg(long, default_value = "")]
    pub(super) automation_version: String,
    #[arg(long, default_value = "")]
    pub(super) language: String,
    /// Label K=V
    #[arg(long = "label", value_parser = pair)]
    pub(super) labels: Vec<(String, String)>,
    /// Print each phase as it happens; exit 0 when the job succeeded, 1 otherwise
    #[arg(long)]
    pub(super) wait: bool,
    #[arg(long)]
    pub(super) json: bool,
}

/// What a job may use. 0 = as much as the host's policy allows.
#[derive(Debug, Args)]
pub(super) struct Bounds {
    /// Stop the bot when it neither printed, called nor worked for so long; 0s = as the host allows
    #[arg(long, default_value = "0s", value_parser = duration)]
    pub(super) idle_timeout: Duration,
    /// Size of the scratch volume
    #[arg(long, default_value = "512M", value_parser = bytes)]
    pub(super) volume: u64,
    /// Files on the scratch volume [default: one per 16 KiB, at least 20000]
    #[arg(long, value_name = "COUNT")]
    pub(super) volume_files: Option<u64>,
    /// Memory of all its processes, with a scratch volume that is memory
    #[arg(long, default_value = "2G", value_parser = bytes)]
    pub(super) memory: u64,
    /// Processes and threads
    #[arg(long, default_value_t = 1024, value_name = "COUNT")]
    pub(super) processes: u64,
    /// Processor time in percent of one processor; 0 = as the host allows
    #[arg(long, default_value_t = 0, value_name = "PERCENT")]
    pub(super) cpu: u64,
    /// Share of busy processors against other jobs, 1 to 10000
    #[arg(long, default_value_t = 100, value_name = "SHARE")]
    pub(super) cpu_weight: u64,
    /// Bytes read and bytes written in a second, for each disk; 0 = as the host allows
    #[arg(long, default_value = "0", value_name = "BYTES", value_parser = bytes)]
    pub(super) io_rate: u64,
    /// Share of busy disks against other jobs, 1 to 10000
    #[arg(long, default_value_t = 100, value_name = "SHARE")]
    pub(super) io_weight: u64,
    /// Open files of each process
    #[arg(long, default_value_t = 8192, value_name = "COUNT")]
    pub(super) open_files: u64,
}

/// What is pictured of the display, and what not.
#[derive(Debug, Args)]
pub(super) struct Pictures {
    /// A picture each so often
    #[arg(long, value_parser = duration)]
    pub(super) screenshot_every: Option<Duration>,
    /// File format of pictures; both are lossless
    #[arg(long, default_value = "png")]
    pub(super) screenshot_format: Format,
    /// Paint over this place in every picture; can be given several times
    #[arg(long = "mask-area", value_name = "X,Y,WIDTHxHEIGHT", value_parser = area)]
    pub(super) mask_areas: Vec<order::Area>,
    /// Paint over these windows: class=C, title=T (a part of it) or class=C,title=T; can be given
    /// several times
    #[arg(long = "mask-window", value_name = "WINDOW", value_parser = window)]
    pub(super) mask_windows: Vec<order::WindowMask>,
    /// Nobody may look on while the job runs
    #[arg(long)]
    pub(super) no_live_view: bool,
    /// After a secret was handed out nothing is pictured for so long, or until the bot says
    /// `privacy off`; 0s = pictured on
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub(super) secret_pause: Duration,
}

/// A lossless file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Png,
    Webp,
}

/// A display's size; `None` inside means no display.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size(pub(super) Option<order::Display>);

#[derive(Debug, Subcommand)]
pub(super) enum EventAsk {
    /// Show security events, oldest first
    List {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        filter: Filter,
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct Filter {
    /// Caused by this account
    #[arg(long)]
    user: Option<String>,
    /// Seen by: orchestrator, or the name of an agent
    #[arg(long)]
    source: Option<String>,
    /// From then on: RFC 3339, milliseconds since 1970, or an age such as 10m
    #[arg(long)]
    since: Option<String>,
    /// Number of the event
    #[arg(long)]
    code: Option<u32>,
    /// Of this job (whole id)
    #[arg(long)]
    job: Option<String>,
}

impl Filter {
    pub(super) fn filter(self) -> Result<EventFilter, Refused> {
        let since_unix_ms = self
            .since
            .as_deref()
            .map(super::quantity::since)
            .transpose();
        Ok(EventFilter {
            user: self.user,
            source: self.source,
            since_unix_ms: since_unix_ms.map_err(|text| Refused::invalid("TIME_INVALID", text))?,
            code: self.code,
            job: self.job,
        })
    }
}

fn sandbox(name: &str) -> Result<order::SandboxProfile, String> {
    order::SandboxProfile::from_name(name)
        .ok_or_else(|| "write script, browser, office or legacy".to_owned())
}
