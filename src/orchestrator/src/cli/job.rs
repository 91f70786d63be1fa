//! `job ...`: submit and wait, show, stop, fetch what a job left.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use order::{Limits, Masks, PictureFormat, Screenshots};
use serde_json::{Value, json};
use wire::v1;

use super::arguments::{Fetch, Format, Job, Submit};
use super::files::{Folder, append, safe_name};
use super::logs::{self, Form, Wanted};
use super::{Ended, certificate, inert, one, pretty, render, say, show, watch};
use crate::admin::{Client, Frame, Request};
use crate::core::millis;
use crate::refused::Refused;
use crate::spec::{Automation, Submission};

pub(super) async fn run(job: Job) -> Result<Ended, Refused> {
    match job {
        Job::Submit(arguments) => return submit(*arguments).await,
        Job::List { place, json } => {
            show(
                &one(&place.data_dir, Request::JobList).await?,
                json,
                render::jobs,
            )?;
        }
        Job::Show { place, job, json } => {
            show(
                &one(&place.data_dir, Request::JobShow { job }).await?,
                json,
                render::job,
            )?;
        }
        Job::Certificate(wanted) => return certificate::certify(wanted).await,
        Job::Stop { place, job, kill } => {
            let stopped = one(&place.data_dir, Request::JobStop { job, kill }).await?;
            say(&format!(
                "job {} is told to stop",
                render::field(&stopped, "job_id")
            ))?;
        }
        Job::Screenshot { place, job } => {
            one(&place.data_dir, Request::JobScreenshot { job }).await?;
            say("asked for a picture")?;
        }
        Job::Logs {
            place,
            job,
            stream,
            follow,
            raw,
            json,
        } => {
            let stream = stream.map(|stream| match stream.as_str() {
                "stderr" => v1::LogSource::Stderr,
                _ => v1::LogSource::Stdout,
            });
            let form = match (raw, json) {
                (true, _) => Form::Raw,
                (_, true) => Form::Json,
                _ => Form::Inert,
            };
            logs::print(
                &place.data_dir,
                job,
                &Wanted {
                    stream,
                    form,
                    follow,
                },
            )
            .await?;
        }
        Job::Watch(watch) => watch::run(watch).await?,
        Job::Screenshots(fetch) => {
            let request = Request::JobScreenshots {
                job: fetch.job.clone(),
            };
            fetch_all(&fetch, request, picture_name).await?;
        }
        Job::Artifacts(fetch) => {
            let request = Request::JobArtifacts {
                job: fetch.job.clone(),
            };
            fetch_all(&fetch, request, artifact_name).await?;
        }
    }
    Ok(Ended::Well)
}

/// `K:=JSON` is JSON, `K=V` a text.
fn param((name, value): (String, String)) -> Result<(String, Value), Refused> {
    match name.strip_suffix(':') {
        None => Ok((name, Value::String(value))),
        Some(name) => serde_json::from_str(&value)
            .map(|value| (name.to_owned(), value))
            .map_err(|error| Refused::invalid("PARAM_INVALID", format!("{name}: {error}"))),
    }
}

fn submission(arguments: &Submit) -> Result<Submission, Refused> {
    let params: Result<BTreeMap<_, _>, _> = arguments.param.iter().cloned().map(param).collect();
    let display = arguments.display.0;
    Ok(Submission {
        package: arguments.package.clone(),
        entry: arguments.entry.clone(),
        args: arguments.args.clone(),
        env: arguments.env.iter().cloned().collect(),
        params: params?,
        pool: arguments.pool.clone(),
        account: arguments.account.clone(),
        account_secret: arguments.account_secret.clone(),
        network: arguments.network.clone(),
        display,
        screenshots: screenshots(arguments),
        limits: limits(arguments),
        sandbox: arguments.sandbox,
        secrets: arguments.secrets.clone(),
        agent: arguments.agent.clone(),
        tenant: arguments.tenant.clone(),
        data_class: arguments.data_class.clone(),
        automation: Automation {
            group: arguments.group.clone(),
            repository: arguments.repository.clone(),
            name: arguments.automation.clone(),
            version: arguments.automation_version.clone(),
            language: arguments.language.clone(),
            labels: arguments.labels.iter().cloned().collect(),
        },
    })
}

fn limits(arguments: &Submit) -> Limits {
    let bounds = &arguments.bounds;
    let files = Limits::files_of(bounds.volume);
    Limits {
        session_ms: millis(arguments.session_timeout),
        run_ms: millis(arguments.timeout),
        stop_grace_ms: millis(arguments.stop_grace),
        idle_ms: millis(bounds.idle_timeout),
        volume_bytes: bounds.volume,
        volume_files: bounds.volume_files.unwrap_or(files),
        memory_bytes: bounds.memory,
        processes: bounds.processes,
        cpu_percent: bounds.cpu,
        cpu_weight: bounds.cpu_weight,
        io_weight: bounds.io_weight,
        io_bytes_per_second: bounds.io_rate,
        open_files: bounds.open_files,
        ..Limits::default()
    }
}

/// Without a display nothing is pictured, masked or shown.
fn screenshots(arguments: &Submit) -> Screenshots {
    let pictures = &arguments.pictures;
    if arguments.display.0.is_none() {
        return Screenshots::default();
    }
    Screenshots {
        on_start: true,
        on_failure: true,
        every_ms: pictures.screenshot_every.map(millis),
        live_view: !pictures.no_live_view,
        format: match pictures.screenshot_format {
            Format::Png => PictureFormat::Png,
            Format::Webp => PictureFormat::Webp,
        },
        masks: Masks {
            areas: pictures.mask_areas.clone(),
            windows: pictures.mask_windows.clone(),
        },
        secret_pause_ms: millis(pictures.secret_pause),
    }
}

async fn submit(arguments: Submit) -> Result<Ended, Refused> {
    let submission = Box::new(submission(&arguments)?);
    let data_dir = arguments.place.data_dir;
    let queued = one(&data_dir, Request::JobSubmit { submission }).await?;
    let job = render::field(&queued, "job_id");
    if !arguments.wait {
        say(&if arguments.json { pretty(&queued) } else { job })?;
        return Ok(Ended::Well);
    }
    wait(&data_dir, job, arguments.json).await
}

/// Prints each step as it happens.
async fn wait(data_dir: &Path, job: String, json: bool) -> Result<Ended, Refused> {
    if !json {
        say(&format!("job {job}"))?;
    }
    let mut client = Client::ask(data_dir, &Request::JobWatch { job: job.clone() }).await?;
    let mut printed: Vec<(u64, String)> = Vec::new();
    let mut rejections = 0;
    let mut last = Value::Null;
    while let Frame::Json(now) = client.next().await? {
        if !json {
            print_news(&now, &mut printed, &mut rejections)?;
        }
        last = now;
    }
    if json {
        say(&pretty(&one(data_dir, Request::JobShow { job }).await?))?;
    } else {
        say(&verdict(&last))?;
    }
    match last["outcome"].as_str() {
        Some("SUCCEEDED") => Ok(Ended::Well),
        _ => Ok(Ended::JobFailed),
    }
}

fn print_news(
    now: &Value,
    printed: &mut Vec<(u64, String)>,
    rejections: &mut usize,
) -> Result<(), Refused> {
    let refused = now["rejections"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    for row in refused.iter().skip(*rejections) {
        say(&format!(
            "{}  rejected by {}: {} {}",
            render::field(row, "at_unix_ms"),
            render::field(row, "agent"),
            render::field(row, "reason"),
            render::field(row, "detail")
        ))?;
    }
    *rejections = refused.len();
    let attempt = now["attempt"].as_u64().unwrap_or(0);
    for step in now["timeline"].as_array().into_iter().flatten() {
        let phase = render::field(step, "phase");
        if !printed.contains(&(attempt, phase.clone())) {
            say(&format!("{}  {phase}", render::field(step, "at_unix_ms")))?;
            printed.push((attempt, phase));
        }
    }
    Ok(())
}

fn verdict(job: &Value) -> String {
    let mut text = render::field(job, "outcome");
    for (name, label) in [
        ("exit_code", "exit code"),
        ("signal", "signal"),
        ("code", ""),
        ("detail", ""),
    ] {
        let shown = render::field(job, name);
        if shown != "-" {
            text.push_str(&format!("  {label} {shown}").replace("   ", "  "));
        }
    }
    text
}

fn picture_name(facts: &Value) -> String {
    let end = match facts["media_type"].as_str() {
        Some("image/png") => "png",
        Some("image/webp") => "webp",
        _ => "bin",
    };
    let reason = safe_name(
        facts["reason"]
            .as_str()
            .unwrap_or_default()
            .to_lowercase()
            .as_bytes(),
    );
    format!("{:06}-{reason}.{end}", facts["seq"].as_u64().unwrap_or(0))
}

fn artifact_name(facts: &Value) -> String {
    let name = facts["name"]
        .as_str()
        .and_then(|name| BASE64.decode(name).ok());
    safe_name(&name.unwrap_or_default())
}

/// Writes everything into the folder; what is not complete is said and not written.
async fn fetch_all(
    fetch: &Fetch,
    request: Request,
    name: fn(&Value) -> String,
) -> Result<(), Refused> {
    let mut client = Client::ask(&fetch.place.data_dir, &request).await?;
    let folder = Folder::open(&fetch.out)?;
    let mut written = Vec::new();
    while let Frame::Json(facts) = client.next().await? {
        let wanted = name(&facts);
        if facts["complete"] != true {
            eprintln!(
                "robot-orchestrator: {} has not arrived completely",
                inert::line(wanted.as_bytes())
            );
            let _ = client.next().await?;
            continue;
        }
        let (path, mut file) = folder.create(&wanted)?;
        loop {
            match client.next().await? {
                Frame::Bytes(bytes) if bytes.is_empty() => break,
                Frame::Bytes(bytes) => append(&path, &mut file, &bytes)?,
                _ => {
                    return Err(Refused::invalid(
                        "ADMIN_FRAME_INVALID",
                        "content was expected",
                    ));
                }
            }
        }
        if !fetch.json {
            say(&path.display().to_string())?;
        }
        written.push(json!({"path": path.to_string_lossy(), "sha256": facts["sha256"]}));
    }
    match fetch.json {
        true => say(&pretty(&Value::Array(written))),
        false => Ok(()),
    }
}
