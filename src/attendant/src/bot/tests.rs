//! The bot's socket, with a real peer.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use super::connection::MAX_REQUEST;
use super::*;

struct Place {
    _folder: tempfile::TempDir,
    path: std::path::PathBuf,
    bot: Bot,
}

fn place(uid: u32) -> Place {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("job.sock");
    let mut bot = Bot::new(uid);
    bot.listen(UnixListener::bind(&path).unwrap().into())
        .unwrap();
    Place {
        _folder: folder,
        path,
        bot,
    }
}

fn own_uid() -> u32 {
    rustix::process::getuid().as_raw()
}

/// Attends until nothing is ready.
fn settle(bot: &mut Bot) {
    for _ in 0..100 {
        let interests: Vec<Interest> = bot
            .interests(false)
            .into_iter()
            .map(|(interest, _)| interest)
            .collect();
        interests
            .into_iter()
            .for_each(|interest| bot.attend(interest));
    }
}

#[test]
fn a_call_is_answered_before_the_next_is_taken() {
    let mut place = place(own_uid());
    let mut peer = UnixStream::connect(&place.path).unwrap();
    peer.write_all(b"{\"call\":\"params\"}\n{\"call\":\"screenshot\"}\n")
        .unwrap();
    settle(&mut place.bot);
    let (id, call) = place.bot.next_call().unwrap();
    assert_eq!(call.request, Ok(Request::Params {}));
    assert!(place.bot.next_call().is_none());
    place.bot.answer(id, Ok(Value::Null));
    assert_eq!(
        place.bot.next_call().unwrap().1.request,
        Ok(Request::Screenshot {})
    );
    let mut line = String::new();
    BufReader::new(peer).read_line(&mut line).unwrap();
    assert_eq!(line, "{\"ok\":true}\n");
}

#[test]
fn a_peer_with_another_uid_is_not_heard() {
    let mut place = place(own_uid() + 1);
    let mut peer = UnixStream::connect(&place.path).unwrap();
    settle(&mut place.bot);
    assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);
    assert!(place.bot.connections.is_empty());
}

#[test]
fn a_request_without_an_end_is_refused_and_the_connection_over() {
    let mut place = place(own_uid());
    let peer = UnixStream::connect(&place.path).unwrap();
    let mut writer = peer.try_clone().unwrap();
    let thread = std::thread::spawn(move || {
        // Fails when the other end gives up, which is what the test waits for.
        let _ = writer.write_all(&vec![b'x'; MAX_REQUEST + 2]);
    });
    while place.bot.connections.is_empty() {
        settle(&mut place.bot);
    }
    while !place.bot.connections.is_empty() {
        settle(&mut place.bot);
        assert!(place.bot.next_call().is_none());
    }
    thread.join().unwrap();
    let mut answer = Vec::new();
    // The rest of the request is unread, so the end may come as a reset.
    let _ = (&peer).read_to_end(&mut answer);
    assert!(String::from_utf8_lossy(&answer).contains("REQUEST_TOO_LARGE"));
}

#[test]
fn no_more_connections_than_the_bound_are_accepted() {
    let mut place = place(own_uid());
    let _peers: Vec<UnixStream> = (0..20)
        .map(|_| UnixStream::connect(&place.path).unwrap())
        .collect();
    settle(&mut place.bot);
    assert_eq!(place.bot.connections.len(), MAX_CONNECTIONS);
}

#[test]
fn a_datagram_socket_is_refused() {
    let (one, _) = std::os::unix::net::UnixDatagram::pair().unwrap();
    assert!(Bot::new(1).listen(one.into()).is_err());
}
