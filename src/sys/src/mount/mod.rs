//! Mounts of one mount namespace, by descriptor where the kernel allows.
//!
//! * [`Filesystem`] and [`Tree`]: a mount is made detached, gets its attributes while nobody can
//!   see it, and is then attached (fsopen(2), open_tree(2), mount_setattr(2), move_mount(2))
//! * [`tmpfs`], [`proc`], [`devpts`], [`mqueue`]: the kinds that a job needs
//! * [`own_namespace`], [`set_propagation`], [`enter_root`], [`unmount`]
//! * [`MountInfo`], [`mounts_of_device`]: what is mounted where, and the proof that a volume is
//!   mounted nowhere any more

mod error;
mod filesystem;
mod holders;
mod info;
mod kinds;
mod namespace;
mod tree;

pub use error::Error;
pub use filesystem::Filesystem;
pub use holders::{Holder, mounts_of_device};
pub use info::{DeviceId, MountInfo, OddLine, own_mounts, parse};
pub use kinds::{HidePid, Tmpfs, devpts, mqueue, proc, tmpfs};
pub use namespace::{Propagation, Unmount, enter_root, own_namespace, set_propagation, unmount};
pub use tree::{Attributes, Reach, Tree, bind, set_attributes};
