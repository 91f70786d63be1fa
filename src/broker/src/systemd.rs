//! systemd and logind over D-Bus, from a worker thread: start units, close users.

use std::time::Duration;

use futures_lite::{FutureExt as _, StreamExt as _};
use privsep::Refusal;
use zbus::names::OwnedBusName;
use zbus::{Connection, ObjectPath, OwnedObjectPath, Proxy};

/// systemd's own time-out for a unit that does not stop is longer; the processes are killed by
/// then, so what takes longer is not going to end.
const STOP: Duration = Duration::from_secs(20);

/// An answer to a plain call, also from a host under load.
const CALL: Duration = Duration::from_secs(30);

/// Three units to stop, and the calls around them.
const CLOSE: Duration = Duration::from_secs(90);

/// A connection to the system bus, made when it is first needed and again when it broke: dbus
/// may be restarted under us.
#[derive(Default)]
pub(crate) struct Bus {
    connection: Option<Connection>,
}

impl Bus {
    /// Starts a unit, or starts it again, and returns when its job is queued.
    pub(crate) fn start_unit(&mut self, unit: &str, again: bool) -> Result<(), Refusal> {
        let (method, mode) = if again {
            ("RestartUnit", "replace")
        } else {
            ("StartUnit", "fail")
        };
        let started = zbus::block_on(within(CALL, async {
            let manager = self.systemd().await?;
            let _: OwnedObjectPath = manager.call(method, &(unit, mode)).await?;
            Ok(())
        }));
        started.map_err(|error| {
            self.connection = None;
            Refusal::new(
                "UNIT_NOT_STARTED",
                format!("systemd did not start {unit}: {error}"),
            )
        })
    }

    /// Ends everything that logind and systemd keep for a user, and proves it. Returns what is left.
    pub(crate) fn close_user(&mut self, uid: u32) -> Vec<String> {
        let closed = zbus::block_on(within(CLOSE, async {
            self.terminate(uid).await?;
            let mut leftovers = Vec::new();
            for unit in [
                format!("user@{uid}.service"),
                format!("user-runtime-dir@{uid}.service"),
                format!("user-{uid}.slice"),
            ] {
                if let Some(state) = self.stop(&unit).await? {
                    leftovers.push(format!("unit {unit} is {state}"));
                }
            }
            Ok(leftovers)
        }));
        closed.unwrap_or_else(|error| {
            self.connection = None;
            vec![format!(
                "logind and systemd can't be asked about user {uid}: {error}"
            )]
        })
    }

    async fn connection(&mut self) -> zbus::Result<Connection> {
        match &self.connection {
            Some(connection) => Ok(connection.clone()),
            None => {
                let connection = Connection::system().await?;
                Ok(self.connection.insert(connection).clone())
            }
        }
    }

    async fn systemd(&mut self) -> zbus::Result<Proxy<'static>> {
        let name = OwnedBusName::try_from("org.freedesktop.systemd1")?;
        let connection = self.connection().await?;
        Proxy::new_owned(
            connection,
            name,
            "/org/freedesktop/systemd1",
            "org.freedesktop.systemd1.Manager",
        )
        .await
    }

    /// logind forgets the user ten seconds later on its own; its units are what counts.
    async fn terminate(&mut self, uid: u32) -> zbus::Result<()> {
        let name = OwnedBusName::try_from("org.freedesktop.login1")?;
        let connection = self.connection().await?;
        let logind = Proxy::new_owned(
            connection,
            name,
            "/org/freedesktop/login1",
            "org.freedesktop.login1.Manager",
        )
        .await?;
        match logind.call::<_, _, ()>("TerminateUser", &(uid)).await {
            Err(zbus::Error::MethodError(name, ..))
                if name.as_str() == "org.freedesktop.login1.NoSuchUser" =>
            {
                Ok(())
            }
            other => other,
        }
    }

    /// Stops a unit, waits for the job's end and clears a failed state, so that the start limit
    /// of `user@` never hits the next job. Returns its state when it is not gone.
    async fn stop(&mut self, unit: &str) -> zbus::Result<Option<String>> {
        let manager = self.systemd().await?;
        manager
            .call::<_, _, ()>("Subscribe", &())
            .await
            .or_else(already)?;
        let mut removed = manager.receive_signal("JobRemoved").await?;
        let job: Result<OwnedObjectPath, _> = manager.call("StopUnit", &(unit, "replace")).await;
        if let Ok(job) = job {
            let gone = async {
                while let Some(signal) = removed.next().await {
                    let body = signal.body();
                    let ended = body.deserialize::<(u32, ObjectPath<'_>, &str, &str)>();
                    if ended.is_ok_and(|(_, path, ..)| path == *job) {
                        break;
                    }
                }
            };
            let late = async {
                async_io::Timer::after(STOP).await;
            };
            gone.or(late).await;
        }
        // Not failed, or not loaded any more: both are what is wanted.
        let _ = manager.call::<_, _, ()>("ResetFailedUnit", &(unit)).await;
        self.state(unit).await
    }

    async fn state(&mut self, unit: &str) -> zbus::Result<Option<String>> {
        let manager = self.systemd().await?;
        let path: Result<OwnedObjectPath, _> = manager.call("GetUnit", &(unit)).await;
        let path = match path {
            Err(zbus::Error::MethodError(name, ..))
                if name.as_str() == "org.freedesktop.systemd1.NoSuchUnit" =>
            {
                return Ok(None);
            }
            path => path?,
        };
        let connection = self.connection().await?;
        let unit = Proxy::new(
            &connection,
            "org.freedesktop.systemd1",
            path,
            "org.freedesktop.systemd1.Unit",
        )
        .await?;
        let state: String = unit.get_property("ActiveState").await?;
        Ok(if state == "inactive" {
            None
        } else {
            Some(state)
        })
    }
}

/// A PID 1 or logind that does not answer must not hold this worker for ever.
async fn within<T>(
    limit: Duration,
    work: impl Future<Output = zbus::Result<T>>,
) -> zbus::Result<T> {
    let late = async {
        async_io::Timer::after(limit).await;
        Err(zbus::Error::Failure(format!(
            "no answer within {} s",
            limit.as_secs()
        )))
    };
    work.or(late).await
}

fn already(error: zbus::Error) -> zbus::Result<()> {
    match error {
        zbus::Error::MethodError(name, ..)
            if name.as_str() == "org.freedesktop.systemd1.AlreadySubscribed" =>
        {
            Ok(())
        }
        other => Err(other),
    }
}
