//! Which lanes there are to deliver.

use tokio::sync::watch;

use super::lane::Lane;

/// The list. Clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct Lanes(watch::Sender<Vec<Lane>>);

impl Lanes {
    /// A lane joins.
    pub(crate) fn join(&self, lane: Lane) {
        self.0.send_modify(|lanes| lanes.push(lane));
    }

    /// A lane is delivered or given up.
    pub(crate) fn leave(&self, epoch: [u8; 16]) {
        self.0
            .send_modify(|lanes| lanes.retain(|lane| lane.epoch() != epoch));
    }

    /// As of now and from now on.
    pub(crate) fn watch(&self) -> watch::Receiver<Vec<Lane>> {
        self.0.subscribe()
    }
}
