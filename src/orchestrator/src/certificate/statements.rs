//! What order and result prove together, one sentence each.

use order::{JobResult, KeyId, Order, Phase};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// One thing that a certificate proves, or does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Statement {
    /// Stable name.
    pub(crate) name: &'static str,
    pub(crate) holds: bool,
    /// Why, for a person.
    pub(crate) evidence: String,
}

/// Whether the signatures hold, and by which keys.
pub(super) struct Proof {
    pub(super) order: (bool, KeyId),
    pub(super) result: (bool, KeyId),
}

fn statement(name: &'static str, holds: bool, evidence: String) -> Statement {
    Statement {
        name,
        holds,
        evidence,
    }
}

/// All of them, always in this order.
pub(super) fn statements(
    proof: &Proof,
    order_body: &[u8],
    order: &Order,
    result: &JobResult,
) -> Vec<Statement> {
    vec![
        statement(
            "order-signed",
            proof.order.0,
            format!("the order carries the signature of key {}", proof.order.1),
        ),
        statement(
            "result-signed",
            proof.result.0,
            format!("the result carries the signature of key {}", proof.result.1),
        ),
        same_job(order_body, order, result),
        package(order, result),
        license(result),
        session(result),
        bot(result),
        secrets(order, result),
        wiped(result),
        log(result),
    ]
}

fn at(result: &JobResult, phase: Phase) -> Option<u64> {
    result
        .timeline
        .iter()
        .find(|step| step.phase == phase)
        .map(|step| step.at_unix_ms)
}

/// Whether these moments, each of which must be there, are in this order.
fn ordered(moments: &[Option<u64>]) -> bool {
    moments.iter().all(Option::is_some) && moments.is_sorted()
}

/// A moment in seconds after the first step, which is easier to compare than a date.
fn seconds(result: &JobResult, moment: Option<u64>) -> String {
    let first = result.timeline.first().map_or(0, |step| step.at_unix_ms);
    match moment {
        None => "never".to_owned(),
        Some(at) if at >= first => format!("+{:.3} s", (at - first) as f64 / 1e3),
        Some(at) => format!("-{:.3} s", (first - at) as f64 / 1e3),
    }
}

fn same_job(order_body: &[u8], order: &Order, result: &JobResult) -> Statement {
    let digest = order::Sha256Hex(Sha256::digest(order_body).into());
    let holds = result.order_sha256 == Some(digest)
        && result.attempt == order.attempt
        && result.agent == order.agent;
    let evidence = format!("attempt {} ran under the order {digest}", result.attempt);
    statement("order-followed", holds, evidence)
}

fn package(order: &Order, result: &JobResult) -> Statement {
    let publisher = order
        .publisher
        .as_ref()
        .map_or("nobody".to_owned(), ToString::to_string);
    statement(
        "package-named",
        result.package == Some(order.package),
        format!("the package is {}, published by {publisher}", order.package),
    )
}

/// The license was held before the session opened and until the wipe was done.
fn license(result: &JobResult) -> Statement {
    const NAME: &str = "license-covers-session";
    let Some(license) = &result.license else {
        return statement(NAME, false, "no license is named".to_owned());
    };
    let opened = at(result, Phase::SessionOpen);
    let wiped = at(result, Phase::Wiped);
    let holds = ordered(&[
        Some(license.from_unix_ms),
        opened,
        wiped,
        Some(license.until_unix_ms),
    ]);
    let evidence = format!(
        "lease {} of pool {:?} (fence {}) from {} to {}, the session from {}, wiped at {}",
        license.lease,
        license.pool,
        license.fence,
        seconds(result, Some(license.from_unix_ms)),
        seconds(result, Some(license.until_unix_ms)),
        seconds(result, opened),
        seconds(result, wiped)
    );
    statement(NAME, holds, evidence)
}

fn session(result: &JobResult) -> Statement {
    const NAME: &str = "session-closed";
    match &result.session {
        None => statement(NAME, false, "no session was opened".to_owned()),
        Some(session) => {
            let evidence = format!(
                "session {:?} of account {} (uid {}, {}) closed at {}",
                session.id,
                session.account,
                session.uid,
                session.backend,
                seconds(result, at(result, Phase::SessionClosed))
            );
            statement(NAME, session.closed, evidence)
        }
    }
}

/// The bot's processes lived inside the session.
fn bot(result: &JobResult) -> Statement {
    let steps = [
        Phase::SessionOpen,
        Phase::Running,
        Phase::ProcessesGone,
        Phase::SessionClosed,
    ]
    .map(|phase| at(result, phase));
    let evidence = format!(
        "the bot ran from {}, no process of it was left at {}",
        seconds(result, steps[1]),
        seconds(result, steps[2])
    );
    statement("session-covers-bot", ordered(&steps), evidence)
}

/// Each secret was granted, and given while the bot ran.
fn secrets(order: &Order, result: &JobResult) -> Statement {
    let (began, gone) = (at(result, Phase::Running), at(result, Phase::ProcessesGone));
    let holds = result.secrets.iter().all(|secret| {
        order.secrets.contains(&secret.name)
            && ordered(&[began, Some(secret.given_at_unix_ms), gone])
    });
    let given: Vec<String> = result
        .secrets
        .iter()
        .map(|secret| {
            let at = seconds(result, Some(secret.given_at_unix_ms));
            format!("{:?} at {at}", secret.name)
        })
        .collect();
    let evidence = if given.is_empty() {
        "no secret was given".to_owned()
    } else {
        format!("given: {}", given.join(", "))
    };
    statement("bot-covers-secrets", holds, evidence)
}

fn wiped(result: &JobResult) -> Statement {
    const NAME: &str = "wipe-proven";
    match &result.wipe {
        None => statement(NAME, false, "no wipe was reported".to_owned()),
        Some(wipe) => {
            let volume = wipe
                .volume
                .as_ref()
                .map_or("no volume".to_owned(), |volume| {
                    format!(
                        "a volume of {} with {} files, {} bytes",
                        volume.backend, volume.files, volume.bytes
                    )
                });
            let left = match wipe.leftovers.as_slice() {
                [] => "nothing is left".to_owned(),
                left => format!("left: {}", left.join(", ")),
            };
            let evidence = format!("{volume}, {}; {left}", wipe.assurance.name());
            statement(NAME, wipe.complete, evidence)
        }
    }
}

/// Digests to compare a log with. Without them nobody can say whether a log is the job's.
fn log(result: &JobResult) -> Statement {
    let streams = [
        ("stdout", &result.log.stdout),
        ("stderr", &result.log.stderr),
    ];
    let evidence = streams
        .map(|(name, totals)| format!("{name} {} bytes, SHA-256 {}", totals.bytes, totals.sha256));
    let holds = streams.iter().all(|(_, totals)| !totals.sha256.is_empty());
    statement("log-named", holds, evidence.join("; "))
}
