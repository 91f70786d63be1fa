//! The monitor's side of the egress: starting it, starting it again when it dies, and its end.
//!
//! The monitor keeps the sockets that init made inside: a new egress goes on where the lost one was.
//! While there is none, connections wait in the kernel's queue, and nothing leads anywhere else.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use order::{NetworkUse, Outcome, PeerUse};
use privsep::Refusal;
use privsep::egress::{Denial, FromEgress, MAX_ASKED, MAX_PEERS, ToEgress};
use privsep::session::{Account, FromSession, NoticeKind, Swept};
use sys::fdpass::Seqpacket;
use sys::process::{Fork, Identity, Launch, Namespaces, Process, Program, exec_report};

use crate::group::KILL;
use crate::inner::say;
use crate::monitor::{End, EndMode, Event, Monitor};

/// An egress that dies more often than this does so because of what the bot or its peers do to it.
const RESTARTS: u32 = 3;

/// Its last words; it has nothing to wait for.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// What one job can put into journal and audit by asking for what it may not have. The result counts
/// all of it.
const MOST_DENIALS: u32 = 256;

/// The egress of a job, running or not.
#[derive(Default)]
pub(crate) struct Egress {
    pub(crate) way: Way,
    pub(crate) running: Option<Running>,
    restarts: u32,
    denials: u32,
    /// Counted by those that were lost, and by the one that runs.
    lost: NetworkUse,
    last: NetworkUse,
}

/// What every egress of the job is given; made by init.
#[derive(Default)]
pub(crate) struct Way {
    pub(crate) families: Vec<Vec<OwnedFd>>,
    pub(crate) packet_log: Option<OwnedFd>,
}

/// The process and its conversation.
pub(crate) struct Running {
    pub(crate) socket: Seqpacket,
    pub(crate) process: Process,
    /// Its conversation is over; only its end is waited for.
    pub(crate) gone: bool,
}

impl Monitor {
    /// Starts the egress where the job has one. Answer: [`FromEgress::Ready`].
    pub(crate) fn start_egress(&mut self) -> Result<(), Refusal> {
        let failed = |error: &dyn std::error::Error| crate::refusal("EGRESS_FAILED", error);
        let Some(egress) = &self.spec.egress else {
            return Ok(());
        };
        nobody_there(&egress.account)?;
        let rules = privsep::encode_document(&egress.rules).map_err(|error| failed(&error))?;
        let rules = sys::memfd::sealed(c"rules", &rules).map_err(|error| failed(&error))?;
        let (socket, theirs) = Seqpacket::pair().map_err(|error| failed(&error))?;
        let theirs = theirs.into_fd();
        let process = launch(&self.spec.program_dir, &egress.account, &theirs)?;
        drop(theirs);
        let way = &self.egress.way;
        let mut first = vec![rules.as_fd()];
        first.extend(way.packet_log.as_ref().map(|log| log.as_fd()));
        say(&socket, &ToEgress::Begin, &first)?;
        for family in &way.families {
            let fds: Vec<_> = family.iter().map(|socket| socket.as_fd()).collect();
            say(&socket, &ToEgress::Listen, &fds)?;
        }
        say(&socket, &ToEgress::Serve, &[])?;
        self.egress.running = Some(Running {
            socket,
            process,
            gone: false,
        });
        Ok(())
    }

    /// What it said, or gives it back for the step that waits.
    pub(crate) fn hear_of_network(&mut self, said: FromEgress) -> Option<Event> {
        match said {
            FromEgress::Denied(denial) => self.tell_denial(denial),
            FromEgress::Used(used) => self.egress.last = used,
            FromEgress::Finished(used) => {
                self.egress.last = used.clone();
                return Some(Event::Egress(FromEgress::Finished(used)));
            }
            FromEgress::Ready => return Some(Event::Egress(FromEgress::Ready)),
        }
        None
    }

    fn tell_denial(&mut self, mut denial: Denial) {
        self.egress.denials += 1;
        // It faces a bot: what it says has to fit a packet whatever it has become.
        shorten(&mut denial.code, 64);
        shorten(&mut denial.asked, MAX_ASKED);
        shorten(&mut denial.reason, 512);
        if self.egress.denials <= MOST_DENIALS {
            self.link.tell(&FromSession::NetworkRefused(denial));
        }
    }

    /// It died: its connections are broken, which the bot sees, and nothing else is.
    pub(crate) fn restart_egress(&mut self) -> Option<Event> {
        let last = std::mem::take(&mut self.egress.last);
        add(&mut self.egress.lost, last);
        if self.egress.way.families.is_empty() || self.is_closing() {
            return Some(Event::EgressEnded);
        }
        self.egress.restarts += 1;
        let started = if self.egress.restarts > RESTARTS {
            let times = self.egress.restarts;
            Err(Refusal::new(
                "EGRESS_LOST",
                format!("the job's egress died {times} times"),
            ))
        } else {
            self.start_egress()
        };
        match started {
            Ok(()) => {
                let refusal = Refusal::new("EGRESS_LOST", "its process ended before its job did");
                self.notice(NoticeKind::EgressLost, refusal);
            }
            Err(refusal) => self.ask_end(End {
                outcome: Outcome::Interrupted,
                refusal,
                mode: EndMode::Graceful,
            }),
        }
        Some(Event::EgressEnded)
    }

    /// The job's processes are gone: takes the last counts, ends it, and proves that nothing of its
    /// user is left.
    pub(crate) fn finish_egress(&mut self, swept: &mut Swept) -> Option<NetworkUse> {
        let account = self.spec.egress.as_ref()?.account.clone();
        let told = self.egress.running.as_ref();
        if told.is_some_and(|egress| say(&egress.socket, &ToEgress::Finish, &[]).is_ok()) {
            crate::close::wait(self, LAST_WORDS, |event| {
                matches!(
                    event,
                    Event::Egress(FromEgress::Finished(_)) | Event::EgressEnded
                )
            });
        }
        self.egress.way = Way::default();
        if let Some(egress) = self.egress.running.take()
            && !matches!(
                egress.process.wait_within(Duration::from_secs(1)),
                Ok(Some(_))
            )
        {
            let _ = egress.process.send(sys::Signal::SIGKILL);
            let _ = egress.process.wait_within(KILL);
        }
        crate::close::sweep_user(self, &account, swept);
        let mut used = std::mem::take(&mut self.egress.lost);
        add(&mut used, std::mem::take(&mut self.egress.last));
        if let Some(egress) = &self.spec.egress {
            used.profile.clone_from(&egress.rules.profile);
        }
        Some(used)
    }
}

fn shorten(text: &mut String, most: usize) {
    text.truncate(text.floor_char_boundary(most));
}

/// Adds what a second egress counted to what a first one did.
fn add(sum: &mut NetworkUse, more: NetworkUse) {
    sum.connections = sum.connections.saturating_add(more.connections);
    sum.bytes_sent = sum.bytes_sent.saturating_add(more.bytes_sent);
    sum.bytes_received = sum.bytes_received.saturating_add(more.bytes_received);
    sum.refused = sum.refused.saturating_add(more.refused);
    sum.more_peers = sum.more_peers.saturating_add(more.more_peers);
    for mut peer in more.peers {
        shorten(&mut peer.name, 253);
        shorten(&mut peer.address, 64);
        let same = |own: &&mut PeerUse| {
            (&own.name, &own.address, own.port) == (&peer.name, &peer.address, peer.port)
        };
        let room = sum.peers.len() < MAX_PEERS;
        match sum.peers.iter_mut().find(same) {
            Some(own) => {
                own.connections = own.connections.saturating_add(peer.connections);
                own.bytes_sent = own.bytes_sent.saturating_add(peer.bytes_sent);
                own.bytes_received = own.bytes_received.saturating_add(peer.bytes_received);
            }
            None if room => sum.peers.push(peer),
            None => sum.more_peers = sum.more_peers.saturating_add(1),
        }
    }
}

/// A process of the egress's user that is there already is none of ours.
fn nobody_there(user: &Account) -> Result<(), Refusal> {
    match sys::account::processes_of_uid(user.uid.into()) {
        Ok(found) if found.is_empty() => Ok(()),
        Ok(found) => {
            let detail = format!(
                "account {} has {} processes already",
                user.name,
                found.len()
            );
            Err(Refusal::new("ACCOUNT_IN_USE", detail))
        }
        Err(error) => Err(crate::refusal("EGRESS_FAILED", &error)),
    }
}

fn launch(programs: &str, user: &Account, socket: &OwnedFd) -> Result<Process, Refusal> {
    let failed = |error: &dyn std::error::Error| crate::refusal("EGRESS_FAILED", error);
    let program =
        CString::new(format!("{programs}/robotd-egress")).map_err(|error| failed(&error))?;
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.map_err(|error| failed(&error))?;
    let stderr = std::io::stderr();
    let (watch, report) = exec_report().map_err(|error| failed(&error))?;
    // The host's network is what it is for; it sees no other process and no IPC object.
    let alone = Namespaces {
        pid: true,
        ipc: true,
        ..Namespaces::NONE
    };
    match sys::process::fork(alone, None).map_err(|error| failed(&error))? {
        Fork::Parent(process) => {
            drop(report);
            watch.wait(&program).map_err(|error| failed(&error))?;
            Ok(process)
        }
        Fork::Child => {
            crate::leader::offer_to_oom_killer();
            let identity = Identity {
                uid: user.uid.into(),
                gid: user.gid.into(),
                groups: vec![user.gid.into()],
            };
            let argv = [program.clone()];
            let fds = [null.as_fd(), null.as_fd(), stderr.as_fd(), socket.as_fd()];
            // No environment: what a bot, an order or a service manager set there (http_proxy) is
            // nothing that it goes by.
            let launch = Launch {
                program: Program::Path(&program),
                argv: &argv,
                env: &[],
                fds: &fds,
                report: Some(report.as_fd()),
            };
            let started =
                sys::process::become_user_for_good(&identity).and_then(|()| launch.exec());
            let Err(error) = started;
            eprintln!("robotd-session: egress: {}", crate::text(&error));
            crate::leader::leave(127)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(port: u16) -> NetworkUse {
        let peer = PeerUse {
            name: "erp.example.com".into(),
            address: "10.0.0.1".into(),
            port,
            connections: 1,
            bytes_sent: 10,
            bytes_received: 20,
        };
        NetworkUse {
            connections: 1,
            bytes_sent: 10,
            bytes_received: 20,
            refused: 3,
            peers: vec![peer],
            ..NetworkUse::default()
        }
    }

    #[test]
    fn what_a_lost_egress_counted_is_added_and_stays_short() {
        let mut sum = NetworkUse::default();
        for port in 1..=40 {
            add(&mut sum, used(port));
            add(&mut sum, used(1));
        }
        assert_eq!(
            (sum.connections, sum.bytes_sent, sum.refused),
            (80, 800, 240)
        );
        assert_eq!(sum.peers.len(), MAX_PEERS);
        assert_eq!(sum.more_peers, 40 - MAX_PEERS as u64);
        assert_eq!(sum.peers[0].connections, 41);
    }
}
