//! Looking on over VNC: the screen of an Xvnc display, passed on to one administrator of this host
//! at a time, over `vnc.sock` beside the attendant's own socket.
//!
//! VNC shows the whole screen. So it is there only where the order allows a live view and nothing is
//! masked, and it ends when capture pauses. The server takes no key, pointer or clipboard (the
//! session starts it so); what it sends is the bot's, and is passed on unread.

use std::fs;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use privsep::session::Screenshots;
use sys::poll::Event;

use crate::display::reach_vnc;

/// Beside `attendant.sock`.
const NAME: &str = "vnc.sock";

/// For what a viewer says to the server, which is little.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// One looks on at a time; beginning and end of each are told.
const TOLD: usize = 16;

/// Whether the order lets anybody see the whole screen.
pub(crate) fn is_allowed(screenshots: &Screenshots) -> bool {
    screenshots.live_view && screenshots.masks.is_empty()
}

/// The socket, and who looks on.
#[derive(Debug)]
pub(crate) struct Vnc {
    listener: UnixListener,
    /// Directory of the server's socket, and the number in its name.
    place: (Arc<OwnedFd>, u32),
    /// Who may look on: root; in tests who runs them.
    admin: u32,
    viewer: Option<UnixStream>,
    paused: bool,
    ended: (SyncSender<()>, Receiver<()>),
    wake: Arc<Event>,
}

impl Vnc {
    /// Listens in this directory, which is the attendant's.
    pub(crate) fn listen(
        folder: BorrowedFd<'_>,
        server: OwnedFd,
        number: u32,
        admin: u32,
    ) -> io::Result<Self> {
        let path = PathBuf::from(format!("/proc/self/fd/{}/{NAME}", folder.as_raw_fd()));
        // Of an attendant before this one.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            place: (Arc::new(server), number),
            admin,
            viewer: None,
            paused: false,
            ended: sync_channel(TOLD),
            wake: Arc::new(Event::new().map_err(io::Error::other)?),
        })
    }

    /// Readable when somebody comes.
    pub(crate) fn listener(&self) -> &impl AsFd {
        &self.listener
    }

    /// Readable when who looked on has left.
    pub(crate) fn wake(&self) -> &Event {
        &self.wake
    }

    /// Lets an administrator in, unless another one looks on or capture pauses. True when somebody
    /// began to look on.
    pub(crate) fn accept(&mut self) -> bool {
        // Who left while waiting is nobody's loss.
        let Ok((viewer, _)) = self.listener.accept() else {
            return false;
        };
        let admin = getsockopt(&viewer, PeerCredentials).is_ok_and(|who| who.uid() == self.admin);
        if !admin || self.paused || self.viewer.is_some() {
            return false;
        }
        match self.pass_on(&viewer) {
            Ok(()) => {
                self.viewer = Some(viewer);
                true
            }
            Err(_) => false,
        }
    }

    /// True when who looked on has left since.
    pub(crate) fn has_left(&mut self) -> bool {
        let _ = self.wake.take();
        let left = self.ended.1.try_iter().count() > 0;
        if left {
            self.viewer = None;
        }
        left
    }

    /// Capture pauses, or goes on: nobody looks on meanwhile.
    pub(crate) fn pause(&mut self, paused: bool) {
        self.paused = paused;
        if let Some(viewer) = self.viewer.as_ref().filter(|_| paused) {
            // Gone already: its end is on its way.
            let _ = viewer.shutdown(Shutdown::Both);
        }
    }

    /// Two threads: neither a slow viewer nor the bot's server ever holds the attendant.
    fn pass_on(&self, viewer: &UnixStream) -> io::Result<()> {
        viewer.set_nonblocking(false)?;
        let viewer = viewer.try_clone()?;
        let (folder, number) = (Arc::clone(&self.place.0), self.place.1);
        let (ended, wake) = (self.ended.0.clone(), Arc::clone(&self.wake));
        let thread = std::thread::Builder::new().name("vnc".to_owned());
        thread.spawn(move || {
            // Whatever went wrong, the viewer sees its connection close.
            let _ = look_on(&viewer, &folder, number);
            let _ = viewer.shutdown(Shutdown::Both);
            let _ = ended.try_send(());
            let _ = wake.raise();
        })?;
        Ok(())
    }
}

fn look_on(viewer: &UnixStream, folder: &OwnedFd, number: u32) -> io::Result<()> {
    let server = UnixStream::from(reach_vnc(folder, number).map_err(io::Error::other)?);
    server.set_nonblocking(false)?;
    // A server that takes nothing must not keep the next one from looking on.
    server.set_write_timeout(Some(PATIENCE))?;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ = io::copy(&mut &*viewer, &mut &server);
            let _ = server.shutdown(Shutdown::Both);
        });
        let copied = io::copy(&mut &server, &mut &*viewer);
        let _ = viewer.shutdown(Shutdown::Both);
        copied.map(drop)
    })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Write as _};

    use super::*;

    struct Rig {
        folder: tempfile::TempDir,
        server: UnixListener,
        vnc: Vnc,
    }

    fn rig(admin: u32) -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let opened = || OwnedFd::from(File::open(folder.path()).unwrap());
        let server = UnixListener::bind(folder.path().join("vnc0")).unwrap();
        let vnc = Vnc::listen(opened().as_fd(), opened(), 0, admin).unwrap();
        Rig {
            folder,
            server,
            vnc,
        }
    }

    fn own_uid() -> u32 {
        rustix::process::getuid().as_raw()
    }

    fn wait_for(fd: &impl AsFd) {
        sys::poll::wait(&mut [sys::poll::Watch::readable(fd)], None).unwrap();
    }

    impl Rig {
        fn viewer(&mut self) -> (UnixStream, bool) {
            let viewer = UnixStream::connect(self.folder.path().join(NAME)).unwrap();
            wait_for(self.vnc.listener());
            let began = self.vnc.accept();
            (viewer, began)
        }
    }

    #[test]
    fn an_administrator_sees_what_the_server_sends_until_capture_pauses() {
        let mut rig = rig(own_uid());
        let (mut viewer, began) = rig.viewer();
        assert!(began);
        let (mut server, _) = rig.server.accept().unwrap();
        server.write_all(b"RFB 003.008\n").unwrap();
        let mut text = [0; 12];
        viewer.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"RFB 003.008\n");
        viewer.write_all(b"back").unwrap();
        server.read_exact(&mut text[..4]).unwrap();
        assert_eq!(&text[..4], b"back");
        rig.vnc.pause(true);
        assert_eq!(viewer.read(&mut text).unwrap(), 0);
        wait_for(rig.vnc.wake());
        assert!(rig.vnc.has_left());
        let (mut refused, began) = rig.viewer();
        assert!(!began);
        assert_eq!(refused.read(&mut text).unwrap(), 0);
        rig.vnc.pause(false);
        assert!(rig.viewer().1);
    }

    #[test]
    fn a_second_one_and_a_stranger_see_nothing() {
        let mut rig = rig(own_uid());
        let (_first, began) = rig.viewer();
        assert!(began);
        assert!(!rig.viewer().1);
        rig.vnc.admin = own_uid() + 1;
        rig.vnc.viewer = None;
        assert!(!rig.viewer().1);
    }

    #[test]
    fn a_masked_screen_and_one_without_a_live_view_are_not_shown() {
        let mut screenshots = Screenshots {
            live_view: true,
            ..Screenshots::default()
        };
        assert!(is_allowed(&screenshots));
        screenshots.masks.areas.push(order::Area {
            x: 0,
            y: 0,
            width: 1,
            height: 1,
        });
        assert!(!is_allowed(&screenshots));
        assert!(!is_allowed(&Screenshots::default()));
    }
}
