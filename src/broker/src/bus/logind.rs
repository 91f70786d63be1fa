//! logind: who is logged in, and the end of a user.

use std::collections::HashMap;
use std::fmt;

use zbus::{Connection, OwnedObjectPath, OwnedVariant, Proxy};

use super::{proxy, unless};

const NAME: &str = "org.freedesktop.login1";

/// A session of logind's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Login {
    /// logind's id.
    pub(crate) id: String,
    pub(crate) uid: u32,
    pub(crate) user: String,
    /// PAM service: sshd, login, gdm-password, ours.
    pub(crate) service: String,
    /// `user`, `greeter`, `manager`, ...
    pub(crate) class: String,
    /// Terminal or display.
    pub(crate) tty: String,
    /// Where it comes from, for a remote one.
    pub(crate) remote_host: String,
    pub(crate) leader: u32,
}

impl Login {
    /// A user manager is listed as a session of its own since systemd 256, and a greeter is nobody.
    pub(crate) fn is_somebody(&self) -> bool {
        !["manager", "greeter", "lock-screen"]
            .iter()
            .any(|other| self.class.starts_with(other))
    }

    /// A person at a terminal or a display; `background` is what cron and units open.
    pub(crate) fn is_interactive(&self) -> bool {
        self.class.is_empty() || self.class.starts_with("user")
    }
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session {} by {}", self.id, self.service)?;
        if !self.tty.is_empty() {
            write!(f, " on {}", self.tty)?;
        }
        if !self.remote_host.is_empty() {
            write!(f, " from {}", self.remote_host)?;
        }
        Ok(())
    }
}

/// Asks the bus first: a call to a logind that has lost its connection would wait for as long as
/// the bus tries to activate it.
pub(super) async fn manager(connection: &Connection) -> zbus::Result<Proxy<'static>> {
    let bus = zbus::fdo::DBusProxy::new(connection).await?;
    if !bus.name_has_owner(NAME.try_into()?).await? {
        return Err(zbus::fdo::Error::NameHasNoOwner(NAME.to_owned()).into());
    }
    let path = "/org/freedesktop/login1".to_owned();
    proxy(connection, NAME, path, "org.freedesktop.login1.Manager").await
}

/// Whether the error says that logind is not on the bus.
pub(super) fn is_absent(error: &zbus::Error) -> bool {
    matches!(error, zbus::Error::FDO(error)
        if matches!(**error, zbus::fdo::Error::NameHasNoOwner(_)))
}

/// Every session of somebody. One that ends while it is looked at is not there.
pub(super) async fn sessions(connection: &Connection) -> zbus::Result<Vec<Login>> {
    type Row = (String, u32, String, String, OwnedObjectPath);
    let manager = manager(connection).await?;
    let rows: Vec<Row> = manager.call("ListSessions", &()).await?;
    let mut logins = Vec::new();
    for (id, uid, user, _, path) in rows {
        if let Some(login) = session(connection, id, path.as_str()).await? {
            logins.push(Login { uid, user, ..login });
        }
    }
    logins.retain(Login::is_somebody);
    Ok(logins)
}

/// One session; none when it is gone.
pub(super) async fn session(
    connection: &Connection,
    id: String,
    path: &str,
) -> zbus::Result<Option<Login>> {
    let properties = proxy(
        connection,
        NAME,
        path.to_owned(),
        "org.freedesktop.DBus.Properties",
    );
    let found = properties
        .await?
        .call("GetAll", &("org.freedesktop.login1.Session"))
        .await;
    let found: Option<HashMap<String, OwnedVariant>> = match found {
        Ok(found) => Some(found),
        Err(zbus::Error::MethodError(name, ..)) if name.as_str().ends_with("UnknownObject") => None,
        Err(error) => return Err(error),
    };
    Ok(found.map(|found| read(id, &found)))
}

fn read(id: String, properties: &HashMap<String, OwnedVariant>) -> Login {
    let text = |name: &str| {
        let value = properties
            .get(name)
            .and_then(|value| <&str>::try_from(value).ok());
        value.unwrap_or_default().to_owned()
    };
    let number = |name: &str| {
        let value = properties
            .get(name)
            .and_then(|value| u32::try_from(value).ok());
        value.unwrap_or_default()
    };
    let user = properties
        .get("User")
        .and_then(|value| value.try_clone().ok())
        .and_then(|value| <(u32, OwnedObjectPath)>::try_from(value).ok());
    let display = text("Display");
    Login {
        id,
        uid: user.map(|(uid, _)| uid).unwrap_or_default(),
        user: text("Name"),
        service: text("Service"),
        class: text("Class"),
        tty: if display.is_empty() {
            text("TTY")
        } else {
            display
        },
        remote_host: text("RemoteHost"),
        leader: number("Leader"),
    }
}

/// Sessions of this user, of whatever kind. One that is closing has lost its processes already.
pub(super) async fn sessions_of(connection: &Connection, uid: u32) -> zbus::Result<Vec<Login>> {
    let mut logins = sessions(connection).await?;
    logins.retain(|login| login.uid == uid);
    Ok(logins)
}

/// logind forgets the user ten seconds later on its own; its units are what counts.
pub(super) async fn terminate_user(connection: &Connection, uid: u32) -> zbus::Result<()> {
    let manager = manager(connection).await?;
    let outcome = manager.call("TerminateUser", &(uid)).await;
    unless(outcome, "org.freedesktop.login1.NoSuchUser", ())
}
