//! Frames of the admin socket: a kind, a length, bytes. Both ends are this program.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::refused::Refused;
use crate::spec::Submission;
use crate::store::EventFilter;

/// No frame is longer.
pub(crate) const MAX_FRAME: usize = 8 << 20;
/// Content is sent in pieces of this size.
pub(crate) const PIECE: usize = 256 << 10;

/// What is asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Request {
    TokenCreate {
        agent: String,
    },
    KeyList,
    /// One more order key.
    KeyNew,
    /// The public root key, base64.
    KeyTrustRoot {
        root: String,
    },
    /// The file that `key sign` wrote.
    KeyInstall {
        file: String,
    },
    AgentList,
    AgentRevoke {
        name: String,
    },
    LicenseSet {
        pool: String,
        count: u32,
    },
    LicenseList,
    /// Bytes follow.
    PackagePush {
        sha256: String,
    },
    PackageList,
    /// Bytes follow.
    SecretSet {
        name: String,
    },
    SecretList,
    SecretDelete {
        name: String,
    },
    JobSubmit {
        submission: Box<Submission>,
    },
    JobList,
    JobShow {
        job: String,
    },
    /// Of an attempt whose result is in.
    JobCertificate {
        job: String,
    },
    JobStop {
        job: String,
        kill: bool,
    },
    JobScreenshot {
        job: String,
    },
    /// Batches of records come back.
    JobLogs {
        job: String,
        follow: bool,
    },
    /// A state per change comes back, until the job has ended.
    JobWatch {
        job: String,
    },
    /// Per change of its screen the facts and, with `pictures`, the bytes of each picture in them,
    /// until the job has ended.
    JobScreen {
        job: String,
        most_per_second: u32,
        pictures: bool,
    },
    /// The address of a page that shows it, with a token that works once.
    JobPage {
        job: String,
    },
    /// Per file its facts, then its bytes.
    JobScreenshots {
        job: String,
    },
    JobArtifacts {
        job: String,
    },
    EventList {
        filter: EventFilter,
    },
}

/// One frame.
#[derive(Clone, Debug)]
pub(crate) enum Frame {
    Json(Value),
    Bytes(Vec<u8>),
    Refused(Refused),
    /// Nothing more comes in this direction.
    End,
}

fn broken(error: &std::io::Error) -> Refused {
    Refused::unavailable(
        "ADMIN_SOCKET_BROKEN",
        format!("the connection broke: {error}"),
    )
}

fn malformed() -> Refused {
    Refused::invalid(
        "ADMIN_FRAME_INVALID",
        "a frame of the admin socket can't be read",
    )
}

pub(crate) async fn read(input: &mut (impl AsyncRead + Unpin)) -> Result<Frame, Refused> {
    let mut header = [0; 5];
    input
        .read_exact(&mut header)
        .await
        .map_err(|error| broken(&error))?;
    let [kind, length @ ..] = header;
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_FRAME {
        return Err(malformed());
    }
    let mut bytes = vec![0; length];
    input
        .read_exact(&mut bytes)
        .await
        .map_err(|error| broken(&error))?;
    match kind {
        b'J' => serde_json::from_slice(&bytes)
            .map(Frame::Json)
            .map_err(|_| malformed()),
        b'B' => Ok(Frame::Bytes(bytes)),
        b'R' => serde_json::from_slice(&bytes)
            .map(Frame::Refused)
            .map_err(|_| malformed()),
        b'E' if length == 0 => Ok(Frame::End),
        _ => Err(malformed()),
    }
}

pub(crate) async fn write(
    output: &mut (impl AsyncWrite + Unpin),
    frame: &Frame,
) -> Result<(), Refused> {
    let encode = |value: &Value| serde_json::to_vec(value).map_err(|_| malformed());
    let (kind, bytes) = match frame {
        Frame::Json(value) => (b'J', encode(value)?),
        Frame::Bytes(bytes) => (b'B', bytes.clone()),
        Frame::Refused(refused) => (b'R', encode(&serde_json::json!(refused))?),
        Frame::End => (b'E', Vec::new()),
    };
    let length = u32::try_from(bytes.len()).map_err(|_| malformed())?;
    if bytes.len() > MAX_FRAME {
        return Err(Refused::invalid(
            "ANSWER_TOO_LARGE",
            "the answer is too large for one frame; narrow the question",
        ));
    }
    let mut whole = vec![kind];
    whole.extend(length.to_be_bytes());
    whole.extend(bytes);
    output
        .write_all(&whole)
        .await
        .map_err(|error| broken(&error))?;
    output.flush().await.map_err(|error| broken(&error))
}

/// The commands' end of the socket.
pub(crate) struct Client {
    stream: tokio::net::UnixStream,
}

impl Client {
    /// Connects to the server of a data directory and asks.
    pub(crate) async fn ask(
        data_dir: &std::path::Path,
        request: &Request,
    ) -> Result<Self, Refused> {
        let path = data_dir.join("admin.sock");
        let stream = tokio::net::UnixStream::connect(&path)
            .await
            .map_err(|error| {
                Refused::unavailable(
                    "SERVER_NOT_RUNNING",
                    format!(
                        "can't reach the server at {}: {error}; is `serve` running?",
                        path.display()
                    ),
                )
            })?;
        let mut client = Self { stream };
        let request = serde_json::to_value(request).map_err(|_| malformed())?;
        client.send(&Frame::Json(request)).await?;
        Ok(client)
    }

    /// Sends a frame. A server that refused in the middle has said why before it hung up.
    pub(crate) async fn send(&mut self, frame: &Frame) -> Result<(), Refused> {
        let Err(broken) = write(&mut self.stream, frame).await else {
            return Ok(());
        };
        match read(&mut self.stream).await {
            Ok(Frame::Refused(refused)) => Err(refused),
            _ => Err(broken),
        }
    }

    /// The next frame; a refusal becomes the error.
    pub(crate) async fn next(&mut self) -> Result<Frame, Refused> {
        match read(&mut self.stream).await? {
            Frame::Refused(refused) => Err(refused),
            frame => Ok(frame),
        }
    }

    /// The one JSON answer.
    pub(crate) async fn answer(mut self) -> Result<Value, Refused> {
        match self.next().await? {
            Frame::Json(value) => Ok(value),
            _ => Err(malformed()),
        }
    }
}
