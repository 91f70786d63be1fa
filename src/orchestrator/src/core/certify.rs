//! Certificates of jobs.

use order::{AttemptRef, JobId, VerifyingKey};

use super::Core;
use crate::certificate::Certificate;
use crate::refused::Refused;

impl Core {
    /// The order and the result of a job's last attempt, with the keys that signed them.
    pub(crate) fn certificate(&self, id: JobId) -> Result<Certificate, Refused> {
        let job = self
            .store
            .job(id)?
            .ok_or_else(|| Refused::not_found("JOB_UNKNOWN", format!("no job {id}")))?;
        let number = job.attempt;
        let nothing = || {
            Refused::state(
                "RESULT_MISSING",
                format!("job {id} has no result that its host signed; see `job show {id}`"),
            )
        };
        let row = self.store.attempt(AttemptRef { job: id, number })?;
        let row = row.ok_or_else(nothing)?;
        let (order, result) = row
            .order
            .as_ref()
            .zip(row.result.as_ref())
            .ok_or_else(nothing)?;
        let agent = self.store.agent(row.agent)?.ok_or_else(nothing)?;
        let key = agent.result_key.as_deref().map(VerifyingKey::from_bytes);
        let result_key = key.and_then(Result::ok).ok_or_else(nothing)?;
        let order_key = self.keys.named(&order.key_id).ok_or_else(|| {
            Refused::state(
                "ORDER_KEY_GONE",
                format!(
                    "the key {} that signed the order is not here any more; restore it to order-keys/",
                    order.key_id
                ),
            )
        })?;
        Ok(Certificate::new(
            &agent.name,
            (order, order_key),
            (result, result_key),
        ))
    }
}
