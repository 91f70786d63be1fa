//! Which page is where.

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use order::JobId;
use serde_json::Value;

use super::{Answer, Pass, Progress, query, respond, watch};
use crate::app::App;
use crate::refused::Refused;
use crate::view::Watcher;

/// Pictures a second unless `?fps=` says otherwise.
const PER_SECOND: u32 = 2;

pub(super) async fn page(
    app: &App,
    progress: Progress,
    pass: Pass,
    request: &Request<Incoming>,
) -> Result<Answer, Refused> {
    let json = |value: Value| respond(StatusCode::OK, "application/json", value.to_string());
    let parts: Vec<&str> = request.uri().path().split('/').skip(1).collect();
    match parts.as_slice() {
        [""] | ["jobs"] if pass.job.is_some() => Err(not_yours()),
        [""] => {
            let jobs = app.desk.ask(|core| core.list_jobs()).await??;
            Ok(respond(
                StatusCode::OK,
                "text/html; charset=utf-8",
                list(&jobs),
            ))
        }
        ["jobs"] => Ok(json(app.desk.ask(|core| core.list_jobs()).await??)),
        ["jobs", wanted] => {
            let id = find(app, &pass, wanted).await?;
            Ok(json(app.desk.ask(move |core| core.show_job(id)).await??))
        }
        ["jobs", wanted, "watch"] => {
            find(app, &pass, wanted).await?;
            Ok(watch::page())
        }
        ["jobs", wanted, "screen"] => {
            let id = find(app, &pass, wanted).await?;
            let fps = query(request, "fps").map(str::parse);
            let who = Watcher {
                by: pass.by,
                // What is no number is refused as what is out of range.
                most_per_second: fps.map_or(PER_SECOND, |fps| fps.unwrap_or(0)),
            };
            watch::screen(app, progress, id, who).await
        }
        _ => Err(Refused::not_found(
            "PAGE_UNKNOWN",
            "/, /jobs, /jobs/ID and /jobs/ID/watch are here",
        )),
    }
}

fn not_yours() -> Refused {
    Refused::denied("PAGE_NOT_YOURS", "the token was made for another job")
}

async fn find(app: &App, pass: &Pass, wanted: &str) -> Result<JobId, Refused> {
    let wanted = wanted.to_owned();
    let id = app.desk.ask(move |core| core.find_job(&wanted)).await??;
    match pass.job.is_none_or(|own| own == id) {
        true => Ok(id),
        false => Err(not_yours()),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn list(jobs: &Value) -> String {
    let cell =
        |job: &Value, name: &str| escaped(job.get(name).and_then(Value::as_str).unwrap_or("-"));
    let rows: String = jobs
        .as_array()
        .into_iter()
        .flatten()
        .map(|job| {
            let id = cell(job, "job_id");
            let live = match job["state"] == "STARTED" {
                true => format!("<a href=\"/jobs/{id}/watch\">look on</a>"),
                false => String::new(),
            };
            format!(
                "<tr><td><a href=\"/jobs/{id}\">{id}</a><td>{}<td>{}<td>{}<td>{}<td>{live}\n",
                cell(job, "state"),
                cell(job, "outcome"),
                cell(job, "package"),
                cell(job, "agent")
            )
        })
        .collect();
    format!(
        "<!doctype html><title>Jobs</title><style>body{{font:14px sans-serif}}td,th{{padding:2px 12px;text-align:left}}</style>\
         <h1>Jobs</h1><table><tr><th>Job<th>State<th>Outcome<th>Package<th>Agent<th>\n{rows}</table>\n"
    )
}
