//! Who may ask robotd, and what it tells the service manager.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use agent::control::{Ask, Reply};
use privsep::broker::{Request, StopMode};
use wire::v1;
use wire::v1::connect_response::Body as Say;

use super::Host;

const NOBODY: u32 = 65_534;

/// Asks as another user: the answer, or why there was none.
fn ask_as(host: &Host, group: u32, ask: &Ask) -> Result<Reply, String> {
    let script = "import socket, sys\n\
        s = socket.socket(socket.AF_UNIX)\n\
        s.connect(sys.argv[1])\n\
        s.sendall(sys.argv[2].encode() + b'\\n')\n\
        print(s.makefile().readline(), end='')\n";
    let asked = Command::new("python3")
        .args(["-c", script])
        .arg(host.places.run.join("control.sock"))
        .arg(serde_json::to_string(ask).unwrap())
        .uid(NOBODY)
        .gid(group)
        .output()
        .unwrap();
    if asked.status.success() {
        return Ok(serde_json::from_slice(&asked.stdout).unwrap());
    }
    Err(String::from_utf8_lossy(&asked.stderr).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_group_may_look_only_root_may_act_and_others_may_not_even_connect() {
    let host = Host::online().await;
    let above = host.places.run.parent().unwrap();
    fs::set_permissions(above, fs::Permissions::from_mode(0o755)).unwrap();
    let own_group = nix::unistd::getegid().as_raw();
    assert!(matches!(
        ask_as(&host, own_group, &Ask::Status),
        Ok(Reply::Status { .. })
    ));
    assert!(matches!(
        ask_as(&host, own_group, &Ask::Jobs),
        Ok(Reply::Jobs { .. })
    ));
    let token = Box::new(host.orchestrator.token());
    for ask in [
        Ask::Drain { wait: true },
        Ask::Drain { wait: false },
        Ask::Resume,
        Ask::Enroll { token },
    ] {
        let reply = ask_as(&host, own_group, &ask);
        assert!(
            matches!(&reply, Ok(Reply::Refused { code, .. }) if code == "NOT_ROOT"),
            "{ask:?}: {reply:?}"
        );
    }
    let refused = ask_as(&host, NOBODY, &Ask::Status).unwrap_err();
    assert!(refused.contains("PermissionError"), "{refused}");
    assert!(matches!(
        host.ask(Ask::Status).await,
        Some(Reply::Status { status }) if status.state == "ready"
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_with_a_time_stops_what_still_runs_then() {
    let host = Host::online().await;
    let attempt = host.orchestrator.offer(b"p").await;
    host.at_broker(|broker| {
        broker.wait_for("Start", |request| matches!(request, Request::Start { .. }))
    });
    let drain = |finish_within| {
        Say::Drain(v1::Drain {
            finish_within,
            resume: false,
            reason: "kernel update".into(),
        })
    };
    host.orchestrator.say(drain(None)).await;
    host.until("it drains", |status| status.state == "draining")
        .await;
    let stopped = |known: &mut super::broker::Known| {
        let mut asked = known.asked.iter();
        let stop = Request::Stop {
            attempt,
            mode: StopMode::Graceful,
        };
        asked.any(|request| *request == stop)
    };
    assert!(!host.broker.with(stopped), "without a time it may finish");
    let within = prost_types::Duration {
        seconds: 1,
        nanos: 0,
    };
    host.orchestrator.say(drain(Some(within))).await;
    host.at_broker(|broker| broker.wait("Stop", |known| stopped(known).then_some(())));
    host.broker.end(attempt, None);
    host.until_nothing_is_left().await;
    let resume = v1::Drain {
        resume: true,
        ..v1::Drain::default()
    };
    host.orchestrator.say(Say::Drain(resume)).await;
    host.until_online().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_manager_hears_when_robotd_can_be_asked_and_when_it_stops() {
    let places = super::Places::new();
    let manager = UnixDatagram::bind(&places.notify).unwrap();
    manager
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mut host = Host::online_in(places).await;
    let mut buffer = [0; 64];
    let mut heard = || {
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    assert_eq!(heard(), "READY=1");
    let robotd = host.robotd.take().unwrap();
    let ended = tokio::task::block_in_place(|| robotd.terminate());
    assert_eq!(ended.code(), Some(0));
    assert_eq!(heard(), "STOPPING=1");
}
