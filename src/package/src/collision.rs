//! Paths that some file system, or some reader, would take for one another: equal after Unicode
//! composition and case folding, or a file where another path needs a directory.

use std::cmp::Ordering;

use unicode_normalization::UnicodeNormalization;

use crate::path::PackagePath;

/// The first pair of paths that collide, if any.
///
/// Works on neighbours of the sorted list: all paths that share a folded prefix stand together
/// there, so one pass suffices and memory stays proportional to the paths.
pub(crate) fn first(paths: &[&PackagePath]) -> Option<(PackagePath, PackagePath)> {
    let mut folded: Vec<(String, &PackagePath)> =
        paths.iter().map(|path| (fold_path(path), *path)).collect();
    folded.sort_by(|a, b| by_component(&a.0, &b.0));
    folded
        .windows(2)
        .find(|pair| collide(&pair[0], &pair[1]))
        .map(|pair| (pair[0].1.clone(), pair[1].1.clone()))
}

/// Byte order would put `a-c` between `a` and `a/b`; by component, a directory follows directly on
/// a file of its name.
fn by_component(a: &str, b: &str) -> Ordering {
    a.split('/').cmp(b.split('/'))
}

fn collide(a: &(String, &PackagePath), b: &(String, &PackagePath)) -> bool {
    let shared =
        a.0.split('/')
            .zip(b.0.split('/'))
            .take_while(|(x, y)| x == y)
            .count();
    let shorter = a.0.split('/').count().min(b.0.split('/').count());
    let same_file_or_file_as_directory = shared == shorter;
    let spelled_differently =
        a.1.components()
            .zip(b.1.components())
            .take(shared)
            .any(|(x, y)| x != y);
    same_file_or_file_as_directory || spelled_differently
}

fn fold_path(path: &PackagePath) -> String {
    path.components().map(fold).collect::<Vec<_>>().join("/")
}

/// Upper then lower also joins what lower-casing alone keeps apart: ß and ss, final sigma, ſ and s.
fn fold(name: &str) -> String {
    let upper: String = name.nfd().flat_map(char::to_uppercase).collect();
    let lower: String = upper.chars().flat_map(char::to_lowercase).collect();
    lower.nfc().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collides(texts: &[&str]) -> bool {
        let paths: Vec<_> = texts
            .iter()
            .map(|text| PackagePath::parse(text).expect("valid path"))
            .collect();
        first(&paths.iter().collect::<Vec<_>>()).is_some()
    }

    #[test]
    fn case_composition_and_exact_repeats_collide() {
        assert!(collides(&["a", "b", "a"]));
        assert!(collides(&["Bot.py", "bot.PY"]));
        assert!(collides(&["caf\u{e9}", "cafe\u{301}"]));
        assert!(collides(&["CAF\u{c9}", "cafe\u{301}"]));
        assert!(collides(&["straße", "STRASSE"]));
        assert!(collides(&["\u{212a}", "k"]), "the Kelvin sign");
    }

    #[test]
    fn directories_spelled_in_two_ways_collide() {
        assert!(collides(&["Lib/a.py", "lib/b.py"]));
        assert!(collides(&["x/e\u{301}/1", "x/z", "x/\u{e9}/2"]));
    }

    #[test]
    fn a_file_collides_with_a_directory_of_its_name() {
        assert!(collides(&["a", "a-c", "a/b"]));
        assert!(collides(&["A", "a/b"]));
    }

    #[test]
    fn neighbours_in_one_directory_do_not_collide() {
        assert!(!collides(&["a-c", "a/b", "a/c", "ab", "b/a/c"]));
        assert!(!collides(&["x/y/z", "x/y/zz", "x/yz", "y/x"]));
        assert!(!collides(&[]));
    }
}
