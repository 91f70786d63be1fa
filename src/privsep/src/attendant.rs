//! A session and its attendant, over a pair that the attendant inherits as descriptor 3.
//!
//! The attendant is started before the leader and has a user of its own. Descriptors come with
//! the messages that name them.

use order::{ArtifactTotal, AttemptRef, LogTotals};
use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;
use crate::session::Screenshots;

/// Artifacts of one job. With names of at most [`MAX_ARTIFACT_NAME`] bytes their totals fit a packet.
pub const MAX_ARTIFACTS: usize = 128;

/// Longest relative path of an artifact, in bytes.
pub const MAX_ARTIFACT_NAME: usize = 255;

/// What an attendant is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToAttendant {
    /// First message. It carries the spool directory, the directory for its socket (both opened for
    /// reading) and the read ends of the bot's stdout and stderr, in this order.
    /// Answer: [`FromAttendant::Ready`].
    Begin(Begin),
    /// The bot's listening stream socket (`/run/robot/job.sock`), made inside the job's
    /// namespaces, sent along.
    BotSocket,
    /// The display is up: the directory of its socket opened O_PATH, sent along.
    /// Answer: [`FromAttendant::DisplayConnected`].
    Display {
        /// Display number.
        number: u32,
        /// A VNC server's socket, `vnc<number>`, lies in the same directory.
        vnc: bool,
        /// MIT-MAGIC-COOKIE-1.
        cookie: [u8; 16],
    },
    /// The bot was started: the clock of interval screenshots runs.
    Running,
    /// Take a picture now because the bot failed. Answer: [`FromAttendant::FailureTaken`].
    FailureScreenshot,
    /// A file that the bot handed back, sent along by the collector: opened for reading.
    Artifact {
        /// Relative path below `$ROBOT_ARTIFACTS`, raw bytes, at most [`MAX_ARTIFACT_NAME`].
        name: Vec<u8>,
    },
    /// A secret that the bot asked for, in a sealed memfd sent along.
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
    /// When did the bot last print or call? Answer: [`FromAttendant::LastHeard`].
    LastHeard,
    /// All processes of the job are gone: read what is left in the pipes, end the lane, sync it.
    /// Answer: [`FromAttendant::Finished`].
    Finish,
    /// Exit.
    Leave,
}

/// What an attendant needs for one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// Which attempt.
    pub attempt: AttemptRef,
    /// An attendant before this one was lost: recover the lane and write the gap. What it had been
    /// told that still holds is told again: [`ToAttendant::BotSocket`], [`ToAttendant::Display`],
    /// [`ToAttendant::Running`], and artifacts that were not answered.
    pub restarted: bool,
    /// uid of the bot, the only peer of its socket.
    pub bot_uid: u32,
    /// uid of robotd, the only peer of `attendant.sock`.
    pub robotd_uid: u32,
    /// When to take pictures.
    pub screenshots: Screenshots,
    /// Output that is kept.
    pub log_bytes: u64,
    /// All artifacts together.
    pub artifact_bytes: u64,
    /// Secrets that the bot may ask for.
    pub secrets: Vec<String>,
    /// Secrets that the bot was given by a lost attendant: it knows them and this one has to mask
    /// them. The session sends each of them again ([`ToAttendant::Secret`], from the memfd that it
    /// kept) right after this message; until the last has come, no output is read.
    pub given: Vec<String>,
    /// The job's parameters, a JSON object.
    pub params_json: String,
}

/// What an attendant says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromAttendant {
    /// It reads the pipes; its lane has this epoch.
    Ready {
        /// 16 bytes.
        epoch: [u8; 16],
    },
    /// It sees the display, and the picture of the start is taken when one is wanted.
    DisplayConnected,
    /// It can't see the display.
    DisplayFailed(Refusal),
    /// The failure's picture is taken, or could not be.
    FailureTaken,
    /// An artifact is in the spool, or was refused (too large, too many).
    ArtifactTaken {
        /// Its totals.
        total: Result<ArtifactTotal, Refusal>,
    },
    /// An administrator of the host began to look on over VNC, or left.
    LookedOn {
        /// Began.
        began: bool,
    },
    /// When the bot printed or called last; now, while it waits for something of ours.
    LastHeard {
        /// CLOCK_BOOTTIME, nanoseconds.
        boottime_ns: u64,
    },
    /// The lane is ended and synced.
    Finished(Totals),
    /// The lane can't be written any more (disk full beyond the reserve, failed sync).
    SpoolLost(Refusal),
}

/// What an attendant delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Both streams.
    pub log: LogTotals,
    /// Artifacts, also those that the bot handed over itself.
    pub artifacts: Vec<ArtifactTotal>,
    /// Number of screenshots.
    pub screenshots: u32,
    /// Last record of the lane.
    pub last_seq: u64,
}
