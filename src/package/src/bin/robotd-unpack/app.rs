//! The order of things: refuse root, confine, unpack, report.

use std::io::Write;
use std::os::fd::AsFd;
use std::process::ExitCode;

use package::{Code, Limits, Report, UnpackError, Unpacked};

use crate::arguments;
use crate::confine::{self, ConfineError};

/// Values of sysexits.h.
mod exit {
    pub(super) const USAGE: u8 = 64;
    pub(super) const DATA: u8 = 65;
    pub(super) const OS: u8 = 71;
    pub(super) const IO: u8 = 74;
    pub(super) const NO_PERMISSION: u8 = 77;
}

pub(crate) fn run() -> ExitCode {
    let (report, status) = match arguments::parse(std::env::args().skip(1)) {
        Ok(limits) => attempt(&limits),
        Err(error) => (
            Report::refused(Code::Confinement, &error.to_string()),
            exit::USAGE,
        ),
    };
    match print(&report) {
        true => ExitCode::from(status),
        // Nobody to report to: the broker is gone, and with it the reason to have unpacked.
        false => ExitCode::from(exit::IO),
    }
}

fn attempt(limits: &Limits) -> (Report, u8) {
    let target = match confine::confine(limits) {
        Ok(target) => target,
        Err(error) => {
            return (
                Report::refused(Code::Confinement, &sentence(&error)),
                status_of(&error),
            );
        }
    };
    match package::unpack(std::io::stdin().lock(), target.as_fd(), limits) {
        Ok(unpacked) => (done(&unpacked), 0),
        Err(error) => (
            Report::refused(error.code(), &sentence(&error)),
            status_of_refusal(&error),
        ),
    }
}

fn done(unpacked: &Unpacked) -> Report {
    let manifest = &unpacked.manifest;
    Report::Done {
        files: manifest.files().len() as u64,
        bytes: manifest.total_bytes(),
    }
}

fn status_of(error: &ConfineError) -> u8 {
    match error {
        ConfineError::Root => exit::NO_PERMISSION,
        _ => exit::OS,
    }
}

fn status_of_refusal(error: &UnpackError) -> u8 {
    match error.code() {
        Code::Io => exit::IO,
        Code::TargetInvalid => exit::USAGE,
        _ => exit::DATA,
    }
}

/// The message and what caused it, on one line.
fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

fn print(report: &Report) -> bool {
    let Ok(line) = report.encode() else {
        return false;
    };
    let mut out = std::io::stdout().lock();
    out.write_all(&line).and_then(|()| out.flush()).is_ok()
}
