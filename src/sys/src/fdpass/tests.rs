use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;

use nix::unistd::{Gid, Pid, Uid};

use super::*;

/// The write ends of a pipe, and the read end that sees when all are closed.
fn pipes(count: usize) -> (std::io::PipeReader, Vec<std::io::PipeWriter>) {
    let (reader, writer) = std::io::pipe().unwrap();
    (
        reader,
        (0..count).map(|_| writer.try_clone().unwrap()).collect(),
    )
}

fn send_raw(socket: &Seqpacket, bytes: &[u8], fds: &[RawFd]) {
    let rights = [ControlMessage::ScmRights(fds)];
    sendmsg::<()>(
        socket.fd.as_raw_fd(),
        &[IoSlice::new(bytes)],
        &rights,
        MsgFlags::empty(),
        None,
    )
    .unwrap();
}

#[test]
fn bytes_and_descriptors_arrive_in_order_and_close_on_exec() {
    let (one, other) = Seqpacket::pair().unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let null = fs::File::open("/dev/null").unwrap();
    one.send(b"hello", &[null.as_fd(), writer.as_fd()]).unwrap();
    drop(writer);
    let mut buffer = [0; 16];
    let received = other.recv(&mut buffer).unwrap().unwrap();
    assert_eq!(&buffer[..received.len], b"hello");
    let [null, writer] = <[OwnedFd; 2]>::try_from(received.fds).unwrap();
    assert_eq!(
        nix::sys::stat::fstat(&null).unwrap().st_rdev,
        nix::sys::stat::makedev(1, 3)
    );
    let flags = nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_GETFD).unwrap();
    assert_eq!(flags, libc::FD_CLOEXEC);
    fs::File::from(writer).write_all(b"x").unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "x");
}

#[test]
fn packets_keep_their_borders() {
    let (one, other) = Seqpacket::pair().unwrap();
    one.send(b"ab", &[]).unwrap();
    one.send(b"c", &[]).unwrap();
    let mut buffer = [0; 16];
    assert_eq!(other.recv(&mut buffer).unwrap().unwrap().len, 2);
    assert_eq!(other.recv(&mut buffer).unwrap().unwrap().len, 1);
}

#[test]
fn the_end_is_told_apart_from_nothing_yet() {
    let (one, other) = Seqpacket::pair().unwrap();
    let mut buffer = [0; 16];
    assert!(matches!(
        other.try_recv(&mut buffer),
        Err(Error::WouldBlock)
    ));
    let short = Duration::from_millis(1);
    assert!(matches!(
        other.recv_within(&mut buffer, short),
        Err(Error::TimedOut { .. })
    ));
    drop(one);
    assert!(other.recv(&mut buffer).unwrap().is_none());
    assert!(other.recv_within(&mut buffer, short).unwrap().is_none());
    assert!(matches!(other.send(b"x", &[]), Err(Error::Closed)));
}

#[test]
fn a_peer_that_closes_with_unread_packets_is_closed_and_no_error() {
    let (one, other) = Seqpacket::pair().unwrap();
    other.send(b"never read", &[]).unwrap();
    drop(one);
    assert!(other.recv(&mut [0; 16]).unwrap().is_none());
}

#[test]
fn a_fifth_descriptor_refuses_the_packet_and_none_leaks() {
    let (one, other) = Seqpacket::pair().unwrap();
    for count in [MAX_FDS + 1, MAX_FDS + 2, 200] {
        let (mut reader, writers) = pipes(count);
        let raw: Vec<RawFd> = writers.iter().map(AsRawFd::as_raw_fd).collect();
        send_raw(&one, b"x", &raw);
        drop(writers);
        assert!(
            matches!(other.recv(&mut [0; 16]), Err(Error::FdsTruncated)),
            "{count}"
        );
        assert_eq!(
            reader.read(&mut [0; 1]).unwrap(),
            0,
            "a write end is still open"
        );
    }
}

#[test]
fn descriptors_are_counted_over_all_control_messages_of_a_packet() {
    let (one, other) = Seqpacket::pair().unwrap();
    let (mut reader, writers) = pipes(4);
    let raw: Vec<RawFd> = writers.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [
        ControlMessage::ScmRights(&raw[..2]),
        ControlMessage::ScmRights(&raw[2..]),
    ];
    sendmsg::<()>(
        one.fd.as_raw_fd(),
        &[IoSlice::new(b"x")],
        &rights,
        MsgFlags::empty(),
        None,
    )
    .unwrap();
    drop(writers);
    assert_eq!(other.recv(&mut [0; 16]).unwrap().unwrap().fds.len(), 4);
    assert_eq!(reader.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn a_packet_too_long_is_refused_with_its_descriptors() {
    let (one, other) = Seqpacket::pair().unwrap();
    let (mut reader, writers) = pipes(1);
    one.send(b"0123456789", &[writers[0].as_fd()]).unwrap();
    drop(writers);
    assert!(matches!(
        other.recv(&mut [0; 9]),
        Err(Error::PacketTooLong { limit: 9 })
    ));
    assert_eq!(reader.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn what_the_receiver_could_not_understand_is_not_sent() {
    let (one, _other) = Seqpacket::pair().unwrap();
    assert!(matches!(one.send(b"", &[]), Err(Error::EmptyPacket)));
    let null = fs::File::open("/dev/null").unwrap();
    let five = [null.as_fd(); MAX_FDS + 1];
    assert!(matches!(
        one.send(b"x", &five),
        Err(Error::TooManyFds { count: 5 })
    ));
}

#[test]
fn a_full_socket_is_told_without_waiting() {
    let (one, _other) = Seqpacket::pair().unwrap();
    let outcome = (0..100_000).find_map(|_| one.try_send(&[0; 1000], &[]).err());
    assert!(matches!(outcome, Some(Error::WouldBlock)), "{outcome:?}");
}

#[test]
fn the_peer_is_known() {
    let (one, _other) = Seqpacket::pair().unwrap();
    let me = PeerCredentials {
        pid: Pid::this(),
        uid: Uid::effective(),
        gid: Gid::effective(),
    };
    assert_eq!(one.peer().unwrap(), me);
}

#[test]
fn a_peer_by_descriptor_is_this_process() {
    let folder = tempfile::tempdir().unwrap();
    let listener = Listener::bind(&folder.path().join("s"), 0o600).unwrap();
    let client = Seqpacket::connect(listener.path()).unwrap();
    let Some(pidfd) = listener.accept().unwrap().peer_pidfd().unwrap() else {
        println!("skipped: this kernel has no SO_PEERPIDFD");
        return;
    };
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).unwrap();
    assert!(info.contains(&format!("Pid:\t{}\n", Pid::this())), "{info}");
    drop(client);
}

#[test]
fn only_a_unix_seqpacket_socket_is_taken_over() {
    let (one, other) = Seqpacket::pair().unwrap();
    let one = Seqpacket::from_fd(one.into_fd()).unwrap();
    one.send(b"x", &[]).unwrap();
    assert_eq!(other.recv(&mut [0; 1]).unwrap().unwrap().len, 1);
    let (stream, _) = std::os::unix::net::UnixStream::pair().unwrap();
    assert!(matches!(
        Seqpacket::from_fd(stream.into()),
        Err(Error::WrongType { .. })
    ));
    let file = fs::File::open("/dev/null").unwrap();
    assert!(matches!(
        Seqpacket::from_fd(file.into()),
        Err(Error::WrongType { .. })
    ));
}

#[test]
fn a_listener_has_the_access_bits_that_were_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    for mode in [0o600, 0o660, 0o666] {
        let path = folder.path().join(format!("{mode:o}"));
        let _listener = Listener::bind(&path, mode).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, mode);
    }
}

#[test]
fn the_socket_of_a_dead_program_is_replaced_and_that_of_a_live_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let first = Listener::bind(&path, 0o600).unwrap();
    assert!(matches!(
        Listener::bind(&path, 0o600),
        Err(Error::InUse { .. })
    ));
    // The probe is a connection like any other; it is closed already.
    assert!(
        first
            .try_accept()
            .unwrap()
            .unwrap()
            .recv(&mut [0; 1])
            .unwrap()
            .is_none()
    );
    drop(first);
    assert!(matches!(
        Seqpacket::connect(&path),
        Err(Error::Connect {
            source: Errno::ECONNREFUSED,
            ..
        })
    ));
    let second = Listener::bind(&path, 0o600).unwrap();
    assert!(second.try_accept().unwrap().is_none());
    let client = Seqpacket::connect(&path).unwrap();
    client.send(b"x", &[]).unwrap();
    assert_eq!(
        second
            .accept()
            .unwrap()
            .recv(&mut [0; 1])
            .unwrap()
            .unwrap()
            .len,
        1
    );
}

#[test]
fn what_is_not_a_socket_is_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    fs::write(&path, "precious").unwrap();
    assert!(matches!(
        Listener::bind(&path, 0o600),
        Err(Error::NotASocket { .. })
    ));
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(folder.path().join("nowhere"), &link).unwrap();
    assert!(matches!(
        Listener::bind(&link, 0o600),
        Err(Error::NotASocket { .. })
    ));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn a_path_too_long_for_an_address_is_refused() {
    let path = Path::new("/tmp").join("x".repeat(200));
    assert!(matches!(
        Listener::bind(&path, 0o600),
        Err(Error::PathTooLong { .. })
    ));
    assert!(matches!(
        Seqpacket::connect(&path),
        Err(Error::PathTooLong { .. })
    ));
}
