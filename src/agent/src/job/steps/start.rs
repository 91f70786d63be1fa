//! The commit point and the package.

use order::Phase;
use privsep::Refusal;
use privsep::broker::{Reply, Request};
use std::fs::File;
use std::os::fd::OwnedFd;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::super::attempt::{Attempt, Ending, now_ns};
use super::super::entry::Stage;
use super::before::rejected;
use crate::exchange::{Reject, RejectReason, Transfer, TransferError};
use crate::privileged::{CallError, unexpected};

/// A license that ends sooner than this after now starts nothing.
const START_MARGIN_NS: u64 = 5_000_000_000;

impl Attempt {
    pub(in crate::job) async fn await_order(&mut self) -> Result<(), Ending> {
        if self.past(Stage::StartIntent) {
            return Ok(());
        }
        self.until(|job| job.order.is_some().then_some(())).await
    }

    /// Durable before the broker hears of it: found later without the broker's proof, it is
    /// reported and never started again.
    pub(in crate::job) async fn start(&mut self) -> Result<(), Ending> {
        if self.past(Stage::Started) {
            self.open_output();
            return Ok(());
        }
        let Some(order) = self.order.take() else {
            return Err(Ending::Lost);
        };
        self.license_for_start()?;
        let memory = sys::memfd::sealed(c"order", &order.body).map_err(|error| {
            Ending::Declined(Reject::with_code(
                RejectReason::Unsupported,
                "ORDER_NOT_PASSED",
                error.to_string(),
            ))
        })?;
        self.reach(Stage::StartIntent).await;
        let request = Request::Start {
            attempt: self.attempt(),
            key_id: order.key_id,
            signature: order.signature,
        };
        self.package_needed = None;
        match self.parts.broker.call(request, vec![memory]).await {
            Ok(Reply::Started { package_needed }) => {
                self.package_needed = Some(package_needed);
                self.reach(Stage::Started).await;
            }
            Ok(other) => return Err(rejected(unexpected(&other))),
            Err(CallError::Gone) => {
                warn!(attempt = %self.attempt(), "the broker was lost while it was to start the job; its next word decides");
                self.until(|job| job.package_needed.map(drop)).await?;
            }
            // It was started before, by a robotd that lost its journal: a rejection would deny it.
            Err(CallError::Refused(refusal)) if refusal.code == "ATTEMPT_STARTED" => {
                return Err(Ending::Lost);
            }
            // A refused order never started: the orchestrator is told as for any job that did not.
            Err(refusal) => return Err(rejected(refusal)),
        }
        self.record_now(Phase::Started).await;
        self.open_output();
        self.pass_on_renewal().await;
        info!(attempt = %self.attempt(), "the broker has started the job");
        Ok(())
    }

    fn license_for_start(&self) -> Result<(), Ending> {
        let enough = self
            .lease
            .as_ref()
            .is_some_and(|lease| lease.holds(now_ns().saturating_add(START_MARGIN_NS)));
        if enough {
            return Ok(());
        }
        let detail = "the license would end before the job could be started";
        Err(Ending::Declined(Reject::with_code(
            RejectReason::Busy,
            "LEASE_LOST",
            detail,
        )))
    }

    pub(in crate::job) async fn deliver_package(&mut self) -> Result<(), Ending> {
        while !self.past(Stage::Ended) && self.package_needed == Some(true) {
            self.package_needed = Some(false);
            let fetched = self.fetch_package().await?;
            let (request, fds) = match fetched {
                Ok(file) => (
                    Request::Package {
                        attempt: self.attempt(),
                    },
                    vec![OwnedFd::from(file)],
                ),
                Err(TransferError::Stopping) => return Err(Ending::Suspended),
                Err(TransferError::Refused(refusal)) => {
                    warn!(attempt = %self.attempt(), code = %refusal.code, detail = %refusal.detail, "the package can't be had");
                    (
                        Request::PackageFailed {
                            attempt: self.attempt(),
                            refusal,
                        },
                        vec![],
                    )
                }
            };
            match self.parts.broker.tell(request, fds).await {
                Ok(()) => {}
                // Its result follows.
                Err(CallError::Refused(refusal)) => {
                    warn!(attempt = %self.attempt(), code = %refusal.code, detail = %refusal.detail, "the broker refused the package");
                }
                // The next sync says whether the package is still awaited.
                Err(CallError::Gone) => {
                    self.synced = false;
                    self.until(|job| (job.synced || job.past(Stage::Ended)).then_some(()))
                        .await?;
                }
            }
        }
        Ok(())
    }

    async fn fetch_package(&mut self) -> Result<Result<File, TransferError>, Ending> {
        let folder = self.parts.config.tmp_dir();
        // Without a name: nothing is left behind, whatever happens.
        let into = match tempfile::tempfile_in(&folder) {
            Ok(into) => into,
            Err(source) => {
                let detail = format!("no temporary file in {}: {source}", folder.display());
                return Ok(Err(Refusal::new("TMP_UNWRITABLE", detail).into()));
            }
        };
        let offer = &self.entry.offer;
        if offer.package_bytes == 0 {
            // Only an attempt that robotd's journal lost has none.
            return Ok(Err(Refusal::new(
                "JOURNAL_LOST",
                "robotd lost its journal and does not know the package",
            )
            .into()));
        }
        let (answer, answered) = oneshot::channel();
        let (sha256, max_bytes) = (offer.package, offer.package_bytes);
        let transfer = Transfer::Package {
            sha256,
            max_bytes,
            attempt: self.attempt(),
            into,
            answer,
        };
        let transfers = self.parts.transfers.clone();
        let asked = async move {
            transfers
                .send(transfer)
                .await
                .map_err(|_| TransferError::Stopping)?;
            answered.await.map_err(|_| TransferError::Stopping)?
        };
        self.attending(asked).await
    }
}
