//! What each command does.

use std::fs::{self, File};
use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::arguments::{Command, Text};
use crate::connection::Connection;
use crate::failure::Failure;

/// Standard input goes to the log in calls of about this size, whole lines as far as possible.
const PORTION: usize = 64 * 1024;

/// Most of a stack trace or an alert's text; a request has 1 MiB with all its escapes.
const MOST: u64 = 128 * 1024;

pub(crate) fn execute(command: Command) -> Result<(), Failure> {
    let mut job = Connection::open()?;
    match command {
        Command::Help => Ok(()),
        Command::Log { level, text } => log(&mut job, level.as_deref(), text),
        Command::Alert { level, title, text } => {
            let message = match text {
                Text::Given(text) => text,
                Text::StandardInput => read("-".as_ref())?,
            };
            let level = level.unwrap_or_else(|| "info".to_owned());
            done(
                &mut job,
                &json!({ "call": "alert", "level": level, "title": title, "message": message }),
            )
        }
        Command::Error {
            kind,
            stack,
            tags,
            text,
        } => {
            let stack = stack.as_deref().map_or(Ok(String::new()), read)?;
            done(
                &mut job,
                &json!({ "call": "error", "kind": kind, "message": text, "stack": stack, "tags": tags }),
            )
        }
        Command::Artifact { file, name } => artifact(&mut job, &file, name),
        Command::Credential { name } => {
            let answer = job.call(&json!({ "call": "credential", "name": name }), None)?;
            print(&secret(&answer)?)
        }
        Command::Param { name } => {
            let answer = job.call(&json!({ "call": "param", "name": name }), None)?;
            match answer.get("value") {
                Some(Value::String(text)) => print(format!("{text}\n").as_bytes()),
                Some(value) => print(format!("{value}\n").as_bytes()),
                None => Err(Failure::Answer),
            }
        }
        Command::Params => {
            let answer = job.call(&json!({ "call": "params" }), None)?;
            let params = answer.get("params").ok_or(Failure::Answer)?;
            print(format!("{params}\n").as_bytes())
        }
        Command::Screenshot => done(&mut job, &json!({ "call": "screenshot" })),
        Command::Privacy { on, seconds } => done(
            &mut job,
            &json!({ "call": "privacy", "on": on, "seconds": seconds }),
        ),
    }
}

fn done(job: &mut Connection, request: &Value) -> Result<(), Failure> {
    job.call(request, None).map(drop)
}

fn log(job: &mut Connection, level: Option<&str>, text: Text) -> Result<(), Failure> {
    let level = level.unwrap_or("info");
    let mut say = |message: &str| {
        done(
            job,
            &json!({ "call": "log", "level": level, "message": message }),
        )
    };
    if let Text::Given(text) = text {
        return say(&text);
    }
    let input = |source| Failure::Input {
        path: "-".into(),
        source,
    };
    let mut stdin = io::stdin().lock();
    loop {
        let mut portion = Vec::new();
        while portion.len() < PORTION {
            let left = (PORTION - portion.len()) as u64;
            let count = (&mut stdin)
                .take(left)
                .read_until(b'\n', &mut portion)
                .map_err(input)?;
            if count == 0 {
                break;
            }
        }
        if portion.is_empty() {
            return Ok(());
        }
        say(&String::from_utf8_lossy(&portion))?;
    }
}

fn artifact(job: &mut Connection, path: &Path, name: Option<String>) -> Result<(), Failure> {
    let input = |source| Failure::Input {
        path: path.to_owned(),
        source,
    };
    // Before it is opened: opening a pipe would wait for its writer.
    if !fs::metadata(path).map_err(input)?.is_file() {
        return Err(input(io::Error::other("it is not a regular file")));
    }
    let file = File::open(path).map_err(input)?;
    let name = match name {
        Some(name) => name,
        None => default_name(path)?,
    };
    job.call(&json!({ "call": "artifact", "name": name }), Some(&file))
        .map(drop)
}

/// As the collector would name it; its bare name when it lies elsewhere.
fn default_name(path: &Path) -> Result<String, Failure> {
    let folder = std::env::var_os("ROBOT_ARTIFACTS").map(PathBuf::from);
    let (absolute, folder) = (
        fs::canonicalize(path).ok(),
        folder.and_then(|folder| fs::canonicalize(folder).ok()),
    );
    let below = absolute
        .as_deref()
        .zip(folder.as_deref())
        .and_then(|(path, folder)| path.strip_prefix(folder).ok());
    let name = below
        .or_else(|| path.file_name().map(Path::new))
        .and_then(Path::to_str);
    let unnamed = || {
        Failure::Usage(format!(
            "{} has no name that can be used; choose one with --name",
            path.display()
        ))
    };
    name.map(str::to_owned).ok_or_else(unnamed)
}

fn secret(answer: &Map<String, Value>) -> Result<Vec<u8>, Failure> {
    let text = |name: &str| answer.get(name).and_then(Value::as_str);
    match (text("value"), text("value_base64")) {
        (Some(value), _) => Ok(value.as_bytes().to_vec()),
        (None, Some(encoded)) => STANDARD.decode(encoded).map_err(|_| Failure::Answer),
        (None, None) => Err(Failure::Answer),
    }
}

/// A file's text, or standard input's; what goes beyond a request is left out, and said.
fn read(path: &Path) -> Result<String, Failure> {
    let input = |source| Failure::Input {
        path: path.to_owned(),
        source,
    };
    let reader: Box<dyn Read> = if path == "-" {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(path).map_err(input)?)
    };
    let mut bytes = Vec::new();
    reader
        .take(MOST + 1)
        .read_to_end(&mut bytes)
        .map_err(input)?;
    let whole = bytes.len() as u64 <= MOST;
    bytes.truncate(usize::try_from(MOST).unwrap_or(usize::MAX));
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    if !whole {
        text.push_str("\n[robotjob: cut here, it is longer than 128 KiB]");
    }
    Ok(text)
}

pub(crate) fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(Failure::Output)
}
