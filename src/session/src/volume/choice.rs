//! Which kind of volume a job gets: what the policy names, or the strongest that works on this host
//! and fits. Never a weaker one without its say.

use order::VolumeBackend;
use privsep::Refusal;
use privsep::volume::Rules;

/// Memory that stays free for the rest of the host when a volume in memory is full.
const SPARE: u64 = 256 << 20;

/// What the host says about its memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    /// A swap device is on.
    pub(super) swap: bool,
    /// The kernel can keep a tmpfs out of swap.
    pub(super) noswap: bool,
    /// Bytes that programs can still have.
    pub(super) available: u64,
}

impl Memory {
    /// Whether what is in memory could come onto a disk.
    pub(super) fn can_be_swapped(self) -> bool {
        self.swap && !self.noswap
    }

    /// As it stands in a wipe report.
    pub(super) fn swap_state(self) -> &'static str {
        match (self.swap, self.can_be_swapped()) {
            (false, _) => "none",
            (true, false) => "excluded",
            (true, true) => "possible",
        }
    }
}

/// A choice and its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) backend: VolumeBackend,
    /// Stronger ones, each with why not.
    pub(super) passed_over: Vec<String>,
}

/// Chooses. `works` says whether a backend works on this host, or why not; it is asked in order and
/// no more often than needed.
pub(super) fn choose(
    rules: &Rules,
    bytes: u64,
    memory: Memory,
    mut works: impl FnMut(VolumeBackend) -> Result<(), String>,
) -> Result<Choice, Refusal> {
    if let Some(backend) = rules.backend {
        return match works(backend) {
            Ok(()) => Ok(Choice {
                backend,
                passed_over: vec![],
            }),
            Err(why) => Err(Refusal::new(
                "VOLUME_BACKEND_MISSING",
                format!("policy volume.backend is {backend}, which this host can't do: {why}"),
            )),
        };
    }
    let mut passed_over = Vec::new();
    for backend in VolumeBackend::ALL {
        let fits = match backend {
            VolumeBackend::Tmpfs => in_memory(rules, bytes, memory),
            VolumeBackend::Plain if !rules.allow_plain => {
                Err("policy volume.allow-plain is not set".to_owned())
            }
            _ => Ok(()),
        };
        match fits.and_then(|()| works(backend)) {
            Ok(()) => {
                return Ok(Choice {
                    backend,
                    passed_over,
                });
            }
            Err(why) => passed_over.push(format!("{backend}: {why}")),
        }
    }
    let why = passed_over.join("; ");
    Err(Refusal::new(
        "VOLUME_BACKEND_MISSING",
        format!("no scratch volume that can be wiped: {why}"),
    ))
}

fn in_memory(rules: &Rules, bytes: u64, memory: Memory) -> Result<(), String> {
    let mib = |bytes: u64| bytes >> 20;
    if memory.can_be_swapped() {
        return Err("its pages could reach the host's swap, and this kernel has no noswap".into());
    }
    if bytes > rules.memory_bytes {
        let (wanted, most) = (mib(bytes), mib(rules.memory_bytes));
        return Err(format!(
            "the order's {wanted} MiB are more than policy volume.memory-mib, {most}"
        ));
    }
    if bytes.saturating_add(SPARE) > memory.available {
        let (wanted, free) = (mib(bytes), mib(memory.available));
        return Err(format!(
            "{wanted} MiB do not fit the {free} MiB of memory that are free"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        backend: None,
        allow_plain: false,
        store: String::new(),
        memory_bytes: 1 << 30,
        reserve_bytes: 0,
        deep_scan: false,
    };
    const MEMORY: Memory = Memory {
        swap: false,
        noswap: false,
        available: 8 << 30,
    };

    fn only(
        backends: &[VolumeBackend],
    ) -> impl FnMut(VolumeBackend) -> Result<(), String> + use<'_> {
        |backend| {
            let has = backends.contains(&backend);
            has.then_some(())
                .ok_or_else(|| "not on this host".to_owned())
        }
    }

    fn chosen(rules: &Rules, bytes: u64, memory: Memory, has: &[VolumeBackend]) -> String {
        match choose(rules, bytes, memory, only(has)) {
            Ok(choice) => choice.backend.name().to_owned(),
            Err(refusal) => refusal.code,
        }
    }

    #[test]
    fn the_strongest_that_works_and_fits_is_taken() {
        let all = &VolumeBackend::ALL;
        assert_eq!(chosen(&RULES, 1 << 30, MEMORY, all), "tmpfs");
        assert_eq!(chosen(&RULES, (1 << 30) + 1, MEMORY, all), "dm-crypt");
        let low = Memory {
            available: 1 << 30,
            ..MEMORY
        };
        assert_eq!(chosen(&RULES, 1 << 30, low, all), "dm-crypt");
        assert_eq!(chosen(&RULES, 2 << 30, MEMORY, &all[2..]), "fscrypt");
    }

    #[test]
    fn memory_that_could_be_swapped_out_is_not_taken() {
        let swapping = Memory {
            swap: true,
            ..MEMORY
        };
        let all = &VolumeBackend::ALL;
        assert_eq!(chosen(&RULES, 1 << 20, swapping, all), "dm-crypt");
        let kept_out = Memory {
            noswap: true,
            ..swapping
        };
        assert_eq!(chosen(&RULES, 1 << 20, kept_out, all), "tmpfs");
        assert_eq!(swapping.swap_state(), "possible");
        assert_eq!(kept_out.swap_state(), "excluded");
    }

    #[test]
    fn nothing_weaker_is_taken_without_the_policys_say() {
        let all = &VolumeBackend::ALL;
        assert_eq!(
            chosen(&RULES, 2 << 30, MEMORY, &all[3..]),
            "VOLUME_BACKEND_MISSING"
        );
        let allowed = Rules {
            allow_plain: true,
            ..RULES
        };
        assert_eq!(chosen(&allowed, 2 << 30, MEMORY, &all[3..]), "plain");
        let named = Rules {
            backend: Some(VolumeBackend::Fscrypt),
            allow_plain: true,
            ..RULES
        };
        assert_eq!(
            chosen(&named, 1 << 20, MEMORY, &all[3..]),
            "VOLUME_BACKEND_MISSING"
        );
    }

    #[test]
    fn what_was_passed_over_is_told_with_its_reason() {
        let choice = choose(&RULES, 2 << 30, MEMORY, only(&VolumeBackend::ALL[2..])).unwrap();
        assert_eq!(choice.backend, VolumeBackend::Fscrypt);
        assert_eq!(
            choice.passed_over,
            [
                "tmpfs: the order's 2048 MiB are more than policy volume.memory-mib, 1024",
                "dm-crypt: not on this host"
            ]
        );
    }
}
