//! Values that parse but can't be meant.

use std::collections::BTreeSet;
use std::path::Path;

use super::Policy;

/// Why a policy is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PolicyError {
    /// No TOML, an unknown key or a value of the wrong kind.
    #[error("{0}")]
    Syntax(String),
    /// A value that can't be meant.
    #[error("{key}: {reason}")]
    Value {
        /// Which key.
        key: String,
        /// What is wrong and what to write instead.
        reason: String,
    },
}

pub(super) fn refuse(key: impl Into<String>, reason: impl Into<String>) -> PolicyError {
    PolicyError::Value {
        key: key.into(),
        reason: reason.into(),
    }
}

pub(super) fn check(policy: &Policy) -> Result<(), PolicyError> {
    check_accounts(policy)?;
    check_publishers(policy)?;
    check_interpreters(policy)?;
    check_limits(policy)?;
    super::sandbox::check(policy)?;
    super::network::check(policy)?;
    check_paths(policy)?;
    super::publisher::check(policy)?;
    super::tenancy::check(policy)?;
    policy.volume.check()
}

/// Names as useradd(8) takes them: they become arguments, file names and unit names.
fn account_name(name: &str) -> bool {
    let first = name
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let rest =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    first && name.len() <= 31 && name.bytes().all(rest)
}

fn check_accounts(policy: &Policy) -> Result<(), PolicyError> {
    let mut seen = BTreeSet::from([
        "root",
        policy.agent.user.as_str(),
        policy.packages.unpack_user.as_str(),
        policy.session.journal_user.as_str(),
    ]);
    if seen.len() != 4 {
        return Err(refuse(
            "agent.user",
            "robotd, packages.unpack-user, session.journal-user and root must be four users",
        ));
    }
    for (number, slot) in policy.slots.iter().enumerate() {
        let own = [("account", &slot.account), ("attendant", &slot.attendant)];
        let egress = slot.egress.as_ref().map(|name| ("egress", name));
        for (key, name) in own.into_iter().chain(egress) {
            let key = format!("slot[{number}].{key}");
            if !account_name(name) {
                return Err(refuse(
                    key,
                    format!("{name:?} is no name of an account (a-z, 0-9, _ and -, at most 31)"),
                ));
            }
            if !seen.insert(name) {
                return Err(refuse(
                    key,
                    format!("{name} is used twice; every slot needs accounts of its own"),
                ));
            }
        }
    }
    if policy.slots.len() > 64 {
        return Err(refuse("slot", "at most 64 slots are accepted"));
    }
    Ok(())
}

fn check_publishers(policy: &Policy) -> Result<(), PolicyError> {
    let mut seen = BTreeSet::new();
    for publisher in &policy.publishers {
        if !seen.insert(publisher.key.id()) {
            return Err(refuse(
                "publisher",
                format!("the key of {} stands twice", publisher.name),
            ));
        }
    }
    Ok(())
}

fn check_interpreters(policy: &Policy) -> Result<(), PolicyError> {
    for (ending, path) in &policy.interpreters {
        let key = format!("interpreters.{ending}");
        if ending.is_empty() || !ending.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(refuse(
                key,
                "the ending is written without its dot, in letters and digits",
            ));
        }
        if !is_plain(path) {
            return Err(refuse(
                key,
                format!("{} is not an absolute path without \"..\"", path.display()),
            ));
        }
    }
    Ok(())
}

fn check_limits(policy: &Policy) -> Result<(), PolicyError> {
    let limits = &policy.limits;
    let ranges = [
        ("session-seconds", limits.session_seconds, 5, 3_600),
        ("run-minutes", limits.run_minutes, 1, 7 * 24 * 60),
        ("stop-grace-seconds", limits.stop_grace_seconds, 0, 600),
        ("idle-minutes", limits.idle_minutes, 0, 7 * 24 * 60),
        ("volume-mib", limits.volume_mib, 4, 1 << 20),
        ("volume-files", limits.volume_files, 1_000, 1 << 26),
        ("log-mib", limits.log_mib, 1, 1 << 20),
        ("artifact-mib", limits.artifact_mib, 0, 1 << 20),
        ("memory-mib", limits.memory_mib, 64, 1 << 22),
        ("processes", limits.processes, 32, 1 << 20),
        ("cpu-percent", limits.cpu_percent, 0, 100_000),
        ("cpu-weight", limits.cpu_weight, 1, 10_000),
        ("io-weight", limits.io_weight, 1, 10_000),
        ("io-mib-per-second", limits.io_mib_per_second, 0, 1 << 20),
        ("open-files", limits.open_files, 64, 1 << 20),
    ];
    for (name, value, min, max) in ranges {
        if !(min..=max).contains(&value) {
            return Err(refuse(
                format!("limits.{name}"),
                format!("{value} is out of range, write {min} to {max}"),
            ));
        }
    }
    let packages = &policy.packages;
    let ranges = [
        ("max-mib", packages.max_mib, 1, 16 * 1024),
        ("unpack-seconds", packages.unpack_seconds, 1, 3_600),
        ("store-mib", packages.store_mib, 1, 1 << 20),
        ("keep-days", packages.keep_days, 1, 3_650),
    ];
    match ranges
        .into_iter()
        .find(|(_, value, min, max)| !(min..=max).contains(&value))
    {
        Some((name, _, min, max)) => Err(refuse(
            format!("packages.{name}"),
            format!("write {min} to {max}"),
        )),
        None => Ok(()),
    }
}

fn check_paths(policy: &Policy) -> Result<(), PolicyError> {
    let paths = &policy.paths;
    let all = [
        ("state", &paths.state),
        ("runtime", &paths.runtime),
        ("spool", &paths.spool),
        ("jobs", &paths.jobs),
        ("trust", &paths.trust),
        ("programs", &paths.programs),
    ];
    match all.into_iter().find(|(_, path)| !is_plain(path)) {
        Some((key, path)) => Err(refuse(
            format!("paths.{key}"),
            format!("{} is not an absolute path without \"..\"", path.display()),
        )),
        None => Ok(()),
    }
}

pub(super) fn is_plain(path: &Path) -> bool {
    path.is_absolute()
        && !path
            .components()
            .any(|part| part == std::path::Component::ParentDir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_of(text: &str) -> String {
        match Policy::parse(text) {
            Ok(_) => "ok".into(),
            Err(PolicyError::Syntax(_)) => "syntax".into(),
            Err(PolicyError::Value { key, .. }) => key,
        }
    }

    #[test]
    fn an_empty_policy_allows_no_job_and_no_unsigned_package() {
        let policy = Policy::parse("").unwrap();
        assert!(policy.slots.is_empty() && !policy.packages.allow_unsigned);
    }

    #[test]
    fn what_cannot_be_meant_is_named_by_its_key() {
        let slot = "[[slot]]\naccount = \"robot01\"\nattendant = \"robotd-a01\"\n";
        assert_eq!(key_of(slot), "ok");
        assert_eq!(key_of(&format!("{slot}{slot}")), "slot[1].account");
        assert_eq!(
            key_of("[[slot]]\naccount = \"root\"\nattendant = \"a\""),
            "slot[0].account"
        );
        assert_eq!(
            key_of("[[slot]]\naccount = \"robot01\"\nattendant = \"robotd\""),
            "slot[0].attendant"
        );
        assert_eq!(
            key_of("[[slot]]\naccount = \"../x\"\nattendant = \"a\""),
            "slot[0].account"
        );
        assert_eq!(
            key_of("[[slot]]\naccount = \"-x\"\nattendant = \"a\""),
            "slot[0].account"
        );
        assert_eq!(
            key_of("[interpreters]\npy = \"python3\""),
            "interpreters.py"
        );
        assert_eq!(
            key_of("[interpreters]\n\".py\" = \"/usr/bin/python3\""),
            "interpreters..py"
        );
        assert_eq!(key_of("[limits]\nrun-minutes = 0"), "limits.run-minutes");
        assert_eq!(key_of("[paths]\nstate = \"/var/../etc\""), "paths.state");
        assert_eq!(key_of("allow-unsigned = true"), "syntax");
        assert_eq!(key_of("[packages]\nallow_unsigned = true"), "syntax");
        assert_eq!(
            key_of("[[publisher]]\nname = \"x\"\nkey = \"AAAA\""),
            "syntax"
        );
    }
}
