//! robotd's end of an attempt: who rings when there is something to read in the spool.
//!
//! One connection counts, the newest: a robotd that was restarted connects again before the old
//! connection's end is seen.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use privsep::doorbell::{FromAttendant, ToAttendant};
use privsep::{MAX_PACKET, decode, encode};
use sys::fdpass::{Error, Listener, Seqpacket};

const NAME: &str = "attendant.sock";

/// The socket, its peer, and what it is to be told.
#[derive(Debug)]
pub(crate) struct Doorbell {
    listener: Listener,
    /// Keeps the path through which the listener was made alive.
    _folder: OwnedFd,
    robotd: u32,
    peer: Option<Seqpacket>,
    subscribed: bool,
    unrung: bool,
    wanted: VecDeque<String>,
    /// It looks on.
    watches: bool,
    /// The frame that it gets next; one at a time is under way.
    screen: Option<OwnedFd>,
}

impl Doorbell {
    /// Listens in this directory, whose group is robotd's.
    pub(crate) fn listen(folder: OwnedFd, robotd: u32) -> Result<Self, Error> {
        let path = PathBuf::from(format!("/proc/self/fd/{}/{NAME}", folder.as_raw_fd()));
        let listener = Listener::bind(&path, 0o660)?;
        let wanted = VecDeque::new();
        Ok(Self {
            listener,
            _folder: folder,
            robotd,
            peer: None,
            subscribed: false,
            unrung: false,
            wanted,
            watches: false,
            screen: None,
        })
    }

    pub(crate) fn listener(&self) -> &impl AsFd {
        &self.listener
    }

    pub(crate) fn peer(&self) -> Option<&Seqpacket> {
        self.peer.as_ref()
    }

    /// There is something that the socket had no room for.
    pub(crate) fn wants_to_write(&self) -> bool {
        self.screen.is_some() || self.subscribed && (self.unrung || !self.wanted.is_empty())
    }

    /// Whether it looks on.
    pub(crate) fn watches(&self) -> bool {
        self.watches
    }

    /// A frame of the screen is to be sent.
    pub(crate) fn show(&mut self, screen: OwnedFd) {
        if self.watches {
            self.screen = Some(screen);
        }
    }

    /// Takes a new connection if it is robotd's.
    pub(crate) fn accept(&mut self) {
        // A connection that failed while it waited is nobody's loss.
        let Ok(Some(peer)) = self.listener.try_accept() else {
            return;
        };
        if peer.peer().is_ok_and(|who| who.uid.as_raw() == self.robotd) {
            self.close();
            self.peer = Some(peer);
        }
    }

    /// What robotd says, if it says something; a connection that ended or breaks the contract is closed.
    pub(crate) fn receive(&mut self) -> Option<ToAttendant> {
        let peer = self.peer.as_ref()?;
        let mut buffer = [0; MAX_PACKET];
        let message = match peer.try_recv(&mut buffer) {
            Ok(Some(received)) => decode(&buffer[..received.len]).ok(),
            Err(Error::WouldBlock) => return None,
            Ok(None) | Err(_) => None,
        };
        match message {
            None => self.close(),
            Some(ToAttendant::Subscribe) => {
                self.subscribed = true;
                self.unrung = true;
            }
            Some(ToAttendant::Watch { .. }) => self.watches = true,
            Some(ToAttendant::Unwatch) => (self.watches, self.screen) = (false, None),
            Some(ToAttendant::Screenshot | ToAttendant::Shown) => {}
        }
        message
    }

    fn close(&mut self) {
        self.peer = None;
        (self.subscribed, self.watches, self.screen) = (false, false, None);
        self.wanted.clear();
    }

    /// The lane has grown.
    pub(crate) fn ring(&mut self) {
        self.unrung = true;
    }

    /// A secret is to be asked for. Without robotd it is asked for when it connects.
    pub(crate) fn want(&mut self, name: &str) {
        if self.subscribed && !self.wanted.iter().any(|wanted| wanted == name) {
            self.wanted.push_back(name.to_owned());
        }
    }

    /// Sends what the socket takes now; the lane's state goes once, as it is now.
    pub(crate) fn flush(&mut self, epoch: [u8; 16], last_seq: u64, ended: bool) {
        if self.subscribed
            && self.unrung
            && self.send(
                &FromAttendant::Written {
                    epoch,
                    last_seq,
                    ended,
                },
                None,
            )
        {
            self.unrung = false;
        }
        while self.subscribed
            && let Some(name) = self.wanted.front().cloned()
            && self.send(&FromAttendant::SecretWanted { name }, None)
        {
            self.wanted.pop_front();
        }
        if let Some(screen) = self.screen.take()
            && !self.send(&FromAttendant::Screen, Some(&screen))
            && self.watches
        {
            self.screen = Some(screen);
        }
    }

    fn send(&mut self, message: &FromAttendant, memory: Option<&OwnedFd>) -> bool {
        let Some(peer) = &self.peer else { return false };
        let fds: Vec<_> = memory.into_iter().map(AsFd::as_fd).collect();
        let sent = encode(message).map(|packet| peer.try_send(&packet, &fds));
        match sent {
            Ok(Ok(())) => true,
            Ok(Err(Error::WouldBlock)) => false,
            _ => {
                self.close();
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn doorbell(robotd: u32) -> (tempfile::TempDir, Doorbell) {
        let folder = tempfile::tempdir().unwrap();
        let fd = File::open(folder.path()).unwrap().into();
        let doorbell = Doorbell::listen(fd, robotd).unwrap();
        (folder, doorbell)
    }

    fn own_uid() -> u32 {
        rustix::process::getuid().as_raw()
    }

    fn subscribe(folder: &tempfile::TempDir, doorbell: &mut Doorbell) -> Seqpacket {
        let robotd = Seqpacket::connect(&folder.path().join(NAME)).unwrap();
        robotd
            .send(&encode(&ToAttendant::Subscribe).unwrap(), &[])
            .unwrap();
        doorbell.accept();
        assert_eq!(doorbell.receive(), Some(ToAttendant::Subscribe));
        robotd
    }

    fn heard(robotd: &Seqpacket) -> FromAttendant {
        let mut buffer = [0; MAX_PACKET];
        let received = robotd.recv(&mut buffer).unwrap().unwrap();
        decode(&buffer[..received.len]).unwrap()
    }

    #[test]
    fn who_subscribes_hears_the_state_as_of_now_and_every_change() {
        let (folder, mut doorbell) = doorbell(own_uid());
        let robotd = subscribe(&folder, &mut doorbell);
        doorbell.flush([1; 16], 5, false);
        assert_eq!(
            heard(&robotd),
            FromAttendant::Written {
                epoch: [1; 16],
                last_seq: 5,
                ended: false
            }
        );
        doorbell.flush([1; 16], 5, false);
        doorbell.ring();
        doorbell.want("erp");
        doorbell.flush([1; 16], 6, true);
        assert_eq!(
            heard(&robotd),
            FromAttendant::Written {
                epoch: [1; 16],
                last_seq: 6,
                ended: true
            }
        );
        assert_eq!(
            heard(&robotd),
            FromAttendant::SecretWanted { name: "erp".into() }
        );
    }

    #[test]
    fn a_robotd_that_does_not_read_is_rung_once_when_it_does() {
        let (folder, mut doorbell) = doorbell(own_uid());
        let robotd = subscribe(&folder, &mut doorbell);
        let mut last = 0;
        doorbell.flush([1; 16], last, false);
        while !doorbell.wants_to_write() {
            last += 1;
            doorbell.ring();
            doorbell.flush([1; 16], last, false);
        }
        while heard(&robotd)
            != (FromAttendant::Written {
                epoch: [1; 16],
                last_seq: last - 1,
                ended: false,
            })
        {}
        doorbell.flush([1; 16], last + 7, false);
        assert_eq!(
            heard(&robotd),
            FromAttendant::Written {
                epoch: [1; 16],
                last_seq: last + 7,
                ended: false
            }
        );
    }

    #[test]
    fn a_newer_connection_replaces_the_older() {
        let (folder, mut doorbell) = doorbell(own_uid());
        let old = subscribe(&folder, &mut doorbell);
        let new = subscribe(&folder, &mut doorbell);
        assert!(old.recv(&mut [0; 8]).unwrap().is_none());
        doorbell.flush([1; 16], 1, false);
        assert_eq!(
            heard(&new),
            FromAttendant::Written {
                epoch: [1; 16],
                last_seq: 1,
                ended: false
            }
        );
    }

    #[test]
    fn another_user_is_not_heard_and_garbage_ends_the_connection() {
        let (folder, mut doorbell) = doorbell(own_uid() + 1);
        let stranger = Seqpacket::connect(&folder.path().join(NAME)).unwrap();
        doorbell.accept();
        assert!(stranger.recv(&mut [0; 8]).unwrap().is_none());
        doorbell.robotd = own_uid();
        let robotd = subscribe(&folder, &mut doorbell);
        robotd.send(&[0xff; 9], &[]).unwrap();
        assert_eq!(doorbell.receive(), None);
        assert!(robotd.recv(&mut [0; 8]).unwrap().is_none());
    }
}
