//! The command line. `serve` runs the server; everything else asks it.

mod arguments;
mod canvas;
mod certificate;
mod ended;
mod files;
mod inert;
mod job;
mod keys;
mod logs;
mod masks;
mod packages;
mod quantity;
mod render;
mod serve;
mod watch;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use serde_json::Value;

use crate::admin::{Client, Request};
use crate::refused::{Kind, Refused};
use arguments::{
    Agent, Arguments, CertificateAsk, Command, EventAsk, License, Package, Secret, Token,
};

/// What a command came to. Outcomes of jobs are no errors of the command.
pub(super) enum Ended {
    Well,
    /// The job that was waited for did not succeed.
    JobFailed,
    /// A certificate does not prove all that it should.
    Unproven,
}

/// Runs the program: 0 is well, 1 a job that failed or is not proven, above that sysexits(3).
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Command::Serve(options) => serve::run(&options),
        command => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Refused::unavailable("RUNTIME_FAILED", error.to_string()))
            .and_then(|runtime| runtime.block_on(ask(command))),
    };
    match done {
        Ok(Ended::Well) => ExitCode::SUCCESS,
        Ok(Ended::JobFailed | Ended::Unproven) => ExitCode::from(1),
        Err(refused) => {
            eprintln!(
                "robot-orchestrator: {}",
                inert::line(refused.to_string().as_bytes())
            );
            ExitCode::from(exit_code(refused.kind))
        }
    }
}

/// sysexits(3).
fn exit_code(kind: Kind) -> u8 {
    match kind {
        Kind::Invalid => 64,
        Kind::NotFound => 66,
        Kind::Unavailable | Kind::Exhausted | Kind::Aborted => 69,
        Kind::Denied | Kind::Unproven => 77,
        Kind::State => 65,
    }
}

async fn ask(command: Command) -> Result<Ended, Refused> {
    match command {
        Command::Serve(_) => {}
        Command::Certificate(CertificateAsk::Verify(wanted)) => {
            return certificate::verify(&wanted);
        }
        Command::Token(Token::Create { place, agent, out }) => {
            let token = one(&place.data_dir, Request::TokenCreate { agent }).await?;
            write_token(&token, out.as_deref())?;
        }
        Command::Agent(Agent::List { place, json }) => {
            show(
                &one(&place.data_dir, Request::AgentList).await?,
                json,
                render::agents,
            )?;
        }
        Command::Agent(Agent::Revoke { place, name }) => {
            one(&place.data_dir, Request::AgentRevoke { name: name.clone() }).await?;
            say(&format!("agent {name} is revoked"))?;
        }
        Command::License(License::Set { place, pool, count }) => {
            one(
                &place.data_dir,
                Request::LicenseSet {
                    pool: pool.clone(),
                    count,
                },
            )
            .await?;
            say(&format!("pool {pool} has {count} licenses"))?;
        }
        Command::License(License::List { place, json }) => {
            show(
                &one(&place.data_dir, Request::LicenseList).await?,
                json,
                render::pools,
            )?;
        }
        Command::Package(Package::Push {
            place,
            path,
            sign,
            name,
            json,
        }) => {
            packages::push(&place.data_dir, &path, sign.as_deref(), name, json).await?;
        }
        Command::Package(Package::List { place, json }) => {
            show(
                &one(&place.data_dir, Request::PackageList).await?,
                json,
                render::packages,
            )?;
        }
        Command::Package(Package::Keygen { out }) => packages::keygen(&out)?,
        Command::Key(key) => keys::run(key).await?,
        Command::Secret(secret) => ask_secret(secret).await?,
        Command::Job(job) => return job::run(job).await,
        Command::Event(EventAsk::List {
            place,
            filter,
            json,
        }) => {
            let filter = filter.filter()?;
            show(
                &one(&place.data_dir, Request::EventList { filter }).await?,
                json,
                render::events,
            )?;
        }
    }
    Ok(Ended::Well)
}

async fn ask_secret(secret: Secret) -> Result<(), Refused> {
    match secret {
        Secret::Set { place, name, file } => {
            let plain = files::read_secret(file.as_deref())?;
            let mut client =
                Client::ask(&place.data_dir, &Request::SecretSet { name: name.clone() }).await?;
            client
                .send(&crate::admin::Frame::Bytes(plain.to_vec()))
                .await?;
            client.send(&crate::admin::Frame::End).await?;
            client.answer().await?;
            say(&format!("secret {name} is set"))
        }
        Secret::List { place, json } => show(
            &one(&place.data_dir, Request::SecretList).await?,
            json,
            render::secrets,
        ),
        Secret::Delete { place, name } => {
            one(
                &place.data_dir,
                Request::SecretDelete { name: name.clone() },
            )
            .await?;
            say(&format!("secret {name} is deleted"))
        }
    }
}

async fn one(data_dir: &Path, request: Request) -> Result<Value, Refused> {
    Client::ask(data_dir, &request).await?.answer().await
}

/// Prints to standard output. A reader that went away (`| head`) ends the command quietly.
fn say(text: &str) -> Result<(), Refused> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Refused::unavailable(
            "OUTPUT_FAILED",
            format!("can't write the answer: {error}"),
        )),
        _ => Ok(()),
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn show(value: &Value, json: bool, table: fn(&Value) -> String) -> Result<(), Refused> {
    say(&if json { pretty(value) } else { table(value) })
}

fn write_token(token: &Value, out: Option<&Path>) -> Result<(), Refused> {
    match out {
        None => say(&pretty(token)),
        Some(path) => {
            crate::durable::write_private(path, format!("{}\n", pretty(token)).as_bytes())
        }
    }
}
