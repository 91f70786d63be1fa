//! Control groups, version 2 only (cgroups(7)).
//!
//! On hybrid hosts version 2 has a mount of its own and usually no controllers: then processes
//! are still counted and killed as a group, and [`Group::apply`] says which limits it could not
//! set. Version 1 trees are never touched.

mod disk;
mod error;
mod group;
mod kill;
mod limits;
mod place;
mod reach;
mod usage;

pub use disk::{Disk, disk_of};
pub use error::Error;
pub use group::Group;
pub use limits::{Limit, NotApplied};
pub use place::{path_of, unified_mount};
pub use reach::reaching_jobs;
pub use usage::{MemoryEvents, Usage};
