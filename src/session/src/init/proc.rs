//! /proc as a job sees it: its own processes, and of the host what programs can't do without
//! (meminfo, cpuinfo, stat, version).

use std::fs;
use std::path::Path;

use sys::mount::{Attributes, HidePid, Reach};

use super::root::Step;

/// About the host and its other work. They look empty.
const MASKED: [&str; 36] = [
    "buddyinfo",
    "cmdline",
    "config.gz",
    "consoles",
    "crypto",
    "diskstats",
    "dma",
    "execdomains",
    "fb",
    "interrupts",
    "iomem",
    "ioports",
    "kallsyms",
    "kcore",
    "key-users",
    "keys",
    "kmsg",
    "kpagecgroup",
    "kpagecount",
    "kpageflags",
    "latency_stats",
    "locks",
    "mdstat",
    "misc",
    "modules",
    "mtrr",
    "pagetypeinfo",
    "partitions",
    "sched_debug",
    "schedstat",
    "slabinfo",
    "softirqs",
    "swaps",
    "sysrq-trigger",
    "timer_list",
    "vmallocinfo",
];

/// The same, folders.
const EMPTIED: [&str; 9] = [
    "acpi",
    "asound",
    "bus",
    "driver",
    "dynamic_debug",
    "fs",
    "irq",
    "scsi",
    "tty",
];

/// In the skeleton while it is built: an empty file and an empty folder that lie over them.
const NOTHING: &str = "run/robot/no-file";
const NO_FOLDER: &str = "run/robot/no-folder";

/// Without execution in any case.
const READ_ONLY: Attributes = Attributes {
    no_exec: true,
    ..Attributes::READ_ONLY
};

/// Mounts it. Writing is for who makes user namespaces; what is below /proc/sys stays as it is then
/// too.
pub(super) fn show(root: &Path, writable: bool) -> Step {
    let place = root.join("proc");
    fs::create_dir(&place)?;
    let tree = sys::mount::proc(HidePid::Processes, false)?;
    if !writable {
        tree.set_attributes(READ_ONLY, Reach::One)?;
    }
    tree.attach(&place)?;
    sys::mount::bind(
        &place.join("sys"),
        &place.join("sys"),
        READ_ONLY,
        Reach::One,
    )?;
    fs::write(root.join(NOTHING), "")?;
    fs::create_dir(root.join(NO_FOLDER))?;
    cover(root, &MASKED, NOTHING)?;
    cover(root, &EMPTIED, NO_FOLDER)?;
    // The mounts keep them; nobody needs their names.
    fs::remove_file(root.join(NOTHING))?;
    fs::remove_dir(root.join(NO_FOLDER))?;
    Ok(())
}

fn cover(root: &Path, names: &[&str], with: &str) -> Step {
    for name in names {
        let target = root.join("proc").join(name);
        if fs::symlink_metadata(&target).is_ok() {
            sys::mount::bind(&root.join(with), &target, READ_ONLY, Reach::One)?;
        }
    }
    Ok(())
}
