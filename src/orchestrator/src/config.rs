//! What `serve` was told, and every fixed number of the server in one place.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The options of `serve`.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Everything durable is below it.
    pub(crate) data_dir: PathBuf,
    /// The link's listener (mTLS).
    pub(crate) listen: SocketAddr,
    /// The enrolment's listener (server-authenticated TLS).
    pub(crate) enroll: SocketAddr,
    /// The read-only page, when wanted.
    pub(crate) http: Option<SocketAddr>,
    /// The server's name in its certificate and in tokens; the host's name when absent.
    pub(crate) name: Option<String>,
    /// How long a license lease lasts without renewal.
    pub(crate) lease_ttl: Duration,
    /// Where the key is that secrets are encrypted with; beside the data directory when absent.
    pub(crate) secrets_key: Option<PathBuf>,
}

/// Offers must be answered within this time.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Heartbeat interval that agents are told.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(10);
/// Silence after which a session is dead.
pub(crate) const SILENCE: Duration = Duration::from_secs(30);
/// Added to a lease's TTL before the server frees it: together with the agent's margin of 2 s it
/// covers a drift of 500 ppm on both sides for any TTL below 3,500 s.
pub(crate) const LEASE_GRACE: Duration = Duration::from_secs(5);
/// How long a license is kept for the job whose turn it is.
pub(crate) const TURN: Duration = Duration::from_secs(15);
/// Validity of a signed order for starting.
pub(crate) const ORDER_WINDOW: Duration = Duration::from_secs(5 * 60);
/// Added to run limit and stop grace for the order's hard end: opening, closing and wiping.
pub(crate) const HARD_END_MARGIN: Duration = Duration::from_secs(5 * 60);
/// A transient refusal of an offer is forgotten after this time.
pub(crate) const REOFFER_AFTER: Duration = Duration::from_secs(30);
/// A host that people use or have closed is asked again after this time, however many slots it has.
pub(crate) const HOST_BACK_AFTER: Duration = Duration::from_secs(5);
/// After a result without progress for this long, the job ends with what is missing listed.
pub(crate) const OUTPUT_PATIENCE: Duration = Duration::from_secs(10 * 60);
/// A started job whose agent has been away for this long after its hard end is given up.
pub(crate) const LOST_AFTER_HARD_END: Duration = Duration::from_secs(60 * 60);
/// Join tokens.
pub(crate) const TOKEN_TTL: Duration = Duration::from_secs(3600);
/// Certificates of agents.
pub(crate) const AGENT_CERT_TTL: Duration = Duration::from_secs(24 * 3600);
/// Agents renew when this much is left.
pub(crate) const RENEW_BEFORE: Duration = Duration::from_secs(8 * 3600);
/// A TLS handshake that takes longer is dropped.
pub(crate) const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Handshakes at the same time; more wait in the kernel's backlog.
pub(crate) const HANDSHAKES_AT_ONCE: usize = 256;

/// Enrolments at the same time; a refused one keeps its place for [`ENROLMENT_PAUSE`].
pub(crate) const ENROLMENTS_AT_ONCE: usize = 16;
/// How long the answer to a refused enrolment is held back.
pub(crate) const ENROLMENT_PAUSE: Duration = Duration::from_millis(500);
/// That there are too many tries is noted this often at most.
pub(crate) const ENROLMENT_NOTE_EVERY: Duration = Duration::from_secs(60);

/// Headers of one call, after decompression; ours have a few hundred bytes.
pub(crate) const MAX_HEADERS: u32 = 16 << 10;
/// Calls at the same time on one connection.
pub(crate) const MAX_STREAMS: u32 = 64;
/// Largest control message.
pub(crate) const MAX_CONTROL: usize = 256 << 10;
/// Largest bulk message.
pub(crate) const MAX_BULK: usize = 4 << 20;
/// Largest frame after decompression.
pub(crate) const MAX_FRAME_RAW: usize = 4 << 20;
/// Largest artifact.
pub(crate) const MAX_ARTIFACT: u64 = 4 << 30;
/// Bytes of payload that an agent may have in flight on one lane.
pub(crate) const WINDOW: u64 = 1 << 20;
/// Messages that wait for one agent; a slower one is disconnected.
pub(crate) const AGENT_QUEUE: usize = 256;
/// Decisions that wait for the core.
pub(crate) const CORE_QUEUE: usize = 1024;
/// Jobs that can be watched at the same time: each may take the memory of a few whole pictures.
pub(crate) const MAX_VIEWS: usize = 8;
/// People that can look on at the same time, at all jobs together.
pub(crate) const MAX_WATCHERS: usize = 32;
/// An agent that does not show what it was asked for is asked again after this time.
pub(crate) const VIEW_ASK_AGAIN: Duration = Duration::from_secs(5);
/// A frame that has begun must be whole within this time.
pub(crate) const VIEW_FRAME_WITHIN: Duration = Duration::from_secs(60);
/// Batches of frames that wait for the archive.
pub(crate) const ARCHIVE_QUEUE: usize = 64;
