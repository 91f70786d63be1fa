//! The read-only pages behind `--http`: jobs as a list and as JSON, and the live view of one.
//!
//! Without a token nothing is shown (see [`Passes`]). It is given as `Authorization: Bearer` or, for a
//! browser, as `?token=`, which is answered with a cookie that scripts can't read.

mod pages;
mod passes;
mod watch;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{Either, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch as cell};
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;

use crate::app::App;
use crate::refused::{Kind, Refused};

pub(crate) use passes::{Pass, Passes};

const COOKIE: &str = "robot-orchestrator";

/// Connections at the same time; more wait in the kernel's backlog.
const AT_ONCE: usize = 128;

/// A connection on which nothing gets on for this long is closed.
const STANDS_STILL: Duration = Duration::from_secs(60);

/// A page, or a stream that goes on.
type Body = Either<Full<Bytes>, StreamBody<ReceiverStream<Result<Frame<Bytes>, Infallible>>>>;
type Answer = Response<Body>;

/// When a connection last got on.
type Progress = Arc<cell::Sender<Instant>>;

/// Serves the pages in a task of its own.
pub(crate) fn serve(
    app: Arc<App>,
    listener: TcpListener,
    mut stop: cell::Receiver<bool>,
) -> Result<tokio::task::JoinHandle<()>, Refused> {
    let token = app.passes.start()?;
    if let Some(url) = &app.addresses.http_url {
        println!("page {url}/?token={token}");
    }
    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    Ok(tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            let Ok((stream, _)) = accepted else { continue };
            let Ok(permit) = Arc::clone(&at_once).acquire_owned().await else {
                return;
            };
            let app = app.clone();
            tokio::spawn(async move {
                converse(app, stream).await;
                drop(permit);
            });
        }
    }))
}

async fn converse(app: Arc<App>, stream: TcpStream) {
    let (progress, mut last) = cell::channel(Instant::now());
    let progress = Arc::new(progress);
    let service = service_fn(move |request| {
        progress.send_replace(Instant::now());
        answer(app.clone(), Arc::clone(&progress), request)
    });
    let served =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let stands_still = async {
        loop {
            let before = *last.borrow_and_update();
            sleep_until(before + STANDS_STILL).await;
            if *last.borrow() == before {
                return;
            }
        }
    };
    tokio::select! {
        // A page that nobody waits for any more is no error of ours.
        _ = served => {}
        () = stands_still => {}
    }
}

fn respond(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
    finish(
        status,
        kind,
        header::HeaderValue::from_static(policy),
        Either::Left(Full::new(body.into())),
    )
}

fn finish(
    status: StatusCode,
    kind: &'static str,
    policy: header::HeaderValue,
    body: Body,
) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, header::HeaderValue::from_static(value));
    }
    answer
}

fn query<'a>(request: &'a Request<Incoming>, name: &str) -> Option<&'a str> {
    let mut pairs = request.uri().query()?.split('&');
    pairs.find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
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
    progress: Progress,
    request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    if request.method() != Method::GET {
        let text = "only GET\n";
        return Ok(respond(StatusCode::METHOD_NOT_ALLOWED, "text/plain", text));
    }
    let cookie = query(&request, "token").and_then(|token| app.passes.exchange(token));
    if let Some(cookie) = cookie {
        return Ok(welcome(&cookie, request.uri().path()));
    }
    let Some(pass) = shown_token(&request).and_then(|shown| app.passes.holder(shown)) else {
        let text = "TOKEN_MISSING: use the address that `serve` or `job watch` printed\n";
        return Ok(respond(StatusCode::UNAUTHORIZED, "text/plain", text));
    };
    Ok(match pages::page(&app, progress, pass, &request).await {
        Ok(answer) => answer,
        Err(refused) => refuse(&refused),
    })
}

fn refuse(refused: &Refused) -> Answer {
    let status = match refused.kind {
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::Denied => StatusCode::FORBIDDEN,
        Kind::State => StatusCode::CONFLICT,
        Kind::Exhausted => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    respond(status, "text/plain; charset=utf-8", format!("{refused}\n"))
}

/// Takes the token out of the address bar.
fn welcome(cookie: &str, path: &str) -> Answer {
    let mut answer = respond(StatusCode::SEE_OTHER, "text/plain", "");
    let cookie = format!("{COOKIE}={cookie}; HttpOnly; SameSite=Strict; Path=/");
    // A path that begins with two slashes would lead to another host.
    let path = format!("/{}", path.trim_start_matches('/'));
    for (name, value) in [(header::SET_COOKIE, cookie), (header::LOCATION, path)] {
        if let Ok(value) = header::HeaderValue::from_str(&value) {
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}
