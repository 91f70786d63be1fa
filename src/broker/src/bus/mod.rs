//! systemd and logind over D-Bus. Everything here waits, so it is called from worker threads.

mod bounds;
mod logind;
mod systemd;
mod watch;

use std::time::Duration;

use privsep::Refusal;
use privsep::session::Resources;
use zbus::names::OwnedBusName;
use zbus::{Connection, Proxy};

pub(crate) use logind::Login;
pub(crate) use watch::{Seen, watch};

/// An answer to a plain call, also from a host under load.
const CALL: Duration = Duration::from_secs(30);

/// Units to stop, and the calls around them.
const CLOSE: Duration = Duration::from_secs(90);

/// Between two tries while the bus or a service on it is being restarted.
const AGAIN: Duration = Duration::from_millis(200);

/// Tries for which logind may be absent before it is restarted: two seconds. A restart of it ends no
/// session.
const PATIENCE: u32 = 10;

/// A connection to the system bus, made when it is first needed and again when it broke: dbus
/// may be restarted under us.
#[derive(Default)]
pub(crate) struct Bus {
    connection: Option<Connection>,
}

impl Bus {
    /// Starts the session of an attempt for this account, unless a person or a stranger uses the
    /// account.
    pub(crate) fn start_session(&mut self, unit: &str, uid: u32) -> Result<(), Refusal> {
        let others = self.ask(CALL, async |bus| {
            let others = logind::sessions_of(bus, uid).await?;
            if others.is_empty() {
                // A logind that was restarted takes up the user of the last job for some seconds.
                systemd::end_idle_user(bus, uid).await?;
            }
            Ok(others)
        });
        let others = others.map_err(|error| {
            let detail =
                format!("logind does not answer: {error}; `systemctl status systemd-logind`");
            Refusal::new("LOGIND_UNREACHABLE", detail)
        })?;
        if let Some(login) = others.first() {
            let detail = format!(
                "account {} is logged in: {login}; bot accounts are for jobs only",
                login.user
            );
            return Err(Refusal::new("ACCOUNT_LOGGED_IN", detail));
        }
        self.start_unit(unit, false)
    }

    /// Starts a unit, or starts it again, and returns when its job is queued.
    pub(crate) fn start_unit(&mut self, unit: &str, again: bool) -> Result<(), Refusal> {
        let started = self.ask(CALL, async |bus| systemd::start(bus, unit, again).await);
        started.map_err(|error| {
            let detail = format!("systemd did not start {unit}: {error}");
            Refusal::new("UNIT_NOT_STARTED", detail)
        })
    }

    /// Bounds what the processes of this user may use together.
    pub(crate) fn bound_user(&mut self, uid: u32, wanted: &Resources) -> Result<(), Refusal> {
        let bound = self.ask(CALL, async |bus| bounds::bound(bus, uid, wanted).await);
        bound.map_err(|error| {
            let detail = format!("systemd did not bound user-{uid}.slice: {error}");
            Refusal::new("LIMITS_NOT_SET", detail)
        })
    }

    /// Ends everything that logind and systemd keep for a user, and proves it. Returns what is left:
    /// everything, while somebody is logged in through another service than the one given.
    pub(crate) fn close_user(&mut self, uid: u32, unless_in_use: Option<&str>) -> Vec<String> {
        let closed = self.ask(CLOSE, async |bus| {
            if let Some(own) = unless_in_use {
                let others = logind::sessions_of(bus, uid).await?;
                if let Some(login) = others.iter().find(|login| login.service != own) {
                    return Ok(vec![format!(
                        "account {} is logged in: {login}",
                        login.user
                    )]);
                }
            }
            logind::terminate_user(bus, uid).await?;
            let left = systemd::stop(bus, &systemd::units_of(uid)).await?;
            bounds::forget(bus, uid).await?;
            Ok(left)
        });
        closed.unwrap_or_else(|error| {
            vec![format!(
                "logind and systemd can't be asked about user {uid}: {error}"
            )]
        })
    }

    /// Kills the session units of attempts that nobody knows and returns their names.
    pub(crate) fn kill_strays(&mut self, known: &[String]) -> Result<Vec<String>, String> {
        let killed = self.ask(CALL, async |bus| {
            let units = systemd::list(bus, "robotd-session@*.service").await?;
            let strays: Vec<_> = units
                .into_iter()
                .filter(|unit| !known.contains(unit))
                .collect();
            for unit in &strays {
                systemd::kill(bus, unit).await?;
            }
            Ok(strays)
        });
        killed.map_err(|error| error.to_string())
    }

    /// Does `work`, again while the bus or who answers on it is being restarted, for so long at
    /// most. What is asked here may be asked twice: starting what runs and stopping what is gone
    /// changes nothing.
    fn ask<T>(
        &mut self,
        limit: Duration,
        work: impl AsyncFn(&Connection) -> zbus::Result<T>,
    ) -> zbus::Result<T> {
        zbus::block_on(within(limit, async {
            let mut absences = 0;
            loop {
                match self.attempt(&work).await {
                    Err(error) if is_passing(&error) => {
                        absences += u32::from(logind::is_absent(&error));
                        self.connection = None;
                    }
                    outcome => return outcome,
                }
                if absences == PATIENCE {
                    // It neither ends nor comes back when dbus was restarted under it (systemd 257).
                    eprintln!("robotd-broker: logind is not on the bus and is restarted");
                    let restart = async |bus: &Connection| {
                        systemd::start(bus, "systemd-logind.service", true).await
                    };
                    // The next tries tell.
                    let _ = self.attempt(&restart).await;
                }
                async_io::Timer::after(AGAIN).await;
            }
        }))
    }

    async fn attempt<T>(
        &mut self,
        work: &impl AsyncFn(&Connection) -> zbus::Result<T>,
    ) -> zbus::Result<T> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::system().await?,
        };
        // Kept only when the work is done: one that was given up is in an unknown state.
        let done = work(&connection).await?;
        self.connection = Some(connection);
        Ok(done)
    }
}

/// Errors of a bus or a service that is not there at this moment.
fn is_passing(error: &zbus::Error) -> bool {
    const NAMES: [&str; 5] = [
        "org.freedesktop.DBus.Error.NoReply",
        "org.freedesktop.DBus.Error.Disconnected",
        "org.freedesktop.DBus.Error.ServiceUnknown",
        "org.freedesktop.DBus.Error.NameHasNoOwner",
        "org.freedesktop.DBus.Error.TimedOut",
    ];
    match error {
        zbus::Error::InputOutput(_) => true,
        zbus::Error::MethodError(name, ..) => NAMES.contains(&name.as_str()),
        zbus::Error::FDO(error) => matches!(
            **error,
            zbus::fdo::Error::NoReply(_)
                | zbus::fdo::Error::Disconnected(_)
                | zbus::fdo::Error::ServiceUnknown(_)
                | zbus::fdo::Error::NameHasNoOwner(_)
                | zbus::fdo::Error::TimedOut(_)
        ),
        _ => false,
    }
}

/// A PID 1 or logind that does not answer must not hold a worker for ever.
async fn within<T>(
    limit: Duration,
    work: impl Future<Output = zbus::Result<T>>,
) -> zbus::Result<T> {
    use futures_lite::FutureExt as _;
    let late = async {
        async_io::Timer::after(limit).await;
        Err(zbus::Error::Failure(format!(
            "no answer within {} s",
            limit.as_secs()
        )))
    };
    work.or(late).await
}

async fn proxy(
    connection: &Connection,
    name: &'static str,
    path: String,
    interface: &'static str,
) -> zbus::Result<Proxy<'static>> {
    let name = OwnedBusName::try_from(name)?;
    Proxy::new_owned(connection.clone(), name, path, interface).await
}

/// `other` is how an error is taken that has this name: as what was wanted.
fn unless<T>(outcome: zbus::Result<T>, name: &str, other: T) -> zbus::Result<T> {
    match outcome {
        Err(zbus::Error::MethodError(error, ..)) if error.as_str() == name => Ok(other),
        outcome => outcome,
    }
}
