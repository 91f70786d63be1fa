//! One host: its files, its programs, and what to ask of them.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::{AGENT_USER, Leftovers, Slots, eventually, programs};

/// The shipped PAM file under a name of the tests'; `tests/run.sh` puts it there.
const PAM_SERVICE: &str = "robotd-e2e";

/// What a test wants of its host.
#[derive(Clone, Debug)]
pub struct Options {
    /// Jobs at once.
    pub slots: usize,
    /// Licenses of the pool `default`.
    pub licenses: u32,
    /// Appended to the policy.
    pub policy: String,
    /// Lines of the policy's `[volume]`.
    pub volume: String,
    /// How long a license lasts without renewal.
    pub lease_ttl: String,
    /// Where the programs are that broker and session start; those under test unless said.
    pub programs: Option<PathBuf>,
    /// Whether the orchestrator has pages.
    pub pages: bool,
    /// Programs of Debian that broker and sessions can't start, as if they were not installed.
    pub hidden: Vec<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        let policy = "[packages]\nallow-unsigned = true\n".to_owned();
        Self {
            slots: 1,
            licenses: 1,
            policy,
            volume: String::new(),
            lease_ttl: "120s".into(),
            programs: None,
            pages: false,
            hidden: vec![],
        }
    }
}

/// A host under test. Dropping it stops its programs by pid and removes its files.
pub struct Host {
    name: String,
    /// Files that last: data of the orchestrator, state of agent and broker, configuration.
    pub dir: PathBuf,
    /// Sockets.
    pub run: PathBuf,
    /// The accounts of its slots.
    pub slots: Slots,
    orchestrator: Option<Child>,
    broker: Option<Child>,
    agent: Option<Child>,
    disks: Vec<PathBuf>,
    hidden: Vec<PathBuf>,
}

impl Host {
    /// An enrolled host with a running orchestrator, broker and agent.
    ///
    /// # Panics
    /// When anything does not start.
    pub fn start(options: &Options) -> Self {
        let mut host = Self::prepare(options);
        host.bring_up(options);
        host
    }

    /// Starts everything on a prepared host and enrols it.
    ///
    /// # Panics
    /// When anything does not start.
    pub fn bring_up(&mut self, options: &Options) {
        self.start_orchestrator(options);
        self.start_broker();
        self.start_agent();
        self.enrol();
        self.ask(&["license", "set", "default", &options.licenses.to_string()]);
    }

    /// Puts a small disk of its own below a directory of this host, with that directory's owner
    /// and mode.
    ///
    /// # Panics
    /// When it can't be mounted.
    pub fn small_disk(&mut self, path: &Path, bytes: u64) {
        use std::os::unix::fs::MetadataExt as _;
        fs::create_dir_all(path).expect("a folder");
        let own = fs::metadata(path).expect("a folder");
        let options = format!(
            "size={bytes},mode={:o},uid={},gid={}",
            own.mode() & 0o7777,
            own.uid(),
            own.gid()
        );
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "small-disk"])
            .arg(path)
            .status();
        assert!(
            mounted.expect("mount").success(),
            "{} is mounted",
            path.display()
        );
        self.disks.push(path.to_owned());
    }

    /// Directories and configuration, nothing running.
    ///
    /// # Panics
    /// When the tests do not run as root.
    pub fn prepare(options: &Options) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let dir = PathBuf::from("/var/lib/robotd-test").join(&name);
        let run = PathBuf::from("/run/robotd-test").join(&name);
        for path in [
            &dir.join("etc/trust.d"),
            &dir.join("agent"),
            &dir.join("packages"),
            &run.join("a"),
        ] {
            fs::create_dir_all(path).expect("the tests run as root");
        }
        let agent = sys::account::by_name(AGENT_USER)
            .expect("a look-up")
            .expect("user robotd: start the tests with tests/run.sh");
        for path in [&dir.join("agent"), &run.join("a")] {
            chown(path, Some(agent.uid.as_raw()), Some(agent.gid.as_raw()))
                .expect("a change of owner");
        }
        let host = Self {
            name,
            dir,
            run,
            slots: Slots::take(options.slots),
            orchestrator: None,
            broker: None,
            agent: None,
            disks: vec![],
            hidden: options.hidden.clone(),
        };
        let place = options.programs.clone();
        host.write_policy(options, place.as_deref().unwrap_or(programs()));
        host.write_config();
        host
    }

    fn write_policy(&self, options: &Options, programs: &Path) {
        let (dir, run) = (self.dir.display(), self.run.display());
        let mut text = format!(
            "[paths]\nstate = \"{dir}/broker\"\nruntime = \"{run}/b\"\nspool = \"{dir}/agent/spool\"\n\
             jobs = \"{run}/a/jobs\"\ntrust = \"{dir}/etc/trust.d\"\nprograms = \"{}\"\n\
             [volume]\nstore = \"{dir}/volumes\"\nreserve-mib = 64\n{}\n\
             [session]\npam-service = \"{PAM_SERVICE}\"\n",
            programs.display(),
            options.volume
        );
        let accounts = self.slots.accounts();
        let own = self
            .slots
            .attendants()
            .into_iter()
            .zip(self.slots.egresses());
        for (account, (attendant, egress)) in accounts.iter().zip(own) {
            text += &format!(
                "[[slot]]\naccount = \"{account}\"\nattendant = \"{attendant}\"\negress = \"{egress}\"\n"
            );
        }
        fs::write(self.policy_file(), text + &options.policy).expect("a policy");
        fs::set_permissions(self.policy_file(), fs::Permissions::from_mode(0o644)).expect("a mode");
    }

    /// Changes the broker's policy, which it reads at its next start.
    ///
    /// # Panics
    /// When it can't be written.
    pub fn edit_policy(&self, change: impl FnOnce(String) -> String) {
        let text = fs::read_to_string(self.policy_file()).expect("a policy");
        fs::write(self.policy_file(), change(text)).expect("a policy");
    }

    /// The broker's policy.
    pub fn policy_file(&self) -> PathBuf {
        self.dir.join("etc/policy.toml")
    }

    /// The agent's configuration.
    pub fn config_file(&self) -> PathBuf {
        self.dir.join("etc/robotd.toml")
    }

    fn write_config(&self) {
        let (dir, run) = (self.dir.display(), self.run.display());
        let text = format!(
            "state-dir = \"{dir}/agent\"\nruntime-dir = \"{run}/a\"\nbroker-socket = \"{run}/b/broker.sock\"\n\
             [admission]\nmin-free-mib = 64\n[link]\nbackoff-max-s = 1\n"
        );
        fs::write(self.config_file(), text).expect("a configuration");
    }

    /// Starts the orchestrator; its ports are chosen once and kept over restarts.
    ///
    /// # Panics
    /// When it does not get ready.
    pub fn start_orchestrator(&mut self, options: &Options) {
        let addresses = self.dir.join("orchestrator/addresses.json");
        let known: Option<Value> = fs::read(&addresses)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let address = |key: &str| {
            known
                .as_ref()
                .and_then(|known| known[key].as_str().map(str::to_owned))
                .unwrap_or_else(|| "127.0.0.1:0".into())
        };
        let mut command = self.command("robot-orchestrator");
        command
            .arg("serve")
            .arg("--data-dir")
            .arg(self.dir.join("orchestrator"));
        command.args([
            "--listen",
            &address("link"),
            "--enroll",
            &address("enroll"),
            "--name",
            "localhost",
        ]);
        command.args(["--lease-ttl", &options.lease_ttl]);
        if options.pages {
            command.args(["--http", "127.0.0.1:0"]);
        }
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .expect("robot-orchestrator starts");
        let stdout = child.stdout.take().expect("a pipe");
        let mut said = BufReader::new(stdout).lines().map_while(Result::ok);
        assert!(
            said.any(|line| line.starts_with("listening")),
            "robot-orchestrator never listened: {}",
            self.log("robot-orchestrator")
        );
        self.orchestrator = Some(child);
    }

    /// Starts the broker and waits for its sockets.
    ///
    /// # Panics
    /// When it does not get ready.
    pub fn start_broker(&mut self) {
        let mut command = self.command("robotd-broker");
        if !self.hidden.is_empty() {
            command = self.without_hidden(&command);
        }
        let mut child = command
            .arg("--policy")
            .arg(self.policy_file())
            .spawn()
            .expect("robotd-broker starts");
        // Bound last, and root may connect: an old file of a killed broker does not answer.
        let socket = self.run.join("b/admin.sock");
        eventually("the broker's socket", || {
            assert!(
                child.try_wait().expect("a wait").is_none(),
                "robotd-broker ended: {}",
                self.log("robotd-broker")
            );
            sys::fdpass::Seqpacket::connect(&socket).ok()
        });
        self.broker = Some(child);
    }

    /// Starts a broker that does not stay, and returns what it logged.
    ///
    /// # Panics
    /// When it stays.
    pub fn refused_broker(&self) -> String {
        let policy = self.policy_file();
        let mut command = self.command("robotd-broker");
        let mut child = command
            .arg("--policy")
            .arg(policy)
            .spawn()
            .expect("robotd-broker starts");
        let ended = eventually("the broker's end", || child.try_wait().expect("a wait"));
        assert_eq!(ended.code(), Some(78), "{}", self.log("robotd-broker"));
        self.log("robotd-broker")
    }

    /// Starts the agent as its own user.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn start_agent(&mut self) {
        let agent = sys::account::by_name(AGENT_USER)
            .expect("a look-up")
            .expect("user robotd");
        let mut command = self.command("robotd");
        command.uid(agent.uid.as_raw()).gid(agent.gid.as_raw());
        let mut child = command
            .arg("--config")
            .arg(self.config_file())
            .spawn()
            .expect("robotd starts");
        let socket = self.run.join("a/control.sock");
        eventually("the agent's control socket", || {
            assert!(
                child.try_wait().expect("a wait").is_none(),
                "robotd ended: {}",
                self.log("robotd")
            );
            std::os::unix::net::UnixStream::connect(&socket).ok()
        });
        self.agent = Some(child);
    }

    /// Joins the orchestrator with a fresh token.
    ///
    /// # Panics
    /// When it is refused.
    pub fn enrol(&self) {
        let token = self.dir.join("token.json");
        self.ask(&[
            "token",
            "create",
            "--agent",
            "host",
            "--out",
            &token.display().to_string(),
        ]);
        let enrolled = self.control(&["enroll", "--token", &token.display().to_string()]);
        assert!(
            enrolled.status.success(),
            "robotctl enroll: {}{}{}",
            text(&enrolled.stdout),
            text(&enrolled.stderr),
            self.all_logs()
        );
    }

    /// A program with its log beside it.
    fn command(&self, program: &str) -> Command {
        let log = File::options()
            .append(true)
            .create(true)
            .open(self.dir.join(format!("{program}.log")))
            .expect("a log");
        let mut command = Command::new(programs().join(program));
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("RUST_BACKTRACE", "1");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        command
    }

    /// The same program in a mount namespace of its own where the hidden programs can't be started.
    fn without_hidden(&self, program: &Command) -> Command {
        let log = File::options()
            .append(true)
            .open(self.dir.join("robotd-broker.log"));
        let mut hiding = Command::new("unshare");
        let script = self.hidden.iter().fold(String::new(), |script, path| {
            script + &format!("mount --bind /dev/null {} && ", path.display())
        });
        hiding.args([
            "--mount",
            "sh",
            "-c",
            &format!("{script}exec \"$0\" \"$@\""),
        ]);
        hiding.arg(program.get_program());
        hiding
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        hiding
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("a log"));
        hiding
    }

    /// `robotctl status --json`.
    ///
    /// # Panics
    /// When robotd does not answer.
    pub fn status(&self) -> Value {
        let output = self.control(&["status", "--json"]);
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("robotctl status: {}", text(&output.stderr)))
    }

    /// What a program has logged so far.
    pub fn log(&self, program: &str) -> String {
        let bytes = fs::read(self.dir.join(format!("{program}.log"))).unwrap_or_default();
        text(&bytes)
    }

    /// All logs, for the message of a failed test.
    pub fn all_logs(&self) -> String {
        ["robot-orchestrator", "robotd", "robotd-broker"]
            .map(|name| format!("\n--- {name}\n{}", self.log(name)))
            .concat()
    }

    /// Runs robot-orchestrator's command line.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn orchestrator(&self, args: &[&str]) -> Output {
        let mut command = Command::new(programs().join("robot-orchestrator"));
        command
            .args(args)
            .arg("--data-dir")
            .arg(self.dir.join("orchestrator"))
            .output()
            .expect("robot-orchestrator starts")
    }

    /// Runs a command of robot-orchestrator that asks no server.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn offline(&self, args: &[&str]) -> Output {
        let mut command = Command::new(programs().join("robot-orchestrator"));
        command
            .args(args)
            .output()
            .expect("robot-orchestrator starts")
    }

    /// A command line of robot-orchestrator that goes on while the test does.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn begin(&self, args: &[&str]) -> Child {
        let mut command = Command::new(programs().join("robot-orchestrator"));
        command
            .args(args)
            .arg("--data-dir")
            .arg(self.dir.join("orchestrator"))
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("robot-orchestrator starts")
    }

    /// The same; it must succeed. Returns what it printed.
    ///
    /// # Panics
    /// When it fails.
    pub fn ask(&self, args: &[&str]) -> String {
        let output = self.orchestrator(args);
        assert!(
            output.status.success(),
            "robot-orchestrator {args:?}: {}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    /// Runs robotctl for this host.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn control(&self, args: &[&str]) -> Output {
        let mut command = Command::new(programs().join("robotctl"));
        command.args(args);
        command
            .arg("--control")
            .arg(self.run.join("a/control.sock"));
        if args.first() == Some(&"enroll") {
            command.arg("--trust-dir").arg(self.dir.join("etc/trust.d"));
        }
        if matches!(args.first(), Some(&("slot" | "trust" | "remains"))) {
            command.arg("--admin").arg(self.run.join("b/admin.sock"));
        }
        command.output().expect("robotctl starts")
    }

    /// Pushes a package made of these files and returns its digest.
    ///
    /// # Panics
    /// When it is refused.
    pub fn push(&self, name: &str, files: &[(&str, &str)], sign: Option<&Path>) -> String {
        let folder = self.dir.join("packages").join(name);
        for (path, content) in files {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            let mut file = File::create(&path).expect("a file");
            file.write_all(content.as_bytes()).expect("a write");
            let mode = if content.starts_with("#!") {
                0o755
            } else {
                0o644
            };
            file.set_permissions(fs::Permissions::from_mode(mode))
                .expect("a mode");
        }
        let key = sign.map(|key| key.display().to_string());
        let mut args = vec!["--name", name];
        args.extend(key.iter().flat_map(|key| ["--sign", key.as_str()]));
        self.push_folder(&folder, &args)
    }

    /// Pushes a folder as it is and returns its package's digest.
    ///
    /// # Panics
    /// When it is refused.
    pub fn push_folder(&self, folder: &Path, more: &[&str]) -> String {
        let folder = folder.display().to_string();
        let printed = self.ask(&[&["package", "push", &folder], more].concat());
        let digest = printed
            .split_whitespace()
            .find(|word| word.len() == 64)
            .expect("a digest");
        digest.to_owned()
    }

    /// A package with one Python file.
    pub fn push_python(&self, name: &str, code: &str) -> String {
        self.push(name, &[("bot.py", code)], None)
    }

    /// Submits a job without a display and returns its id.
    ///
    /// # Panics
    /// When it is refused.
    pub fn submit(&self, package: &str, more: &[&str]) -> String {
        let display: &[&str] = if more.contains(&"--display") {
            &[]
        } else {
            &["--display", "none"]
        };
        let args = [
            &["job", "submit", "--package", package],
            display,
            more,
            &["--json"],
        ]
        .concat();
        let answer: Value = serde_json::from_str(&self.ask(&args)).expect("JSON");
        answer["job_id"].as_str().expect("a job id").to_owned()
    }

    /// `job show --json`.
    ///
    /// # Panics
    /// When it fails.
    pub fn show(&self, job: &str) -> Value {
        serde_json::from_str(&self.ask(&["job", "show", job, "--json"])).expect("JSON")
    }

    /// Waits for the end of a job and returns its report.
    pub fn report(&self, job: &str) -> Value {
        eventually(
            &format!(
                "the end of job {job}: {}{}",
                self.show(job),
                self.all_logs()
            ),
            || {
                let shown = self.show(job);
                (shown["state"] == "ENDED").then_some(shown)
            },
        )
    }

    /// Submits and waits.
    pub fn run_job(&self, package: &str, more: &[&str]) -> Value {
        self.report(&self.submit(package, more))
    }

    /// Waits until a job has reached a phase.
    pub fn reaches(&self, job: &str, phase: &str) {
        eventually(
            &format!(
                "phase {phase} of {job}: {}{}",
                self.show(job),
                self.all_logs()
            ),
            || {
                phases(&self.show(job))
                    .iter()
                    .any(|own| own == phase)
                    .then_some(())
            },
        );
    }

    /// Waits until a job has printed this.
    pub fn says(&self, job: &str, what: &str) {
        eventually(
            &format!(
                "job {job} to say {what:?}: {}{}",
                self.show(job),
                self.all_logs()
            ),
            || {
                let output =
                    self.orchestrator(&["job", "logs", job, "--stream", "stdout", "--raw"]);
                text(&output.stdout).contains(what).then_some(())
            },
        );
    }

    /// The exact bytes of a stream.
    ///
    /// # Panics
    /// When they can't be had.
    pub fn stream(&self, job: &str, stream: &str) -> Vec<u8> {
        let output = self.orchestrator(&["job", "logs", job, "--stream", stream, "--raw"]);
        assert!(
            output.status.success(),
            "job logs: {}",
            text(&output.stderr)
        );
        output.stdout
    }

    /// Security events with this code, newest last.
    ///
    /// # Panics
    /// When they can't be had.
    pub fn events(&self, code: u32) -> Vec<Value> {
        let listed = self.ask(&["event", "list", "--code", &code.to_string(), "--json"]);
        serde_json::from_str(&listed).expect("JSON")
    }

    /// Waits for a security event that fits.
    pub fn event(&self, code: u32, fits: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("event {code}{}", self.all_logs()), || {
            self.events(code).into_iter().find(|event| fits(event))
        })
    }

    /// pid of robotd.
    ///
    /// # Panics
    /// When it does not run.
    pub fn agent_pid(&self) -> i32 {
        pid(self.agent.as_ref().expect("a running agent"))
    }

    /// pid of the broker.
    ///
    /// # Panics
    /// When it does not run.
    pub fn broker_pid(&self) -> i32 {
        pid(self.broker.as_ref().expect("a running broker"))
    }

    /// kill -9 of robotd.
    pub fn kill_agent(&mut self) {
        end(self.agent.take(), Signal::SIGKILL);
    }

    /// kill -9 of the broker.
    pub fn kill_broker(&mut self) {
        end(self.broker.take(), Signal::SIGKILL);
    }

    /// Stops the orchestrator, in order or not.
    pub fn stop_orchestrator(&mut self, signal: Signal) {
        end(self.orchestrator.take(), signal);
    }

    /// Where images of volumes lie.
    pub fn volume_store(&self) -> PathBuf {
        self.dir.join("volumes")
    }

    /// Names of the images of jobs that are there.
    pub fn images(&self) -> Vec<String> {
        let entries = fs::read_dir(self.volume_store()).into_iter().flatten();
        let names = entries.flatten().map(|entry| entry.file_name());
        let images = names.map(|name| name.to_string_lossy().into_owned());
        images.filter(|name| !name.starts_with("kept-")).collect()
    }

    /// Asserts that the slots' accounts have left nothing on this machine.
    ///
    /// # Panics
    /// When they have.
    pub fn assert_nothing_left(&self) {
        let accounts = [self.slots.accounts(), self.slots.egresses()].concat();
        assert_eq!(Leftovers::of(&accounts), Leftovers::default());
        assert_eq!(self.images(), Vec::<String>::new(), "{}", self.all_logs());
        let devices = sys::loopback::attached(|_| true).expect("loop devices");
        let own = |device: &sys::loopback::Attached| device.file.starts_with(&self.dir);
        let left: Vec<_> = devices.into_iter().filter(own).collect();
        assert_eq!(left, [], "{}", self.all_logs());
        let spool = fs::read_dir(self.dir.join("agent/spool"))
            .into_iter()
            .flatten()
            .flatten();
        let spools: Vec<_> = spool.map(|entry| entry.path()).collect();
        eventually(
            &format!("delivered spools to be gone: {spools:?}{}", self.all_logs()),
            || {
                fs::read_dir(self.dir.join("agent/spool"))
                    .ok()?
                    .next()
                    .is_none()
                    .then_some(())
            },
        );
    }
}

/// The phases of a report, in their order.
pub fn phases(report: &Value) -> Vec<String> {
    let timeline = report["timeline"].as_array().cloned().unwrap_or_default();
    timeline
        .iter()
        .filter_map(|step| step["phase"].as_str().map(str::to_owned))
        .collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn pid(child: &Child) -> i32 {
    child.id().cast_signed()
}

fn end(child: Option<Child>, signal: Signal) {
    if let Some(mut child) = child {
        let _ = kill(Pid::from_raw(pid(&child)), signal);
        let _ = child.wait();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        end(self.agent.take(), Signal::SIGTERM);
        end(self.broker.take(), Signal::SIGTERM);
        end(self.orchestrator.take(), Signal::SIGTERM);
        if std::thread::panicking() {
            eprintln!("logs of host {}: {}", self.name, self.all_logs());
        }
        // A session whose broker is gone for good waits for another one until its hard end.
        let socket = self.run.join("b/session.sock").display().to_string();
        for pid in crate::procs::pids() {
            if crate::procs::arguments(pid).contains(&socket) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        let all = [
            self.slots.accounts(),
            self.slots.attendants(),
            self.slots.egresses(),
        ];
        for account in all.iter().flatten() {
            if let Ok(Some(account)) = sys::account::by_name(account) {
                let _ =
                    sys::account::kill_all_of_uid(account.uid, std::time::Duration::from_secs(10));
            }
        }
        for disk in self.disks.drain(..).rev() {
            let _ = Command::new("umount").arg("--lazy").arg(&disk).status();
        }
        for path in [&self.dir, &self.run] {
            let _ = sys::beneath::remove_tree(path);
        }
    }
}
