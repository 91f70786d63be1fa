use agent::control::{Ask, LinkState, Reply};
use order::Sha256Hex;
use std::os::unix::fs::PermissionsExt as _;

use super::{Broker, Host, Orchestrator, Places};

async fn host() -> Host {
    let places = Places::new();
    let orchestrator = Orchestrator::start().await;
    let broker = Broker::start(&places.broker, orchestrator.agent);
    let mut host = Host {
        places,
        broker,
        orchestrator,
        robotd: None,
    };
    host.start().await;
    host
}

fn code(reply: Option<Reply>) -> String {
    match reply {
        Some(Reply::Refused { code, .. }) => code,
        other => panic!("not refused: {other:?}"),
    }
}

fn stored(host: &Host) -> bool {
    host.places.state.join("identity/identity.json").exists()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_enrols_goes_online_and_keeps_its_key_to_itself() {
    let host = host().await;
    host.until("it says that it is not enrolled", |status| {
        status.link.state == LinkState::NotEnrolled
    })
    .await;
    let token = Box::new(host.orchestrator.token());
    assert_eq!(
        host.ask(Ask::Enroll { token }).await,
        Some(Reply::Enrolled {
            agent_id: host.orchestrator.agent
        })
    );
    host.until_online().await;
    let identity = host.places.state.join("identity/identity.json");
    assert_eq!(
        std::fs::metadata(identity).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(!host.places.state.join("identity/enrolling.key").exists());
    let hello = host.orchestrator.with(|seen| seen.hellos[0].clone());
    assert_eq!(
        (hello.agent_id, hello.slots),
        (host.orchestrator.agent.to_string(), 2)
    );
    // Its answer may have been lost: the same token does no harm and asks nobody.
    let token = Box::new(host.orchestrator.token());
    assert!(matches!(
        host.ask(Ask::Enroll { token }).await,
        Some(Reply::Enrolled { .. })
    ));
    assert_eq!(host.orchestrator.with(|seen| seen.csrs.len()), 1);
    let status = host.robotd.unwrap().terminate();
    assert!(status.success(), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orchestrator_without_the_tokens_root_is_refused_and_nothing_is_stored() {
    let host = host().await;
    let mut token = host.orchestrator.token();
    token.root_sha256 = Sha256Hex([1; 32]);
    assert_eq!(
        code(
            host.ask(Ask::Enroll {
                token: Box::new(token)
            })
            .await
        ),
        "ROOT_PIN_MISMATCH"
    );
    assert!(!stored(&host) && host.orchestrator.with(|seen| seen.csrs.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_another_name_is_refused() {
    let host = host().await;
    let mut token = host.orchestrator.token();
    token.enroll_url = token.enroll_url.replace("localhost", "127.0.0.1");
    assert_eq!(
        code(
            host.ask(Ask::Enroll {
                token: Box::new(token)
            })
            .await
        ),
        "SERVER_CERTIFICATE_REFUSED"
    );
    assert!(!stored(&host));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_says_which_way_and_the_next_try_uses_the_same_key() {
    let host = host().await;
    let token = || Box::new(host.orchestrator.token());
    let mut expired = token();
    expired.expires_unix_ms = 1;
    assert_eq!(
        code(host.ask(Ask::Enroll { token: expired }).await),
        "TOKEN_EXPIRED"
    );
    for reason in ["TOKEN_UNKNOWN", "TOKEN_EXPIRED", "TOKEN_BOUND"] {
        host.orchestrator
            .with(|seen| seen.refuse_token = Some(reason));
        assert_eq!(code(host.ask(Ask::Enroll { token: token() }).await), reason);
        assert!(!stored(&host));
    }
    host.orchestrator.with(|seen| seen.refuse_token = None);
    assert!(matches!(
        host.ask(Ask::Enroll { token: token() }).await,
        Some(Reply::Enrolled { .. })
    ));
    let keys = host.orchestrator.with(|seen| seen.csrs.clone());
    let key = |csr: &Vec<u8>| {
        let request =
            rcgen::CertificateSigningRequestParams::from_der(&csr.as_slice().into()).unwrap();
        rcgen::PublicKeyData::subject_public_key_info(&request.public_key)
    };
    assert_eq!(keys.len(), 4);
    assert!(
        keys.iter().all(|csr| key(csr) == key(&keys[0])),
        "the key is kept until it is certified"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_certificate_is_told_apart_from_an_outage() {
    let host = Host::online().await;
    host.orchestrator.refuse_certificates();
    host.until("its certificate is refused", |status| {
        status.link.state == LinkState::Refused
            && status.link.reason.starts_with("certificate refused")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_and_the_old_one_forgotten_when_the_new_one_was_welcomed() {
    let host = host().await;
    host.orchestrator.with(|seen| seen.issue_old = true);
    let token = Box::new(host.orchestrator.token());
    assert!(matches!(
        host.ask(Ask::Enroll { token }).await,
        Some(Reply::Enrolled { .. })
    ));
    host.orchestrator
        .wait("a second session", |seen| {
            (seen.hellos.len() == 2).then_some(())
        })
        .await;
    host.until("the new certificate is in use", |status| {
        status.link.state == LinkState::Online
            && status.link.certificate_until_unix_ms > Some(sys::clock::unix_ms() + 3_600_000)
    })
    .await;
    let folder = host.places.state.join("identity");
    assert!(folder.join("identity.json").exists() && !folder.join("renewed.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_or_exposed_identity_is_not_used_and_can_be_replaced() {
    let mut host = Host::online().await;
    let identity = host.places.state.join("identity/identity.json");
    host.kill();
    std::fs::set_permissions(&identity, std::fs::Permissions::from_mode(0o644)).unwrap();
    host.start().await;
    host.until("it says why", |status| {
        status.link.state == LinkState::NotEnrolled && status.link.reason.contains("mode 0600")
    })
    .await;
    host.kill();
    std::fs::remove_file(&identity).unwrap();
    std::fs::write(&identity, b"{").unwrap();
    std::fs::set_permissions(&identity, std::fs::Permissions::from_mode(0o600)).unwrap();
    host.start().await;
    let token = Box::new(host.orchestrator.token());
    assert!(matches!(
        host.ask(Ask::Enroll { token }).await,
        Some(Reply::Enrolled { .. })
    ));
    host.until_online().await;
}
