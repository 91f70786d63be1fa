//! Who goes first on the bulk connection: records and files, then the live view.
//!
//! HTTP/2 shares a connection evenly among its calls. A view that is to give way has to hold its
//! bytes back itself, while others have something under way.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// A view that found the connection busy for this long sends one piece all the same: otherwise a
/// bot that never stops printing could not be watched.
const PATIENCE: Duration = Duration::from_millis(200);

/// What is under way on one connection.
#[derive(Clone, Debug)]
pub(crate) struct Traffic(watch::Sender<usize>);

impl Default for Traffic {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

/// Something is under way until this is dropped.
#[derive(Debug)]
pub(super) struct UnderWay(watch::Sender<usize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.send_modify(|under_way| *under_way -= 1);
    }
}

impl Traffic {
    /// Records or files are on their way from now on.
    pub(super) fn begin(&self) -> UnderWay {
        self.0.send_modify(|under_way| *under_way += 1);
        UnderWay(self.0.clone())
    }

    /// Until nothing is under way, or until it was waited for long enough.
    pub(super) async fn give_way(&self) {
        let mut looking = self.0.subscribe();
        // An error can't be: this end holds a sender.
        let _ = timeout(PATIENCE, looking.wait_for(|under_way| *under_way == 0)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::pin::pin;

    use super::*;

    /// Whether it gives way in this moment.
    async fn waits(mut giving: std::pin::Pin<&mut impl Future<Output = ()>>) -> bool {
        tokio::select! {
            biased;
            () = &mut giving => false,
            () = ready(()) => true,
        }
    }

    #[tokio::test]
    async fn a_view_waits_for_records_and_files() {
        let traffic = Traffic::default();
        assert!(!waits(pin!(traffic.give_way())).await);
        let (record, file) = (traffic.begin(), traffic.begin());
        let mut giving = pin!(traffic.give_way());
        assert!(waits(giving.as_mut()).await);
        drop(record);
        assert!(waits(giving.as_mut()).await);
        drop(file);
        assert!(!waits(giving).await);
    }

    #[tokio::test]
    async fn a_view_does_not_wait_for_ever() {
        let traffic = Traffic::default();
        let _record = traffic.begin();
        timeout(PATIENCE * 50, traffic.give_way()).await.unwrap();
    }
}
