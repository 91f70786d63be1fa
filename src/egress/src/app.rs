//! Every part, in the order in which it is built, and the one loop that listens to the session.

use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use privsep::egress::{Denial, FromEgress, MAX_RULES, Rules, ToEgress};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use crate::crossing::Border;
use crate::denials::Denials;
use crate::error::StartError;
use crate::gate::Gate;
use crate::harden::harden;
use crate::session::{Session, SessionError};
use crate::{names, packets, proxy, redirected, waiting};

/// Longest look-up of the orchestrator's name before the egress is ready.
const LEARNING: Duration = Duration::from_secs(5);

/// Between two tellings of what was used so far.
const TELLING: Duration = Duration::from_secs(2);

/// What the session handed over.
struct Given {
    rules: Rules,
    refused: Option<OwnedFd>,
    families: Vec<Vec<OwnedFd>>,
}

/// The whole program.
#[must_use]
pub fn run() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The session passes standard error on to the journal. Never a word of the bot's.
            eprintln!("robotd-egress: {}", privsep::explain(&error));
            ExitCode::from(error.exit_code())
        }
    }
}

fn serve() -> Result<(), StartError> {
    let session = Session::new(harden()?)?;
    let given = receive(&session)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(StartError::Runtime)?;
    let outcome = runtime.block_on(live(session, given));
    // Connections end with the process; none is waited for.
    runtime.shutdown_background();
    outcome
}

fn receive(session: &Session) -> Result<Given, StartError> {
    let (ToEgress::Begin, fds) = session.wait()? else {
        return Err(SessionError::Order.into());
    };
    let mut fds = fds.into_iter();
    let document = fds.next().ok_or(SessionError::Order)?;
    let rules = sys::memfd::read_sealed(document.as_fd(), MAX_RULES)?;
    let mut given = Given {
        rules: privsep::decode_document(&rules)?,
        refused: fds.next(),
        families: vec![],
    };
    loop {
        match session.wait()? {
            (ToEgress::Listen, sockets) => given.families.push(sockets),
            (ToEgress::Serve, _) => return Ok(given),
            _ => return Err(SessionError::Order.into()),
        }
    }
}

async fn live(session: Session, given: Given) -> Result<(), StartError> {
    let gate = Arc::new(Gate::new(given.rules)?);
    let (denials, told) = Denials::new();
    let border = Arc::new(Border::new(gate, denials));
    for sockets in given.families {
        listen(&border, sockets)?;
    }
    if let Some(socket) = given.refused {
        tokio::spawn(packets::watch(Arc::clone(&border), socket));
    }
    let repeating = Arc::clone(&border);
    tokio::spawn(async move { repeating.denials.repeat().await });
    // Before the bot can connect anywhere; a resolver that does not answer holds up no job for long.
    let _ = tokio::time::timeout(LEARNING, border.names.learn_orchestrator()).await;
    session.say(&FromEgress::Ready)?;
    attend(&session, &border, told).await
}

/// Redirected connections, names over UDP, names over TCP, and the proxy if there is one: in this order.
fn listen(border: &Arc<Border>, sockets: Vec<OwnedFd>) -> Result<(), StartError> {
    let mut sockets = sockets.into_iter();
    let mut next = || sockets.next().ok_or(SessionError::Order);
    let (redirect, questions, streams) = (next()?, next()?, next()?);
    let requests = next().ok();
    let tcp = |fd: OwnedFd| {
        let listener = TcpListener::from(fd);
        listener.set_nonblocking(true)?;
        tokio::net::TcpListener::from_std(listener)
    };
    let udp = |fd: OwnedFd| {
        let socket = UdpSocket::from(fd);
        socket.set_nonblocking(true)?;
        tokio::net::UdpSocket::from_std(socket)
    };
    let of = |border: &Arc<Border>| Arc::clone(border);
    let redirect = tcp(redirect).map_err(StartError::Socket)?;
    let questions = udp(questions).map_err(StartError::Socket)?;
    let streams = tcp(streams).map_err(StartError::Socket)?;
    tokio::spawn(redirected::serve(of(border), redirect));
    tokio::spawn(names::serve_datagrams(of(border), questions));
    tokio::spawn(names::serve_streams(of(border), streams));
    if let Some(requests) = requests {
        let requests = tcp(requests).map_err(StartError::Socket)?;
        tokio::spawn(proxy::serve(of(border), requests));
    }
    Ok(())
}

/// Tells the session what it has to know, until it says that the job is over.
async fn attend(
    session: &Session,
    border: &Border,
    mut told: UnboundedReceiver<Denial>,
) -> Result<(), StartError> {
    // A copy to wait on; reading goes through the conversation itself.
    let copy = session.as_fd().try_clone_to_owned();
    let readable = copy
        .and_then(waiting::readable)
        .map_err(StartError::Runtime)?;
    let mut used = std::pin::pin!(pace(border, Instant::now()));
    loop {
        tokio::select! {
            ready = readable.readable() => {
                let mut ready = ready.map_err(StartError::Runtime)?;
                match session.next()? {
                    Some(ToEgress::Finish) => return finish(session, border, &mut told),
                    Some(_) => return Err(SessionError::Order.into()),
                    None => ready.clear_ready(),
                }
            }
            Some(denial) = told.recv() => session.say(&FromEgress::Denied(denial))?,
            () = &mut used => {
                session.say(&FromEgress::Used(border.ledger.so_far()))?;
                used.set(pace(border, Instant::now() + TELLING));
            }
        }
    }
}

/// Something was counted, and the last telling is some time ago: what a killed egress had counted is
/// lost with it but for the last moments.
async fn pace(border: &Border, not_before: Instant) {
    border.ledger.changed.notified().await;
    tokio::time::sleep_until(not_before).await;
}

fn finish(
    session: &Session,
    border: &Border,
    told: &mut UnboundedReceiver<Denial>,
) -> Result<(), StartError> {
    border.denials.flush();
    while let Ok(denial) = told.try_recv() {
        session.say(&FromEgress::Denied(denial))?;
    }
    session.say(&FromEgress::Finished(border.ledger.so_far()))?;
    Ok(())
}
