//! systemd: units started, stopped, listed, killed.

use std::time::Duration;

use futures_lite::{FutureExt as _, StreamExt as _};
use serde::de::DeserializeOwned;
use zbus::{Connection, ObjectPath, OwnedObjectPath, Proxy, Type};

use super::{proxy, unless};

const NAME: &str = "org.freedesktop.systemd1";

/// systemd's own time-out for a unit that does not stop is longer; the processes are killed by
/// then, so what takes longer is not going to end.
const STOP: Duration = Duration::from_secs(20);

pub(super) async fn manager(connection: &Connection) -> zbus::Result<Proxy<'static>> {
    let path = "/org/freedesktop/systemd1".to_owned();
    proxy(connection, NAME, path, "org.freedesktop.systemd1.Manager").await
}

/// What systemd keeps for a user.
pub(super) fn units_of(uid: u32) -> [String; 3] {
    [
        format!("user@{uid}.service"),
        format!("user-runtime-dir@{uid}.service"),
        format!("user-{uid}.slice"),
    ]
}

/// Ends the user manager of somebody who has no session, if there is one.
pub(super) async fn end_idle_user(connection: &Connection, uid: u32) -> zbus::Result<()> {
    let units = units_of(uid);
    let manager = manager(connection).await?;
    if state(connection, &manager, &units[0]).await?.is_some() {
        super::logind::terminate_user(connection, uid).await?;
        stop(connection, &units).await?;
    }
    Ok(())
}

/// Starts a unit, or starts it again.
pub(super) async fn start(connection: &Connection, unit: &str, again: bool) -> zbus::Result<()> {
    let (method, mode) = if again {
        ("RestartUnit", "replace")
    } else {
        ("StartUnit", "fail")
    };
    let _: OwnedObjectPath = manager(connection)
        .await?
        .call(method, &(unit, mode))
        .await?;
    Ok(())
}

/// Stops units at once, waits for the end of their jobs and clears failed states, so that the start
/// limit of `user@` never hits the next job. Returns what is not gone.
pub(super) async fn stop(connection: &Connection, units: &[String]) -> zbus::Result<Vec<String>> {
    let manager = manager(connection).await?;
    let subscribed = manager.call("Subscribe", &()).await;
    unless(subscribed, "org.freedesktop.systemd1.AlreadySubscribed", ())?;
    let mut removed = manager.receive_signal("JobRemoved").await?;
    let mut jobs = Vec::new();
    for unit in units {
        // A unit that is not loaded is gone.
        let job: zbus::Result<OwnedObjectPath> = manager.call("StopUnit", &(unit, "replace")).await;
        jobs.extend(job.ok());
    }
    let ended = async {
        while !jobs.is_empty() {
            let Some(signal) = removed.next().await else {
                return;
            };
            let body = signal.body();
            if let Ok((_, path, ..)) = body.deserialize::<(u32, ObjectPath<'_>, &str, &str)>() {
                jobs.retain(|job| **job != path);
            }
        }
    };
    let late = async {
        async_io::Timer::after(STOP).await;
    };
    ended.or(late).await;
    let mut left = Vec::new();
    for unit in units {
        // Not failed, or not loaded any more: both are what is wanted.
        let _ = manager.call::<_, _, ()>("ResetFailedUnit", &(unit)).await;
        if let Some(state) = state(connection, &manager, unit).await? {
            left.push(format!("unit {unit} is {state}"));
        }
    }
    Ok(left)
}

/// Its state, when it is not gone.
pub(super) async fn state(
    connection: &Connection,
    manager: &Proxy<'_>,
    unit: &str,
) -> zbus::Result<Option<String>> {
    let state: Option<String> = property_of(connection, manager, unit, "ActiveState").await?;
    Ok(state.filter(|state| state != "inactive"))
}

/// A property of a unit that is loaded.
pub(super) async fn property_of<T: DeserializeOwned + Type>(
    connection: &Connection,
    manager: &Proxy<'_>,
    unit: &str,
    name: &str,
) -> zbus::Result<Option<T>> {
    let path = manager.call("GetUnit", &(unit)).await.map(Some);
    let path: Option<OwnedObjectPath> = unless(path, "org.freedesktop.systemd1.NoSuchUnit", None)?;
    let Some(path) = path else { return Ok(None) };
    let unit = proxy(
        connection,
        NAME,
        path.to_string(),
        "org.freedesktop.systemd1.Unit",
    );
    // Unloaded in this moment: gone.
    Ok(unit.await?.get_property(name).await.ok())
}

/// Names of the loaded units that run and fit this pattern.
pub(super) async fn list(connection: &Connection, pattern: &str) -> zbus::Result<Vec<String>> {
    type Row = (
        String,
        String,
        String,
        String,
        String,
        String,
        OwnedObjectPath,
        u32,
        String,
        OwnedObjectPath,
    );
    let states = ["active", "activating", "deactivating", "reloading"];
    let manager = manager(connection).await?;
    let rows: Vec<Row> = manager
        .call("ListUnitsByPatterns", &(&states[..], &[pattern][..]))
        .await?;
    Ok(rows.into_iter().map(|row| row.0).collect())
}

/// Kills every process of a unit. One that is gone meanwhile is what is wanted.
pub(super) async fn kill(connection: &Connection, unit: &str) -> zbus::Result<()> {
    const SIGKILL: i32 = 9;
    let manager = manager(connection).await?;
    let outcome = manager.call("KillUnit", &(unit, "all", SIGKILL)).await;
    unless(outcome, "org.freedesktop.systemd1.NoSuchUnit", ())
}
