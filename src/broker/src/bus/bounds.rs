//! What the processes of an account may use together, as properties of its slice.
//!
//! systemd keeps what is set for a unit in files, and the next job's slice would find them: so every
//! property is written for every job, and the session removes the files when its job is over.

use privsep::session::Resources;
use zbus::{Connection, Variant};

use super::systemd::{manager, property_of, state};

/// What systemd takes for "no bound".
const INFINITY: u64 = u64::MAX;

/// Where systemd keeps what was set until the next start of the host.
const SETTINGS: &str = "/system.control/";

type Property = (&'static str, Variant<'static>);

/// Every property, also those that the job does not bound.
fn properties(wanted: &Resources) -> Vec<Property> {
    let quota = wanted
        .cpu_percent
        .map_or(INFINITY, |percent| percent * 10_000);
    let bytes = wanted.io_bytes_per_second;
    let paths = || -> Vec<(String, u64)> {
        let rows = wanted.io_paths.iter().cloned();
        rows.filter_map(|path| Some((path, bytes?))).collect()
    };
    vec![
        ("MemoryMax", wanted.memory_bytes.into()),
        ("MemoryHigh", INFINITY.into()),
        ("MemorySwapMax", 0_u64.into()),
        ("TasksMax", wanted.processes.into()),
        ("CPUQuotaPerSecUSec", quota.into()),
        ("CPUWeight", wanted.cpu_weight.into()),
        ("IOWeight", wanted.io_weight.into()),
        ("IOReadBandwidthMax", paths().into()),
        ("IOWriteBandwidthMax", paths().into()),
    ]
}

/// Bounds the slice of a user who is logged in. systemd has written all of it to the kernel when it
/// answers.
pub(super) async fn bound(
    connection: &Connection,
    uid: u32,
    wanted: &Resources,
) -> zbus::Result<()> {
    let slice = format!("user-{uid}.slice");
    let manager = manager(connection).await?;
    // Of a slice that is gone only its files would be left.
    if state(connection, &manager, &slice).await?.as_deref() != Some("active") {
        return Err(zbus::Error::Failure(format!("{slice} is not active")));
    }
    manager
        .call(
            "SetUnitProperties",
            &(slice.as_str(), true, properties(wanted)),
        )
        .await
}

/// Lets systemd forget what was set for a slice whose files are removed. One that is not loaded any more
/// needs nothing: the rest of the host is not made to read all of its units again for each job.
pub(super) async fn forget(connection: &Connection, uid: u32) -> zbus::Result<()> {
    let slice = format!("user-{uid}.slice");
    let manager = manager(connection).await?;
    let kept: Option<Vec<String>> =
        property_of(connection, &manager, &slice, "DropInPaths").await?;
    let from_a_job =
        |path: &String| path.contains(SETTINGS) && !std::path::Path::new(path).exists();
    if kept.is_some_and(|kept| kept.iter().any(from_a_job)) {
        manager.call::<_, _, ()>("Reload", &()).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_property_is_written_also_those_that_the_job_leaves_open() {
        let open = Resources {
            io_paths: vec!["/".into()],
            ..Resources::default()
        };
        let bounded = Resources {
            cpu_percent: Some(150),
            io_bytes_per_second: Some(7),
            ..open.clone()
        };
        let names = |wanted| {
            properties(wanted)
                .into_iter()
                .map(|(name, _)| name)
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&open), names(&bounded));
        let value = |wanted, name: &str| {
            let found = properties(wanted).into_iter().find(|(own, _)| *own == name);
            found.map(|(_, value)| value)
        };
        assert_eq!(value(&open, "CPUQuotaPerSecUSec"), Some(u64::MAX.into()));
        assert_eq!(
            value(&bounded, "CPUQuotaPerSecUSec"),
            Some(1_500_000_u64.into())
        );
        assert_eq!(value(&bounded, "MemorySwapMax"), Some(0_u64.into()));
        let none: Vec<(String, u64)> = vec![];
        assert_eq!(value(&open, "IOReadBandwidthMax"), Some(none.into()));
        assert_eq!(
            value(&bounded, "IOWriteBandwidthMax"),
            Some(vec![("/".to_owned(), 7_u64)].into())
        );
    }
}
