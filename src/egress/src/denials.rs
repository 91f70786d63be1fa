//! What was refused, told to the session: at once when it is new, then as counts, less and less often.
//! A bot can ask for anything any number of times; what it makes us say is bounded.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use privsep::egress::{Denial, MAX_ASKED};
use tokio::sync::{Notify, mpsc};

/// Different things that are told apart in one job.
const APART: usize = 32;

/// From the first time that something is refused again until its count is told; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// Why something is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Denied {
    pub(crate) code: &'static str,
    pub(crate) reason: String,
}

impl Denied {
    pub(crate) fn new(code: &'static str, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { code, reason }
    }
}

#[derive(Debug, Default)]
struct Seen {
    /// By code and what was asked for: why, and how often since it was told last.
    known: BTreeMap<(&'static str, String), (String, u64)>,
    /// Of whatever is beyond [`APART`].
    others: u64,
}

/// The denials of one job.
#[derive(Debug)]
pub(crate) struct Denials {
    seen: Mutex<Seen>,
    again: Notify,
    told: mpsc::UnboundedSender<Denial>,
}

impl Denials {
    /// What is to be told comes out of the receiver: never more than [`APART`] and one at a time.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Denial>) {
        let (told, receiver) = mpsc::unbounded_channel();
        let denials = Self {
            seen: Mutex::default(),
            again: Notify::new(),
            told,
        };
        (denials, receiver)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `asked` was refused, `count` times.
    pub(crate) fn note(&self, asked: &str, denied: &Denied, count: u64) {
        let asked = printable(asked);
        let mut seen = self.seen();
        let key = (denied.code, asked);
        if let Some((_, waiting)) = seen.known.get_mut(&key) {
            *waiting += count;
        } else if seen.known.len() < APART {
            self.tell(&key, &denied.reason, count);
            seen.known.insert(key, (denied.reason.clone(), 0));
            return;
        } else {
            seen.others += count;
        }
        drop(seen);
        self.again.notify_one();
    }

    fn tell(&self, (code, asked): &(&'static str, String), reason: &str, count: u64) {
        // Nobody hears it when the session is gone, and then nobody is left to care.
        let _ = self.told.send(Denial {
            code: (*code).to_owned(),
            asked: asked.clone(),
            reason: reason.to_owned(),
            count,
        });
    }

    /// Tells what was refused again, for as long as the job runs.
    pub(crate) async fn repeat(&self) {
        let mut pause = FIRST_PAUSE;
        loop {
            self.again.notified().await;
            tokio::time::sleep(pause).await;
            self.flush();
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Tells all counts that are waiting.
    pub(crate) fn flush(&self) {
        let mut seen = self.seen();
        for (key, (reason, waiting)) in &mut seen.known {
            if *waiting > 0 {
                self.tell(key, reason, std::mem::take(waiting));
            }
        }
        let others = std::mem::take(&mut seen.others);
        if others > 0 {
            let key = ("TOO_MANY_TARGETS", "other targets".to_owned());
            self.tell(
                &key,
                "the bot was refused more different targets than are told one by one",
                others,
            );
        }
    }
}

/// What a person's terminal may see of what a bot chose.
pub(crate) fn printable(text: &str) -> String {
    let mut clean = String::new();
    for letter in text.chars() {
        let letter = if letter.is_ascii_graphic() || letter == ' ' {
            letter
        } else {
            '?'
        };
        if clean.len() == MAX_ASKED {
            break;
        }
        clean.push(letter);
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied() -> Denied {
        Denied::new("ADDRESS_NOT_ALLOWED", "no rule")
    }

    #[test]
    fn a_new_target_is_told_at_once_and_a_flood_as_counts() {
        let (denials, mut told) = Denials::new();
        for _ in 0..1_000 {
            denials.note("tcp 8.8.8.8:53", &denied(), 1);
        }
        assert_eq!(told.try_recv().unwrap().count, 1);
        assert!(told.try_recv().is_err());
        denials.flush();
        assert_eq!(told.try_recv().unwrap().count, 999);
        denials.flush();
        assert!(told.try_recv().is_err());
    }

    #[test]
    fn a_bot_that_asks_for_everything_is_told_of_in_a_bounded_number_of_sentences() {
        let (denials, mut told) = Denials::new();
        for number in 0..100_000 {
            denials.note(&format!("{number}.tunnel.example\n\u{1b}[2J"), &denied(), 1);
        }
        denials.flush();
        let mut all = vec![];
        while let Ok(denial) = told.try_recv() {
            assert!(!denial.asked.contains(['\n', '\u{1b}']));
            all.push(denial);
        }
        assert_eq!(all.len(), APART + 1);
        assert_eq!(all.iter().map(|denial| denial.count).sum::<u64>(), 100_000);
    }
}
