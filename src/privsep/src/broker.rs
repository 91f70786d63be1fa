//! robotd asks, the broker decides. The socket's peer must be the user robotd.
//!
//! Answers carry the number of the call. Notices come unasked. A call that is not allowed in
//! the attempt's state is refused; one that can't be decoded ends the connection.

use order::{AttemptRef, KeyId, Phase, PhaseAt, Sha256Hex, Signed};
use serde::{Deserialize, Serialize};

use crate::abilities::Abilities;
use crate::refusal::Refusal;

/// A request with its number, chosen by robotd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Comes back in the answer.
    pub number: u32,
    /// What is asked.
    pub request: Request,
}

/// What robotd may ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// First message. Answer: [`Reply::Welcome`].
    Hello {
        /// [`crate::VERSION`].
        version: u32,
    },
    /// Every attempt that the broker knows. Answer: [`Reply::Held`].
    Sync,
    /// A set of order keys, signed by the root key. Answer: [`Reply::Done`], also when it is in
    /// force already.
    KeySet {
        /// Passed on unread.
        signed: Signed,
    },
    /// Sets a slot aside for an attempt. Answer: [`Reply::Reserved`]. Lives until started,
    /// cancelled or 15 minutes old.
    Reserve {
        /// For whom.
        attempt: AttemptRef,
        /// Account wished for; must be one of the policy's.
        account: Option<String>,
        /// Whose job it is, as the offer says; the order decides.
        tenant: String,
        /// To tell whether the store has it.
        package: Sha256Hex,
    },
    /// Gives a reservation back. Answer: [`Reply::Done`], also when there was none.
    Cancel {
        /// Whose.
        attempt: AttemptRef,
    },
    /// Starts an attempt; the order's body is in a sealed memfd sent along. The commit point:
    /// when [`Reply::Started`] is sent, the attempt is durable and never starts again.
    Start {
        /// Which.
        attempt: AttemptRef,
        /// The key that signed the order.
        key_id: KeyId,
        /// Its signature.
        signature: Vec<u8>,
    },
    /// The package of a started attempt, as a readable file sent along. The broker copies it
    /// while it hashes. Answer: [`Reply::Done`] or the refusal; the job then ends NOT_STARTED.
    Package {
        /// For which attempt.
        attempt: AttemptRef,
    },
    /// robotd could not get the package: the job ends NOT_STARTED with this refusal.
    PackageFailed {
        /// Of which attempt.
        attempt: AttemptRef,
        /// Why.
        refusal: Refusal,
    },
    /// Extends the lease.
    Renew {
        /// Of which attempt.
        attempt: AttemptRef,
        /// Signed by the orchestrator.
        renewal: Signed,
    },
    /// Ends the bot. Answer: [`Reply::Done`], also when it has ended already.
    Stop {
        /// Which.
        attempt: AttemptRef,
        /// How.
        mode: StopMode,
    },
    /// A secret for the bot, sealed to the broker's key; goes to the attendant in a memfd.
    Secret {
        /// For which attempt.
        attempt: AttemptRef,
        /// Its name; must be in the order.
        name: String,
        /// HPKE encapsulated key.
        encapsulated_key: Vec<u8>,
        /// HPKE ciphertext.
        ciphertext: Vec<u8>,
    },
    /// A secret could not be had: the attendant tells the bot.
    SecretFailed {
        /// For which attempt.
        attempt: AttemptRef,
        /// Which.
        name: String,
        /// Why.
        refusal: Refusal,
    },
    /// The result is durable at the orchestrator and the attempt's spool delivered: drop both.
    Forget {
        /// Of which attempt.
        attempt: AttemptRef,
    },
}

/// How to end a bot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopMode {
    /// SIGTERM, the order's grace, then the kill of everything.
    Graceful,
    /// The kill of everything at once.
    Kill,
}

/// What the broker says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// To the call of this number.
    Reply {
        /// From the call.
        number: u32,
        /// What it brought.
        reply: Reply,
    },
    /// Unasked.
    Notice(Notice),
}

/// What a call brought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// To [`Request::Hello`].
    Welcome {
        /// [`crate::VERSION`].
        version: u32,
        /// Ed25519 public key under which results are signed.
        result_key: [u8; 32],
        /// X25519 public key to which secrets are sealed.
        secret_key: [u8; 32],
        /// The slots.
        slots: Vec<Slot>,
        /// What the host can do; absent while it is not known.
        abilities: Option<Abilities>,
        /// What the policy requires and the host does not have.
        missing: Vec<String>,
    },
    /// To [`Request::Sync`].
    Held(Vec<Held>),
    /// To [`Request::Reserve`].
    Reserved {
        /// Account of the slot.
        account: String,
        /// One use; the order must carry it.
        challenge: [u8; 32],
        /// The store has the package.
        package_cached: bool,
    },
    /// To [`Request::Start`].
    Started {
        /// [`Request::Package`] is awaited.
        package_needed: bool,
    },
    /// Done, or already so.
    Done,
    /// No.
    Refused(Refusal),
}

/// What happens to attempts and slots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// A step of an attempt.
    Phase {
        /// Whose.
        attempt: AttemptRef,
        /// Which, when.
        at: PhaseAt,
    },
    /// An attempt ended; the signed result's body is in a sealed memfd sent along.
    Ended {
        /// Which.
        attempt: AttemptRef,
        /// The broker's key.
        key_id: KeyId,
        /// Its signature.
        signature: Vec<u8>,
    },
    /// The session of an attempt wants a secret, for its account: answered as one that the bot asks
    /// for. Said again after [`Request::Sync`] while it is wanted.
    SecretWanted {
        /// Whose.
        attempt: AttemptRef,
        /// Which.
        name: String,
    },
    /// A slot became free, busy or quarantined.
    Slot(Slot),
    /// What the host can do was found out.
    Abilities {
        /// What was found.
        abilities: Abilities,
        /// What the policy requires and was not.
        missing: Vec<String>,
    },
    /// A security event of the privileged side, for the audit lane: JSON of the catalogue.
    Event {
        /// Code of the catalogue.
        code: u32,
        /// Which attempt it belongs to.
        attempt: Option<AttemptRef>,
        /// JSON object with the event's fields.
        body: String,
    },
}

/// One slot: an account with all that goes with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Its account.
    pub account: String,
    /// Whether it can take a job.
    pub state: SlotState,
}

/// Whether a slot can take a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SlotState {
    /// It can.
    Free,
    /// Set aside or in use.
    Busy(AttemptRef),
    /// Something could not be proven clean; only an administrator brings it back.
    Quarantined(Refusal),
}

/// An attempt that the broker knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Which.
    pub attempt: AttemptRef,
    /// Where it stands.
    pub state: HeldState,
    /// The steps so far.
    pub timeline: Vec<PhaseAt>,
}

/// Where an attempt stands at the broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HeldState {
    /// A slot is set aside.
    Reserved,
    /// Started, its package is awaited.
    AwaitsPackage,
    /// Running or closing; the last step.
    Running(Phase),
    /// Its result is there; [`Notice::Ended`] follows the answer.
    Ended,
}
