//! What is large beyond reason, and what has lost its key.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use sys::beneath::{Dir, Mounts};
use sys::process::{Limit, set_limit};

use crate::Extent;
use crate::place::{Place, path};

/// Attack 22: 100,000 folders deep, a million files in one folder, with 64 descriptors.
pub(crate) fn deep_and_wide(extent: Extent) {
    let (depth, files) = extent.of((3_000, 20_000), (100_000, 1_000_000));
    let place = if extent == Extent::Full {
        Place::ext4(3_000)
    } else {
        Place::tmpfs()
    };
    set_limit(Limit::OpenFiles(64)).unwrap();
    for turn in 0..2 {
        chain(&place.tree(), depth);
        wide(&place.tree(), files);
        let began = Instant::now();
        let removed = place.remove(turn).unwrap();
        let seconds = began.elapsed().as_secs_f64();
        assert_eq!((removed.deepest, removed.files), (depth, files));
        place.check("deep and wide");
        place.say(&format!(
            "{depth} deep, {files} files in one folder, 64 descriptors: removed in {seconds:.1} s, {} KiB at most",
            peak()
        ));
    }
}

fn chain(tree: &Path, depth: u64) {
    fs::create_dir(tree).unwrap();
    let mut folder = Dir::open_root(tree, Mounts::Stay).unwrap();
    for _ in 0..depth {
        folder = folder.create_dir("d".repeat(20), 0o700).unwrap();
    }
}

fn wide(tree: &Path, files: u64) {
    let wide = tree.join("wide");
    fs::create_dir(&wide).unwrap();
    for number in 0..files {
        fs::write(wide.join(format!("file{number}")), "").unwrap();
    }
}

/// Most memory that this process ever used, in KiB.
fn peak() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.unwrap_or("?")
        .trim()
        .trim_end_matches(" kB")
        .to_owned()
}

/// Without its key nothing in an encrypted folder can be moved or made; all of it can be removed.
pub(crate) fn without_key(extent: Extent) {
    let depth = extent.of(300, 1_500);
    let place = Place::ext4_with(256, Some(&|base| encrypted(&base.join("tree"), depth)));
    let entries = fs::read_dir(place.tree()).unwrap();
    let names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    let clear = names.iter().any(|name| name == "side");
    assert!(!clear, "the key is still there: {names:?}");
    let removed = place.remove(1).unwrap();
    place.check("without its key");
    assert_eq!((removed.links, removed.deepest), (200, depth));
    place.say(&format!("fscrypt without its key: {removed}"));
}

/// In a keyring of its own, which goes with the command.
fn encrypted(tree: &Path, depth: u64) {
    fs::create_dir(tree).unwrap();
    let fill = "import os, sys\n\
        os.chdir(sys.argv[1])\n\
        os.makedirs('side/inner')\n\
        for n in range(200):\n    \
        open(f'side/file{n}', 'w').close(); os.symlink('/', f'side/inner/link{n}')\n\
        for n in range(int(sys.argv[2])):\n    \
        os.mkdir('d'); os.chdir('d'); open('file', 'w').close()\n";
    let script =
        "e4crypt add_key -S s:73616c74 \"$1\" >/dev/null && exec python3 -c \"$3\" \"$1\" \"$2\"";
    let depth = depth.to_string();
    let mut child = Command::new("keyctl")
        .args([
            "session",
            "-",
            "sh",
            "-ec",
            script,
            "sh",
            path(tree),
            &depth,
            fill,
        ])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"a pass phrase\n").unwrap();
    drop(input);
    assert!(child.wait().unwrap().success());
}
