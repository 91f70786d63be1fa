//! The life of jobs on one host: the real robotd between a broker, an attendant and an
//! orchestrator of the tests' own, over the real sockets, TLS and files.

#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

mod attendant;
mod broker;
mod orchestrator;
mod pki;
mod robotd;

mod asked;
mod disk;
mod enrolment;
mod hostile;
mod jobs;
mod outages;
mod screens;

use agent::control::{Ask, LinkState, Reply};

use broker::Broker;
use orchestrator::{Orchestrator, Shared};
use robotd::{Places, Robotd};

/// An enrolled host that is online.
struct Host {
    // Ends first: it would make its files again while they are removed.
    robotd: Option<Robotd>,
    broker: Broker,
    orchestrator: Shared,
    places: Places,
}

impl Host {
    async fn online() -> Self {
        Self::online_in(Places::new()).await
    }

    async fn online_in(places: Places) -> Self {
        let orchestrator = Orchestrator::start().await;
        let broker = Broker::start(&places.broker, orchestrator.agent);
        let mut host = Self {
            places,
            broker,
            orchestrator,
            robotd: None,
        };
        host.start().await;
        let token = Box::new(host.orchestrator.token());
        let reply = host.ask(Ask::Enroll { token }).await;
        assert_eq!(
            reply,
            Some(Reply::Enrolled {
                agent_id: host.orchestrator.agent
            })
        );
        host.until_online().await;
        host
    }

    async fn start(&mut self) {
        let places = &self.places;
        // The program is waited for, and the orchestrator is a task of this thread.
        self.robotd = Some(tokio::task::block_in_place(|| Robotd::start(places)));
    }

    async fn ask(&self, ask: Ask) -> Option<Reply> {
        tokio::task::block_in_place(|| self.robotd.as_ref().unwrap().ask(&ask))
    }

    async fn until(&self, what: &str, ready: impl Fn(&agent::control::Status) -> bool) {
        tokio::task::block_in_place(|| self.robotd.as_ref().unwrap().until(what, ready));
    }

    async fn until_online(&self) {
        self.until("it is online", |status| {
            status.link.state == LinkState::Online && status.state == "ready"
        })
        .await;
    }

    /// Waits for something at the broker.
    fn at_broker<T>(&self, wait: impl FnOnce(&Broker) -> T) -> T {
        tokio::task::block_in_place(|| wait(&self.broker))
    }

    fn kill(&mut self) {
        self.robotd.take().unwrap().kill();
    }

    /// Nothing of any job is left on the host.
    async fn until_nothing_is_left(&self) {
        self.until("it holds no job", |status| status.jobs == 0)
            .await;
        let left: Vec<_> = std::fs::read_dir(self.places.state.join("jobs"))
            .unwrap()
            .map(|item| item.unwrap().file_name())
            .collect();
        assert_eq!(left, ["ended.json"]);
        assert_eq!(
            std::fs::read_dir(self.places.state.join("tmp"))
                .unwrap()
                .count(),
            0
        );
    }
}
