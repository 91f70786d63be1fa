//! Packets that the rules of the job's namespace refused: whatever is no TCP and no question for a
//! name. They have gone nowhere; here they are only told of.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use sys::net::{Refused, parse_refused};

use crate::crossing::Border;
use crate::denials::Denied;
use crate::waiting;

/// The kernel batches some packets of 128 bytes; what is longer is cut and not understood.
const BUFFER: usize = 64 * 1024;

/// Tells of them for as long as the job runs. Returns when they can't be heard any more.
pub(crate) async fn watch(border: Arc<Border>, socket: OwnedFd) -> std::io::Result<()> {
    let socket = waiting::readable(socket)?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let mut ready = socket.readable().await?;
        let got = recv(
            socket.get_ref().as_raw_fd(),
            &mut buffer,
            MsgFlags::MSG_DONTWAIT,
        );
        match got {
            Ok(length) => parse_refused(&buffer[..length])
                .iter()
                .for_each(|packet| tell(&border, packet)),
            Err(Errno::EAGAIN) => ready.clear_ready(),
            // More came than there was room for; the counts are "at least".
            Err(Errno::ENOBUFS | Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn tell(border: &Border, packet: &Refused) {
    let name = match packet.protocol {
        1 | 58 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        132 => "sctp".to_owned(),
        other => format!("protocol {other}"),
    };
    let asked = match packet.port {
        Some(port) => format!("{name} {}", std::net::SocketAddr::new(packet.to, port)),
        None => format!("{name} {}", packet.to),
    };
    let reason = "only TCP, and questions for names, leave a job's network";
    border.deny(&asked, &Denied::new("PROTOCOL_NOT_ALLOWED", reason));
}
