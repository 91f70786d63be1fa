//! Waiting on a condition.

use std::time::{Duration, Instant};

/// Long enough for a loaded two-core machine; a condition that holds is seen within 20 ms.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until `look` finds something; ends the test with `what` when it never does.
///
/// # Panics
/// After two minutes.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
