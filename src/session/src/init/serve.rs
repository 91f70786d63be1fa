//! What init does for the rest of its life: starts what it is told, reaps, tells.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::sys::signal::killpg;
use nix::sys::stat::Mode;
use privsep::Refusal;
use privsep::session::Spec;
use sys::Signal;
use sys::poll::{Signals, Watch};
use sys::process::{Exit, Process, Reaped, reap_any};

use super::{Inherited, programs};
use crate::inner::{FromInit, Heard, ToInit, hear, say};
use crate::leader::Variable;

/// Xvfb takes a second on a loaded host; a display that is not there after this never comes.
const DISPLAY: std::time::Duration = std::time::Duration::from_secs(30);

struct Job<'a> {
    spec: &'a Spec,
    session: &'a [Variable],
    inherited: &'a Inherited,
    display: Option<u32>,
    /// The display, the window manager, the bus: not the bot's.
    own: Vec<Process>,
    bot: Option<Process>,
}

/// Serves until the monitor is gone; the monitor ends it by killing it.
pub(super) fn serve(
    spec: &Spec,
    inherited: &Inherited,
    session: &[Variable],
) -> Result<(), Refusal> {
    let signals = Signals::new(&[Signal::SIGCHLD])
        .map_err(|error| crate::refusal("SANDBOX_FAILED", &error))?;
    let mut job = Job {
        spec,
        session,
        inherited,
        display: None,
        own: vec![],
        bot: None,
    };
    loop {
        let mut watches = [
            Watch::readable(&inherited.monitor),
            Watch::readable(&signals),
        ];
        sys::poll::wait(&mut watches, None)
            .map_err(|error| crate::refusal("SANDBOX_FAILED", &error))?;
        if watches[1].is_ready() {
            while let Ok(Some(_)) = signals.take() {}
            job.reap()?;
        }
        if !watches[0].is_ready() {
            continue;
        }
        match hear(&inherited.monitor) {
            Heard::Message(message, _) => job.obey(message)?,
            Heard::Nothing => {}
            Heard::Gone => return Ok(()),
        }
    }
}

impl Job<'_> {
    fn obey(&mut self, message: ToInit) -> Result<(), Refusal> {
        match message {
            ToInit::StartDisplay {
                width,
                height,
                cookie,
            } => self.start_display(width, height, &cookie),
            ToInit::Run => self.run(),
            ToInit::Terminate => {
                if let Some(bot) = &self.bot {
                    // Gone already: the exit is on its way.
                    let _ = killpg(bot.pid(), Signal::SIGTERM);
                }
                Ok(())
            }
        }
    }

    fn run(&mut self) -> Result<(), Refusal> {
        std::env::set_current_dir("/work")
            .map_err(|error| crate::refusal("SANDBOX_FAILED", &error))?;
        let null = programs::nothing()?;
        let env = programs::environment(self.spec, self.session, self.display);
        let fds = [
            null.as_fd(),
            self.inherited.stdout.as_fd(),
            self.inherited.stderr.as_fd(),
        ];
        self.bot = Some(programs::start(&programs::bot(self.spec), &env, &fds)?);
        say(&self.inherited.monitor, &FromInit::Started, &[])
    }

    /// Reaps everything that ended; orphans of the bot come to pid 1.
    fn reap(&mut self) -> Result<(), Refusal> {
        while let Ok(Reaped::Child(pid, exit)) = reap_any() {
            if self.bot.as_ref().is_some_and(|bot| bot.pid() == pid) {
                self.bot = None;
                let (code, signal) = match exit {
                    Exit::Code(code) => (Some(code), None),
                    Exit::Signal { number, .. } => (None, Some(number)),
                };
                say(
                    &self.inherited.monitor,
                    &FromInit::Exited {
                        code,
                        signal,
                        left: self.left(),
                    },
                    &[],
                )?;
            }
            self.own.retain(|process| process.pid() != pid);
        }
        Ok(())
    }

    /// Processes of the job that are neither init nor the display's.
    fn left(&self) -> u32 {
        let own =
            |pid: i32| pid == 1 || self.own.iter().any(|process| process.pid().as_raw() == pid);
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        u32::try_from(pids.filter(|pid| !own(*pid)).count()).unwrap_or(u32::MAX)
    }

    fn start_display(&mut self, width: u32, height: u32, cookie: &[u8; 16]) -> Result<(), Refusal> {
        let refuse = |detail: String| Refusal::new("DISPLAY_FAILED", detail);
        let authority = self
            .authority(cookie)
            .map_err(|error| refuse(format!("the display's cookie file: {error}")))?;
        let number = self.start_server(width, height, &authority)?;
        self.display = Some(number);
        let env = programs::environment(self.spec, self.session, self.display);
        let null = programs::nothing()?;
        let fds = [null.as_fd(), null.as_fd(), null.as_fd()];
        let bus = format!("unix:path=/run/user/{}/bus", self.spec.account.uid);
        let commands: [&[&str]; 2] = [
            &[
                "/usr/bin/dbus-daemon",
                "--session",
                "--nofork",
                "--nopidfile",
                "--address",
                &bus,
            ],
            &["/usr/bin/openbox"],
        ];
        for command in commands {
            let argv: Vec<String> = command.iter().map(|part| (*part).to_owned()).collect();
            let started = programs::start(&argv, &env, &fds);
            self.own
                .push(started.map_err(|refusal| refuse(refusal.detail))?);
        }
        let directory = open(
            "/tmp/.X11-unix",
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

    /// Written by us: xauth(1) would show the cookie in its arguments. Format: Xau's, big-endian
    /// lengths; FamilyWild and an empty number fit any display of this job.
    fn authority(&self, cookie: &[u8; 16]) -> std::io::Result<PathBuf> {
        const FAMILY_WILD: u16 = 0xffff;
        const NAME: &[u8] = b"MIT-MAGIC-COOKIE-1";
        let mut entry = FAMILY_WILD.to_be_bytes().to_vec();
        for field in [&b""[..], b"", NAME, cookie] {
            entry.extend(u16::try_from(field.len()).unwrap_or(0).to_be_bytes());
            entry.extend(field);
        }
        let path = Path::new("/run/user")
            .join(self.spec.account.uid.to_string())
            .join(programs::XAUTHORITY);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        file.write_all(&entry)?;
        file.set_permissions(fs::Permissions::from_mode(0o400))?;
        Ok(path)
    }

    /// Returns the number of the display when it answers.
    fn start_server(&mut self, width: u32, height: u32, authority: &Path) -> Result<u32, Refusal> {
        let refuse = |detail: String| Refusal::new("DISPLAY_FAILED", detail);
        let (answer, report) =
            nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|error| refuse(error.to_string()))?;
        let screen = format!("{width}x{height}x24");
        let authority = authority.display().to_string();
        let command = [
            "/usr/bin/Xvfb",
            "-displayfd",
            "3",
            "-screen",
            "0",
            &screen,
            "-auth",
            &authority,
            "-nolisten",
            "tcp",
            "-nolisten",
            "local",
            "-noreset",
            "-s",
            "0",
            "-dpms",
        ];
        let argv: Vec<String> = command.iter().map(|part| (*part).to_owned()).collect();
        let env = programs::environment(self.spec, self.session, None);
        let null = programs::nothing()?;
        let fds = [null.as_fd(), null.as_fd(), null.as_fd(), report.as_fd()];
        self.own
            .push(programs::start(&argv, &env, &fds).map_err(|refusal| refuse(refusal.detail))?);
        drop(report);
        let number = read_number(answer).map_err(|error| refuse(format!("Xvfb: {error}")))?;
        number.ok_or_else(|| {
            refuse(format!(
                "Xvfb did not bring up a display of {width}x{height}"
            ))
        })
    }
}

/// What -displayfd writes: the number and a newline, once clients can connect.
fn read_number(answer: OwnedFd) -> std::io::Result<Option<u32>> {
    let ready = sys::poll::wait(&mut [Watch::readable(&answer)], Some(DISPLAY))
        .map_err(std::io::Error::other)?;
    let mut text = String::new();
    if ready > 0 {
        fs::File::from(answer).take(16).read_to_string(&mut text)?;
    }
    Ok(text.trim().parse().ok())
}
