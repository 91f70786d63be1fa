//! Rules for values, and what is worth a word though it is no mistake.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::{Config, Error};

/// A socket address has 107 bytes for a path; the longest of ours is
/// `jobs/<UUID>.<attempt>/attendant.sock`, 68 bytes with a ten-digit attempt.
const MAX_RUNTIME_DIR: usize = 107 - 69;

/// Something that parses but is hardly meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which key.
    pub key: &'static str,
    /// What is odd about it.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

fn refuse(key: &'static str, rule: impl Into<String>) -> Error {
    Error::Range {
        key,
        rule: rule.into(),
    }
}

/// The first value that can't be used.
pub(super) fn ranges(config: &Config) -> Result<(), Error> {
    for (key, path) in [
        ("state-dir", &config.state_dir),
        ("runtime-dir", &config.runtime_dir),
        ("broker-socket", &config.broker_socket),
    ] {
        if !path.is_absolute() {
            return Err(refuse(
                key,
                "a path from the root is needed, the working directory is nobody's choice",
            ));
        }
    }
    if config.runtime_dir.as_os_str().len() > MAX_RUNTIME_DIR {
        let rule = format!(
            "at most {MAX_RUNTIME_DIR} bytes, or the sockets of attempts below it have no address"
        );
        return Err(refuse("runtime-dir", rule));
    }
    labels(config)?;
    admission(config)?;
    link(config)
}

fn labels(config: &Config) -> Result<(), Error> {
    if config.labels.len() > 64 {
        return Err(refuse(
            "labels",
            "at most 64 labels are sent with every connection",
        ));
    }
    let word = |text: &str| (1..=128).contains(&text.len()) && !text.chars().any(char::is_control);
    if config
        .labels
        .iter()
        .all(|(name, value)| word(name) && word(value))
    {
        return Ok(());
    }
    Err(refuse(
        "labels",
        "names and values have 1 to 128 bytes without control characters",
    ))
}

fn admission(config: &Config) -> Result<(), Error> {
    if config
        .admission
        .max_jobs
        .is_some_and(|jobs| !(1..=256).contains(&jobs))
    {
        return Err(refuse(
            "admission.max-jobs",
            "1 to 256; use `robotctl drain` to take no jobs",
        ));
    }
    if !(64..=1 << 20).contains(&config.admission.min_free_mib) {
        return Err(refuse(
            "admission.min-free-mib",
            "64 to 1048576: below it the journal of jobs can't be kept",
        ));
    }
    if !(64..=1 << 24).contains(&config.admission.spool_mib) {
        return Err(refuse(
            "admission.spool-mib",
            "64 to 16777216: less does not hold the output of one job",
        ));
    }
    Ok(())
}

fn link(config: &Config) -> Result<(), Error> {
    if !(1..=120).contains(&config.link.connect_timeout_s) {
        return Err(refuse("link.connect-timeout-s", "1 to 120 seconds"));
    }
    if !(1..=3600).contains(&config.link.backoff_max_s) {
        return Err(refuse(
            "link.backoff-max-s",
            "1 to 3600 seconds: a host that never tries again is lost",
        ));
    }
    Ok(())
}

/// What is odd on this host.
pub(super) fn findings(config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    for (key, path) in [
        ("state-dir", &config.state_dir),
        ("runtime-dir", &config.runtime_dir),
    ] {
        folder(key, path, &mut found);
    }
    if config.state_dir.starts_with("/tmp") || config.state_dir.starts_with("/run") {
        found.push(Finding {
            key: "state-dir",
            what: format!(
                "{} does not survive a reboot: identity, journal and output would be lost",
                config.state_dir.display()
            ),
            remedy: "use a folder on a disk, such as /var/lib/robotd".into(),
        });
    }
    if config.link.backoff_max_s < 5 {
        found.push(Finding {
            key: "link.backoff-max-s",
            what: format!(
                "{} s lets many hosts come back at once after an outage",
                config.link.backoff_max_s
            ),
            remedy: "use 60 unless this is a test".into(),
        });
    }
    found
}

fn folder(key: &'static str, path: &Path, found: &mut Vec<Finding>) {
    let Ok(facts) = std::fs::metadata(path) else {
        return found.push(Finding {
            key,
            what: format!("{} is not there", path.display()),
            remedy: "it is made by the package or the unit; make it and give it to the user robotd, mode 0750".into(),
        });
    };
    if facts.mode() & 0o002 != 0 {
        found.push(Finding {
            key,
            what: format!("everybody can write to {}", path.display()),
            remedy: format!("chmod o-w {}", path.display()),
        });
    }
}
