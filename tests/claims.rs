//! tests/CLAIMS.md against the tests: every test that it names exists, and no attack is missing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Attacks that must have a row.
const REQUIRED: [std::ops::RangeInclusive<u32>; 9] = [
    1..=28,
    33..=39,
    41..=41,
    44..=44,
    47..=48,
    51..=56,
    60..=63,
    65..=68,
    64..=64,
];

fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().expect("a parent").to_owned()
}

fn text_of(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        if path.is_dir() {
            text_of(&path, text);
        } else if matches!(ending, Some("rs" | "sh")) {
            *text += &fs::read_to_string(&path).expect("a source");
        }
    }
}

/// Number, claim and what shows it.
fn rows(table: &str) -> Vec<(u32, String)> {
    let rows = table.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let number = cells.next()?.trim().parse().ok()?;
        cells.next()?;
        Some((number, cells.collect::<String>()))
    });
    rows.collect()
}

fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// A name stands where tests are declared: as a function, in a list of claims, or as a claim of the
/// testbed.
fn exists(sources: &str, name: &str) -> bool {
    [
        format!("fn {name}("),
        format!("\"{name}\","),
        format!("claim \"{name}\""),
    ]
    .iter()
    .any(|declared| sources.contains(declared))
}

#[test]
fn every_attack_has_a_claim_and_every_test_that_shows_it_exists() {
    let table = fs::read_to_string(root().join("tests/CLAIMS.md")).expect("tests/CLAIMS.md");
    let mut sources = String::new();
    for place in ["tests", "src"] {
        text_of(&root().join(place), &mut sources);
    }
    let rows = rows(&table);
    let numbers: BTreeSet<u32> = rows.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers.len(), rows.len(), "a number has one row");
    let missing: Vec<u32> = REQUIRED
        .into_iter()
        .flatten()
        .filter(|number| !numbers.contains(number))
        .collect();
    assert!(missing.is_empty(), "attacks without a row: {missing:?}");
    let mut unknown = Vec::new();
    for (number, shown) in &rows {
        let open = shown.contains("open: ");
        let tests: Vec<&str> = names(shown)
            .filter(|name| name.contains(['_', ' ']))
            .collect();
        assert!(
            open || !tests.is_empty(),
            "attack {number} names no test and is not open"
        );
        unknown.extend(tests.into_iter().filter(|name| !exists(&sources, name)));
    }
    let after = table.split("What remains (W8)").nth(1).unwrap_or_default();
    unknown.extend(names(after).filter(|name| !exists(&sources, name)));
    assert!(unknown.is_empty(), "no such test: {unknown:#?}");
}
