//! What init does for the rest of its life: starts what it is told, reaps, tells.

use std::fs;
use std::os::fd::AsFd as _;

use nix::sys::signal::killpg;
use privsep::Refusal;
use privsep::session::Spec;
use sys::Signal;
use sys::poll::{Signals, Watch};
use sys::process::{Exit, Process, Reaped, reap_any};

use super::display::Claim;
use super::{Inherited, programs};
use crate::inner::{FromInit, Heard, ToInit, hear, say};
use crate::leader::Variable;
use crate::sandbox::Plan;

/// A job as init sees it.
pub(super) struct Job<'a> {
    pub(super) spec: &'a Spec,
    pub(super) session: &'a [Variable],
    pub(super) inherited: &'a Inherited,
    pub(super) plan: &'a Plan,
    pub(super) display: Option<u32>,
    pub(super) claim: Option<Claim>,
    /// The display, the window manager, the bus: not the bot's.
    pub(super) own: Vec<Process>,
    bot: Option<Process>,
}

/// Serves until the monitor is gone; the monitor ends it by killing it.
pub(super) fn serve(
    spec: &Spec,
    inherited: &Inherited,
    session: &[Variable],
    plan: &Plan,
) -> Result<(), Refusal> {
    let signals = Signals::new(&[Signal::SIGCHLD])
        .map_err(|error| crate::refusal("SANDBOX_FAILED", &error))?;
    let mut job = Job {
        spec,
        session,
        inherited,
        plan,
        display: None,
        claim: None,
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
            ToInit::StartDisplay => self.start_display(),
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
        self.bot = Some(programs::start(
            &programs::bot(self.spec),
            &env,
            &fds,
            self.plan,
        )?);
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
}
