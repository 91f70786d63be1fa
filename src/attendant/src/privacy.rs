//! When nothing is captured: after a secret was handed out, and while the bot wants to be alone.

use std::time::Duration;

use wire::v1::ScreenPause;

/// How long the bot is alone when it does not say.
pub(crate) const DEFAULT_SECONDS: u32 = 300;

/// Longest that it may say.
pub(crate) const MOST_SECONDS: u32 = 3600;

/// Both reasons, and until when each holds (boot clock).
#[derive(Debug)]
pub(crate) struct Privacy {
    /// After each secret; none = capture goes on.
    after_secret: Option<Duration>,
    secret: Option<Duration>,
    bot: Option<Duration>,
}

impl Privacy {
    /// Of an order, which says how long a secret's pause is at most; 0 = none.
    pub(crate) fn new(secret_pause_ms: u64) -> Self {
        let after_secret = Duration::from_millis(secret_pause_ms);
        Self {
            after_secret: (!after_secret.is_zero()).then_some(after_secret),
            secret: None,
            bot: None,
        }
    }

    /// A secret is about to be handed out, or was by an attendant before this one.
    pub(crate) fn secret_given(&mut self, now: Duration) {
        self.secret = self.after_secret.map(|pause| now + pause);
    }

    /// The bot wants to be alone until then.
    pub(crate) fn ask(&mut self, until: Duration) {
        self.bot = Some(until);
    }

    /// The bot has nothing to hide any more, the secret included.
    pub(crate) fn end(&mut self) {
        (self.secret, self.bot) = (None, None);
    }

    /// Until when the bot wanted to be alone.
    pub(crate) fn asked_until(&self) -> Option<Duration> {
        self.bot
    }

    /// Why nothing is captured now. What is over is forgotten.
    pub(crate) fn settle(&mut self, now: Duration) -> Option<ScreenPause> {
        for until in [&mut self.secret, &mut self.bot] {
            until.take_if(|until| *until <= now);
        }
        let secret = self.secret.map(|_| ScreenPause::Secret);
        self.bot.map(|_| ScreenPause::Privacy).or(secret)
    }

    /// When that changes.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.secret.into_iter().chain(self.bot).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_secret_pauses_for_as_long_as_the_order_says() {
        let mut privacy = Privacy::new(30_000);
        assert_eq!(privacy.settle(seconds(1)), None);
        privacy.secret_given(seconds(1));
        assert_eq!(privacy.settle(seconds(30)), Some(ScreenPause::Secret));
        privacy.secret_given(seconds(30));
        assert_eq!(privacy.next_deadline(), Some(seconds(60)));
        assert_eq!(privacy.settle(seconds(60)), None);
        assert_eq!(privacy.next_deadline(), None);
    }

    #[test]
    fn without_a_pause_in_the_order_a_secret_pauses_nothing() {
        let mut privacy = Privacy::new(0);
        privacy.secret_given(seconds(1));
        assert_eq!(privacy.settle(seconds(1)), None);
    }

    #[test]
    fn what_the_bot_says_counts_for_both_and_no_end_ends_the_other() {
        let mut privacy = Privacy::new(60_000);
        privacy.secret_given(seconds(0));
        privacy.ask(seconds(20));
        assert_eq!(privacy.settle(seconds(10)), Some(ScreenPause::Privacy));
        assert_eq!(privacy.settle(seconds(20)), Some(ScreenPause::Secret));
        privacy.end();
        assert_eq!(privacy.settle(seconds(20)), None);
        privacy.ask(seconds(50));
        assert_eq!(privacy.settle(seconds(49)), Some(ScreenPause::Privacy));
    }
}
