//! `[sandbox]` and `[host]`: in which sandboxes jobs may run, and what the host must be able to do.

use order::{SandboxPart, SandboxProfile};
use privsep::Refusal;
use privsep::abilities::Requirement;
use privsep::session::Sandbox;
use serde::Deserialize;

use super::check::refuse;
use super::{Policy, PolicyError};

/// `sandbox`: which profiles an order may name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct SandboxPolicy {
    /// All but `legacy` unless said.
    pub profiles: Vec<SandboxProfile>,
    /// What `legacy` goes without here.
    pub legacy: LegacyPolicy,
}

impl Default for SandboxPolicy {
    fn default() -> Self {
        use SandboxProfile::{Browser, Office, Script};
        Self {
            profiles: vec![Script, Browser, Office],
            legacy: LegacyPolicy::default(),
        }
    }
}

/// `sandbox.legacy`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct LegacyPolicy {
    /// Each is an event at the start of a job and a remark in its result.
    pub without: Vec<SandboxPart>,
}

/// `host`: what must work, or no job is taken.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct HostPolicy {
    /// Names of abilities; `landlock>=2` asks for a version.
    pub require: Vec<Requirement>,
}

impl SandboxPolicy {
    /// The sandbox that an order asks for by its profile's name.
    pub(crate) fn permit(&self, name: &str) -> Result<Sandbox, Refusal> {
        let profile = SandboxProfile::from_name(name);
        let Some(profile) = profile.filter(|profile| self.profiles.contains(profile)) else {
            let names = self.profiles.iter().map(|profile| profile.name());
            let detail = format!(
                "sandbox profile {name:?} is not one of this host's policy (sandbox.profiles): {}",
                names.collect::<Vec<_>>().join(", ")
            );
            return Err(Refusal::new("PROFILE_NOT_ALLOWED", detail));
        };
        let opts_out = profile.grants().opt_outs;
        let without = if opts_out {
            self.legacy.without.clone()
        } else {
            vec![]
        };
        Ok(Sandbox { profile, without })
    }
}

pub(super) fn check(policy: &Policy) -> Result<(), PolicyError> {
    let sandbox = &policy.sandbox;
    let twice =
        |position: usize| sandbox.profiles[..position].contains(&sandbox.profiles[position]);
    if (0..sandbox.profiles.len()).any(twice) {
        return Err(refuse("sandbox.profiles", "a profile stands twice"));
    }
    let legacy = sandbox.profiles.contains(&SandboxProfile::Legacy);
    if !legacy && !sandbox.legacy.without.is_empty() {
        return Err(refuse(
            "sandbox.legacy.without",
            "only profile legacy goes without parts; add \"legacy\" to sandbox.profiles, or take this out",
        ));
    }
    if legacy && sandbox.legacy.without.is_empty() {
        return Err(refuse(
            "sandbox.legacy.without",
            "profile legacy without an opt-out is script; name what it goes without, or take it out of sandbox.profiles",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        match Policy::parse(text) {
            Ok(_) => "ok".into(),
            Err(PolicyError::Syntax(text)) => text,
            Err(PolicyError::Value { key, .. }) => key,
        }
    }

    #[test]
    fn legacy_is_off_unless_named_and_alone_goes_without_anything() {
        let policy = Policy::parse("").unwrap();
        assert_eq!(
            policy
                .sandbox
                .permit("legacy")
                .map_err(|refusal| refusal.code),
            Err("PROFILE_NOT_ALLOWED".to_owned())
        );
        let text =
            "[sandbox]\nprofiles = [\"script\", \"legacy\"]\nlegacy.without = [\"landlock\"]\n";
        let policy = Policy::parse(text).unwrap();
        let of = |name| policy.sandbox.permit(name).map(|sandbox| sandbox.without);
        assert_eq!(of("legacy"), Ok(vec![SandboxPart::Landlock]));
        assert_eq!(of("script"), Ok(vec![]));
        assert!(of("browser").is_err() && of("root").is_err() && of("").is_err());
    }

    #[test]
    fn what_can_not_be_meant_and_unknown_names_are_refused() {
        let key = "sandbox.legacy.without";
        assert_eq!(parsed("[sandbox.legacy]\nwithout = [\"seccomp\"]"), key);
        assert_eq!(parsed("[sandbox]\nprofiles = [\"legacy\"]"), key);
        assert_eq!(
            parsed("[sandbox]\nprofiles = [\"script\", \"script\"]"),
            "sandbox.profiles"
        );
        assert!(parsed("[sandbox]\nprofiles = [\"root\"]").contains("unknown variant"));
        assert!(parsed("[host]\nrequire = [\"landlok\"]").contains("landlok"));
        assert_eq!(
            parsed(
                "[host]\nrequire = [\"landlock>=2\", \"crypto-erase\", \"noswap\", \"cgroup-memory\"]"
            ),
            "ok"
        );
    }
}
