//! What can be seen of jobs and licenses, as JSON.

use order::{AttemptRef, JobId, JobResult, StreamTotals};
use serde_json::{Value, json};

use super::Core;
use crate::refused::Refused;
use crate::store::{EventFilter, JobRow, LaneRow};

/// Where the totals of a job's log come from.
#[derive(Clone, Debug)]
pub(crate) struct LogSource {
    pub(crate) attempt: AttemptRef,
    pub(crate) lanes: Vec<LaneRow>,
    /// The job has ended and nothing more will come.
    pub(crate) ended: bool,
    /// The totals that the broker signed, when they are known.
    pub(crate) signed: bool,
}

/// Text of a bot for people and JSON: bytes that are not UTF-8 are replaced.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn network(used: &order::NetworkUse) -> Value {
    let peer = |peer: &order::PeerUse| {
        json!({
            "name": peer.name, "address": peer.address, "port": peer.port,
            "connections": peer.connections, "bytes_sent": peer.bytes_sent,
            "bytes_received": peer.bytes_received,
        })
    };
    json!({
        "profile": used.profile, "connections": used.connections, "bytes_sent": used.bytes_sent,
        "bytes_received": used.bytes_received, "refused": used.refused,
        "peers": used.peers.iter().map(peer).collect::<Vec<_>>(), "more_peers": used.more_peers,
    })
}

pub(crate) fn stream(totals: &StreamTotals) -> Value {
    json!({"lines": totals.lines, "bytes": totals.bytes, "sha256": totals.sha256})
}

impl Core {
    /// The job that an id or an unambiguous beginning of one names.
    pub(crate) fn find_job(&self, wanted: &str) -> Result<JobId, Refused> {
        if let Ok(id) = wanted.parse() {
            return Ok(id);
        }
        let plain = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
        if wanted.len() < 4 || !wanted.bytes().all(plain) {
            return Err(Refused::invalid(
                "JOB_INVALID",
                "a job is named by its id or the first four or more characters of it",
            ));
        }
        match self
            .store
            .jobs_like(&wanted.to_ascii_lowercase())?
            .as_slice()
        {
            [one] => Ok(*one),
            [] => Err(Refused::not_found(
                "JOB_UNKNOWN",
                format!("no job {wanted}"),
            )),
            _ => Err(Refused::invalid(
                "JOB_AMBIGUOUS",
                format!("several jobs begin with {wanted}"),
            )),
        }
    }

    fn job_row(&self, id: JobId) -> Result<JobRow, Refused> {
        self.store
            .job(id)?
            .ok_or_else(|| Refused::not_found("JOB_UNKNOWN", format!("no job {id}")))
    }

    /// Where the log of a job is.
    pub(crate) fn log_source(&self, id: JobId) -> Result<LogSource, Refused> {
        let row = self.job_row(id)?;
        let attempt = AttemptRef {
            job: id,
            number: row.attempt,
        };
        let signed = self
            .store
            .attempt(attempt)?
            .is_some_and(|row| row.result.is_some());
        Ok(LogSource {
            attempt,
            lanes: self.store.lanes_of(attempt)?,
            ended: row.ended_ms.is_some(),
            signed,
        })
    }

    pub(crate) fn list_jobs(&self) -> Result<Value, Refused> {
        let names = self.agent_names()?;
        let jobs = self.store.jobs(1000)?;
        let line = |job: &JobRow| {
            json!({
                "job_id": job.id, "state": job.state, "attempt": job.attempt, "outcome": job.outcome,
                "package": job.spec.package_name, "pool": job.spec.pool,
                "agent": job.agent.and_then(|agent| names.get(&agent)),
                "submitted_unix_ms": job.submitted_ms, "ended_unix_ms": job.ended_ms, "code": job.code,
            })
        };
        Ok(Value::Array(jobs.iter().map(line).collect()))
    }

    fn agent_names(&self) -> Result<std::collections::HashMap<order::AgentId, String>, Refused> {
        let agents = self.store.agents()?;
        Ok(agents
            .into_iter()
            .map(|agent| (agent.id, agent.name))
            .collect())
    }

    /// Everything about one job. `log` is null until the broker's signed totals are in.
    pub(crate) fn show_job(&self, id: JobId) -> Result<Value, Refused> {
        let job = self.job_row(id)?;
        let attempt = AttemptRef {
            job: id,
            number: job.attempt,
        };
        let row = self.store.attempt(attempt)?;
        let signed = row.as_ref().and_then(|row| row.result.as_ref());
        let result: Option<JobResult> =
            signed.and_then(|signed| serde_json::from_slice(&signed.body).ok());
        let names = self.agent_names()?;
        let agent = job.agent.or(row.as_ref().map(|row| row.agent));
        let output = self.output(attempt)?;
        let mut shown = json!({
            "job_id": id, "attempt": job.attempt, "state": job.state, "outcome": job.outcome,
            "exit_code": result.as_ref().and_then(|result| result.exit_code),
            "signal": result.as_ref().and_then(|result| result.signal),
            "code": job.code, "detail": job.detail,
            "agent": agent.and_then(|agent| names.get(&agent)),
            "submitted_unix_ms": job.submitted_ms, "ended_unix_ms": job.ended_ms,
            "stop": job.stop, "missing": job.missing, "spec": job.spec,
            "timeline": self.show_timeline(attempt, result.as_ref())?,
            "license": self.show_license(row.as_ref().and_then(|row| row.lease))?,
            "session": result.as_ref().and_then(|result| result.session.as_ref()).map(|session| json!({
                "id": session.id, "backend": session.backend, "account": session.account,
                "uid": session.uid, "display": session.display, "closed": session.closed,
            })),
            "log": result.as_ref().map(|result| json!({
                "stdout": stream(&result.log.stdout), "stderr": stream(&result.log.stderr),
            })),
            "ended_by": result.as_ref().map(|result| json!({
                "who": result.ended_by.who, "limit": result.ended_by.limit, "detail": result.ended_by.detail,
            })),
            "usage": result.as_ref().and_then(|result| result.usage).map(|usage| json!({
                "cpu_ms": usage.cpu_ms, "cpu_held_back_ms": usage.cpu_held_back_ms,
                "memory_peak_bytes": usage.memory_peak_bytes, "memory_kills": usage.memory_kills,
                "processes_peak": usage.processes_peak, "processes_refused": usage.processes_refused,
                "io_read_bytes": usage.io_read_bytes, "io_written_bytes": usage.io_written_bytes,
            })),
            "not_enforced": result.as_ref().map(|result| {
                let row = |limit: &order::Unenforced| json!({"limit": limit.limit, "reason": limit.reason});
                result.not_enforced.iter().map(row).collect::<Vec<_>>()
            }).unwrap_or_default(),
            "remarks": result.as_ref().map(|result| result.remarks.clone()).unwrap_or_default(),
            "sandbox": result.as_ref().and_then(|result| result.sandbox.clone()),
            "network": result.as_ref().and_then(|result| result.network.as_ref()).map(network),
            "wipe": result.as_ref().and_then(|result| result.wipe.as_ref()).map(show_wipe),
        });
        if let (Value::Object(shown), Value::Object(output)) = (&mut shown, output) {
            shown.extend(output);
        }
        Ok(shown)
    }

    /// Steps from both sides, in the order of a job's life. Once the result is in, its signed
    /// times stand for the privileged side's steps.
    fn show_timeline(
        &self,
        attempt: AttemptRef,
        result: Option<&JobResult>,
    ) -> Result<Value, Refused> {
        use order::Phase;
        let own = |phase: Phase| phase <= Phase::Started || phase >= Phase::LicenseReturned;
        let mut steps: Vec<(Phase, u64)> = self
            .store
            .timeline(attempt)?
            .into_iter()
            .filter(|step| result.is_none() || own(step.phase))
            .map(|step| (step.phase, step.at_ms))
            .collect();
        let signed = result.into_iter().flat_map(|result| &result.timeline);
        steps.extend(
            signed
                .filter(|step| !own(step.phase))
                .map(|step| (step.phase, step.at_unix_ms)),
        );
        steps.sort();
        steps.dedup_by_key(|(phase, _)| *phase);
        let line = |(phase, at): (Phase, u64)| json!({"phase": phase, "at_unix_ms": at});
        Ok(Value::Array(steps.into_iter().map(line).collect()))
    }

    fn show_license(&self, lease: Option<order::LeaseId>) -> Result<Value, Refused> {
        let Some(row) = lease
            .map(|lease| self.store.lease(lease))
            .transpose()?
            .flatten()
        else {
            return Ok(Value::Null);
        };
        Ok(json!({
            "lease_id": row.id, "fence": row.fence, "pool": row.pool,
            "returned": matches!(row.ended_how.as_deref(), Some("released" | "returned")),
            "ended": row.ended_how, "granted_unix_ms": row.granted_ms, "ended_unix_ms": row.ended_ms,
        }))
    }

    fn output(&self, attempt: AttemptRef) -> Result<Value, Refused> {
        let names = self.agent_names()?;
        let here = |digest| self.blobs.size(digest).is_some();
        let screenshots: Vec<_> = self.store.screenshots(attempt)?.into_iter().map(|row| json!({
            "seq": row.seq, "at_unix_ms": row.at_ms, "reason": row.reason, "width": row.width,
            "height": row.height, "media_type": row.media_type, "sha256": row.sha256,
            "bytes": row.bytes, "complete": here(row.sha256), "masked": row.masked,
        })).collect();
        let artifacts: Vec<_> = self
            .store
            .artifacts(attempt)?
            .into_iter()
            .map(|row| {
                json!({
                    "name": text(&row.name), "sha256": row.sha256, "bytes": row.bytes,
                    "media_type": row.media_type, "complete": here(row.sha256),
                })
            })
            .collect();
        let alerts: Vec<_> = self
            .store
            .alerts(attempt)?
            .into_iter()
            .map(|row| {
                json!({
                    "at_unix_ms": row.at_ms, "level": row.level, "title": text(&row.title),
                    "message": text(&row.message),
                })
            })
            .collect();
        let errors: Vec<_> = self
            .store
            .bot_errors(attempt)?
            .into_iter()
            .map(|row| {
                json!({
                    "at_unix_ms": row.at_ms, "kind": text(&row.kind), "message": text(&row.message),
                    "stack_trace": text(&row.stack_trace), "tags": row.tags,
                })
            })
            .collect();
        let gaps: Vec<_> = self
            .store
            .gaps(attempt)?
            .into_iter()
            .map(|row| {
                json!({
                    "at_unix_ms": row.at_ms, "records": row.records, "bytes": row.bytes,
                    "unknown": row.unknown, "reason": row.reason, "source": row.source,
                })
            })
            .collect();
        let rejections: Vec<_> = self
            .store
            .rejections(attempt.job)?
            .into_iter()
            .map(|row| {
                json!({
                    "attempt": row.attempt, "agent": names.get(&row.agent), "at_unix_ms": row.at_ms,
                    "reason": row.reason, "code": row.code, "detail": row.detail,
                })
            })
            .collect();
        Ok(json!({
            "screenshots": screenshots, "artifacts": artifacts, "alerts": alerts, "errors": errors,
            "gaps": gaps, "rejections": rejections,
        }))
    }

    pub(crate) fn list_pools(&self) -> Value {
        let line = |usage: super::lease::Usage| {
            let holders: Vec<_> = self
                .leases
                .holders_of(&usage.pool)
                .map(|held| {
                    json!({
                        "lease_id": held.id, "fence": held.fence, "job_id": held.attempt.job,
                        "attempt": held.attempt.number,
                    })
                })
                .collect();
            json!({
                "pool": usage.pool, "licenses": usage.licenses, "held": usage.held,
                "waiting": usage.waiting, "fence": usage.fence, "holders": holders,
            })
        };
        Value::Array(self.leases.usage().into_iter().map(line).collect())
    }

    pub(crate) fn list_packages(&self) -> Result<Value, Refused> {
        let packages = self.store.packages()?;
        Ok(Value::Array(packages.into_iter().map(|row| json!({
            "sha256": row.sha256, "name": row.name, "version": row.version, "entry": row.entry,
            "publisher": row.publisher, "bytes": row.bytes, "pushed_unix_ms": row.pushed_ms,
        })).collect()))
    }

    pub(crate) fn list_events(&self, filter: &EventFilter) -> Result<Value, Refused> {
        Ok(json!(self.store.events(filter)?))
    }

    pub(crate) fn artifact_rows(
        &self,
        id: JobId,
    ) -> Result<Vec<crate::store::ArtifactRow>, Refused> {
        let number = self.job_row(id)?.attempt;
        Ok(self.store.artifacts(AttemptRef { job: id, number })?)
    }

    pub(crate) fn screenshot_rows(
        &self,
        id: JobId,
    ) -> Result<Vec<crate::store::ScreenshotRow>, Refused> {
        let number = self.job_row(id)?.attempt;
        Ok(self.store.screenshots(AttemptRef { job: id, number })?)
    }
}

/// What became of the job's volume, flat: a person reads it in a line.
fn show_wipe(wipe: &order::WipeReport) -> Value {
    let volume = wipe.volume.as_ref();
    let key = volume.and_then(|volume| volume.key.as_ref());
    json!({
        "complete": wipe.complete, "assurance": wipe.assurance, "swap": wipe.swap,
        "duration_ms": wipe.duration_ms, "swept": wipe.swept, "leftovers": wipe.leftovers,
        "backend": volume.map(|volume| volume.backend),
        "passed_over": volume.map(|volume| &volume.passed_over),
        "files": volume.map(|volume| volume.files), "bytes": volume.map(|volume| volume.bytes),
        "canary": volume.map(|volume| volume.canary),
        "key": key.map(|key| json!({
            "cipher": key.cipher, "identifier": key.identifier,
            "created_unix_ms": key.created_unix_ms, "destroyed_unix_ms": key.destroyed_unix_ms,
            "removal_flags": key.removal_flags,
        })),
        "scan": volume.and_then(|volume| volume.scan).map(|scan| json!({
            "bytes": scan.bytes, "secrets": scan.secrets, "too_short": scan.too_short,
            "found": scan.found,
        })),
    })
}
