//! Bytes of one lane that are on their way.

use std::collections::VecDeque;

/// What was sent and not acknowledged.
#[derive(Debug, Default)]
pub(super) struct Flight {
    frames: VecDeque<(u64, u64)>,
    bytes: u64,
}

impl Flight {
    pub(super) fn launch(&mut self, last: u64, bytes: u64) {
        self.frames.push_back((last, bytes));
        self.bytes += bytes;
    }

    /// Takes off what is durable; its bytes.
    pub(super) fn settle(&mut self, durable: u64) -> u64 {
        let before = self.bytes;
        while let Some((_, bytes)) = self
            .frames
            .front()
            .filter(|(last, _)| *last <= durable)
            .copied()
        {
            self.frames.pop_front();
            self.bytes -= bytes;
        }
        before - self.bytes
    }

    /// One frame may always fly, however large it is.
    pub(super) fn full(&self, window: u64) -> bool {
        !self.frames.is_empty() && self.bytes >= window
    }
}

impl Flight {
    /// Nothing is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_counts_bytes_in_flight_and_one_frame_always_flies() {
        let mut flight = Flight::default();
        assert!(!flight.full(0));
        flight.launch(10, 100);
        assert!(flight.full(100) && !flight.full(101));
        flight.launch(20, 50);
        assert_eq!(flight.settle(19), 100);
        assert!(flight.full(50));
        assert_eq!(flight.settle(20), 50);
        assert!(!flight.full(0));
    }
}
