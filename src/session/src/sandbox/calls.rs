//! Which system calls the programs of a job have.

use order::{Mdwe, SandboxPart};
use privsep::session::Sandbox;
use sys::seccomp::{Architecture, Error, Filter};

const ALLOWED: &str = include_str!("lists/allowed.list");
const ALLOWED_CHROOT: &str = include_str!("lists/allowed-chroot.list");
const REFUSED: &str = include_str!("lists/refused.list");
const NAMESPACES: &str = include_str!("lists/namespaces.list");
const OTHER_NAMESPACES: &str = include_str!("lists/other-namespaces.list");
const TRACE: &str = include_str!("lists/trace.list");
const NEW_CODE: &str = include_str!("lists/new-code.list");

/// Both filters.
pub(super) struct Calls {
    allowed: Filter,
    refused: Filter,
}

impl Calls {
    pub(super) fn of(sandbox: &Sandbox, mdwe: Mdwe) -> Result<Self, Error> {
        Self::compile(sandbox, mdwe, Architecture::own()?)
    }

    fn compile(sandbox: &Sandbox, mdwe: Mdwe, architecture: Architecture) -> Result<Self, Error> {
        let mut allowed = vec![ALLOWED];
        let mut refused = vec![REFUSED, OTHER_NAMESPACES];
        match sandbox.grants_user_namespaces() {
            true => allowed.push(ALLOWED_CHROOT),
            false => refused.push(NAMESPACES),
        }
        match sandbox.goes_without(SandboxPart::NoTrace) {
            true => allowed.push(TRACE),
            false => refused.push(TRACE),
        }
        if mdwe == Mdwe::Seccomp {
            refused.push(NEW_CODE);
        }
        Ok(Self {
            allowed: Filter::allowing(&allowed, architecture)?,
            refused: Filter::refusing(&refused, architecture)?,
        })
    }

    /// The one that refuses comes last: of two refusals the last filter's number counts, and EPERM
    /// says more than ENOSYS.
    pub(super) fn apply(&self) -> Result<(), Error> {
        self.allowed.apply()?;
        self.refused.apply()
    }
}

#[cfg(test)]
mod tests {
    use order::{PROFILES, SandboxProfile};

    use super::*;

    fn every_sandbox() -> impl Iterator<Item = Sandbox> {
        let mut without: Vec<Vec<SandboxPart>> =
            SandboxPart::ALL.iter().map(|part| vec![*part]).collect();
        without.push(SandboxPart::ALL.to_vec());
        without.push(vec![]);
        let profiles = PROFILES.iter().map(|row| row.profile);
        profiles.flat_map(move |profile| {
            let without = match profile {
                SandboxProfile::Legacy => without.clone(),
                _ => vec![vec![]],
            };
            without
                .into_iter()
                .map(move |without| Sandbox { profile, without })
        })
    }

    #[test]
    fn every_profile_compiles_for_both_architectures_and_fits_the_kernel() {
        for sandbox in every_sandbox() {
            for architecture in [Architecture::X86_64, Architecture::Aarch64] {
                for mdwe in [Mdwe::Off, Mdwe::Seccomp, Mdwe::Kernel] {
                    let calls = Calls::compile(&sandbox, mdwe, architecture).unwrap();
                    assert!(calls.allowed.instructions() < 4096);
                    assert!(calls.refused.instructions() < 4096);
                }
            }
        }
    }

    /// A rule without a condition beside one with it would be lost in the compiler.
    #[test]
    fn no_call_stands_both_with_and_without_a_condition_in_one_filter() {
        let lines = |list: &'static str| list.lines().filter(|line| !line.starts_with('#'));
        let named = |lists: &[&'static str], conditional: bool| -> Vec<String> {
            let all = lists.iter().flat_map(|list| lines(list));
            let calls = all.filter_map(|line| line.split_once(": ").map(|(calls, _)| calls));
            let wanted = calls.filter(|calls| calls.contains(" if ") == conditional);
            wanted
                .flat_map(|calls| calls.split(" if ").next().unwrap_or("").split_whitespace())
                .map(|name| name.split('@').next().unwrap_or(name).to_owned())
                .collect()
        };
        let refusing = [REFUSED, OTHER_NAMESPACES, NAMESPACES, TRACE, NEW_CODE];
        for lists in [&[ALLOWED, ALLOWED_CHROOT, TRACE][..], &refusing] {
            let without = named(lists, false);
            let twice = named(lists, true)
                .into_iter()
                .find(|name| without.contains(name));
            assert_eq!(twice, None);
        }
        let allowed = named(&[ALLOWED], false);
        let both = named(&refusing, false)
            .into_iter()
            .find(|name| allowed.contains(name));
        assert_eq!(both, None, "a call is allowed and refused");
    }
}
