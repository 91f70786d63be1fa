//! Slots belong to the broker: asked over its own socket, which only root can open.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use agent::exit;
use privsep::admin::{Reply, Request, SlotLine};
use privsep::broker::SlotState;
use serde_json::{Value, json};
use sys::fdpass::{Error, Seqpacket};

use crate::outcome::{Bad, Good, Outcome};
use crate::show::table;

/// A teardown waits for logind, which takes ten seconds to let an account go.
const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) fn list(socket: &Path) -> Outcome {
    match ask(socket, &Request::Slots)? {
        Reply::Slots(slots) => Ok(Good {
            text: text(&slots),
            json: slots.iter().map(value).collect(),
        }),
        other => Err(unexpected(other)),
    }
}

pub(crate) fn recover(socket: &Path, account: &str) -> Outcome {
    match ask(
        socket,
        &Request::Recover {
            account: account.to_owned(),
        },
    )? {
        Reply::Recovered => Ok(Good {
            text: format!("The slot of {account} is proven clean and in use again."),
            json: json!({"account": account, "recovered": true}),
        }),
        other => Err(unexpected(other)),
    }
}

pub(crate) fn release_tenant(socket: &Path, account: &str) -> Outcome {
    let request = Request::ReleaseTenant {
        account: account.to_owned(),
    };
    match ask(socket, &request)? {
        Reply::Released { from: Some(from) } => Ok(Good {
            text: format!(
                "The slot of {account} was {from}'s; the next tenant that asks takes it."
            ),
            json: json!({"account": account, "from": from}),
        }),
        Reply::Released { from: None } => Ok(Good {
            text: format!("The slot of {account} belongs to no tenant."),
            json: json!({"account": account, "from": null}),
        }),
        other => Err(unexpected(other)),
    }
}

pub(crate) fn unexpected(reply: Reply) -> Bad {
    match reply {
        Reply::Refused(refusal) => Bad::refused(refusal.code, refusal.detail),
        _ => Bad::new(
            "VERSIONS_DIFFER",
            "robotd-broker answered another question; all parts must be of one version",
            exit::SOFTWARE,
        ),
    }
}

pub(crate) fn unreadable(detail: String) -> Bad {
    Bad::new("VERSIONS_DIFFER", detail, exit::SOFTWARE)
}

pub(crate) fn ask(socket: &Path, request: &Request) -> Result<Reply, Bad> {
    ask_with(socket, request).map(|(reply, _)| reply)
}

/// The same, with the descriptors that came along.
pub(crate) fn ask_with(socket: &Path, request: &Request) -> Result<(Reply, Vec<OwnedFd>), Bad> {
    let broken = |error: Error| {
        let (code, detail) = match exit_of(&error) {
            exit::NO_PERMISSION => ("NOT_ROOT", "only root may; run it with sudo".to_owned()),
            _ => ("BROKER_UNREACHABLE", format!("robotd-broker: {error}")),
        };
        Bad::new(code, detail, exit_of(&error))
    };
    let connection = Seqpacket::connect(socket).map_err(broken)?;
    let packet = privsep::encode(request).map_err(|error| unreadable(error.to_string()))?;
    connection.send(&packet, &[]).map_err(broken)?;
    let mut buffer = vec![0; privsep::MAX_PACKET];
    let received = connection
        .recv_within(&mut buffer, PATIENCE)
        .map_err(broken)?;
    let received = received.ok_or_else(|| broken(Error::Closed))?;
    let reply =
        privsep::decode(&buffer[..received.len]).map_err(|error| unreadable(error.to_string()))?;
    Ok((reply, received.fds))
}

fn exit_of(error: &Error) -> u8 {
    match error {
        Error::Connect {
            source: sys::Errno::EACCES | sys::Errno::EPERM,
            ..
        } => exit::NO_PERMISSION,
        Error::TimedOut { .. } => exit::TEMPORARY,
        _ => exit::UNAVAILABLE,
    }
}

fn text(slots: &[SlotLine]) -> String {
    if slots.is_empty() {
        return "No slots; the broker's policy names none.".to_owned();
    }
    let heads = ["ACCOUNT", "STATE", "TENANT", "WHY"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    rows.extend(slots.iter().map(|line| {
        let (state, why) = match &line.slot.state {
            SlotState::Free => ("free", String::new()),
            SlotState::Busy(attempt) => ("busy", attempt.to_string()),
            SlotState::Quarantined(refusal) => ("quarantined", refusal.to_string()),
        };
        let account = line.slot.account.clone();
        vec![account, state.to_owned(), tenant(line), why]
    }));
    table(&rows)
}

/// Whose it is: of its last job, or by the policy alone.
fn tenant(line: &SlotLine) -> String {
    let bound = || match line.bound_to.is_empty() {
        true => "-".to_owned(),
        false => format!("for {}", line.bound_to.join(", ")),
    };
    line.tenant.clone().unwrap_or_else(bound)
}

fn value(line: &SlotLine) -> Value {
    let mut value = match &line.slot.state {
        SlotState::Free => json!({"state": "free"}),
        SlotState::Busy(attempt) => json!({"state": "busy", "attempt": attempt.to_string()}),
        SlotState::Quarantined(refusal) => {
            json!({"state": "quarantined", "code": refusal.code, "detail": refusal.detail})
        }
    };
    value["account"] = json!(line.slot.account);
    value["tenant"] = json!(line.tenant);
    value["bound_to"] = json!(line.bound_to);
    value
}

#[cfg(test)]
mod tests {
    use privsep::Refusal;
    use privsep::broker::Slot;
    use sys::fdpass::Listener;

    use super::*;

    fn line(account: &str, state: SlotState, tenant: Option<&str>) -> SlotLine {
        SlotLine {
            slot: Slot {
                account: account.into(),
                state,
            },
            tenant: tenant.map(str::to_owned),
            bound_to: vec![],
        }
    }

    #[test]
    fn the_brokers_answer_is_shown_and_its_refusal_is_an_error_with_its_code() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("admin.sock");
        let listener = Listener::bind(&socket, 0o600).unwrap();
        let broker = std::thread::spawn(move || {
            for reply in [
                Reply::Slots(vec![
                    line("robot01", SlotState::Free, Some("acme")),
                    line(
                        "robot02",
                        SlotState::Quarantined(Refusal::new("WIPE_INCOMPLETE", "left")),
                        None,
                    ),
                ]),
                Reply::Refused(Refusal::new("SLOT_UNKNOWN", "no such slot")),
            ] {
                let peer = listener.accept().unwrap();
                let mut buffer = vec![0; privsep::MAX_PACKET];
                peer.recv(&mut buffer).unwrap().unwrap();
                peer.send(&privsep::encode(&reply).unwrap(), &[]).unwrap();
            }
        });
        let shown = list(&socket).unwrap();
        assert_eq!(
            shown.text,
            "ACCOUNT  STATE        TENANT  WHY\nrobot01  free         acme\n\
             robot02  quarantined  -       left (WIPE_INCOMPLETE)"
        );
        assert_eq!(shown.json[1]["code"], "WIPE_INCOMPLETE");
        assert_eq!(
            recover(&socket, "robot09").unwrap_err().code,
            "SLOT_UNKNOWN"
        );
        broker.join().unwrap();
    }

    #[test]
    fn a_broker_that_is_not_there_is_unavailable() {
        let bad = list(Path::new("/nowhere/admin.sock")).unwrap_err();
        assert_eq!(
            (bad.code.as_str(), bad.exit),
            ("BROKER_UNREACHABLE", exit::UNAVAILABLE)
        );
    }
}
