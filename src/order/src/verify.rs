//! Whether an order may be carried out here and now.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::body::{Display, Masks, Order, Screenshots};
use crate::envelope::{KeyId, MAX_BODY, Purpose, Signed, VerifyingKey};
use crate::ids::{AgentId, AttemptRef};
use crate::limits::LimitRange;

/// How far the clocks of orchestrator and host may be apart. The one-time challenge is what
/// prevents replay; the window only keeps an order from being started days later.
const CLOCK_SKEW_MS: u64 = 5 * 60_000;

/// Names that make a program load code or change what it runs. The list is of names and of
/// prefixes (ending in `*`); sources: ld.so(8) "secure-execution mode", CPython's command line
/// documentation, bash(1), Node's and GTK's documentation.
const REFUSED_ENVIRONMENT: [&str; 22] = [
    "LD_*",
    "PYTHON*",
    "PERL5*",
    "RUBY*",
    "NODE_*",
    "JAVA_TOOL_OPTIONS",
    "_JAVA_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "BASH_*",
    "ENV",
    "SHELLOPTS",
    "IFS",
    "PATH",
    "GCONV_PATH",
    "GTK_MODULES",
    "GTK_PATH",
    "QT_PLUGIN_PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "XDG_*",
    "ROBOT_*",
];

/// The broker's one-time challenge: fresh random bytes for one reservation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Challenge(pub [u8; 32]);

impl Challenge {
    /// From the system's random source.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// As it stands in an order.
    pub fn to_base64(self) -> String {
        BASE64.encode(self.0)
    }
}

impl std::fmt::Debug for Challenge {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Challenge(..)")
    }
}

/// What this host expects of an order for the attempt that it reserved a slot for.
#[derive(Debug)]
pub struct Expectation<'a> {
    /// Order keys pinned at enrolment.
    pub keys: &'a BTreeMap<KeyId, VerifyingKey>,
    /// This host.
    pub agent: AgentId,
    /// The reservation.
    pub attempt: AttemptRef,
    /// Its challenge; absent when it was already used or is too old.
    pub challenge: Option<Challenge>,
    /// The host's wall clock.
    pub now_unix_ms: u64,
}

/// Why an order is refused. [`OrderError::code`] is stable.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OrderError {
    /// More than [`MAX_BODY`].
    #[error("the order has {0} bytes, at most {MAX_BODY} are accepted")]
    TooLarge(usize),
    /// No pinned key has this id.
    #[error(
        "the order is signed with key {0}, which is not pinned on this host; enrol again or rotate the order key"
    )]
    KeyUnknown(KeyId),
    /// One byte differs from what was signed.
    #[error("the order's signature does not match its bytes")]
    SignatureInvalid,
    /// Not strict JSON of version 1.
    #[error("the order can't be read: {0}")]
    Malformed(String),
    /// Meant for another agent.
    #[error("the order is for agent {0}, not for this host")]
    WrongHost(AgentId),
    /// Meant for another job or attempt than the reservation.
    #[error("the order is for attempt {0}, not for the one that the slot was reserved for")]
    WrongAttempt(AttemptRef),
    /// The challenge is not the one of this reservation, or was used.
    #[error(
        "the order does not carry this reservation's one-time challenge: it was replayed, or the broker restarted since"
    )]
    Replayed,
    /// Past its window.
    #[error("the order was to be started until {until} ms since 1970, it is {now} now")]
    Expired {
        /// End of the window.
        until: u64,
        /// The host's clock.
        now: u64,
    },
    /// Before its window.
    #[error(
        "the order is not valid before {from} ms since 1970, it is {now} now; compare the clocks"
    )]
    NotYetValid {
        /// Start of the window.
        from: u64,
        /// The host's clock.
        now: u64,
    },
    /// A field's value is refused.
    #[error("{field}: {reason}")]
    Field {
        /// Which.
        field: &'static str,
        /// Why.
        reason: String,
    },
}

impl OrderError {
    /// Stable code, UPPER_SNAKE_CASE.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge(_) => "ORDER_TOO_LARGE",
            Self::KeyUnknown(_) => "ORDER_KEY_UNKNOWN",
            Self::SignatureInvalid => "ORDER_SIGNATURE_INVALID",
            Self::Malformed(_) => "ORDER_MALFORMED",
            Self::WrongHost(_) => "ORDER_WRONG_HOST",
            Self::WrongAttempt(_) => "ORDER_WRONG_ATTEMPT",
            Self::Replayed => "ORDER_REPLAYED",
            Self::Expired { .. } => "ORDER_EXPIRED",
            Self::NotYetValid { .. } => "ORDER_NOT_YET_VALID",
            Self::Field { .. } => "ORDER_FIELD_REFUSED",
        }
    }
}

/// Reads and checks an order, the signature before anything is parsed.
pub fn verify(signed: &Signed, expected: &Expectation<'_>) -> Result<Order, OrderError> {
    if signed.body.len() > MAX_BODY {
        return Err(OrderError::TooLarge(signed.body.len()));
    }
    let key = expected.keys.get(&signed.key_id);
    let key = key.ok_or_else(|| OrderError::KeyUnknown(signed.key_id.clone()))?;
    if !key.accepts(Purpose::Order, signed) {
        return Err(OrderError::SignatureInvalid);
    }
    let order: Order = serde_json::from_slice(&signed.body)
        .map_err(|error| OrderError::Malformed(error.to_string()))?;
    if order.v != 1 {
        return Err(OrderError::Malformed(format!(
            "version {} is not known",
            order.v
        )));
    }
    check_binding(&order, expected)?;
    check_fields(&order)?;
    Ok(order)
}

/// Host, attempt, challenge and time: whether this order is for here and now.
fn check_binding(order: &Order, expected: &Expectation<'_>) -> Result<(), OrderError> {
    if order.agent != expected.agent {
        return Err(OrderError::WrongHost(order.agent));
    }
    if order.attempt != expected.attempt {
        return Err(OrderError::WrongAttempt(order.attempt));
    }
    let now = expected.now_unix_ms;
    if now > order.not_after_unix_ms.saturating_add(CLOCK_SKEW_MS) {
        return Err(OrderError::Expired {
            until: order.not_after_unix_ms,
            now,
        });
    }
    if now.saturating_add(CLOCK_SKEW_MS) < order.not_before_unix_ms {
        return Err(OrderError::NotYetValid {
            from: order.not_before_unix_ms,
            now,
        });
    }
    match expected.challenge {
        Some(challenge) if challenge.to_base64() == order.challenge => Ok(()),
        _ => Err(OrderError::Replayed),
    }
}

fn refuse(field: &'static str, reason: impl Into<String>) -> OrderError {
    OrderError::Field {
        field,
        reason: reason.into(),
    }
}

fn check_fields(order: &Order) -> Result<(), OrderError> {
    if let Some((LimitRange { name, min, max }, value)) = order.limits.out_of_range() {
        return Err(refuse(
            "limits",
            format!("{name} is {value}, {min} to {max} is accepted"),
        ));
    }
    check_display(order.display.as_ref())?;
    check_screenshots(&order.screenshots)?;
    check_entry(&order.entry)?;
    check_texts(order)?;
    check_environment(&order.env)
}

fn check_display(display: Option<&Display>) -> Result<(), OrderError> {
    let Some(display) = display else {
        return Ok(());
    };
    if !(320..=7680).contains(&display.width) || !(200..=4320).contains(&display.height) {
        return Err(refuse(
            "display",
            "320x200 to 7680x4320 pixels are accepted",
        ));
    }
    if ![16, 24].contains(&display.depth) {
        return Err(refuse("display", "a depth of 16 or 24 bits is accepted"));
    }
    Ok(())
}

fn check_screenshots(screenshots: &Screenshots) -> Result<(), OrderError> {
    const HOUR_MS: u64 = 3_600_000;
    let wrong = |reason: String| Err(refuse("screenshots", reason));
    if screenshots.every_ms.is_some_and(|every| every < 200) {
        return wrong("an interval is at least 200 ms".to_owned());
    }
    if screenshots.secret_pause_ms > HOUR_MS {
        return wrong("a pause after a secret is at most an hour".to_owned());
    }
    let Masks { areas, windows } = &screenshots.masks;
    if areas.len().max(windows.len()) > Masks::MOST {
        return wrong(format!(
            "at most {} masks of a kind are accepted",
            Masks::MOST
        ));
    }
    if areas.iter().any(|area| area.width == 0 || area.height == 0) {
        return wrong("a masked area has a width and a height".to_owned());
    }
    let sound = |text: &Option<String>| {
        text.as_ref()
            .is_none_or(|text| !text.is_empty() && text.len() <= Masks::LONGEST)
    };
    let all_sound = windows
        .iter()
        .all(|mask| sound(&mask.class) && sound(&mask.title));
    if !all_sound
        || windows
            .iter()
            .any(|mask| mask.class.is_none() && mask.title.is_none())
    {
        return wrong(format!(
            "a masked window has a class or a title, of 1 to {} bytes",
            Masks::LONGEST
        ));
    }
    Ok(())
}

/// The entry point is a plain relative path; the package's own rules are checked with the package.
fn check_entry(entry: &str) -> Result<(), OrderError> {
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    if entry.len() > 4096 || entry.chars().any(char::is_control) || !entry.split('/').all(plain) {
        return Err(refuse(
            "entry",
            "a relative path without empty, \".\" or \"..\" parts is accepted",
        ));
    }
    Ok(())
}

fn check_texts(order: &Order) -> Result<(), OrderError> {
    if order.args.iter().any(|arg| arg.contains('\0')) {
        return Err(refuse("args", "an argument can't contain a NUL"));
    }
    let secret = |name: &String| {
        !name.is_empty()
            && name.len() <= 128
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte))
    };
    if order
        .account_secret
        .as_ref()
        .is_some_and(|name| !secret(name) || order.secrets.contains(name))
    {
        return Err(refuse(
            "account-secret",
            "one name of letters, digits and _-./ is accepted, which is not among the bot's secrets",
        ));
    }
    if order.secrets.len() > 64 || !order.secrets.iter().all(secret) {
        return Err(refuse(
            "secrets",
            "at most 64 names of letters, digits and _-./ are accepted",
        ));
    }
    Ok(())
}

fn check_environment(env: &BTreeMap<String, String>) -> Result<(), OrderError> {
    for (name, value) in env {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if name.is_empty() || !name.bytes().all(word) || name.as_bytes()[0].is_ascii_digit() {
            return Err(refuse(
                "env",
                format!("{name:?} is no name of an environment variable"),
            ));
        }
        if value.contains('\0') {
            return Err(refuse("env", format!("the value of {name} contains a NUL")));
        }
        let refused = |pattern: &&str| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == *pattern,
        };
        if REFUSED_ENVIRONMENT.iter().any(refused) {
            return Err(refuse(
                "env",
                format!("{name} decides what code runs or belongs to the session"),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
