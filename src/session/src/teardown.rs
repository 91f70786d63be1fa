//! The end of a job whose monitor died: everything that it can have left is ended, removed and
//! proven gone, without its help. The same code brings a slot back from quarantine.

use std::path::Path;
use std::time::Duration;

use order::VolumeReport;
use privsep::Refusal;
use privsep::session::{Backend, FromSession, Swept, Teardown, ToSession};
use sys::account::kill_all_of_uid;
use sys::fdpass::Seqpacket;
use sys::process::{Process, start_time};

use crate::group::{self, KILL};
use crate::inner::say;
use crate::volume::take_down;

/// logind and systemd stop a user's units, also on a host under load.
const ANSWER: Duration = Duration::from_secs(180);

/// Tears a slot down and tells the broker what was found.
pub(crate) fn run(account: &str, socket: &Path) -> Result<(), Refusal> {
    let broker =
        Seqpacket::connect(socket).map_err(|error| crate::refusal("BROKER_UNREACHABLE", &error))?;
    say(
        &broker,
        &FromSession::TeardownHello {
            account: account.to_owned(),
        },
        &[],
    )?;
    let ToSession::Teardown(slot) = answer(&broker)? else {
        return Err(unexpected());
    };
    let mut swept = Swept::default();
    end_monitor(&slot, &mut swept);
    end_processes(&slot, &mut swept);
    if slot.backend == Backend::Logind {
        group::forget_settings(slot.account.uid, &mut swept.leftovers);
        say(&broker, &FromSession::CloseUser, &[])?;
        let ToSession::UserClosed { leftovers } = answer(&broker)? else {
            return Err(unexpected());
        };
        swept.leftovers.extend(leftovers);
    }
    let accounts = [
        Some((&slot.account, slot.backend)),
        Some((&slot.attendant, Backend::Pam)),
        slot.egress.as_ref().map(|account| (account, Backend::Pam)),
    ];
    for (account, backend) in accounts.into_iter().flatten() {
        let rest = crate::sweep::account(account, backend, &mut || {});
        swept.swept.extend(rest.swept);
        swept.leftovers.extend(rest.leftovers);
    }
    crate::log_ins::end(&slot.account, &mut swept);
    let volume = take_volume_down(&slot, &mut swept);
    [&mut swept.swept, &mut swept.leftovers]
        .into_iter()
        .for_each(crate::report::shorten);
    say(&broker, &FromSession::TornDown { swept, volume }, &[])?;
    answer(&broker).map(drop)
}

fn unexpected() -> Refusal {
    Refusal::new("BROKER_UNREACHABLE", "the broker refused this teardown")
}

pub(crate) fn answer(broker: &Seqpacket) -> Result<ToSession, Refusal> {
    let mut buffer = vec![0; privsep::MAX_PACKET];
    let received = broker
        .recv_within(&mut buffer, ANSWER)
        .map_err(|error| crate::refusal("BROKER_UNREACHABLE", &error))?;
    let received = received.ok_or_else(unexpected)?;
    privsep::decode(&buffer[..received.len])
        .map_err(|error| crate::refusal("BROKER_UNREACHABLE", &error))
}

/// A monitor that lives without its broker's knowledge would go on opening what is closed here.
fn end_monitor(slot: &Teardown, swept: &mut Swept) {
    let Some((pid, start)) = slot.session else {
        return;
    };
    let Ok(monitor) = Process::open(sys::Pid::from_raw(pid)) else {
        return;
    };
    // Compared after it is held open: a number that was used again is told apart.
    if !start_time(monitor.pid()).is_ok_and(|own| own.0 == start) {
        return;
    }
    let ended = monitor
        .send(sys::Signal::SIGKILL)
        .and_then(|_| monitor.ended_within(KILL));
    if !matches!(ended, Ok(true)) {
        swept
            .leftovers
            .push(format!("the session's process {pid} does not end"));
    }
}

/// The job's group or slice, then every process of its accounts: an attendant pins the mount
/// namespace in which the volume lies.
fn end_processes(slot: &Teardown, swept: &mut Swept) {
    let group = slot.attempt.as_ref().and_then(group::left);
    let killed = match group {
        Some(group) => group.kill_and_wait(KILL).and_then(|()| group.remove()),
        None => group::kill_slice(slot.backend, slot.account.uid),
    };
    if let Err(error) = killed {
        swept.leftovers.push(crate::text(&error));
    }
    let accounts = [
        Some(&slot.account),
        Some(&slot.attendant),
        slot.egress.as_ref(),
    ];
    for account in accounts.into_iter().flatten() {
        match kill_all_of_uid(account.uid.into(), KILL) {
            Ok(killed) => {
                swept.processes_killed += u32::try_from(killed.processes).unwrap_or(u32::MAX)
            }
            Err(error) => swept.leftovers.push(crate::text(&error)),
        }
    }
}

/// The volume went with its last namespace, and what lies on the disk with it but for the image.
fn take_volume_down(slot: &Teardown, swept: &mut Swept) -> Option<VolumeReport> {
    let Some(attempt) = &slot.attempt else {
        swept
            .leftovers
            .push("no attempt is known, so no volume can be looked for".to_owned());
        return None;
    };
    take_down(
        attempt,
        &slot.volume_store,
        slot.volume,
        &mut swept.leftovers,
    )
}
