//! The ceiling of what an order may ask for in times, sizes and shares.

use order::Limits;
use privsep::Refusal;
use privsep::session::Resources;

use super::{LimitPolicy, Policy};

/// Each limit by its name in the order, with what this policy allows at most; 0 = anything, for those
/// of which an order can ask for nothing.
fn ceilings(policy: &LimitPolicy) -> [(&'static str, u64); 15] {
    [
        ("session-ms", policy.session_seconds * 1_000),
        ("run-ms", policy.run_minutes * 60_000),
        ("stop-grace-ms", policy.stop_grace_seconds * 1_000),
        ("idle-ms", open_end(policy.idle_minutes * 60_000)),
        ("volume-bytes", policy.volume_mib << 20),
        ("volume-files", policy.volume_files),
        ("log-bytes", policy.log_mib << 20),
        ("artifact-bytes", policy.artifact_mib << 20),
        ("memory-bytes", policy.memory_mib << 20),
        ("processes", policy.processes),
        ("cpu-percent", open_end(policy.cpu_percent)),
        ("cpu-weight", policy.cpu_weight),
        ("io-weight", policy.io_weight),
        (
            "io-bytes-per-second",
            open_end(policy.io_mib_per_second << 20),
        ),
        ("open-files", policy.open_files),
    ]
}

fn open_end(most: u64) -> u64 {
    if most == 0 { u64::MAX } else { most }
}

pub(super) fn permit_limits(policy: &Policy, order: &Limits) -> Result<(), Refusal> {
    let asked = order.values().into_iter();
    let mut rows = ceilings(&policy.limits).into_iter().zip(asked);
    match rows.find(|((_, ceiling), asked)| asked > ceiling) {
        Some(((name, ceiling), asked)) => {
            let detail = format!(
                "limits.{name} of the order is {asked}, this host's policy allows at most {ceiling}"
            );
            Err(Refusal::new("LIMIT_ABOVE_POLICY", detail))
        }
        None => Ok(()),
    }
}

/// What holds when 0 asks for nothing: what the order asks for, or else what the host allows.
pub(crate) fn permitted(asked: u64, most: u64) -> u64 {
    if asked == 0 { most } else { asked }
}

/// What the processes of a job may use together.
pub(crate) fn resources(policy: &Policy, order: &Limits) -> Resources {
    let ceiling = &policy.limits;
    let bounded = |value: u64| (value > 0).then_some(value);
    let io = permitted(order.io_bytes_per_second, ceiling.io_mib_per_second << 20);
    Resources {
        memory_bytes: order.memory_bytes,
        processes: order.processes,
        cpu_percent: bounded(permitted(order.cpu_percent, ceiling.cpu_percent)),
        cpu_weight: order.cpu_weight,
        io_weight: order.io_weight,
        io_bytes_per_second: bounded(io),
        // Programs are read from the first, packages from the second, volumes on disks are on the third.
        io_paths: vec![
            "/".to_owned(),
            policy.paths.state.display().to_string(),
            policy.volume.store.display().to_string(),
        ],
    }
}

#[cfg(test)]
mod tests {
    use order::LIMITS;
    use proptest::prelude::*;

    use super::*;

    fn policy(limits: &str) -> Policy {
        Policy::parse(&format!("[limits]\n{limits}")).unwrap()
    }

    #[test]
    fn what_a_submission_asks_for_by_default_is_allowed_by_default() {
        assert_eq!(permit_limits(&policy(""), &Limits::default()), Ok(()));
    }

    #[test]
    fn ceilings_stand_in_the_order_of_the_limits() {
        let names = ceilings(&LimitPolicy::default()).map(|(name, _)| name);
        assert_eq!(names, LIMITS.map(|limit| limit.name));
    }

    #[test]
    fn an_order_that_asks_for_no_quota_gets_the_host_s() {
        let host = policy("cpu-percent = 150\nidle-minutes = 5\nio-mib-per-second = 20");
        let order = Limits::default();
        assert_eq!(permit_limits(&host, &order), Ok(()));
        let given = resources(&host, &order);
        assert_eq!(given.cpu_percent, Some(150));
        assert_eq!(given.io_bytes_per_second, Some(20 << 20));
        assert_eq!(permitted(order.idle_ms, 300_000), 300_000);
        let less = Limits {
            cpu_percent: 50,
            ..order
        };
        assert_eq!(resources(&host, &less).cpu_percent, Some(50));
        let more = Limits {
            cpu_percent: 151,
            ..order
        };
        assert_eq!(
            permit_limits(&host, &more).unwrap_err().code,
            "LIMIT_ABOVE_POLICY"
        );
        assert_eq!(resources(&policy(""), &order).cpu_percent, None);
    }

    proptest! {
        #[test]
        fn no_value_above_the_ceiling_is_ever_given(at in 0_usize..15, value in any::<u64>()) {
            let host = policy("cpu-percent = 150\nidle-minutes = 5\nio-mib-per-second = 20");
            let mut values = serde_json::to_value(Limits::default()).unwrap();
            values[LIMITS[at].name] = value.into();
            let order: Limits = serde_json::from_value(values).unwrap();
            let (_, ceiling) = ceilings(&host.limits)[at];
            prop_assert_eq!(permit_limits(&host, &order).is_err(), value > ceiling);
            if value <= ceiling {
                let given = resources(&host, &order);
                prop_assert!(given.cpu_percent.is_some_and(|percent| percent <= 150));
                prop_assert!(given.memory_bytes <= host.limits.memory_mib << 20);
                prop_assert!(given.processes <= host.limits.processes);
            }
        }
    }
}
