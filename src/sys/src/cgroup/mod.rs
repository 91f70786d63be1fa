//! Control groups, version 2 only (cgroups(7)).
//!
//! On hybrid hosts version 2 has a mount of its own and usually no controllers: then processes
//! are still counted and killed as a group, and [`Group::apply`] says which limits it could not
//! set. Version 1 trees are never touched.

mod error;
mod group;
mod kill;
mod limits;
mod place;

pub use error::Error;
pub use group::Group;
pub use limits::{Limit, NotApplied};
pub use place::{path_of, unified_mount};
