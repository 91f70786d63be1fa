//! One function per request: what is asked of the core, and how it is answered.

use std::io::Read as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use order::{JobId, Sha256Hex};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::net::UnixStream;
use zeroize::Zeroizing;

use super::looking;
use super::protocol::{Frame, PIECE, Request, read, write};
use crate::app::App;
use crate::archive::{self, Reader, hex};
use crate::core::Core;
use crate::events::{self, Event};
use crate::refused::Refused;
use crate::store::PackageRow;
use crate::vault::MAX_SECRET;
use crate::view::Watcher;

pub(super) type Answered = Result<(), Refused>;

pub(super) async fn answer(
    app: &Arc<App>,
    stream: &mut UnixStream,
    request: Request,
    by: String,
) -> Answered {
    let value = match request {
        Request::TokenCreate { agent } => token(app, agent, by).await?,
        Request::KeyList => app.desk.ask(|core| core.show_keys()).await?,
        Request::KeyNew => {
            let key = app.desk.ask(|core| core.make_key()).await??;
            json!({"key": key.id(), "public": key})
        }
        Request::KeyTrustRoot { root } => {
            let key = order::VerifyingKey::from_base64(&root)
                .map_err(|error| Refused::invalid("ROOT_KEY_INVALID", error.to_string()))?;
            app.desk.ask(move |core| core.trust_root(key)).await??;
            json!({"root_key": key.id()})
        }
        Request::KeyInstall { file } => {
            app.desk
                .ask(move |core| core.install_keys(&file, &by))
                .await??
        }
        Request::AgentList => agents(app).await?,
        Request::AgentRevoke { name } => json!({"revoked": app.revoke(name, by).await?}),
        Request::LicenseSet { pool, count } => {
            check_pool_name(&pool)?;
            let shown = json!({"pool": pool, "licenses": count});
            app.desk
                .ask(move |core| core.set_pool(&pool, count, &by))
                .await??;
            shown
        }
        Request::LicenseList => app.desk.ask(|core| core.list_pools()).await?,
        Request::PackagePush { sha256 } => push(app, stream, &sha256, by).await?,
        Request::PackageList => app.desk.ask(|core| core.list_packages()).await??,
        Request::SecretSet { name } => set_secret(app, stream, name, by).await?,
        Request::SecretList => secrets(app).await?,
        Request::SecretDelete { name } => {
            let shown = json!({"deleted": name});
            app.desk
                .ask(move |core| core.delete_secret(&name, &by))
                .await??;
            shown
        }
        Request::JobSubmit { submission } => {
            json!({"job_id": app.desk.ask(move |core| core.submit(*submission, &by)).await??})
        }
        Request::JobList => app.desk.ask(|core| core.list_jobs()).await??,
        Request::JobCertificate { job } => {
            let id = find(app, job).await?;
            let ask = move |core: &mut Core| core.certificate(id);
            let certificate = app.desk.ask(ask).await??;
            serde_json::to_value(certificate).unwrap_or_default()
        }
        Request::JobShow { job } => show(app, find(app, job).await?).await?,
        Request::JobStop { job, kill } => {
            let id = find(app, job).await?;
            app.desk
                .ask(move |core| core.stop_job(id, kill, &by))
                .await??;
            json!({"job_id": id})
        }
        Request::JobScreenshot { job } => {
            let id = find(app, job).await?;
            app.desk
                .ask(move |core| core.take_screenshot(id, &by))
                .await??;
            json!({"job_id": id})
        }
        Request::JobLogs { job, follow } => {
            let id = find(app, job).await?;
            return logs(app, stream, id, follow).await;
        }
        Request::JobWatch { job } => {
            let id = find(app, job).await?;
            return watch(app, stream, id).await;
        }
        Request::JobPage { job } => looking::page(app, find(app, job).await?, by)?,
        Request::JobScreen {
            job,
            most_per_second,
            pictures,
        } => {
            let id = find(app, job).await?;
            let who = Watcher {
                by,
                most_per_second,
            };
            return looking::screen(app, stream, id, who, pictures).await;
        }
        Request::JobScreenshots { job } => {
            let id = find(app, job).await?;
            return screenshots(app, stream, id).await;
        }
        Request::JobArtifacts { job } => {
            let id = find(app, job).await?;
            return artifacts(app, stream, id).await;
        }
        Request::EventList { filter } => {
            app.desk
                .ask(move |core| core.list_events(&filter))
                .await??
        }
    };
    write(stream, &Frame::Json(value)).await
}

async fn find(app: &App, job: String) -> Result<JobId, Refused> {
    app.desk.ask(move |core| core.find_job(&job)).await?
}

fn check_pool_name(pool: &str) -> Answered {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    match !pool.is_empty() && pool.len() <= 64 && pool.bytes().all(word) {
        true => Ok(()),
        false => Err(Refused::invalid(
            "POOL_NAME_INVALID",
            "a name has 1 to 64 letters, digits and _-.",
        )),
    }
}

/// The token file: all that a host needs to enrol, and the last time that the secret is seen.
async fn token(app: &App, agent: String, by: String) -> Result<Value, Refused> {
    let name = agent.clone();
    let token = app
        .desk
        .ask(move |core| core.create_token(&agent, &by))
        .await??;
    let (order_key, root_key) = app.desk.ask(|core| core.pins()).await?;
    let mut token = json!({
        "v": 1, "agent_id": token.agent, "agent_name": name,
        "link_url": app.addresses.link_url, "enroll_url": app.addresses.enroll_url,
        "root_sha256": hex(&app.ca.root_sha256()), "secret": BASE64.encode(token.secret),
        "order_key": order_key, "expires_unix_ms": token.expires_unix_ms,
    });
    if let Some(root) = root_key {
        token["root_key"] = json!(root);
    }
    Ok(token)
}

async fn agents(app: &App) -> Result<Value, Refused> {
    let rows = app.desk.ask(|core| core.agents()).await??;
    let line = |shown: crate::core::AgentShown| {
        let row = shown.row;
        let state = match (row.revoked_ms, row.enrolled_ms, shown.state) {
            (Some(_), _, _) => "REVOKED".to_owned(),
            (None, None, _) => "NOT_ENROLLED".to_owned(),
            (None, Some(_), None) => "OFFLINE".to_owned(),
            (None, Some(_), Some(state)) => state,
        };
        let host: Value = row
            .host
            .and_then(|host| serde_json::from_str(&host).ok())
            .unwrap_or_default();
        json!({
            "agent_id": row.id, "name": row.name, "state": state,
            "enrolled_unix_ms": row.enrolled_ms, "revoked_unix_ms": row.revoked_ms,
            "last_seen_unix_ms": row.last_seen_ms, "host": host,
            "abilities": shown.abilities, "missing_abilities": shown.missing_abilities,
        })
    };
    Ok(Value::Array(rows.into_iter().map(line).collect()))
}

async fn secrets(app: &App) -> Result<Value, Refused> {
    let names = app.desk.ask(|core| core.secret_names()).await??;
    let line = |row: crate::store::SecretName| json!({"name": row.name, "version": row.version, "updated_unix_ms": row.updated_ms});
    Ok(Value::Array(names.into_iter().map(line).collect()))
}

async fn set_secret(
    app: &App,
    stream: &mut UnixStream,
    name: String,
    by: String,
) -> Result<Value, Refused> {
    let mut plain = Zeroizing::new(Vec::new());
    while let Frame::Bytes(bytes) = read(stream).await? {
        let bytes = Zeroizing::new(bytes);
        plain.extend_from_slice(&bytes);
        if plain.len() > MAX_SECRET {
            return Err(Refused::invalid(
                "SECRET_SIZE_INVALID",
                format!("at most {MAX_SECRET} bytes"),
            ));
        }
    }
    let shown = name.clone();
    let version = app
        .desk
        .ask(move |core| core.set_secret(&name, &plain, &by))
        .await??;
    Ok(json!({"name": shown, "version": version}))
}

/// Takes a package that the command has packed and reads it with an opener's eyes before anybody
/// can ask for it.
async fn push(
    app: &App,
    stream: &mut UnixStream,
    sha256: &str,
    by: String,
) -> Result<Value, Refused> {
    let pushed = receive(app, stream, sha256).await;
    let row = match pushed {
        Ok(row) => row,
        Err(refused) => {
            // A push starts from the beginning every time; what another push writes is not ours.
            if refused.code != "UPLOAD_IN_PROGRESS" {
                app.blobs.discard(sha256);
            }
            let text = format!("package {sha256:.64} of {by} refused: {refused}");
            let event =
                Event::own(events::PACKAGE_REFUSED, crate::clock::Clock.unix_ms(), text).user(&by);
            app.desk.ask(move |core| core.record(event)).await?;
            return Err(refused);
        }
    };
    let shown = json!({
        "sha256": row.sha256, "name": row.name, "version": row.version, "entry": row.entry,
        "publisher": row.publisher, "bytes": row.bytes,
    });
    app.desk
        .ask(move |core| core.add_package(row, &by))
        .await??;
    Ok(shown)
}

async fn receive(app: &App, stream: &mut UnixStream, sha256: &str) -> Result<PackageRow, Refused> {
    let digest: Sha256Hex = sha256
        .parse()
        .map_err(|_| Refused::invalid("DIGEST_INVALID", "a digest is 64 hex digits"))?;
    let blobs = app.blobs.clone();
    let known = blobs.size(digest).is_some();
    let limits = package::Limits::default();
    let mut arriving = if known {
        None
    } else {
        Some(blobs.resume(digest, 0)?)
    };
    let mut total = 0;
    while let Frame::Bytes(bytes) = read(stream).await? {
        total += bytes.len() as u64;
        if total > limits.max_packed_bytes {
            return Err(Refused::invalid(
                "PACKAGE_TOO_LARGE",
                format!("at most {} bytes", limits.max_packed_bytes),
            ));
        }
        if let Some(open) = arriving.take() {
            let mut open = open;
            arriving = Some(
                blocking(move || {
                    open.write(&bytes)?;
                    Ok(open)
                })
                .await?,
            );
        }
    }
    blocking(move || {
        if let Some(arriving) = arriving {
            arriving.finish()?;
        }
        let checked = package::check(blobs.read(digest)?, &limits);
        let unpacked = checked.map_err(|error| {
            if !known {
                // Content that nobody may have is not kept.
                let _ = crate::durable::remove(&blobs.path(digest));
            }
            Refused::invalid(&error.code().to_string(), error.to_string())
        })?;
        Ok(PackageRow {
            sha256: digest,
            name: unpacked.manifest.name().to_owned(),
            version: unpacked.manifest.version().to_owned(),
            entry: unpacked.manifest.entry().path.as_str().to_owned(),
            publisher: unpacked
                .signature
                .map(|signature| signature.key_id().to_string()),
            bytes: blobs.size(digest).unwrap_or(0),
            pushed_ms: 0,
        })
    })
    .await
}

async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, Refused> + Send + 'static,
) -> Result<R, Refused> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Refused::unavailable("THREAD_FAILED", error.to_string()))?
}

/// A job with the totals of its log: those that the broker signed, or those of what is here.
async fn show(app: &App, id: JobId) -> Result<Value, Refused> {
    let (mut shown, source) = app
        .desk
        .ask(move |core: &mut Core| Ok::<_, Refused>((core.show_job(id)?, core.log_source(id)?)))
        .await??;
    if !source.signed {
        let data_dir = app.data_dir.clone();
        let totals = blocking(move || archive::totals(&data_dir, &source.lanes)).await?;
        if let Value::Object(shown) = &mut shown {
            let log = json!({
                "stdout": crate::core::stream(&totals.stdout), "stderr": crate::core::stream(&totals.stderr),
            });
            shown.insert("log".to_owned(), log);
        }
    }
    Ok(shown)
}

/// Sends the state of a job at every change until it has ended.
async fn watch(app: &App, stream: &mut UnixStream, id: JobId) -> Answered {
    let mut changes = app.desk.changes();
    let mut last = Value::Null;
    loop {
        changes.borrow_and_update();
        let shown = app.desk.ask(move |core| core.show_job(id)).await??;
        let brief = json!({
            "job_id": shown["job_id"], "state": shown["state"], "attempt": shown["attempt"],
            "outcome": shown["outcome"], "code": shown["code"], "detail": shown["detail"],
            "exit_code": shown["exit_code"], "signal": shown["signal"], "agent": shown["agent"],
            "timeline": shown["timeline"], "rejections": shown["rejections"], "missing": shown["missing"],
        });
        if brief != last {
            write(stream, &Frame::Json(brief.clone())).await?;
            last = brief;
        }
        if last["state"] == "ENDED" {
            return write(stream, &Frame::End).await;
        }
        wait(&mut changes, stream).await?;
    }
}

/// Until something changed or the other end is gone.
async fn wait(changes: &mut tokio::sync::watch::Receiver<u64>, stream: &UnixStream) -> Answered {
    let gone = || Refused::unavailable("ADMIN_SOCKET_BROKEN", "the command has gone");
    tokio::select! {
        changed = changes.changed() => changed.map_err(|_| gone()),
        () = closed(stream) => Err(gone()),
    }
}

/// Until the other end closed its socket. Being readable alone proves nothing: the readiness may
/// be left over from the request.
pub(super) async fn closed(stream: &UnixStream) {
    while stream.readable().await.is_ok() {
        match stream.try_read(&mut [0]) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            // Nothing is to be sent after the request; who does it is cut off as well.
            _ => return,
        }
    }
}

async fn logs(app: &App, stream: &mut UnixStream, id: JobId, follow: bool) -> Answered {
    let mut changes = app.desk.changes();
    let mut readers: Vec<(i64, Reader)> = Vec::new();
    let mut attempt = None;
    loop {
        changes.borrow_and_update();
        let source = app.desk.ask(move |core| core.log_source(id)).await??;
        if attempt != Some(source.attempt) {
            readers.clear();
            attempt = Some(source.attempt);
        }
        for lane in &source.lanes {
            if !readers.iter().any(|(known, _)| *known == lane.id) {
                let opened = Reader::open(&app.data_dir, lane)?;
                readers.extend(opened.map(|reader| (lane.id, reader)));
            }
            let Some((_, reader)) = readers.iter_mut().find(|(known, _)| *known == lane.id) else {
                continue;
            };
            // Batches are at most one frame; reading one does not hold up the others for long.
            while let Some(batch) = tokio::task::block_in_place(|| reader.next(lane.bytes))? {
                write(stream, &Frame::Bytes(batch.encode_to_vec())).await?;
            }
        }
        if !follow || source.ended {
            return write(stream, &Frame::End).await;
        }
        wait(&mut changes, stream).await?;
    }
}

async fn screenshots(app: &App, stream: &mut UnixStream, id: JobId) -> Answered {
    for row in app.desk.ask(move |core| core.screenshot_rows(id)).await?? {
        let facts = json!({
            "seq": row.seq, "media_type": row.media_type, "sha256": row.sha256,
            "reason": row.reason, "complete": app.blobs.size(row.sha256).is_some(),
        });
        content(app, stream, facts, row.sha256).await?;
    }
    write(stream, &Frame::End).await
}

async fn artifacts(app: &App, stream: &mut UnixStream, id: JobId) -> Answered {
    for row in app.desk.ask(move |core| core.artifact_rows(id)).await?? {
        let facts = json!({
            "name": BASE64.encode(&row.name), "sha256": row.sha256,
            "complete": app.blobs.size(row.sha256).is_some(),
        });
        content(app, stream, facts, row.sha256).await?;
    }
    write(stream, &Frame::End).await
}

/// The facts of one file, its bytes, and an empty piece behind them.
async fn content(app: &App, stream: &mut UnixStream, facts: Value, digest: Sha256Hex) -> Answered {
    let complete = facts["complete"] == true;
    write(stream, &Frame::Json(facts)).await?;
    if complete {
        let path = app.blobs.path(digest);
        let mut file = app.blobs.read(digest)?;
        loop {
            let mut piece = vec![0; PIECE];
            let read = tokio::task::block_in_place(|| file.read(&mut piece))
                .map_err(|error| Refused::io("can't read", &path, &error))?;
            if read == 0 {
                break;
            }
            piece.truncate(read);
            write(stream, &Frame::Bytes(piece)).await?;
        }
    }
    write(stream, &Frame::Bytes(Vec::new())).await
}
