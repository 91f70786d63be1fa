//! Limits that a job came to, and limits that this host can't enforce: told to the security people.

use events::Code;
use order::{AttemptRef, EndedBy};
use privsep::session::Report;

use crate::broker::Broker;

/// How often a job did not get a process, when it was refused one.
fn refused(report: &Report) -> Option<u64> {
    report.usage?.processes_refused.filter(|count| *count > 0)
}

/// For the result of a job that asked for more processes than it may have. It may go on with fewer, so
/// this need not be what ended it.
pub(crate) fn remark(report: &Report) -> Option<String> {
    let count = refused(report)?;
    Some(format!(
        "LIMIT_PROCESSES: {count} new processes were refused"
    ))
}

impl Broker {
    pub(crate) fn limit_events(&mut self, attempt: AttemptRef, report: &Report) {
        let reached = |limit: &str, reason: &str| {
            Self::event_now(Code::LimitReached)
                .with("limit", limit)
                .with("reason", reason)
        };
        if let Some(refusal) = &report.refusal
            && let Some(limit) = EndedBy::of(&refusal.code, "", None, None).limit
        {
            let event = reached(&limit, &refusal.detail).with("reason_code", refusal.code.as_str());
            self.event(event, Some(attempt));
        }
        if let Some(count) = refused(report) {
            let event = reached("processes", &format!("{count} new processes were refused"));
            self.event(event.with("reason_code", "LIMIT_PROCESSES"), Some(attempt));
        }
        self.tell_not_enforced(attempt, report);
    }

    /// Each limit once: it is the host that lacks it, not the job.
    fn tell_not_enforced(&mut self, attempt: AttemptRef, report: &Report) {
        let told = &mut self.told_not_enforced;
        let new: Vec<_> = report
            .not_enforced
            .iter()
            .filter(|limit| told.insert(limit.limit.clone()))
            .collect();
        let Some(first) = new.first() else { return };
        let names: Vec<&str> = new.iter().map(|limit| limit.limit.as_str()).collect();
        let event = Self::event_now(Code::LimitsNotEnforced)
            .with("limits", names.join(", "))
            .with("reason", first.reason.as_str());
        self.event(event, Some(attempt));
    }
}

#[cfg(test)]
mod tests {
    use order::{Outcome, Usage};

    use super::*;

    #[test]
    fn only_a_job_that_was_refused_processes_is_marked() {
        let with = |processes_refused| {
            let mut report = crate::ending::empty(Outcome::Succeeded);
            report.usage = Some(Usage {
                processes_refused,
                ..Usage::default()
            });
            remark(&report)
        };
        assert_eq!((with(None), with(Some(0))), (None, None));
        let marked = with(Some(12)).unwrap();
        assert!(marked.starts_with("LIMIT_PROCESSES: 12 "), "{marked}");
        assert_eq!(remark(&crate::ending::empty(Outcome::Failed)), None);
    }
}
