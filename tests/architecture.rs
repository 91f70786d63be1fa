//! The arrows of ARCHITECTURE.md, checked on the source: which crate may use which, which module
//! of the agent may use which, and who may link what.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a parent")
        .to_owned()
}

/// Which of our crates each crate may depend on.
const CRATES: [(&str, &[&str]); 16] = [
    ("wire", &[]),
    ("order", &[]),
    ("events", &[]),
    ("sys", &[]),
    ("pam", &[]),
    ("spool", &[]),
    ("package", &[]),
    ("privsep", &["order"]),
    ("broker", &["events", "order", "package", "privsep", "sys"]),
    ("session", &["order", "pam", "privsep", "sys"]),
    ("egress", &["order", "privsep", "sys"]),
    ("attendant", &["order", "privsep", "spool", "sys", "wire"]),
    (
        "agent",
        &["events", "order", "privsep", "spool", "sys", "wire"],
    ),
    ("ctl", &["agent", "broker", "order", "privsep", "sys"]),
    ("orchestrator", &["events", "order", "package", "wire"]),
    (
        "tests",
        &[
            "agent", "events", "order", "package", "privsep", "spool", "sys", "wire",
        ],
    ),
];

/// Which modules of the agent each of its modules may use. DESIGN's arrows, and what serves them:
/// `encode` (records as the spool takes them), `packet` (sockets of the privileged side), `token`,
/// `host`, `exit`, `control` (the local socket).
const AGENT: [(&str, &[&str]); 17] = [
    (
        "app",
        &[
            "audit",
            "config",
            "control",
            "exchange",
            "exit",
            "host",
            "ids",
            "job",
            "link",
            "privileged",
            "spool",
            "token",
        ],
    ),
    (
        "job",
        &[
            "audit",
            "config",
            "encode",
            "exchange",
            "ids",
            "license",
            "output",
            "privileged",
            "spool",
        ],
    ),
    ("license", &["exchange", "ids"]),
    ("privileged", &["packet"]),
    ("output", &["exchange", "packet", "spool"]),
    (
        "link",
        &[
            "audit", "config", "control", "encode", "exchange", "host", "ids", "spool", "token",
        ],
    ),
    ("audit", &["encode", "exchange", "ids", "spool"]),
    ("spool", &["ids"]),
    ("encode", &["exchange", "ids"]),
    ("exchange", &["ids"]),
    ("control", &["token"]),
    ("config", &[]),
    ("exit", &[]),
    ("host", &[]),
    ("ids", &[]),
    ("packet", &[]),
    ("token", &[]),
];

fn dependencies(manifest: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(manifest).expect("a manifest");
    let mut inside = false;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        if line.starts_with('[') {
            inside = line == "[dependencies]" || line == "[build-dependencies]";
        } else if let (true, Some((name, _))) = (inside, line.split_once('=')) {
            found.insert(name.trim().trim_end_matches(".workspace").to_owned());
        }
    }
    found
}

#[test]
fn crates_use_only_what_the_table_allows() {
    let table: BTreeMap<&str, &[&str]> = CRATES.into_iter().collect();
    let mut folders: Vec<PathBuf> = fs::read_dir(root().join("src"))
        .expect("src")
        .flatten()
        .map(|entry| entry.path())
        .collect();
    folders.push(root().join("tests"));
    assert_eq!(
        folders.len(),
        table.len(),
        "a crate is missing in the table"
    );
    for folder in folders {
        let name = folder
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let allowed = table
            .get(name.as_str())
            .unwrap_or_else(|| panic!("{name} is not in the table"));
        for used in dependencies(&folder.join("Cargo.toml"))
            .iter()
            .filter(|used| table.contains_key(used.as_str()))
        {
            assert!(
                allowed.contains(&used.as_str()),
                "{name} must not use {used}"
            );
        }
    }
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in fs::read_dir(folder)
        .expect("a folder")
        .flatten()
        .map(|entry| entry.path())
    {
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    found
}

/// The top module that a file belongs to.
fn module(root: &Path, file: &Path) -> String {
    let inner = file.strip_prefix(root).expect("below");
    let first = inner
        .components()
        .next()
        .expect("a component")
        .as_os_str()
        .to_string_lossy()
        .into_owned();
    first.trim_end_matches(".rs").to_owned()
}

#[test]
fn modules_of_the_agent_use_only_what_the_table_allows() {
    let folder = root().join("src/agent/src");
    let table: BTreeMap<&str, &[&str]> = AGENT.into_iter().collect();
    let mut seen = BTreeSet::new();
    for file in sources(&folder) {
        let from = module(&folder, &file);
        if from == "lib" || from == "main" {
            continue;
        }
        let allowed = table
            .get(from.as_str())
            .unwrap_or_else(|| panic!("module {from} is not in the table"));
        let text = fs::read_to_string(&file).expect("a source");
        for used in text.split("crate::").skip(1) {
            let name: String = used
                .chars()
                .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
                .collect();
            let ok = name == from
                || allowed.contains(&name.as_str())
                || !table.contains_key(name.as_str());
            assert!(ok, "{}: {from} must not use {name}", file.display());
        }
        seen.insert(from);
    }
    assert_eq!(seen.len(), table.len(), "a row of the table has no module");
}

#[test]
fn only_the_link_sees_the_network_and_only_sys_and_pam_are_unsafe() {
    for file in sources(&root().join("src")) {
        let path = file.display().to_string();
        let text = fs::read_to_string(&file).expect("a source");
        let network = ["tonic::", "rustls::", "tokio_rustls::"]
            .iter()
            .any(|word| text.contains(word));
        let may = path.contains("/agent/src/link")
            || path.contains("/orchestrator/")
            || path.contains("/wire/");
        assert!(
            !network || may || path.contains("/tests"),
            "{path} must not see the network"
        );
        let unsafe_code = text
            .lines()
            .any(|line| !line.trim_start().starts_with("//") && line.contains("unsafe {"));
        assert!(
            !unsafe_code || path.contains("/src/sys/") || path.contains("/src/pam/"),
            "{path} must not be unsafe"
        );
    }
}
