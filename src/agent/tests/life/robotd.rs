//! The real program, in places of its own.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use agent::control::{self, Ask, Reply, Status};

/// Where one instance lives.
pub(crate) struct Places {
    _folder: tempfile::TempDir,
    pub(crate) state: PathBuf,
    pub(crate) run: PathBuf,
    pub(crate) broker: PathBuf,
    config: PathBuf,
    pub(crate) log: PathBuf,
    /// Where a service manager would listen.
    pub(crate) notify: PathBuf,
}

impl Places {
    pub(crate) fn new() -> Self {
        // Short: socket addresses have little room.
        let folder = tempfile::Builder::new()
            .prefix("rd")
            .rand_bytes(4)
            .tempdir_in("/tmp")
            .unwrap();
        let at = |name: &str| folder.path().join(name);
        let (state, run, broker, config) =
            (at("state"), at("run"), at("broker.sock"), at("robotd.toml"));
        let text = format!(
            "state-dir = {state:?}\nruntime-dir = {run:?}\nbroker-socket = {broker:?}\nlog-level = \"debug\"\n[admission]\nmin-free-mib = 64\n[link]\nbackoff-max-s = 1\n",
        );
        fs::write(&config, text).unwrap();
        let (log, notify) = (at("log"), at("notify"));
        Self {
            _folder: folder,
            state,
            run,
            broker,
            config,
            log,
            notify,
        }
    }
}

pub(crate) struct Robotd {
    child: Child,
    socket: PathBuf,
    log: PathBuf,
}

impl Robotd {
    pub(crate) fn start(places: &Places) -> Self {
        let log = fs::File::options()
            .append(true)
            .create(true)
            .open(&places.log)
            .unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_robotd"))
            .arg("--config")
            .arg(&places.config)
            .env_remove("JOURNAL_STREAM")
            .env("NOTIFY_SOCKET", &places.notify)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let robotd = Self {
            child,
            socket: places.run.join("control.sock"),
            log: places.log.clone(),
        };
        robotd.until("it can be asked", |_| true);
        robotd
    }

    pub(crate) fn ask(&self, ask: &Ask) -> Option<Reply> {
        control::ask(&self.socket, ask, Some(Duration::from_secs(60))).ok()
    }

    /// Asks again until the status is so.
    pub(crate) fn until(&self, what: &str, ready: impl Fn(&Status) -> bool) -> Status {
        for _ in 0..3000 {
            if let Some(Reply::Status { status }) = self.ask(&Ask::Status)
                && ready(&status)
            {
                return *status;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!(
            "robotd never was so that {what}; its log:\n{}",
            fs::read_to_string(&self.log).unwrap_or_default()
        );
    }

    /// As a crash would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// As the service manager would.
    pub(crate) fn terminate(mut self) -> std::process::ExitStatus {
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(self.child.id().cast_signed()),
            nix::sys::signal::Signal::SIGTERM,
        )
        .unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Robotd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!(
                "robotd's log:\n{}",
                fs::read_to_string(&self.log).unwrap_or_default()
            );
        }
    }
}
