//! The story of one job.

use super::attempt::{Attempt, Ending};

/// Runs an attempt from wherever its journal stands to where nothing is left to do. Each verb
/// knows whether it was done before; stopping arrives as a message that the verbs hear.
pub(super) async fn run_job(mut job: Attempt) {
    let told = match carry_out(&mut job).await {
        Ok(()) | Err(Ending::Dropped) => Ok(()),
        Err(Ending::Declined(reject)) => job.decline(reject).await,
        Err(Ending::Lost) => job.report_lost().await,
        Err(Ending::Suspended) => return,
    };
    match told {
        Err(Ending::Suspended) => {}
        _ => job.forget().await,
    }
}

async fn carry_out(job: &mut Attempt) -> Result<(), Ending> {
    job.find_place().await?;
    job.reserve_slot().await?;
    job.accept_offer().await?;
    job.lease_license().await?;
    job.await_order().await?;
    job.start().await?;
    job.deliver_package().await?;
    job.follow_to_its_end().await?;
    job.return_license().await?;
    job.report().await?;
    job.await_delivery().await
}
