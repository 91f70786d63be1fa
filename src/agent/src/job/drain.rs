//! Taking no more jobs for a while.

use std::io;
use std::path::Path;
use std::time::Duration;

use events::Code;
use tokio::time::Instant;
use tracing::{info, warn};

use super::attempt::Input;
use super::dispatch::Dispatch;
use crate::exchange::StopMode;

const DRAINED: &str = "drained";

/// A drained host stays drained through a restart.
pub(super) fn was_drained(state_dir: &Path) -> bool {
    state_dir.join(DRAINED).exists()
}

impl Dispatch {
    pub(super) async fn drain(&mut self, whose: &str, finish_within: Option<Duration>) {
        self.stop_at = finish_within.map(|within| Instant::now() + within);
        if std::mem::replace(&mut self.draining, true) {
            return;
        }
        self.remember_drain(true);
        info!(whose, "no more jobs are taken");
        self.parts
            .audit
            .report(self.parts.audit.event(Code::AgentDraining).by_user(whose))
            .await;
    }

    pub(super) async fn resume(&mut self, whose: &str) {
        self.stop_at = None;
        if !std::mem::replace(&mut self.draining, false) {
            return;
        }
        self.remember_drain(false);
        info!(whose, "jobs are taken again");
        self.parts
            .audit
            .report(self.parts.audit.event(Code::AgentResumed).by_user(whose))
            .await;
    }

    /// A drained host stays drained through a restart.
    fn remember_drain(&self, drained: bool) {
        let path = self.parts.config.state_dir.join(DRAINED);
        let outcome = if drained {
            std::fs::write(&path, b"")
        } else {
            std::fs::remove_file(&path)
        };
        match outcome {
            Err(reason) if reason.kind() != io::ErrorKind::NotFound => {
                warn!(path = %path.display(), %reason, "whether this host is drained is forgotten at the next start");
            }
            _ => {}
        }
    }

    pub(super) async fn stop_all(&mut self) {
        self.stop_at = None;
        let reason = "the host is drained and its time is over";
        self.tell_job(
            |_| true,
            || Input::Stop {
                mode: StopMode::Graceful,
                reason: reason.into(),
            },
        )
        .await;
    }
}
