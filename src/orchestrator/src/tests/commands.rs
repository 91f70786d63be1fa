//! Who may command the server.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::server::Server;

const NOBODY: u32 = 65_534;

/// Opens every door on the way to the socket: the peer's uid is what is left to refuse it.
fn open_doors(server: &Server) {
    let everyone = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    everyone(server.dir.path(), 0o711);
    everyone(&server.data_dir(), 0o711);
    everyone(&server.data_dir().join("admin.sock"), 0o666);
}

/// Connects as another account; all that it is told. Perl is part of every Debian system.
fn told_as(uid: u32, socket: &Path) -> Vec<u8> {
    const SCRIPT: &str = r#"
        use IO::Socket::UNIX;
        my $server = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die "no connection: $!";
        local $/;
        print <$server>;
    "#;
    let output = Command::new("/usr/bin/perl")
        .args(["-e", SCRIPT])
        .arg(socket)
        .env_clear()
        .stderr(Stdio::inherit())
        .uid(uid)
        .gid(uid)
        .output()
        .unwrap();
    output.stdout
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_account_can_not_command_the_server_and_is_noted() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: only root can ask as another account");
        return;
    }
    let server = Server::start().await;
    open_doors(&server);
    let socket = server.data_dir().join("admin.sock");
    let answer = tokio::task::spawn_blocking(move || told_as(NOBODY, &socket));
    let answer = answer.await.unwrap();
    let text = String::from_utf8_lossy(&answer);
    assert!(text.contains("PEER_NOT_ALLOWED"), "{text:?}");
    let noted: Vec<Value> = server
        .events()
        .await
        .into_iter()
        .filter(|event| event["code"] == 100_511)
        .collect();
    assert_eq!(noted.len(), 1);
    assert_eq!(
        (&noted[0]["name"], &noted[0]["user"]),
        (&"CommandRefused".into(), &"65534".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_is_behind_two_doors() {
    let server = Server::start().await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&server.data_dir()), 0o700);
    assert_eq!(mode(&server.data_dir().join("admin.sock")), 0o600);
}
