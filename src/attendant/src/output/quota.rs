//! How much of a bot's output is kept.

/// What the order allows; shared by all that the bot says.
#[derive(Debug)]
pub(crate) struct Quota {
    left: u64,
    used_up: bool,
}

impl Quota {
    pub(crate) fn new(bytes: u64) -> Self {
        Self {
            left: bytes,
            used_up: false,
        }
    }

    /// Whether these bytes are kept. Once something was not, nothing that follows is: a log with
    /// holes wherever a line was too long would be worse than one that ends.
    pub(crate) fn take(&mut self, bytes: u64) -> bool {
        self.used_up |= bytes > self.left;
        if !self.used_up {
            self.left -= bytes;
        }
        !self.used_up
    }

    /// As [`Quota::take`], for what its sender can be told about: nothing else ends with it.
    pub(crate) fn take_if_it_fits(&mut self, bytes: u64) -> bool {
        !self.used_up && bytes <= self.left && self.take(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_does_not_fit_is_the_end() {
        let mut quota = Quota::new(10);
        assert!(quota.take(10) && quota.take(0));
        assert!(!quota.take(1) && !quota.take(0));
    }

    #[test]
    fn what_can_be_refused_ends_nothing() {
        let mut quota = Quota::new(10);
        assert!(!quota.take_if_it_fits(11) && quota.take_if_it_fits(10));
        assert!(!quota.take_if_it_fits(1) && quota.take(0));
    }
}
