//! One conversation with the job's attendant, as BOT_API.md describes it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Map, Value};

use crate::failure::Failure;

const DEFAULT: &str = "/run/robot/job.sock";

/// Larger than any answer.
const MAX_ANSWER: u64 = 4 << 20;

pub(crate) struct Connection {
    reader: BufReader<UnixStream>,
}

impl Connection {
    /// To the job that this process belongs to.
    pub(crate) fn open() -> Result<Self, Failure> {
        let path =
            std::env::var_os("ROBOT_SOCKET").map_or_else(|| PathBuf::from(DEFAULT), PathBuf::from);
        match UnixStream::connect(&path) {
            Ok(stream) => Ok(Self {
                reader: BufReader::new(stream),
            }),
            Err(source) => Err(Failure::NoJob { path, source }),
        }
    }

    /// Calls and waits for the answer's fields.
    pub(crate) fn call(
        &mut self,
        request: &Value,
        file: Option<&File>,
    ) -> Result<Map<String, Value>, Failure> {
        let mut line = request.to_string().into_bytes();
        line.push(b'\n');
        self.send(&line, file).map_err(Failure::Conversation)?;
        let mut answer = Vec::new();
        let mut bounded = (&mut self.reader).take(MAX_ANSWER);
        bounded
            .read_until(b'\n', &mut answer)
            .map_err(Failure::Conversation)?;
        if answer.is_empty() {
            return Err(Failure::Conversation(io::ErrorKind::UnexpectedEof.into()));
        }
        understand(&answer)
    }

    fn send(&self, line: &[u8], file: Option<&File>) -> io::Result<()> {
        let mut stream = self.reader.get_ref();
        let Some(file) = file else {
            return stream.write_all(line);
        };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [file.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&fds));
        // The descriptor goes with the first byte that is taken.
        let sent = sendmsg(
            stream,
            &[IoSlice::new(line)],
            &mut control,
            SendFlags::NOSIGNAL,
        )?;
        stream.write_all(&line[sent..])
    }
}

fn understand(answer: &[u8]) -> Result<Map<String, Value>, Failure> {
    let Ok(Value::Object(fields)) = serde_json::from_slice(answer) else {
        return Err(Failure::Answer);
    };
    match fields.get("ok") {
        Some(Value::Bool(true)) => Ok(fields),
        Some(Value::Bool(false)) => {
            let field = |name: &str| {
                fields
                    .get(name)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            Err(Failure::Refused {
                code: field("code"),
                detail: field("detail"),
            })
        }
        _ => Err(Failure::Answer),
    }
}
