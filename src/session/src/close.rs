//! Closing: undoes opening in reverse, whatever was opened, and proves it. Nothing here gives up;
//! what can't be done is told in the report, and the broker then keeps the slot out of use.

use std::time::Duration;

use order::{Assurance, Display, Phase, SessionSummary, WipeReport};
use privsep::Refusal;
use privsep::attendant::{FromAttendant, ToAttendant};
use privsep::session::{Account, Backend, FromSession, NoticeKind, Report, Swept, ToSession};

use crate::collect::{Collector, Found};
use crate::group::{self, KILL};
use crate::inner::FromLeader;
use crate::monitor::{EndMode, Event, Monitor, Waited};
use crate::report::report;
use crate::run::Opened;
use crate::sweep;

/// The picture of a failure; the bot is gone, its windows may still be there.
const PICTURE: Duration = Duration::from_secs(10);
/// pam_close_session and the leader's exit.
const LEADER: Duration = Duration::from_secs(60);
/// A leader that has opened nothing yet: what it waits for, a module that hangs, is not waited for.
const UNOPENED: Duration = Duration::from_secs(10);
/// What is left in the pipes and the spool's last sync, on a slow disk.
const DRAIN: Duration = Duration::from_secs(120);
/// All artifacts together; an attendant that takes none of them must not hold the license.
const COLLECT: Duration = Duration::from_secs(300);
/// logind and systemd stop a user's units; a broker that restarts answers later.
const USER: Duration = Duration::from_secs(180);
/// While the host stops, logind and the broker stop too: the slot's record on the disk makes the
/// next start clean up what can't be proven now.
pub(crate) const STOPPING: Duration = Duration::from_secs(20);

/// Closes everything and says how the job ended.
pub(crate) fn close(monitor: &mut Monitor, opened: Opened, outcome: Result<(), Refusal>) -> Report {
    monitor.begin_closing();
    monitor.pulse.beat_now();
    // While the session's scope is there: it counts what its processes did not get.
    monitor.count_usage();
    picture_failure(monitor, &opened, &outcome);
    let mut swept = Swept::default();
    end_processes(monitor, &mut swept);
    if monitor.running && swept.leftovers.is_empty() {
        monitor.step(Phase::ProcessesGone);
    }
    monitor.pulse.beat_now();
    collect(monitor, &opened);
    finish_attendant(monitor);
    sweep_user(monitor, &monitor.spec.attendant.clone(), &mut swept);
    let network = monitor.finish_egress(&mut swept);
    monitor.pulse.beat_now();
    let session = close_session(monitor, &opened, &mut swept);
    monitor.pulse.beat_now();
    let wipe = wipe(monitor, opened.volume, swept);
    report(
        monitor,
        outcome,
        opened.exited.unwrap_or_default(),
        session,
        network,
        wipe,
    )
}

/// Before anything is killed: killing pid 1 takes the display along.
fn picture_failure(monitor: &mut Monitor, opened: &Opened, outcome: &Result<(), Refusal>) {
    let clean = outcome.is_ok() && opened.exited.is_some_and(|exited| exited.code == Some(0));
    let shown = monitor
        .place
        .as_ref()
        .is_some_and(|place| place.display.is_some());
    let nobody = monitor.attendant.is_none();
    if clean || !shown || nobody || !monitor.spec.screenshots.on_failure {
        return;
    }
    monitor.tell_attendant(&ToAttendant::FailureScreenshot, None);
    // It waits less than this for a display that hangs: one that does not answer hangs itself.
    answered(monitor, PICTURE, |said| {
        matches!(said, FromAttendant::FailureTaken)
    });
}

/// Waits for an event of closing; asked ends do not matter any more.
pub(crate) fn wait(
    monitor: &mut Monitor,
    limit: Duration,
    mut is_it: impl FnMut(&Event) -> bool,
) -> Option<Event> {
    let until = sys::clock::boottime() + limit;
    match monitor.wait_for(Some(EndMode::Kill), Some(until), |_, event| {
        is_it(&event).then_some(event)
    }) {
        Waited::For(event) => Some(event),
        Waited::Late | Waited::End => None,
    }
}

/// pid 1 and with it all of its namespace, then the leader, then whatever else the job's group
/// and account hold.
fn end_processes(monitor: &mut Monitor, swept: &mut Swept) {
    monitor.kill_init();
    if monitor.leader.is_some() {
        end_leader(monitor);
    }
    if !monitor.leader_started {
        // Nothing of ours ever ran as this account: who is there is refused, not killed.
        return;
    }
    monitor.count_usage();
    let spec = &monitor.spec;
    let killed = match monitor.group.take() {
        Some(group) => group.kill_and_wait(KILL).and_then(|()| group.remove()),
        None => group::kill_slice(spec.backend, spec.account.uid),
    };
    if let Err(error) = killed {
        swept.leftovers.push(crate::text(&error));
    }
    monitor.pulse.beat_now();
    match sys::account::kill_all_of_uid(monitor.spec.account.uid.into(), KILL) {
        Ok(killed) => swept.processes_killed += u32::try_from(killed.processes).unwrap_or(u32::MAX),
        Err(error) => swept.leftovers.push(crate::text(&error)),
    }
    if monitor.pam_is_open {
        // When nobody of the session is left who could still write: what a module began may be on
        // its way while the leader dies.
        monitor.pulse.beat_now();
        crate::log_ins::end(&monitor.spec.account, swept);
    }
}

/// The leader sees init's end, closes the PAM session and exits. One that hangs in PAM is killed;
/// the session it led is then closed from outside.
fn end_leader(monitor: &mut Monitor) {
    // It may still be inside PAM, with an init that nobody knows yet: it ends that one itself.
    if let Some(leader) = &monitor.leader {
        let _ = leader.process.send(sys::Signal::SIGTERM);
    }
    let limit = if monitor
        .timeline
        .iter()
        .any(|step| step.phase == Phase::SessionOpen)
    {
        LEADER
    } else {
        UNOPENED
    };
    let closed = wait(monitor, limit, |event| {
        matches!(
            event,
            Event::Leader(FromLeader::Closed { .. }, _) | Event::LeaderEnded
        )
    });
    if let Some(Event::Leader(FromLeader::Closed { problem }, _)) = &closed
        && !problem.is_empty()
    {
        eprintln!("robotd-session: closing the PAM session: {problem}");
    }
    if matches!(closed, Some(Event::LeaderEnded)) {
        return;
    }
    if closed.is_none() {
        eprintln!("robotd-session: the leader hangs and is killed");
        if let Some(leader) = &monitor.leader {
            let _ = leader.process.send(sys::Signal::SIGKILL);
        }
    }
    wait(monitor, LEADER, |event| matches!(event, Event::LeaderEnded));
}

fn collect(monitor: &mut Monitor, opened: &Opened) {
    let (Some(volume), true) = (&opened.volume, monitor.running) else {
        return;
    };
    let collector = match Collector::start(&volume.part("artifacts"), &monitor.spec.account) {
        Ok(collector) => collector,
        Err(refusal) => {
            eprintln!("robotd-session: {refusal}");
            return;
        }
    };
    let mut any = false;
    let until = sys::clock::boottime() + COLLECT;
    // Without an attendant nobody takes them, and its loss is what the job ended with.
    while monitor.attendant.is_some() && sys::clock::boottime() < until {
        monitor.pulse.beat_now();
        match collector.next() {
            Some((Found::File { name }, Some(file))) => {
                any = true;
                monitor.tell_attendant(&ToAttendant::Artifact { name }, Some(&file));
                let taken = answered(monitor, DRAIN, |said| {
                    matches!(said, FromAttendant::ArtifactTaken { .. })
                });
                if let Some(Event::Attendant(FromAttendant::ArtifactTaken {
                    total: Err(refusal),
                })) = taken
                {
                    monitor.notice(NoticeKind::ArtifactRefused, refusal);
                }
            }
            Some((Found::Skipped(refusal), _)) => {
                monitor.notice(NoticeKind::ArtifactRefused, refusal)
            }
            Some((Found::File { .. }, None) | (Found::End, _)) | None => break,
        }
    }
    collector.end();
    if any {
        monitor.step(Phase::ArtifactsCollected);
    }
}

/// What the attendant answers, or its end. One that does not answer in time would not answer later:
/// it is killed, and its successor, which the pipes and the spool wait for, goes on.
fn answered(
    monitor: &mut Monitor,
    limit: Duration,
    mut is_it: impl FnMut(&FromAttendant) -> bool,
) -> Option<Event> {
    let answer = wait(monitor, limit, |event| match event {
        Event::Attendant(said) => is_it(said),
        event => matches!(event, Event::AttendantEnded),
    });
    if answer.is_some() {
        return answer;
    }
    eprintln!("robotd-session: the attendant does not answer and is killed");
    if let Some(attendant) = &monitor.attendant {
        let _ = attendant.process.send(sys::Signal::SIGKILL);
    }
    wait(monitor, KILL, |event| {
        matches!(event, Event::AttendantEnded)
    })
}

fn finish_attendant(monitor: &mut Monitor) {
    if monitor.attendant.is_none() {
        // The display's directory among it lies on the volume, which it would keep.
        monitor.place = None;
        return;
    }
    // One that dies now is followed by another, which ends the lane in its place.
    for _ in 0..=crate::attendant::RESTARTS {
        monitor.tell_attendant(&ToAttendant::Finish, None);
        let finished = answered(monitor, DRAIN, |said| {
            matches!(said, FromAttendant::Finished(_))
        });
        if let Some(Event::Attendant(FromAttendant::Finished(totals))) = finished {
            monitor.totals = totals;
            break;
        }
        if monitor.attendant.is_none() {
            break;
        }
    }
    monitor.place = None;
    monitor.tell_attendant(&ToAttendant::Leave, None);
    if let Some(attendant) = monitor.attendant.take()
        && !matches!(attendant.process.wait_within(KILL), Ok(Some(_)))
    {
        // One that does not end then is stuck in a driver; what is left of it is found below.
        let _ = attendant.process.send(sys::Signal::SIGKILL);
        let _ = attendant.process.wait_within(KILL);
    }
    monitor.pulse.beat_now();
}

/// Whatever ran as the user of one of our own programs is gone too, and left nothing: it saw this job's
/// output or what it said to others.
pub(crate) fn sweep_user(monitor: &mut Monitor, user: &Account, swept: &mut Swept) {
    if let Err(error) = sys::account::kill_all_of_uid(user.uid.into(), KILL) {
        swept.leftovers.push(crate::text(&error));
    }
    let rest = sweep::account(user, Backend::Pam, &mut || monitor.pulse.beat());
    swept.swept.extend(rest.swept);
    swept.leftovers.extend(rest.leftovers);
}

/// logind's user and systemd's units, through the broker; then what else an account can leave.
fn close_session(
    monitor: &mut Monitor,
    opened: &Opened,
    swept: &mut Swept,
) -> Option<SessionSummary> {
    if !monitor.leader_started {
        return None;
    }
    let mut gone = swept.leftovers.is_empty();
    if monitor.spec.backend == Backend::Logind {
        monitor.await_limits();
        // Before systemd stops the slice: what it loads anew then knows nothing of them.
        group::forget_settings(monitor.spec.account.uid, &mut swept.leftovers);
        let leftovers = close_user(monitor);
        gone &= leftovers.is_empty();
        swept.leftovers.extend(leftovers);
    }
    monitor.pulse.beat_now();
    let rest = sweep::account(&monitor.spec.account, monitor.spec.backend, &mut || {
        monitor.pulse.beat();
    });
    gone &= rest.leftovers.is_empty();
    swept.swept.extend(rest.swept);
    swept.leftovers.extend(rest.leftovers);
    let id = opened.session_id.clone()?;
    if gone {
        monitor.step(Phase::SessionClosed);
    }
    Some(SessionSummary {
        id,
        backend: monitor.spec.backend.name().to_owned(),
        account: monitor.spec.account.name.clone(),
        uid: monitor.spec.account.uid,
        display: display_name(monitor.spec.display),
        closed: gone,
    })
}

/// As it is written in a submission.
fn display_name(display: Option<Display>) -> String {
    let Some(Display {
        kind,
        width,
        height,
        depth,
    }) = display
    else {
        return "none".to_owned();
    };
    format!("{}:{width}x{height}x{depth}", kind.name())
}

fn close_user(monitor: &mut Monitor) -> Vec<String> {
    let limit = if monitor.terminated { STOPPING } else { USER };
    let until = sys::clock::boottime() + limit;
    monitor.link.tell(&FromSession::CloseUser);
    loop {
        let left = until.saturating_sub(sys::clock::boottime());
        let answer = wait(monitor, left, |event| {
            matches!(
                event,
                Event::Broker(ToSession::UserClosed { .. }, _) | Event::BrokerBack
            )
        });
        match answer {
            Some(Event::Broker(ToSession::UserClosed { leftovers }, _)) => return leftovers,
            // What was asked went down with the old broker.
            Some(Event::BrokerBack) => monitor.link.tell(&FromSession::CloseUser),
            _ => {
                return vec!["the broker did not say that the account's user is closed".to_owned()];
            }
        }
    }
}

fn wipe(
    monitor: &mut Monitor,
    volume: Option<crate::volume::Volume>,
    swept: Swept,
) -> Option<WipeReport> {
    let mut report = match volume {
        Some(volume) => {
            let pulse = &mut monitor.pulse;
            let secrets = monitor.given.iter().map(|given| &given.value);
            volume.release(swept, secrets, &mut || pulse.beat())
        }
        None if swept.leftovers.is_empty() => return None,
        // No volume, but something of the account is left: the slot must not be used.
        None => WipeReport {
            complete: false,
            assurance: Assurance::Failed,
            volume: None,
            swap: "none".to_owned(),
            duration_ms: 0,
            swept: swept.swept,
            leftovers: swept.leftovers,
        },
    };
    if report.swap == "possible" && monitor.bounds.swap_excluded {
        report.swap = "excluded".to_owned();
    }
    if report.complete {
        monitor.step(Phase::Wiped);
    }
    Some(report)
}
