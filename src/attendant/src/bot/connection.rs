//! One connection of the bot: lines in with descriptors, lines out.

use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use privsep::Refusal;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, recvmsg, send,
};
use zeroize::Zeroizing;

use super::request::{Request, answer};

/// Longest request, without its newline.
pub(super) const MAX_REQUEST: usize = 1 << 20;

/// Descriptors that may wait for the call that they belong to.
const MAX_FDS: usize = 4;

const READ: usize = 64 * 1024;

/// The connection is over: closed by the bot, or broken by it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Over;

/// A request and the descriptor that came with it.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) request: Result<Request, Refusal>,
    pub(crate) file: Option<OwnedFd>,
}

#[derive(Debug)]
pub(super) struct Connection {
    socket: OwnedFd,
    input: Vec<u8>,
    /// No newline is among so many bytes of the input: a request byte by byte is not searched anew.
    searched: usize,
    fds: VecDeque<OwnedFd>,
    output: Zeroizing<Vec<u8>>,
    /// A call was handed out and is not answered: one at a time.
    busy: bool,
    /// What the bot sent makes no sense any more; it is told so, then it is over.
    closing: bool,
}

impl Connection {
    /// `socket` must not block.
    pub(super) fn new(socket: OwnedFd) -> Self {
        let output = Zeroizing::new(Vec::new());
        Self {
            socket,
            input: Vec::new(),
            searched: 0,
            fds: VecDeque::new(),
            output,
            busy: false,
            closing: false,
        }
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    pub(super) fn wants_to_read(&self) -> bool {
        !self.busy && self.output.is_empty() && !self.closing
    }

    pub(super) fn wants_to_write(&self) -> bool {
        !self.output.is_empty()
    }

    /// Reads what there is now.
    pub(super) fn receive(&mut self) -> Result<(), Over> {
        let mut buffer = vec![0; READ];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let received = recvmsg(
            &self.socket,
            &mut [IoSliceMut::new(&mut buffer)],
            &mut control,
            flags,
        );
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.fds.extend(fds);
            }
        }
        match received {
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(_) => return Err(Over),
            Ok(received) if received.bytes == 0 => return Err(Over),
            Ok(received) if received.flags.contains(ReturnFlags::CTRUNC) => {
                return self.too_many_fds();
            }
            Ok(received) => self.input.extend_from_slice(&buffer[..received.bytes]),
        }
        if self.fds.len() > MAX_FDS {
            self.too_many_fds()
        } else {
            Ok(())
        }
    }

    fn too_many_fds(&mut self) -> Result<(), Over> {
        self.fds.clear();
        self.break_off(
            "TOO_MANY_DESCRIPTORS",
            "send one descriptor, with the call that it belongs to".to_owned(),
        )
    }

    /// Whether a call that was sent ahead can be taken now: the socket has nothing more to say of it.
    pub(super) fn has_call(&self) -> bool {
        self.wants_to_read() && self.input.contains(&b'\n')
    }

    /// The next call, when the one before is answered.
    pub(super) fn next_call(&mut self) -> Option<Call> {
        if !self.wants_to_read() {
            return None;
        }
        let Some(end) = self.end_of_request() else {
            if self.searched > MAX_REQUEST {
                // Whether it could be told so changes nothing: the connection is over.
                let _ = self.break_off(
                    "REQUEST_TOO_LARGE",
                    format!("a request has at most {MAX_REQUEST} bytes"),
                );
            }
            return None;
        };
        let line: Vec<u8> = self.input.drain(..=end).take(end).collect();
        self.searched = 0;
        let request = Request::parse(&line);
        let with_file = matches!(request, Ok(Request::Artifact { .. }));
        let file = if with_file {
            self.fds.pop_front()
        } else {
            None
        };
        self.busy = true;
        Some(Call { request, file })
    }

    fn end_of_request(&mut self) -> Option<usize> {
        let searchable = self.input.len().min(MAX_REQUEST + 1);
        let found = self.input[self.searched..searchable]
            .iter()
            .position(|byte| *byte == b'\n');
        let end = found.map(|at| self.searched + at);
        self.searched = searchable;
        end
    }

    /// It was told why, and that was all.
    pub(super) fn is_over(&self) -> bool {
        self.closing && self.output.is_empty()
    }

    fn break_off(&mut self, code: &str, detail: String) -> Result<(), Over> {
        self.closing = true;
        self.input.clear();
        self.output
            .extend_from_slice(&answer(Err(Refusal::new(code, detail))));
        self.flush()
    }

    /// Answers the call that was handed out.
    pub(super) fn answer(&mut self, line: Zeroizing<Vec<u8>>) -> Result<(), Over> {
        self.busy = false;
        self.output.extend_from_slice(&line);
        self.flush()
    }

    /// Writes what fits now.
    pub(super) fn flush(&mut self) -> Result<(), Over> {
        while !self.output.is_empty() {
            match send(
                &self.socket,
                &self.output,
                SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
            ) {
                Ok(count) => {
                    let rest = Zeroizing::new(self.output[count..].to_vec());
                    self.output = rest;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(_) => return Err(Over),
            }
        }
        if self.closing { Err(Over) } else { Ok(()) }
    }
}
