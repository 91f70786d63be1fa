//! Files that root must be able to trust: reading them strictly, replacing them safely.

mod atomic;
mod trusted;

pub use atomic::{WriteError, write_atomic};
pub use trusted::{TrustError, read_trusted};
