//! The read-only page behind `--http`: jobs as a list and as JSON.
//!
//! The token is printed once at start. It is given as `Authorization: Bearer` or, for a browser,
//! once as `?token=`, which is answered with a cookie that scripts can't read.

use std::convert::Infallible;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::app::App;
use crate::refused::{Kind, Refused};

const COOKIE: &str = "robot-orchestrator";

type Answer = Response<Full<Bytes>>;

/// Serves the page in a task of its own.
pub(crate) fn serve(
    app: Arc<App>,
    listener: TcpListener,
    mut stop: watch::Receiver<bool>,
) -> Result<tokio::task::JoinHandle<()>, Refused> {
    let mut secret = [0; 24];
    getrandom::fill(&mut secret)
        .map_err(|error| Refused::unavailable("RANDOM_FAILED", error.to_string()))?;
    let token = URL_SAFE_NO_PAD.encode(secret);
    if let Some(url) = &app.addresses.http_url {
        println!("page {url}/?token={token}");
    }
    let proof: [u8; 32] = Sha256::digest(token.as_bytes()).into();
    Ok(tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            let Ok((stream, _)) = accepted else { continue };
            let app = app.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| answer(app.clone(), proof, request));
                let served = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                // A page that nobody waits for any more is no error of ours.
                let _ = tokio::time::timeout(std::time::Duration::from_secs(60), served).await;
            });
        }
    }))
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    headers.insert(
        header::CACHE_CONTROL,
        header::HeaderValue::from_static("no-store"),
    );
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        header::HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'"),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        header::HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::REFERRER_POLICY,
        header::HeaderValue::from_static("no-referrer"),
    );
    answer
}

fn proves(proof: &[u8; 32], token: &str) -> bool {
    // Digests are compared, so that the time taken says nothing of the token.
    Sha256::digest(token.as_bytes())[..] == proof[..]
}

fn query_token(request: &Request<Incoming>) -> Option<&str> {
    request
        .uri()
        .query()?
        .split('&')
        .find_map(|pair| pair.strip_prefix("token="))
}

fn shown_token(request: &Request<Incoming>) -> Option<&str> {
    let bearer = request.headers().get(header::AUTHORIZATION);
    let bearer = bearer.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let cookies = request
        .headers()
        .get(header::COOKIE)
        .and_then(|value| value.to_str().ok());
    bearer.or_else(|| {
        cookies?
            .split("; ")
            .find_map(|pair| pair.strip_prefix(COOKIE)?.strip_prefix('='))
    })
}

async fn answer(
    app: Arc<App>,
    proof: [u8; 32],
    request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    if request.method() != Method::GET {
        return Ok(respond(
            StatusCode::METHOD_NOT_ALLOWED,
            "text/plain",
            "only GET\n".to_owned(),
        ));
    }
    if let Some(token) = query_token(&request).filter(|token| proves(&proof, token)) {
        return Ok(welcome(token));
    }
    if !shown_token(&request).is_some_and(|token| proves(&proof, token)) {
        let text = "TOKEN_MISSING: use the address that the server printed at its start\n";
        return Ok(respond(
            StatusCode::UNAUTHORIZED,
            "text/plain",
            text.to_owned(),
        ));
    }
    Ok(match page(&app, request.uri().path()).await {
        Ok(answer) => answer,
        Err(refused) => {
            let status = match refused.kind {
                Kind::NotFound => StatusCode::NOT_FOUND,
                Kind::Invalid => StatusCode::BAD_REQUEST,
                _ => StatusCode::SERVICE_UNAVAILABLE,
            };
            respond(status, "text/plain; charset=utf-8", format!("{refused}\n"))
        }
    })
}

/// Takes the token out of the address bar.
fn welcome(token: &str) -> Answer {
    let mut answer = respond(StatusCode::SEE_OTHER, "text/plain", String::new());
    let cookie = format!("{COOKIE}={token}; HttpOnly; SameSite=Strict; Path=/");
    if let Ok(cookie) = header::HeaderValue::from_str(&cookie) {
        answer.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    answer
        .headers_mut()
        .insert(header::LOCATION, header::HeaderValue::from_static("/"));
    answer
}

async fn page(app: &App, path: &str) -> Result<Answer, Refused> {
    let json = |value: Value| respond(StatusCode::OK, "application/json", value.to_string());
    match path {
        "/" => {
            let jobs = app.desk.ask(|core| core.list_jobs()).await??;
            Ok(respond(
                StatusCode::OK,
                "text/html; charset=utf-8",
                list(&jobs),
            ))
        }
        "/jobs" => Ok(json(app.desk.ask(|core| core.list_jobs()).await??)),
        _ => {
            let wanted = path
                .strip_prefix("/jobs/")
                .ok_or_else(|| {
                    Refused::not_found("PAGE_UNKNOWN", "/, /jobs and /jobs/ID are here")
                })?
                .to_owned();
            let shown = app
                .desk
                .ask(move |core| core.find_job(&wanted).and_then(|id| core.show_job(id)))
                .await??;
            Ok(json(shown))
        }
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
            format!(
                "<tr><td><a href=\"/jobs/{id}\">{id}</a><td>{}<td>{}<td>{}<td>{}\n",
                cell(job, "state"),
                cell(job, "outcome"),
                cell(job, "package"),
                cell(job, "agent")
            )
        })
        .collect();
    format!(
        "<!doctype html><title>Jobs</title><style>body{{font:14px sans-serif}}td,th{{padding:2px 12px;text-align:left}}</style>\
         <h1>Jobs</h1><table><tr><th>Job<th>State<th>Outcome<th>Package<th>Agent\n{rows}</table>\n"
    )
}
