//! `robotctl validate`: the daemons' own parsers.

use std::path::Path;

use agent::config::{Config, Error};
use agent::exit;
use broker::Policy;
use serde_json::json;

use crate::outcome::{Bad, Good, Outcome};

pub(crate) fn validate(path: &Path) -> Outcome {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    if name.contains("policy") {
        policy(path)
    } else {
        config(path)
    }
}

fn config(path: &Path) -> Outcome {
    let config = Config::read(path).map_err(|error| {
        let exit = if matches!(error, Error::Read { .. }) {
            exit::NO_INPUT
        } else {
            exit::CONFIG
        };
        let detail = match &error {
            // They name it.
            Error::Read { .. } | Error::TooLarge { .. } => error.to_string(),
            _ => format!("{}: {}", path.display(), error.to_string().trim_end()),
        };
        Bad::new("CONFIG_REFUSED", detail, exit)
    })?;
    let findings = config.check();
    let lines: Vec<String> = findings
        .iter()
        .map(|found| format!("{}: {}; {}", found.key, found.what, found.remedy))
        .collect();
    let text = match lines.is_empty() {
        true => format!("{} is good.", path.display()),
        false => format!("{} can be used, but:\n{}", path.display(), lines.join("\n")),
    };
    let findings: Vec<_> = findings
        .into_iter()
        .map(|found| json!({"key": found.key, "what": found.what, "remedy": found.remedy}))
        .collect();
    Ok(Good {
        text,
        json: json!({"valid": true, "findings": findings}),
    })
}

fn policy(path: &Path) -> Outcome {
    let unreadable = |source| {
        Bad::new(
            "POLICY_UNREADABLE",
            format!("can't read {}: {source}", path.display()),
            exit::NO_INPUT,
        )
    };
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    Policy::parse(&text).map_err(|error| {
        Bad::new(
            "POLICY_REFUSED",
            format!("{}: {}", path.display(), error.to_string().trim_end()),
            exit::CONFIG,
        )
    })?;
    let text = format!(
        "{} is good. The broker also wants it to belong to root and to be writable by nobody else.",
        path.display()
    );
    Ok(Good {
        text,
        json: json!({"valid": true, "findings": []}),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_file_names_its_rule_and_a_missing_one_is_a_missing_input() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("robotd.toml");
        std::fs::write(&path, "[link]\nbackoff-max-s = 0\n").unwrap();
        let bad = validate(&path).unwrap_err();
        assert_eq!(bad.exit, exit::CONFIG);
        assert!(bad.detail.contains("link.backoff-max-s"));
        assert_eq!(
            validate(&folder.path().join("none.toml")).unwrap_err().exit,
            exit::NO_INPUT
        );
    }

    #[test]
    fn a_bad_policy_is_refused_by_the_brokers_own_parser() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.toml");
        std::fs::write(&path, "no-such-key = 1\n").unwrap();
        let bad = validate(&path).unwrap_err();
        assert_eq!(
            (bad.code.as_str(), bad.exit),
            ("POLICY_REFUSED", exit::CONFIG)
        );
        assert!(bad.detail.contains("no-such-key"), "{}", bad.detail);
    }

    #[test]
    fn the_shipped_configuration_is_good() {
        let shipped = Path::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../packaging/robotd.toml"
        ));
        assert!(validate(shipped).is_ok());
    }
}
