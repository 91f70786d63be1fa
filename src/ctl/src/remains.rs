//! `robotctl remains`: what is still on this host of jobs, how it is kept and what ends it.

use std::os::fd::AsFd as _;
use std::path::Path;

use privsep::admin::{MAX_REMAINS, Remain, RemainKind, Reply, Request};
use serde_json::{Value, json};

use crate::outcome::{Bad, Good, Outcome};
use crate::show::{moment, size, table};
use crate::slots::{ask_with, unexpected, unreadable};

pub(crate) fn list(socket: &Path) -> Outcome {
    let (reply, fds) = ask_with(socket, &Request::Remains)?;
    let Reply::Remains = reply else {
        return Err(unexpected(reply));
    };
    let remains = read(fds.first())?;
    Ok(Good {
        text: text(&remains),
        json: remains.iter().map(value).collect(),
    })
}

fn read(fd: Option<&std::os::fd::OwnedFd>) -> Result<Vec<Remain>, Bad> {
    let fd = fd.ok_or_else(|| unreadable("the list did not come along".to_owned()))?;
    let document = sys::memfd::read_sealed(fd.as_fd(), MAX_REMAINS)
        .map_err(|error| unreadable(error.to_string()))?;
    privsep::decode_document(&document).map_err(|error| unreadable(error.to_string()))
}

/// What it is, how it is kept, what ends it.
fn words(kind: RemainKind) -> (&'static str, &'static str, &'static str) {
    match kind {
        RemainKind::Job => ("running job", "in its scratch volume", "wiped at its end"),
        RemainKind::Lane => (
            "output",
            "sealed, its key lies beside it",
            "deleted when the orchestrator has it (unlinked)",
        ),
        RemainKind::Sockets => ("sockets", "in memory", "deleted with the output"),
        RemainKind::Result => (
            "result",
            "plain, root only",
            "deleted when the orchestrator has it",
        ),
        RemainKind::Quarantine => (
            "quarantined slot",
            "see the reason",
            "`robotctl slot recover` proves it clean",
        ),
        RemainKind::Package => (
            "package",
            "plain, root only, no job's data",
            "when not used",
        ),
        RemainKind::Staging => (
            "package under way",
            "plain, root only",
            "in a moment or at the next start",
        ),
        RemainKind::Outbox => (
            "security events",
            "plain, root only",
            "when robotd has them",
        ),
        RemainKind::Replay => (
            "started attempts",
            "ids only",
            "kept: nothing starts twice (the last 10000)",
        ),
        RemainKind::Tenants => (
            "tenants of slots",
            "names only",
            "`robotctl slot release-tenant`",
        ),
        RemainKind::Journal => (
            "robotd's job list",
            "plain, robotd only",
            "entries go with their jobs",
        ),
        RemainKind::OwnLanes => (
            "robotd's records",
            "sealed, their key lies beside them",
            "deleted when the orchestrator has them (unlinked)",
        ),
        RemainKind::Fetched => ("package on its way", "plain, robotd only", "in a moment"),
    }
}

fn text(remains: &[Remain]) -> String {
    if remains.is_empty() {
        return "Nothing of any job is on this host.".to_owned();
    }
    let heads = ["WHAT", "OF", "TENANT", "SIZE", "KEPT", "GOES"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    rows.extend(remains.iter().map(row));
    let mut lines = table(&rows);
    for remain in remains.iter().filter(|remain| !remain.why.is_empty()) {
        let (what, _, _) = words(remain.kind);
        lines.push_str(&format!("\n\n{what} {}: {}", remain.name, remain.why));
    }
    lines
}

fn row(remain: &Remain) -> Vec<String> {
    let (what, kept, goes) = words(remain.kind);
    let taken = match (remain.kind == RemainKind::Job, remain.partial) {
        // Its volume has the size that the order says.
        (true, _) => "-".to_owned(),
        (false, false) => size(remain.bytes),
        (false, true) => format!("{} and more", size(remain.bytes)),
    };
    let goes = match remain.until_unix_ms {
        Some(until) => format!("{goes} until {}", moment(until)),
        None => goes.to_owned(),
    };
    // As short as people name packages.
    let name: String = match remain.kind {
        RemainKind::Package => remain.name.chars().take(16).collect(),
        _ => remain.name.clone(),
    };
    let or_dash = |text: &str| match text {
        "" => "-".to_owned(),
        text => text.to_owned(),
    };
    vec![
        what.to_owned(),
        or_dash(&name),
        or_dash(remain.tenant.as_deref().unwrap_or_default()),
        taken,
        kept.to_owned(),
        goes,
    ]
}

fn value(remain: &Remain) -> Value {
    let (what, kept, goes) = words(remain.kind);
    json!({
        "what": what, "of": remain.name, "tenant": remain.tenant, "path": remain.path,
        "files": remain.files, "bytes": remain.bytes, "partial": remain.partial,
        "kept": kept, "goes": goes, "until_unix_ms": remain.until_unix_ms, "why": remain.why,
    })
}
