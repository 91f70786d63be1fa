//! Filters of system calls (seccomp(2)), made from lists that people read.
//!
//! Two kinds are meant to be stacked: one allows what a list names and answers `ENOSYS` to all else,
//! as an older kernel would, so that programs fall back; one refuses with `EPERM` what a list names and
//! leaves all else alone. Of two refusals the filter that was put on last decides the number.
//! Both kill who calls by another architecture's table or by x32's, where the numbers of a list
//! would mean something else.

mod list;

use seccompiler::{TargetArch, apply_filter, compile_from_json, sock_filter};
use serde_json::{Value, json};

use list::{Line, parse};

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A list can't be read.
    #[error("line {line} of a list of system calls: {reason}")]
    List {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A list can't be turned into a program.
    #[error("the lists of system calls make no filter")]
    Compile {
        /// The compiler's reason, such as a name that the architecture does not have.
        source: seccompiler::Error,
    },
    /// No lists are made for this kind of processor.
    #[error("there are no lists of system calls for {arch}")]
    Architecture {
        /// Its name.
        arch: String,
    },
    /// The kernel did not take it.
    #[error("the kernel did not take a filter of system calls")]
    Apply {
        /// Its reason; `EINVAL` without `CONFIG_SECCOMP_FILTER`.
        source: seccompiler::Error,
    },
}

/// A processor's table of system calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// x86-64.
    X86_64,
    /// ARM, 64 bits.
    Aarch64,
}

impl Architecture {
    /// That of this program.
    ///
    /// # Errors
    ///
    /// [`Error::Architecture`].
    pub fn own() -> Result<Self, Error> {
        match std::env::consts::ARCH {
            "x86_64" => Ok(Self::X86_64),
            "aarch64" => Ok(Self::Aarch64),
            arch => Err(Error::Architecture {
                arch: arch.to_owned(),
            }),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    fn target(self) -> TargetArch {
        match self {
            Self::X86_64 => TargetArch::x86_64,
            Self::Aarch64 => TargetArch::aarch64,
        }
    }
}

/// A compiled filter.
#[derive(Debug, Clone)]
pub struct Filter {
    program: Vec<sock_filter>,
}

/// First number of x32's calls (`__X32_SYSCALL_BIT`): its table shares x86-64's architecture.
const X32: u32 = 0x4000_0000;

impl Filter {
    /// Allows what the lists name; all else does not exist (`ENOSYS`).
    ///
    /// # Errors
    ///
    /// [`Error::List`] and [`Error::Compile`].
    pub fn allowing(lists: &[&str], architecture: Architecture) -> Result<Self, Error> {
        let unknown = json!({ "errno": libc::ENOSYS });
        Self::compile(lists, architecture, &json!("allow"), &unknown)
    }

    /// Refuses what the lists name (`EPERM`) and nothing else.
    ///
    /// # Errors
    ///
    /// [`Error::List`] and [`Error::Compile`].
    pub fn refusing(lists: &[&str], architecture: Architecture) -> Result<Self, Error> {
        let refused = json!({ "errno": libc::EPERM });
        Self::compile(lists, architecture, &refused, &json!("allow"))
    }

    fn compile(
        lists: &[&str],
        architecture: Architecture,
        named: &Value,
        other: &Value,
    ) -> Result<Self, Error> {
        let mut rules = Vec::new();
        for list in lists {
            for line in parse(list)? {
                rules.extend(rules_of(&line, architecture));
            }
        }
        let document = json!({
            "list": { "mismatch_action": other, "match_action": named, "filter": rules }
        });
        let failed = |source| Error::Compile { source };
        let text = document.to_string();
        let mut programs =
            compile_from_json(text.as_bytes(), architecture.target()).map_err(failed)?;
        let program = programs.remove("list").unwrap_or_default();
        Ok(Self {
            program: without_x32(program, architecture),
        })
    }

    /// Puts it on the calling thread, for good, and on all that it will start. It also sets
    /// no-new-privileges. Allocates nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Apply`].
    pub fn apply(&self) -> Result<(), Error> {
        apply_filter(&self.program).map_err(|source| Error::Apply { source })
    }

    /// Its length in instructions of BPF; the kernel takes 4096.
    #[must_use]
    pub fn instructions(&self) -> usize {
        self.program.len()
    }
}

fn rules_of(line: &Line, architecture: Architecture) -> Vec<Value> {
    let names = line.names.iter().filter(|(_, only)| {
        only.as_deref()
            .is_none_or(|only| only == architecture.name())
    });
    let rule = |(name, _): &(String, Option<String>)| {
        if line.conditions.is_empty() {
            return json!({ "syscall": name });
        }
        let conditions = line.conditions.iter().map(list::Condition::to_json);
        json!({ "syscall": name, "args": conditions.collect::<Vec<_>>() })
    };
    names.map(rule).collect()
}

/// Behind the compiler's own check of the architecture, its first three instructions: load the number,
/// kill when it is one of x32's.
fn without_x32(program: Vec<sock_filter>, architecture: Architecture) -> Vec<sock_filter> {
    const CHECK: usize = 3;
    if architecture != Architecture::X86_64 || program.len() < CHECK {
        return program;
    }
    let instruction = |code: u32, jt, jf, k| sock_filter {
        code: u16::try_from(code).unwrap_or(0),
        jt,
        jf,
        k,
    };
    let load_number = instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0);
    let is_x32 = instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, X32);
    let kill = instruction(
        libc::BPF_RET | libc::BPF_K,
        0,
        0,
        libc::SECCOMP_RET_KILL_PROCESS,
    );
    let (check, rest) = program.split_at(CHECK);
    [check, &[load_number, is_x32, kill], rest].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_architectures_compile_and_a_name_that_none_has_does_not() {
        let list = "open@x86_64 openat: files\nclone if arg0 has 0x10000000: a namespace\n";
        for architecture in [Architecture::X86_64, Architecture::Aarch64] {
            assert!(Filter::allowing(&[list], architecture).is_ok());
        }
        let unknown = Filter::allowing(&["opeen: files"], Architecture::X86_64);
        assert!(matches!(unknown, Err(Error::Compile { .. })));
    }

    #[test]
    fn calls_of_x32_are_checked_before_any_number_is() {
        let filter = Filter::allowing(&["read: bytes"], Architecture::X86_64).unwrap();
        assert_eq!(filter.program[4].k, X32);
        assert_eq!(filter.program[5].k, libc::SECCOMP_RET_KILL_PROCESS);
        assert_eq!(filter.program[2].k, libc::SECCOMP_RET_KILL_PROCESS);
        let other = Filter::allowing(&["read: bytes"], Architecture::Aarch64).unwrap();
        assert_ne!(other.program[4].k, X32);
    }
}
