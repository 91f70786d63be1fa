//! Files that the bot hands back: checked, copied a little at a time, kept as blobs.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use order::{ArtifactTotal, Sha256Hex};
use privsep::Refusal;
use privsep::attendant::{MAX_ARTIFACT_NAME, MAX_ARTIFACTS};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use wire::v1::ArtifactRef;

use crate::blobs::{BlobError, Blobs, Kept, NewBlob};

/// Copied between two looks at everything else, so that no large file holds up the bot's output.
const STEP: usize = 1 << 20;

/// Who handed it over, and gets the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Giver {
    /// The session's collector.
    Session,
    /// The bot, over this connection.
    Bot(u64),
}

/// One that was copied, or was refused.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) from: Giver,
    pub(crate) outcome: Result<Artifact, Refusal>,
}

/// One that is in the spool.
#[derive(Debug)]
pub(crate) struct Artifact {
    pub(crate) total: ArtifactTotal,
    /// None when the very same was handed over before.
    pub(crate) record: Option<ArtifactRef>,
}

/// All artifacts of an attempt.
#[derive(Debug)]
pub(crate) struct Artifacts {
    bytes_left: u64,
    taken: Vec<ArtifactTotal>,
    waiting: VecDeque<Waiting>,
    copying: Option<Copying>,
}

#[derive(Debug)]
struct Waiting {
    from: Giver,
    name: Vec<u8>,
    file: File,
}

#[derive(Debug)]
struct Copying {
    from: Giver,
    name: Vec<u8>,
    file: File,
    blob: NewBlob,
}

impl Artifacts {
    /// With those that an attendant before this one took.
    pub(crate) fn new(bytes: u64, taken: Vec<ArtifactTotal>) -> Self {
        let used = taken.iter().map(|total| total.bytes).sum();
        Self {
            bytes_left: bytes.saturating_sub(used),
            taken,
            waiting: VecDeque::new(),
            copying: None,
        }
    }

    /// Those that are in the spool.
    pub(crate) fn taken(&self) -> &[ArtifactTotal] {
        &self.taken
    }

    /// There is something to copy.
    pub(crate) fn is_busy(&self) -> bool {
        self.copying.is_some() || !self.waiting.is_empty()
    }

    /// Hands one over, its name already masked. The answer comes from [`Artifacts::step`].
    pub(crate) fn offer(
        &mut self,
        from: Giver,
        name: Vec<u8>,
        file: OwnedFd,
    ) -> Result<(), Refusal> {
        check_name(&name)?;
        check_file(&file)?;
        if self.taken.len() + self.waiting.len() + usize::from(self.copying.is_some())
            >= MAX_ARTIFACTS
        {
            let detail = format!(
                "a job hands back at most {MAX_ARTIFACTS} artifacts; put them into one archive"
            );
            return Err(Refusal::new("TOO_MANY_ARTIFACTS", detail));
        }
        self.waiting.push_back(Waiting {
            from,
            name,
            file: file.into(),
        });
        Ok(())
    }

    /// Copies some more; answers when one is done.
    pub(crate) fn step(&mut self, blobs: &mut Blobs) -> Option<Taken> {
        let mut copying = match self.copying.take() {
            Some(copying) => copying,
            None => match self.begin(blobs)? {
                Ok(copying) => copying,
                Err(taken) => return Some(taken),
            },
        };
        match copying.step(self.bytes_left) {
            Ok(Step::More) => {
                self.copying = Some(copying);
                None
            }
            Ok(Step::Complete) => Some(self.complete(copying)),
            Err(refusal) => Some(Taken {
                from: copying.from,
                outcome: Err(refusal),
            }),
        }
    }

    fn begin(&mut self, blobs: &mut Blobs) -> Option<Result<Copying, Taken>> {
        let Waiting { from, name, file } = self.waiting.pop_front()?;
        let blob = blobs.begin().map_err(|error| Taken {
            from,
            outcome: Err(not_kept(&error)),
        });
        Some(blob.map(|blob| Copying {
            from,
            name,
            file,
            blob,
        }))
    }

    fn complete(&mut self, copying: Copying) -> Taken {
        let Copying {
            from, name, blob, ..
        } = copying;
        let outcome = blob
            .keep()
            .map_err(|error| not_kept(&error))
            .map(|kept| self.enter(name, kept));
        Taken { from, outcome }
    }

    fn enter(&mut self, name: Vec<u8>, kept: Kept) -> Artifact {
        // Bytes that are not UTF-8 are shown by three each: the totals still have to fit a packet.
        let mut shown = shown(&name);
        shown.truncate(shown.floor_char_boundary(MAX_ARTIFACT_NAME));
        let same = |total: &&ArtifactTotal| total.name == shown && total.sha256 == kept.sha256;
        if let Some(total) = self.taken.iter().find(same) {
            return Artifact {
                total: total.clone(),
                record: None,
            };
        }
        let total = ArtifactTotal {
            name: shown,
            sha256: kept.sha256,
            bytes: kept.bytes,
        };
        self.bytes_left -= kept.bytes;
        self.taken.push(total.clone());
        Artifact {
            record: Some(record(&name, kept.sha256, kept.bytes)),
            total,
        }
    }
}

enum Step {
    More,
    Complete,
}

impl Copying {
    fn step(&mut self, bytes_left: u64) -> Result<Step, Refusal> {
        let mut buffer = vec![0; STEP];
        // By position: the bot holds the same open file and could move its offset.
        let count = self
            .file
            .read_at(&mut buffer, self.blob.bytes())
            .map_err(|error| {
                let detail = format!("{} can't be read: {error}", shown(&self.name));
                Refusal::new("ARTIFACT_NOT_READABLE", detail)
            })?;
        if count == 0 {
            return Ok(Step::Complete);
        }
        if self.blob.bytes() + count as u64 > bytes_left {
            let name = shown(&self.name);
            let detail = format!(
                "{name} is larger than the {bytes_left} bytes that the job may still hand back"
            );
            return Err(Refusal::new("ARTIFACT_TOO_LARGE", detail));
        }
        self.blob
            .write(&buffer[..count])
            .map_err(|error| not_kept(&error))?;
        Ok(Step::More)
    }
}

fn not_kept(error: &BlobError) -> Refusal {
    let code = if error.is_full() {
        "SPOOL_FULL"
    } else {
        "SPOOL_FAILED"
    };
    Refusal::new(code, crate::explain(error))
}

/// One spelling, and nothing that leaves a folder when somebody unpacks it.
fn check_name(name: &[u8]) -> Result<(), Refusal> {
    let refuse = |detail: String| Err(Refusal::new("ARTIFACT_NAME", detail));
    if name.is_empty() || name.len() > MAX_ARTIFACT_NAME {
        return refuse(format!(
            "an artifact's name has 1 to {MAX_ARTIFACT_NAME} bytes, not {}",
            name.len()
        ));
    }
    let usual =
        |part: &[u8]| !part.is_empty() && part != b"." && part != b".." && !part.contains(&0);
    if !name.split(|byte| *byte == b'/').all(usual) {
        return refuse(format!(
            "{:?} is no relative path without . and ..",
            shown(name)
        ));
    }
    Ok(())
}

fn check_file(file: &OwnedFd) -> Result<(), Refusal> {
    let refuse = |detail: &str| Refusal::new("ARTIFACT_NOT_A_FILE", detail);
    let facts = fstat(file).map_err(|_| refuse("the descriptor can't be examined"))?;
    if FileType::from_raw_mode(facts.st_mode) != FileType::RegularFile {
        return Err(refuse(
            "the descriptor is not a regular file: hand over files one by one",
        ));
    }
    let flags = fcntl_getfl(file).map_err(|_| refuse("the descriptor can't be examined"))?;
    // O_PATH descriptors and those for writing only can't be read.
    if flags.contains(OFlags::PATH) || flags & OFlags::ACCMODE == OFlags::WRONLY {
        return Err(refuse("the descriptor is not open for reading"));
    }
    Ok(())
}

fn record(name: &[u8], sha256: Sha256Hex, bytes: u64) -> ArtifactRef {
    ArtifactRef {
        sha256: sha256.0.to_vec().into(),
        size_bytes: bytes,
        media_type: media_type(name).to_owned(),
        name: name.to_vec().into(),
    }
}

/// By the name's ending: nobody here looks into a bot's files.
fn media_type(name: &[u8]) -> &'static str {
    let ending = name
        .rsplit(|byte| *byte == b'.')
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    match ending.as_slice() {
        b"csv" => "text/csv",
        b"htm" | b"html" => "text/html",
        b"jpeg" | b"jpg" => "image/jpeg",
        b"json" => "application/json",
        b"ods" => "application/vnd.oasis.opendocument.spreadsheet",
        b"odt" => "application/vnd.oasis.opendocument.text",
        b"pdf" => "application/pdf",
        b"png" => "image/png",
        b"txt" | b"log" => "text/plain",
        b"xlsx" => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        b"xml" => "application/xml",
        b"zip" => "application/zip",
        _ => "application/octet-stream",
    }
}

/// For people and for the totals, whose size is bounded by the raw name's.
fn shown(name: &[u8]) -> String {
    let mut shown = String::from_utf8_lossy(name).into_owned();
    shown.truncate(shown.floor_char_boundary(MAX_ARTIFACT_NAME));
    shown
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    struct Place {
        _folder: tempfile::TempDir,
        blobs: Blobs,
    }

    fn place() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(&File::open(folder.path()).unwrap().into()).unwrap();
        Place {
            _folder: folder,
            blobs,
        }
    }

    fn file(content: &[u8]) -> OwnedFd {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file.into()
    }

    fn copy(artifacts: &mut Artifacts, blobs: &mut Blobs) -> Result<Artifact, Refusal> {
        loop {
            if let Some(taken) = artifacts.step(blobs) {
                return taken.outcome;
            }
        }
    }

    #[test]
    fn a_file_is_copied_and_recorded_wherever_its_offset_stands() {
        let mut place = place();
        let mut artifacts = Artifacts::new(10 << 20, Vec::new());
        let content = vec![7; 3 * STEP + 1];
        artifacts
            .offer(Giver::Session, b"sub/out.csv".to_vec(), file(&content))
            .unwrap();
        let artifact = copy(&mut artifacts, &mut place.blobs).unwrap();
        assert_eq!(
            (artifact.total.name.as_str(), artifact.total.bytes),
            ("sub/out.csv", content.len() as u64)
        );
        assert_eq!(artifact.record.unwrap().media_type, "text/csv");
        assert!(!artifacts.is_busy());
    }

    #[test]
    fn the_same_file_under_the_same_name_is_recorded_once() {
        let mut place = place();
        let mut artifacts = Artifacts::new(100, Vec::new());
        for recorded in [true, false] {
            artifacts
                .offer(Giver::Bot(1), b"a".to_vec(), file(b"x"))
                .unwrap();
            assert_eq!(
                copy(&mut artifacts, &mut place.blobs)
                    .unwrap()
                    .record
                    .is_some(),
                recorded
            );
        }
        assert_eq!(artifacts.taken().len(), 1);
    }

    #[test]
    fn what_is_too_large_too_many_or_no_file_is_refused_with_a_code() {
        let mut place = place();
        let mut artifacts = Artifacts::new(10, Vec::new());
        artifacts
            .offer(Giver::Session, b"a".to_vec(), file(b"12345678901"))
            .unwrap();
        assert_eq!(
            copy(&mut artifacts, &mut place.blobs).unwrap_err().code,
            "ARTIFACT_TOO_LARGE"
        );
        let mut code = |name: &[u8], fd: OwnedFd| {
            artifacts
                .offer(Giver::Session, name.to_vec(), fd)
                .unwrap_err()
                .code
        };
        let null = File::open("/dev/null").unwrap();
        assert_eq!(code(b"a", null.into()), "ARTIFACT_NOT_A_FILE");
        assert_eq!(
            code(b"a", File::open("/").unwrap().into()),
            "ARTIFACT_NOT_A_FILE"
        );
        let (_, path) = tempfile::NamedTempFile::new().unwrap().into_parts();
        assert_eq!(
            code(b"a", File::create(&path).unwrap().into()),
            "ARTIFACT_NOT_A_FILE"
        );
        let beside = rustix::fs::open(&*path, OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
        assert_eq!(code(b"a", beside), "ARTIFACT_NOT_A_FILE");
        for name in [
            &b""[..],
            b"/etc/passwd",
            b"../x",
            b"a/../b",
            b"a//b",
            b"./a",
            b"a/",
            b"a\0b",
            &[b'x'; 256],
        ] {
            assert_eq!(code(name, file(b"")), "ARTIFACT_NAME", "{name:?}");
        }
        let total = ArtifactTotal {
            name: "x".into(),
            sha256: Sha256Hex([0; 32]),
            bytes: 0,
        };
        let mut full = Artifacts::new(10, vec![total; MAX_ARTIFACTS]);
        assert_eq!(
            full.offer(Giver::Session, b"a".to_vec(), file(b""))
                .unwrap_err()
                .code,
            "TOO_MANY_ARTIFACTS"
        );
    }
}
