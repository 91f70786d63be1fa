//! The private display: an X server with a cookie of its own, a window manager, a D-Bus session.
//!
//! The server's copy of the cookie is root's and lies where the bot can't write; the clients' copy
//! is the bot's. No TCP, no abstract socket: who is not in the job's mount namespace has no way in.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, socket};
use nix::sys::stat::Mode;
use order::{Display, DisplayKind};
use privsep::Refusal;
use privsep::session::Account;
use sys::poll::Watch;

use super::programs;
use super::serve::Job;
use crate::inner::{FromInit, say};

/// Xvfb takes a second on a loaded host; a display that is not there after this never comes.
const READY: std::time::Duration = std::time::Duration::from_secs(30);

/// Where X servers put their sockets.
const SOCKETS: &str = "/tmp/.X11-unix";

/// The server's own cookie file and the window manager's configuration, in the root's skeleton.
const SERVER_COOKIE: &str = "/run/robot/display/cookie";
const WINDOW_MANAGER: &str = "/run/robot/display/openbox.xml";

/// No key and no menu of ours: what a bot types reaches its programs.
const OPENBOX: &str = include_str!("openbox.xml");

/// The names that distributions install TigerVNC's server under.
const XVNC: [&str; 2] = ["/usr/bin/Xvnc", "/usr/bin/Xtigervnc"];

type Cookie = [u8; 16];

/// Lays down what the bot must not change, while this process is still root.
pub(super) fn prepare(bot: &Account, cookie: &Cookie) -> std::io::Result<()> {
    let folder = Path::new(SERVER_COOKIE).parent().unwrap_or(Path::new("/"));
    fs::create_dir(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    fs::write(WINDOW_MANAGER, OPENBOX)?;
    fs::set_permissions(WINDOW_MANAGER, fs::Permissions::from_mode(0o444))?;
    write_cookie(Path::new(SERVER_COOKIE), cookie)?;
    // The server runs as the bot: its group may read.
    chown(SERVER_COOKIE, None, Some(bot.gid))?;
    fs::set_permissions(SERVER_COOKIE, fs::Permissions::from_mode(0o440))
}

/// Written by us: xauth(1) would show the cookie in its arguments. Format: Xau's, big-endian
/// lengths; FamilyWild and an empty number fit any display of this job.
fn write_cookie(path: &Path, cookie: &Cookie) -> std::io::Result<()> {
    const FAMILY_WILD: u16 = 0xffff;
    const NAME: &[u8] = b"MIT-MAGIC-COOKIE-1";
    let mut entry = FAMILY_WILD.to_be_bytes().to_vec();
    for field in [&b""[..], b"", NAME, cookie] {
        entry.extend(u16::try_from(field.len()).unwrap_or(0).to_be_bytes());
        entry.extend(field);
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(&entry)
}

fn refuse(detail: String) -> Refusal {
    Refusal::new("DISPLAY_FAILED", detail)
}

impl Job<'_> {
    pub(super) fn start_display(&mut self) -> Result<(), Refusal> {
        let (Some(display), Some(cookie)) = (self.spec.display, self.inherited.cookie) else {
            return Err(refuse("the order has no display".to_owned()));
        };
        let runtime = format!("/run/user/{}", self.spec.account.uid);
        let authority = Path::new(&runtime).join(programs::XAUTHORITY);
        write_cookie(&authority, &cookie)
            .map_err(|error| refuse(format!("the display's cookie file: {error}")))?;
        let number = self.start_server(display)?;
        self.display = Some(number);
        let bus = format!("unix:path={runtime}/bus");
        self.start_own(&[
            "/usr/bin/dbus-daemon",
            "--session",
            "--nofork",
            "--nopidfile",
            "--address",
            &bus,
        ])?;
        self.start_own(&["/usr/bin/openbox", "--config-file", WINDOW_MANAGER])?;
        let directory = open(
            SOCKETS,
            OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        );
        let directory = directory.map_err(|error| refuse(error.to_string()))?;
        say(
            &self.inherited.monitor,
            &FromInit::DisplayReady { number },
            &[directory.as_fd()],
        )
    }

    /// A program of the display's, not the bot's.
    fn start_own(&mut self, command: &[&str]) -> Result<(), Refusal> {
        let null = programs::nothing()?;
        self.start_with(command, &[null.as_fd(), null.as_fd(), null.as_fd()])
    }

    fn start_with(&mut self, command: &[&str], fds: &[BorrowedFd<'_>]) -> Result<(), Refusal> {
        let argv: Vec<String> = command.iter().map(|part| (*part).to_owned()).collect();
        let env = programs::environment(self.spec, self.session, self.display);
        let started =
            programs::start(&argv, &env, fds, self.plan).map_err(|refusal| refuse(refusal.detail));
        self.own.push(started?);
        Ok(())
    }

    /// Returns the number of the display when it answers.
    fn start_server(&mut self, display: Display) -> Result<u32, Refusal> {
        let (answer, report) =
            nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|error| refuse(error.to_string()))?;
        let claim = self.claim.insert(claim()?);
        let argv = command(display, claim.number)?;
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        let null = programs::nothing()?;
        let fds = [null.as_fd(), null.as_fd(), null.as_fd(), report.as_fd()];
        self.start_with(&argv, &fds)?;
        drop(report);
        let number =
            read_number(answer).map_err(|error| refuse(format!("{}: {error}", argv[0])))?;
        number.ok_or_else(|| {
            let Display {
                width,
                height,
                depth,
                ..
            } = display;
            refuse(format!(
                "{} did not bring up a display of {width}x{height}x{depth}",
                argv[0]
            ))
        })
    }
}

/// Beyond what displays of the host take: from 0 servers, from 10 ssh and xrdp, from 99 xvfb-run.
const NUMBERS: std::ops::Range<u32> = 1000..60_000;

/// A display's number, with its abstract socket's name taken and never listened on.
///
/// Clients (libxcb) try that name before the file in /tmp, and it belongs to the network, which may
/// be the host's: whoever has it, a server of the host or a bot of another job that poses as one,
/// would get this job's windows and what is typed into them. A name that is taken refuses, and
/// clients go on to the file.
pub(super) struct Claim {
    number: u32,
    _name: OwnedFd,
}

fn claim() -> Result<Claim, Refusal> {
    for number in NUMBERS {
        let name = format!("{SOCKETS}/X{number}");
        let bound = UnixAddr::new_abstract(name.as_bytes()).and_then(|address| {
            let flags = SockFlag::SOCK_CLOEXEC;
            let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
            bind(socket.as_raw_fd(), &address).map(|()| socket)
        });
        match bound {
            Ok(name) => {
                return Ok(Claim {
                    number,
                    _name: name,
                });
            }
            Err(nix::errno::Errno::EADDRINUSE) => {}
            Err(error) => return Err(refuse(format!("the display's number: {error}"))),
        }
    }
    Err(refuse(
        "every display's number is taken on this host".to_owned(),
    ))
}

/// Both servers: number told on descriptor 3, cookie needed, no TCP, no abstract socket, no reset
/// when the last client leaves, no screen saver.
fn command(display: Display, number: u32) -> Result<Vec<String>, Refusal> {
    let Display {
        kind,
        width,
        height,
        depth,
    } = display;
    let mut command = match kind {
        DisplayKind::Xvfb => words(&["/usr/bin/Xvfb", "-screen", "0"]),
        DisplayKind::Xvnc => words(&[xvnc()?, "-geometry"]),
    };
    command.insert(1, format!(":{number}"));
    match kind {
        DisplayKind::Xvfb => command.push(format!("{width}x{height}x{depth}")),
        DisplayKind::Xvnc => {
            command.push(format!("{width}x{height}"));
            command.extend(words(&["-depth", &depth.to_string()]));
            command.extend(looking_only(number));
        }
    }
    command.extend(words(&[
        "-displayfd",
        "3",
        "-auth",
        SERVER_COOKIE,
        "-nolisten",
        "tcp",
        "-nolisten",
        "local",
        "-noreset",
        "-s",
        "0",
        "-dpms",
    ]));
    Ok(command)
}

/// The VNC side is a unix socket beside X's own, for looking on: no key, pointer, clipboard or
/// size comes in by it. The job's own processes and its attendant, another user, reach it and nobody
/// else does: it asks for no password.
fn looking_only(number: u32) -> Vec<String> {
    let socket = format!("{SOCKETS}/vnc{number}");
    words(&[
        "-rfbport",
        "-1",
        "-rfbunixpath",
        &socket,
        "-rfbunixmode",
        "0666",
        "-SecurityTypes",
        "None",
        "-AlwaysShared",
        "-AcceptKeyEvents=0",
        "-AcceptPointerEvents=0",
        "-AcceptCutText=0",
        "-SendCutText=0",
        "-AcceptSetDesktopSize=0",
    ])
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn xvnc() -> Result<&'static str, Refusal> {
    let found = XVNC.into_iter().find(|path| Path::new(path).is_file());
    found.ok_or_else(|| {
        refuse(
            "the order wants an xvnc display and this host has no Xvnc; install TigerVNC's server \
             (Debian: tigervnc-standalone-server)"
                .to_owned(),
        )
    })
}

/// What -displayfd writes: the number and a newline, once clients can connect.
fn read_number(answer: OwnedFd) -> std::io::Result<Option<u32>> {
    let ready = sys::poll::wait(&mut [Watch::readable(&answer)], Some(READY))
        .map_err(std::io::Error::other)?;
    let mut text = String::new();
    if ready > 0 {
        fs::File::from(answer).take(16).read_to_string(&mut text)?;
    }
    Ok(text.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::connect;

    use super::*;

    fn of(kind: DisplayKind, depth: u32) -> String {
        let display = Display {
            kind,
            width: 1280,
            height: 800,
            depth,
        };
        command(display, 1000).map_or_else(|refusal| refusal.detail, |words| words.join(" "))
    }

    #[test]
    fn two_displays_have_two_numbers_and_a_strangers_is_not_taken() {
        let one = claim().unwrap();
        let other = claim().unwrap();
        assert_ne!(one.number, other.number);
        let name = UnixAddr::new_abstract(format!("{SOCKETS}/X{}", one.number).as_bytes()).unwrap();
        let stranger = socket(
            AddressFamily::Unix,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )
        .unwrap();
        let taken = bind(stranger.as_raw_fd(), &name);
        assert_eq!(taken, Err(nix::errno::Errno::EADDRINUSE));
        let refused = connect(stranger.as_raw_fd(), &name);
        assert_eq!(refused, Err(nix::errno::Errno::ECONNREFUSED));
    }

    #[test]
    fn no_display_listens_on_tcp_or_an_abstract_socket_and_none_is_without_a_cookie() {
        for kind in [DisplayKind::Xvfb, DisplayKind::Xvnc] {
            let command = of(kind, 24);
            for needed in ["-nolisten tcp", "-nolisten local", "-auth /run/robot/"] {
                assert!(command.contains(needed), "{needed}: {command}");
            }
        }
        assert!(of(DisplayKind::Xvfb, 16).contains("-screen 0 1280x800x16"));
    }
}
