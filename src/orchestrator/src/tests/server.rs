//! A server in this process, on a directory and ports of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;

use crate::admin::{Client, Frame, Request};
use crate::app;
use crate::config::Options;
use crate::refused::Refused;
use crate::spec::{Automation, Submission};

/// A running server; dropped with its directory.
pub(super) struct Server {
    pub(super) dir: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<Result<(), Refused>>,
}

fn run(
    dir: &Path,
    lease_ttl: Duration,
) -> (
    oneshot::Sender<()>,
    tokio::task::JoinHandle<Result<(), Refused>>,
) {
    let local = "127.0.0.1:0".parse().unwrap();
    let options = Options {
        data_dir: dir.join("data"),
        listen: local,
        enroll: local,
        http: Some(local),
        name: None,
        lease_ttl,
        secrets_key: None,
    };
    let (stop, stopped) = oneshot::channel();
    let told = async move { drop(stopped.await) };
    (stop, tokio::spawn(app::serve(options, told)))
}

/// Waits for something that is bound to happen.
pub(super) async fn until<T>(what: &str, mut ready: impl AsyncFnMut() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(made) = ready().await {
                return made;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting)
        .await
        .unwrap_or_else(|_| panic!("{what} did not happen"))
}

impl Server {
    pub(super) async fn start() -> Self {
        Self::start_with_ttl(Duration::from_secs(120)).await
    }

    pub(super) async fn start_with_ttl(lease_ttl: Duration) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), lease_ttl).await
    }

    /// `prepare` sees the directory in which `data` will be.
    pub(super) async fn start_on(prepare: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        Self::start_in(dir, Duration::from_secs(120)).await
    }

    async fn start_in(dir: tempfile::TempDir, lease_ttl: Duration) -> Self {
        let (stop, task) = run(dir.path(), lease_ttl);
        let server = Self {
            dir,
            stop: Some(stop),
            task,
        };
        server.ready().await;
        server
    }

    async fn ready(&self) {
        let addresses = self.data_dir().join("addresses.json");
        until("the start of the server", async || {
            addresses.exists().then_some(())
        })
        .await;
    }

    /// Stops the server in order; `between` sees its files at rest; then it runs again.
    pub(super) async fn restart(&mut self, between: impl FnOnce(&Path)) {
        drop(self.stop.take());
        (&mut self.task).await.unwrap().unwrap();
        std::fs::remove_file(self.data_dir().join("addresses.json")).unwrap();
        between(&self.data_dir());
        let (stop, task) = run(self.dir.path(), Duration::from_secs(120));
        (self.stop, self.task) = (Some(stop), task);
        self.ready().await;
    }

    pub(super) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(super) async fn ask(&self, request: Request) -> Result<Value, Refused> {
        Client::ask(&self.data_dir(), &request)
            .await?
            .answer()
            .await
    }

    pub(super) async fn show(&self, job: &str) -> Value {
        self.ask(Request::JobShow {
            job: job.to_owned(),
        })
        .await
        .unwrap()
    }

    pub(super) async fn shown_in(&self, job: &str, state: &str) -> Value {
        until(state, async || {
            let shown = self.show(job).await;
            (shown["state"] == state).then_some(shown)
        })
        .await
    }

    /// The events so far, oldest first.
    pub(super) async fn events(&self) -> Vec<Value> {
        let filter = crate::store::EventFilter::default();
        match self.ask(Request::EventList { filter }).await.unwrap() {
            Value::Array(events) => events,
            other => panic!("no list but {other}"),
        }
    }

    /// The codes of the events so far.
    pub(super) async fn codes(&self) -> Vec<u64> {
        let events = self.events().await;
        let code = |event: &Value| event["code"].as_u64().unwrap();
        events.iter().map(code).collect()
    }

    /// How many events have this code.
    pub(super) async fn count(&self, code: u64) -> usize {
        let codes = self.codes().await;
        codes.iter().filter(|seen| **seen == code).count()
    }

    /// Pushes a package of one file and makes the pool `default`.
    pub(super) async fn stock(&self, licenses: u32) {
        let pool = "default".to_owned();
        self.ask(Request::LicenseSet {
            pool,
            count: licenses,
        })
        .await
        .unwrap();
        let bot = self.dir.path().join("bot");
        std::fs::create_dir(&bot).unwrap();
        std::fs::write(bot.join("bot.py"), "print('hello')\n").unwrap();
        push(&self.data_dir(), &bot).await;
    }

    pub(super) async fn submit(&self, change: impl FnOnce(&mut Submission)) -> String {
        self.try_submit(change).await.unwrap()
    }

    pub(super) async fn try_submit(
        &self,
        change: impl FnOnce(&mut Submission),
    ) -> Result<String, Refused> {
        let mut submission = Submission {
            package: "bot".to_owned(),
            entry: None,
            args: Vec::new(),
            env: Default::default(),
            params: Default::default(),
            pool: "default".to_owned(),
            account: None,
            account_secret: None,
            network: "none".into(),
            display: None,
            screenshots: order::Screenshots::default(),
            limits: order::Limits::default(),
            sandbox: order::SandboxProfile::Script,
            secrets: Vec::new(),
            agent: None,
            tenant: "default".to_owned(),
            data_class: "internal".to_owned(),
            automation: Automation::default(),
        };
        change(&mut submission);
        let submission = Box::new(submission);
        let queued = self.ask(Request::JobSubmit { submission }).await?;
        Ok(queued["job_id"].as_str().unwrap().to_owned())
    }

    pub(super) async fn set_secret(&self, name: &str, plain: &[u8]) {
        let request = Request::SecretSet {
            name: name.to_owned(),
        };
        let mut client = Client::ask(&self.data_dir(), &request).await.unwrap();
        client.send(&Frame::Bytes(plain.to_vec())).await.unwrap();
        client.send(&Frame::End).await.unwrap();
        client.answer().await.unwrap();
    }
}

async fn push(data_dir: &Path, bot: &Path) {
    use std::io::Read as _;
    let key = package::PrivateKey::generate().unwrap();
    let packing = package::Packing {
        key: Some(&key),
        ..package::Packing::default()
    };
    let mut packed = package::pack(bot, &packing).unwrap();
    let mut bytes = Vec::new();
    packed.archive.read_to_end(&mut bytes).unwrap();
    let request = Request::PackagePush {
        sha256: packed.sha256.to_string(),
    };
    let mut client = Client::ask(data_dir, &request).await.unwrap();
    client.send(&Frame::Bytes(bytes)).await.unwrap();
    client.send(&Frame::End).await.unwrap();
    client.answer().await.unwrap();
}
