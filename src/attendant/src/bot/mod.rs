//! The bot's own calls: a listening socket inside the sandbox, few connections, one call at a
//! time on each. The protocol stands in BOT_API.md.

mod connection;
mod request;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use privsep::Refusal;
use rustix::net::sockopt::socket_type;
use rustix::net::{SocketFlags, SocketType, accept_with};
use serde_json::Value;
use zeroize::Zeroizing;

pub(crate) use connection::Call;
pub(crate) use request::Request;

use connection::{Connection, Over};

/// Connections at a time; more wait in the backlog.
const MAX_CONNECTIONS: usize = 16;

/// The socket that the session passed is not one to listen on.
#[derive(Debug, thiserror::Error)]
#[error("the bot's socket is not a stream socket")]
pub(crate) struct NotAStream;

/// All connections of the bot.
#[derive(Debug)]
pub(crate) struct Bot {
    uid: u32,
    listener: Option<OwnedFd>,
    connections: BTreeMap<u64, Connection>,
    last: u64,
}

/// Something to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// A new connection.
    Accept,
    /// Bytes of this connection.
    Read(u64),
    /// Room in this connection.
    Write(u64),
}

impl Bot {
    pub(crate) fn new(uid: u32) -> Self {
        Self {
            uid,
            listener: None,
            connections: BTreeMap::new(),
            last: 0,
        }
    }

    /// Takes the listening socket.
    pub(crate) fn listen(&mut self, socket: OwnedFd) -> Result<(), NotAStream> {
        if socket_type(&socket) != Ok(SocketType::STREAM) {
            return Err(NotAStream);
        }
        rustix::io::ioctl_fionbio(&socket, true).map_err(|_| NotAStream)?;
        self.listener = Some(socket);
        Ok(())
    }

    /// What to wait for. While the spool is blocked nothing new is read.
    pub(crate) fn interests(&self, blocked: bool) -> Vec<(Interest, &OwnedFd)> {
        let mut interests = Vec::new();
        if let Some(listener) = &self.listener
            && self.connections.len() < MAX_CONNECTIONS
        {
            interests.push((Interest::Accept, listener));
        }
        for (id, connection) in &self.connections {
            if connection.wants_to_write() {
                interests.push((Interest::Write(*id), connection.socket()));
            } else if connection.wants_to_read() && !blocked {
                interests.push((Interest::Read(*id), connection.socket()));
            }
        }
        interests
    }

    /// Does what there was to wait for; the connection may have a call then.
    pub(crate) fn attend(&mut self, interest: Interest) {
        match interest {
            Interest::Accept => self.accept(),
            Interest::Read(id) => self.on(id, Connection::receive),
            Interest::Write(id) => self.on(id, Connection::flush),
        }
    }

    /// The next call of any connection.
    pub(crate) fn next_call(&mut self) -> Option<(u64, Call)> {
        let call = self
            .connections
            .iter_mut()
            .find_map(|(id, connection)| Some((*id, connection.next_call()?)));
        self.connections
            .retain(|_, connection| !connection.is_over());
        call
    }

    /// Whether a call waits that no descriptor will announce.
    pub(crate) fn has_call(&self) -> bool {
        self.connections.values().any(Connection::has_call)
    }

    /// Answers a call. The bot may be gone; nobody minds then.
    pub(crate) fn answer(&mut self, id: u64, outcome: Result<Value, Refusal>) {
        let line = Zeroizing::new(request::answer(outcome));
        self.on(id, |connection| connection.answer(line));
    }

    /// Hands a secret to one who asked for it.
    pub(crate) fn answer_secret(&mut self, id: u64, secret: &[u8]) {
        let line = request::answer_secret(secret);
        self.on(id, |connection| connection.answer(line));
    }

    fn on(&mut self, id: u64, act: impl FnOnce(&mut Connection) -> Result<(), Over>) {
        if let Some(connection) = self.connections.get_mut(&id)
            && act(connection) == Err(Over)
        {
            self.connections.remove(&id);
        }
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else {
            return;
        };
        // One at a time: poll calls again for the next. A failure is the connection's or, without
        // descriptors left, passes when one closes.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let Ok(socket) = accept_with(listener, flags) else {
            return;
        };
        // The directory keeps others away too; this is what counts.
        // Not rustix: the bot lives in another pid namespace, where its pid reads 0, which rustix
        // takes for no credentials at all.
        let of_the_bot =
            getsockopt(&socket, PeerCredentials).is_ok_and(|peer| peer.uid() == self.uid);
        if of_the_bot {
            self.last += 1;
            self.connections.insert(self.last, Connection::new(socket));
        }
    }
}

#[cfg(test)]
mod tests;
