//! What the claims share.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sys::process::{Fork, Namespaces, Process, end_now, fork};
use sys::{Gid, Uid};

/// In no account database.
pub(crate) const NOBODY_ELSE: Uid = Uid::from_raw(3_987_652_001);
/// Its group.
pub(crate) const GROUP: Gid = Gid::from_raw(3_987_652_001);

/// Runs `work` in a child, whose code is 0 unless it panics.
pub(crate) fn child(namespaces: Namespaces, work: impl FnOnce()) -> Process {
    match fork(namespaces, None).expect("a child") {
        Fork::Parent(child) => child,
        Fork::Child => end_now(u8::from(catch_unwind(AssertUnwindSafe(work)).is_err())),
    }
}

/// Runs `work` in a child and expects it to hold.
pub(crate) fn in_child(namespaces: Namespaces, work: impl FnOnce()) {
    assert!(
        child(namespaces, work)
            .wait()
            .expect("its end")
            .is_success(),
        "the child did not hold"
    );
}

/// A gate that a parent opens for its child.
pub(crate) struct Gate(std::io::PipeReader, Option<std::io::PipeWriter>);

impl Gate {
    pub(crate) fn new() -> Self {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        Self(reader, Some(writer))
    }

    /// In the child: waits until the parent opens it or ends.
    pub(crate) fn wait(&mut self) {
        drop(self.1.take());
        let _ = std::io::Read::read(&mut self.0, &mut [0]);
    }

    /// In the parent.
    pub(crate) fn open(&mut self) {
        drop(self.1.take());
    }
}

/// A field of `/proc/self/status`.
pub(crate) fn status(field: &str) -> String {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.expect("the field").trim().to_owned()
}
