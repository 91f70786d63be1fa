//! The assembly: every part is built here, in order, and nowhere else.

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use order::AgentId;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::transport::Server;
use wire::v1::enrollment_service_server::EnrollmentServiceServer;
use wire::v1::identity_service_server::IdentityServiceServer;

use crate::admin;
use crate::archive::{self, Archive};
use crate::blobs::Blobs;
use crate::ca::Ca;
use crate::config::{self, Options};
use crate::core::{self, Desk, Parts, Sessions};
use crate::durable;
use crate::enroll::Enrollment;
use crate::http::{self, Passes};
use crate::identity::Identity;
use crate::keys::Keyring;
use crate::link::{Link, Split};
use crate::ready;
use crate::refused::Refused;
use crate::store::Store;
use crate::tls::{self, Connections, Current};
use crate::vault::Vault;

/// How often time alone is looked at.
const TICK: Duration = Duration::from_millis(250);
/// How often the server's certificate is looked at.
const RENEWAL_CHECK: Duration = Duration::from_secs(86_400);

/// What the services share.
pub(crate) struct App {
    pub(crate) desk: Desk,
    pub(crate) sessions: Sessions,
    pub(crate) archive: Archive,
    pub(crate) blobs: Blobs,
    pub(crate) ca: Ca,
    pub(crate) addresses: Addresses,
    pub(crate) data_dir: PathBuf,
    /// Who may read the pages.
    pub(crate) passes: Passes,
    connections: Connections,
    link_tls: Current,
    enroll_tls: Current,
    names: Vec<String>,
}

/// Where the server can be reached; `addresses.json` in the data directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Addresses {
    pub(crate) link_url: String,
    pub(crate) enroll_url: String,
    pub(crate) link: SocketAddr,
    pub(crate) enroll: SocketAddr,
    pub(crate) admin: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) http_url: Option<String>,
}

/// The listeners, bound before anything is said of them.
struct Bound {
    link: TcpListener,
    enroll: TcpListener,
    http: Option<TcpListener>,
}

/// Runs the server until `told` is done.
pub(crate) async fn serve(options: Options, told: impl Future<Output = ()>) -> Result<(), Refused> {
    durable::private_dir(&options.data_dir)?;
    let _only = only_one(&options.data_dir)?;
    let bound = bind(&options).await?;
    let (stop, stopped) = watch::channel(false);
    let app = Arc::new(build(&options, &bound)?);
    let tasks = start(&app, bound, &stopped)?;
    announce(&app)?;
    told.await;
    tracing::info!("stopping");
    let _ = ready::notify("STOPPING=1");
    // Receivers exist: the tasks hold them.
    let _ = stop.send(true);
    for task in tasks {
        // Streams of agents end with their connections; a second is enough for answers on the way.
        let _ = tokio::time::timeout(Duration::from_secs(1), task).await;
    }
    durable::remove(&app.addresses.admin).ok();
    Ok(())
}

/// Two servers on one data directory would both grant the same licenses.
fn only_one(data_dir: &Path) -> Result<std::fs::File, Refused> {
    let path = data_dir.join("lock");
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| Refused::io("can't open", &path, &error))?;
    file.try_lock().map_err(|_| {
        Refused::state(
            "ALREADY_RUNNING",
            format!("another orchestrator uses {}", data_dir.display()),
        )
    })?;
    Ok(file)
}

async fn bind(options: &Options) -> Result<Bound, Refused> {
    async fn listener(address: SocketAddr) -> Result<TcpListener, Refused> {
        TcpListener::bind(address).await.map_err(|error| {
            Refused::unavailable(
                "LISTEN_FAILED",
                format!("can't listen on {address}: {error}"),
            )
        })
    }
    let http = match options.http {
        Some(address) => Some(listener(address).await?),
        None => None,
    };
    Ok(Bound {
        link: listener(options.listen).await?,
        enroll: listener(options.enroll).await?,
        http,
    })
}

fn local(listener: &TcpListener) -> Result<SocketAddr, Refused> {
    listener
        .local_addr()
        .map_err(|error| Refused::unavailable("LISTEN_FAILED", error.to_string()))
}

fn host_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}

/// The host in URLs: the given name, or the address itself on the loopback, where the host's name
/// may lead elsewhere.
fn url_host(options: &Options, address: SocketAddr) -> String {
    match &options.name {
        Some(name) => name.clone(),
        None if address.ip().is_loopback() && address.is_ipv6() => format!("[{}]", address.ip()),
        None if address.ip().is_loopback() => address.ip().to_string(),
        None => host_name(),
    }
}

/// Every name under which the server may be called.
fn certificate_names(options: &Options, addresses: &[SocketAddr]) -> Vec<String> {
    let mut names = vec![options.name.clone().unwrap_or_else(host_name)];
    if addresses.iter().any(|address| address.ip().is_loopback()) {
        names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
    }
    for address in addresses {
        let ip = address.ip();
        if !ip.is_unspecified() && !ip.is_loopback() {
            names.push(ip.to_string());
        }
    }
    names.dedup();
    names
}

fn secrets_key(options: &Options) -> PathBuf {
    options.secrets_key.clone().unwrap_or_else(|| {
        let mut path = options.data_dir.as_os_str().to_owned();
        path.push(".secrets-key");
        PathBuf::from(path)
    })
}

fn build(options: &Options, bound: &Bound) -> Result<App, Refused> {
    // A trailing slash would put the secrets' key inside of what it protects.
    let data_dir: PathBuf = options.data_dir.components().collect();
    let options = &Options {
        data_dir: data_dir.clone(),
        ..options.clone()
    };
    let (link, enroll) = (local(&bound.link)?, local(&bound.enroll)?);
    let ca = Ca::open(&data_dir, options.name.as_deref().unwrap_or(&host_name()))?;
    let names = certificate_names(options, &[link, enroll]);
    let keys = Keyring::open(&data_dir)?;
    let blobs = Blobs::open(&data_dir)?;
    let store = Store::open(&data_dir).map_err(Refused::from)?;
    let revoked = store
        .revoked_serials(crate::clock::Clock.unix_ms())
        .map_err(Refused::from)?;
    let server = ca.server_identity(&data_dir, &names)?;
    let link_tls = tls::mutual(&ca, &server, ca.revocation_list(&revoked)?)?;
    let enroll_tls = tls::server_only(&server)?;
    let (desk, sessions) = core::start(Parts {
        store,
        blobs: blobs.clone(),
        vault: Vault::open(&secrets_key(options))?,
        keys,
        lease_ttl_ms: core::millis(options.lease_ttl),
        data_dir: data_dir.clone(),
    })?;
    let desk_of_archive = desk.clone();
    let archive = tokio::task::block_in_place(|| archive::start(&data_dir, desk_of_archive))?;
    let http_url = match &bound.http {
        Some(listener) => Some(format!("http://{}", local(listener)?)),
        None => None,
    };
    Ok(App {
        desk,
        sessions,
        archive,
        blobs,
        ca,
        addresses: Addresses {
            link_url: format!("https://{}:{}", url_host(options, link), link.port()),
            enroll_url: format!("https://{}:{}", url_host(options, enroll), enroll.port()),
            link,
            enroll,
            admin: data_dir.join("admin.sock"),
            http_url,
        },
        data_dir,
        passes: Passes::default(),
        connections: Connections::default(),
        link_tls: Arc::new(ArcSwap::from_pointee(link_tls)),
        enroll_tls: Arc::new(ArcSwap::from_pointee(enroll_tls)),
        names,
    })
}

type Task = tokio::task::JoinHandle<()>;

fn start(app: &Arc<App>, bound: Bound, stop: &watch::Receiver<bool>) -> Result<Vec<Task>, Refused> {
    let mut tasks = vec![
        serve_link(app, bound.link, stop.clone()),
        serve_enrolment(app, bound.enroll, stop.clone()),
        admin::serve(app.clone(), stop.clone())?,
    ];
    if let Some(listener) = bound.http {
        tasks.push(http::serve(app.clone(), listener, stop.clone())?);
    }
    tasks.push(tokio::spawn(until_stopped(
        stop.clone(),
        tick(app.desk.clone()),
    )));
    tasks.push(tokio::spawn(until_stopped(
        stop.clone(),
        renew_daily(app.clone()),
    )));
    Ok(tasks)
}

async fn until_stopped(stop: watch::Receiver<bool>, work: impl Future<Output = ()> + Send) {
    tokio::select! {
        () = work => {}
        () = stopped(stop) => {}
    }
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn server() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .initial_stream_window_size(Some(1 << 20))
        .initial_connection_window_size(Some(2 << 20))
        .max_frame_size(Some(64 << 10))
        .http2_max_header_list_size(Some(config::MAX_HEADERS))
        .max_concurrent_streams(Some(config::MAX_STREAMS))
}

fn serve_link(app: &Arc<App>, listener: TcpListener, stop: watch::Receiver<bool>) -> Task {
    let admitting = app.clone();
    let admission: tls::Admission = Arc::new(move |identity| {
        let app = admitting.clone();
        Box::pin(async move { app.admit(identity).await })
    });
    let domain = app.ca.domain().to_owned();
    let told = app.clone();
    let refusals: tls::Refusals = Arc::new(move |address, reason| {
        let app = told.clone();
        tokio::spawn(async move { app.certificate_refused(address, reason).await });
    });
    let incoming = tls::listen(
        listener,
        app.link_tls.clone(),
        app.connections.clone(),
        Some((domain, admission)),
        Some(refusals),
    );
    let identity = IdentityServiceServer::new(Identity(app.clone()))
        .max_decoding_message_size(config::MAX_CONTROL);
    let router = server()
        .add_service(Split::new(Link(app.clone())))
        .add_service(identity);
    tokio::spawn(async move {
        if let Err(error) = router
            .serve_with_incoming_shutdown(incoming, stopped(stop))
            .await
        {
            tracing::error!(%error, "the link's listener ended");
        }
    })
}

fn serve_enrolment(app: &Arc<App>, listener: TcpListener, stop: watch::Receiver<bool>) -> Task {
    let incoming = tls::listen(
        listener,
        app.enroll_tls.clone(),
        app.connections.clone(),
        None,
        None,
    );
    let service = EnrollmentServiceServer::new(Enrollment::new(app.clone()))
        .max_decoding_message_size(config::MAX_CONTROL);
    let router = server()
        .timeout(config::HANDSHAKE_LIMIT)
        .concurrency_limit_per_connection(4)
        .add_service(service);
    tokio::spawn(async move {
        if let Err(error) = router
            .serve_with_incoming_shutdown(incoming, stopped(stop))
            .await
        {
            tracing::error!(%error, "the enrolment's listener ended");
        }
    })
}

async fn tick(desk: Desk) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if desk.ask(crate::core::Core::tick).await.is_err() {
            return;
        }
    }
}

async fn renew_daily(app: Arc<App>) {
    loop {
        tokio::time::sleep(RENEWAL_CHECK).await;
        if let Err(refused) = app.reload_tls().await {
            tracing::error!(%refused, "the server's certificate could not be renewed");
        }
    }
}

impl App {
    /// Asked after every handshake of the link.
    async fn admit(&self, identity: tls::PeerIdentity) -> Result<(), Refused> {
        let (agent, serial) = (identity.agent, identity.serial);
        if self
            .desk
            .ask(move |core| core.certificate_seen(agent, &serial))
            .await??
        {
            self.reload_tls().await?;
        }
        Ok(())
    }

    /// Told of certificates that the handshake refused.
    async fn certificate_refused(&self, address: SocketAddr, reason: String) {
        let told = self
            .desk
            .ask(move |core| core.certificate_refused(address, &reason))
            .await;
        if told.is_err() {
            tracing::warn!(%address, "a refused certificate was not recorded: the server stops");
        }
    }

    /// Makes configuration anew: revocation list, server's certificate.
    async fn reload_tls(&self) -> Result<(), Refused> {
        let revoked = self.desk.ask(|core| core.revoked_serials()).await??;
        let server = self.ca.server_identity(&self.data_dir, &self.names)?;
        let config = tls::mutual(&self.ca, &server, self.ca.revocation_list(&revoked)?)?;
        self.link_tls.store(Arc::new(config));
        self.enroll_tls.store(Arc::new(tls::server_only(&server)?));
        Ok(())
    }

    /// Revokes an agent: durable first, then no new connection, then no old one.
    pub(crate) async fn revoke(&self, name: String, by: String) -> Result<AgentId, Refused> {
        let agent = self
            .desk
            .ask(move |core| core.revoke_agent(&name, &by))
            .await??;
        self.reload_tls().await?;
        self.connections.close(agent);
        Ok(agent)
    }
}

fn announce(app: &App) -> Result<(), Refused> {
    let addresses = &app.addresses;
    let file = serde_json::to_vec_pretty(addresses)
        .map_err(|error| Refused::unavailable("IO_FAILED", error.to_string()))?;
    durable::write_private(&app.data_dir.join("addresses.json"), &file)?;
    println!(
        "listening link={} enroll={} admin={}",
        addresses.link_url,
        addresses.enroll_url,
        addresses.admin.display()
    );
    if let Err(error) = ready::notify("READY=1") {
        tracing::warn!(%error, "systemd could not be told that the server is ready");
    }
    Ok(())
}

/// SIGTERM or SIGINT.
pub(crate) async fn signalled() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        // Without handlers the signals end the process; nothing is lost that was acknowledged.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
