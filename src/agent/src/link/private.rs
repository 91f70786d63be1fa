//! Files that only robotd may read, replaced whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use zeroize::Zeroizing;

use super::identity::IdentityError;

/// Larger is no identity of ours: a key, a short chain, some roots.
const MAX_BYTES: u64 = 256 * 1024;

/// Durable when this returns.
pub(super) fn write_private(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), IdentityError> {
    let path = folder.join(name);
    let failed = |source| IdentityError::File {
        what: "write",
        path: path.clone(),
        source,
    };
    fs::DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(folder)
        .map_err(failed)?;
    // tempfile makes it with mode 0600.
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .tempfile_in(folder)
        .map_err(failed)?;
    file.write_all(bytes)
        .and_then(|()| file.as_file().sync_all())
        .map_err(failed)?;
    file.persist(&path).map_err(|error| failed(error.error))?;
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(failed)
}

/// None when it is not there.
pub(super) fn read_private(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, IdentityError> {
    let failed = |source| IdentityError::File {
        what: "read",
        path: path.to_owned(),
        source,
    };
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC | nix::libc::O_NONBLOCK;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    // Of the open file, so that nothing can be swapped in between.
    let facts = file.metadata().map_err(failed)?;
    let own = facts.uid() == nix::unistd::geteuid().as_raw();
    if !facts.is_file() || facts.nlink() != 1 || facts.mode() & 0o077 != 0 || !own {
        return Err(IdentityError::Exposed {
            path: path.to_owned(),
        });
    }
    if facts.len() > MAX_BYTES {
        return Err(IdentityError::Damaged {
            path: path.to_owned(),
        });
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(
        usize::try_from(facts.len()).unwrap_or_default(),
    ));
    file.take(MAX_BYTES)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(Some(bytes))
}
