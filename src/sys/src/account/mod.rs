//! Accounts of the host, and the processes that run as one.

mod lookup;
mod owned;

pub use lookup::{Account, LookupError, by_name, by_uid};
pub use owned::{Killed, OwnedError, kill_all_of_uid, processes_of_uid};
