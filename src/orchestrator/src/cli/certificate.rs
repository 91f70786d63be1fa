//! `job certificate` and `certificate verify`: what is proven about a job, and a file that proves it
//! to others.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde_json::{Value, json};

use super::arguments::{Certify, Verify};
use super::{Ended, inert, one, pretty, say};
use crate::admin::Request;
use crate::certificate::{Certificate, Examined, MAX_FILE, Trusted};
use crate::refused::Refused;

/// Of a job of this server.
pub(super) async fn certify(arguments: Certify) -> Result<Ended, Refused> {
    let request = Request::JobCertificate { job: arguments.job };
    let answer = one(&arguments.place.data_dir, request).await?;
    let text = pretty(&answer);
    let certificate = Certificate::parse(text.as_bytes())?;
    if let Some(file) = &arguments.out {
        std::fs::write(file, format!("{text}\n"))
            .map_err(|error| Refused::io("can't write", file, &error))?;
    }
    tell(&certificate, Trusted::default(), arguments.json)
}

/// Of a file, without a server.
pub(super) fn verify(arguments: &Verify) -> Result<Ended, Refused> {
    let certificate = Certificate::parse(&read(&arguments.file)?)?;
    let trusted = Trusted {
        order: arguments.order_key,
        result: arguments.result_key,
    };
    tell(&certificate, trusted, arguments.json)
}

fn read(file: &Path) -> Result<Vec<u8>, Refused> {
    let fail = |error: std::io::Error| Refused::io("can't read", file, &error);
    let mut text = Vec::new();
    let opened = File::open(file).map_err(fail)?;
    opened.take(MAX_FILE).read_to_end(&mut text).map_err(fail)?;
    Ok(text)
}

fn tell(certificate: &Certificate, trusted: Trusted, json: bool) -> Result<Ended, Refused> {
    let examined = certificate.examine(trusted)?;
    let all = examined.statements.iter().all(|statement| statement.holds);
    if json {
        say(&pretty(&as_json(certificate, &examined)))?;
    } else {
        say(&for_people(certificate, &examined))?;
    }
    Ok(if all { Ended::Well } else { Ended::Unproven })
}

fn as_json(certificate: &Certificate, examined: &Examined) -> Value {
    json!({
        "job_id": examined.result.attempt.job, "attempt": examined.result.attempt.number,
        "agent": certificate.agent, "agent_id": examined.result.agent,
        "outcome": examined.result.outcome, "tenant": examined.order.tenant,
        "requester": examined.order.requester, "approver": examined.order.approver,
        "statements": examined.statements,
    })
}

fn for_people(certificate: &Certificate, examined: &Examined) -> String {
    let line = |text: &str| inert::line(text.as_bytes());
    let (order, result) = (&examined.order, &examined.result);
    let mut lines = vec![format!(
        "job {} for {}, tenant {}, on {}",
        result.attempt,
        line(&order.requester),
        line(&order.tenant),
        line(&certificate.agent),
    )];
    for statement in &examined.statements {
        let mark = if statement.holds { "holds" } else { "FAILS" };
        lines.push(format!(
            "{mark}  {:<22}  {}",
            statement.name,
            line(&statement.evidence)
        ));
    }
    lines.join("\n")
}
