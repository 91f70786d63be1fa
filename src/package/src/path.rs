//! The path rules, in one place: for manifests, for tar and zip entries, and for trees on disk.

use std::fmt;

use crate::code::Code;

/// NAME_MAX of every Linux file system that we can unpack onto.
const MAX_COMPONENT: usize = 255;
/// PATH_MAX.
const MAX_TOTAL: usize = 4096;
/// Deeper trees exist only to exhaust recursion and descriptors.
const MAX_DEPTH: usize = 32;
/// How much of a refused path an error message shows.
const MAX_SHOWN: usize = 160;

/// A path inside a package: relative, `/`-separated UTF-8 that can only name something beneath.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackagePath(String);

impl PackagePath {
    /// Checks every rule.
    ///
    /// # Errors
    /// The first rule that the path breaks.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        match fault(text) {
            None => Ok(Self(text.to_owned())),
            Some(fault) => Err(PathError::new(text.as_bytes(), fault)),
        }
    }

    /// As [`parse`](Self::parse), for names as they come from archives and directories.
    ///
    /// # Errors
    /// Also when the bytes are not UTF-8.
    pub fn parse_bytes(bytes: &[u8]) -> Result<Self, PathError> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::parse(text),
            Err(_) => Err(PathError::new(bytes, PathFault::NotUtf8)),
        }
    }

    /// The whole path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its names, outermost first; never empty.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

impl fmt::Display for PackagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn fault(text: &str) -> Option<PathFault> {
    if text.is_empty() {
        return Some(PathFault::Empty);
    }
    if text.len() > MAX_TOTAL {
        return Some(PathFault::TooLong);
    }
    if text.starts_with('/') {
        return Some(PathFault::Absolute);
    }
    if let Some(fault) = text.chars().find_map(character_fault) {
        return Some(fault);
    }
    if text.split('/').count() > MAX_DEPTH {
        return Some(PathFault::TooDeep);
    }
    text.split('/').find_map(component_fault)
}

fn character_fault(c: char) -> Option<PathFault> {
    match c {
        '\\' => Some(PathFault::Backslash),
        c if c.is_control() => Some(PathFault::Control),
        // Marks that reorder or hide text: a listing would show another name than the one that runs.
        '\u{061C}'
        | '\u{200E}'
        | '\u{200F}'
        | '\u{2028}'..='\u{202E}'
        | '\u{2066}'..='\u{2069}'
        | '\u{FEFF}' => Some(PathFault::Control),
        _ => None,
    }
}

fn component_fault(component: &str) -> Option<PathFault> {
    match component {
        "" => Some(PathFault::EmptyComponent),
        "." => Some(PathFault::Dot),
        ".." => Some(PathFault::Parent),
        name if name.len() > MAX_COMPONENT => Some(PathFault::ComponentTooLong),
        _ => None,
    }
}

/// A path that breaks a rule. The path is shown escaped and cut: it comes from an attacker and
/// goes to logs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("path \"{shown}\" {fault}; rename it and pack again")]
pub struct PathError {
    shown: String,
    fault: PathFault,
}

impl PathError {
    pub(crate) fn new(path: &[u8], fault: PathFault) -> Self {
        Self {
            shown: shown(path),
            fault,
        }
    }

    /// The rule that was broken.
    pub fn fault(&self) -> PathFault {
        self.fault
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        Code::PathInvalid
    }
}

/// Which path rule was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    /// No characters at all.
    #[error("is empty")]
    Empty,
    /// Starts at the root of the file system.
    #[error("is absolute")]
    Absolute,
    /// Has a `..` component.
    #[error("contains \"..\"")]
    Parent,
    /// Has a `.` component.
    #[error("contains a \".\" component")]
    Dot,
    /// Has `//` or ends in `/`.
    #[error("contains an empty component")]
    EmptyComponent,
    /// Has a control character, or one that reorders or hides text.
    #[error("contains a control character")]
    Control,
    /// Has a backslash, a separator elsewhere.
    #[error("contains a backslash")]
    Backslash,
    /// Is not UTF-8.
    #[error("is not UTF-8")]
    NotUtf8,
    /// Has a component above 255 bytes.
    #[error("has a component longer than 255 bytes")]
    ComponentTooLong,
    /// Is above 4096 bytes.
    #[error("is longer than 4096 bytes")]
    TooLong,
    /// Has more than 32 components.
    #[error("is deeper than 32 levels")]
    TooDeep,
    /// Lies outside the directory `files/` of the archive.
    #[error("lies outside \"files/\"")]
    OutsideFiles,
}

/// An untrusted name made fit for a message: ASCII, escaped, cut.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(MAX_SHOWN)];
    let tail = if cut.len() < bytes.len() { "..." } else { "" };
    let text = match std::str::from_utf8(cut) {
        Ok(text) => text.escape_debug().to_string(),
        Err(_) => cut.escape_ascii().to_string(),
    };
    text + tail
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refusal(text: &str) -> PathFault {
        PackagePath::parse(text).expect_err(text).fault()
    }

    #[test]
    fn every_rule_refuses_its_example() {
        assert_eq!(refusal(""), PathFault::Empty);
        assert_eq!(refusal("/etc/passwd"), PathFault::Absolute);
        assert_eq!(refusal("a/../b"), PathFault::Parent);
        assert_eq!(refusal(".."), PathFault::Parent);
        assert_eq!(refusal("./a"), PathFault::Dot);
        assert_eq!(refusal("a//b"), PathFault::EmptyComponent);
        assert_eq!(refusal("a/"), PathFault::EmptyComponent);
        assert_eq!(refusal("a\nb"), PathFault::Control);
        assert_eq!(refusal("a\0b"), PathFault::Control);
        assert_eq!(refusal("a\u{202E}b"), PathFault::Control);
        assert_eq!(refusal("a\\..\\b"), PathFault::Backslash);
        assert_eq!(refusal(&"x".repeat(256)), PathFault::ComponentTooLong);
        assert_eq!(refusal(&"xx/".repeat(1400)), PathFault::TooLong);
        assert_eq!(refusal(&["d"; 33].join("/")), PathFault::TooDeep);
        let bytes = PackagePath::parse_bytes(b"a\xff").expect_err("not UTF-8");
        assert_eq!(bytes.fault(), PathFault::NotUtf8);
    }

    #[test]
    fn ordinary_names_are_accepted() {
        for text in [
            "bot.py",
            "lib/a-b_c/д.py",
            "...",
            "..a",
            "-rf",
            "a b",
            &["d"; 32].join("/"),
        ] {
            assert!(PackagePath::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn messages_never_carry_raw_control_bytes() {
        let error = PackagePath::parse("a\n\u{1b}[31mPRIORITY=0").expect_err("control");
        assert!(!error.to_string().chars().any(char::is_control));
        let long = PackagePath::parse(&"й".repeat(4000)).expect_err("long");
        assert!(long.to_string().len() < 1024);
    }

    proptest! {
        #[test]
        fn an_accepted_path_joined_to_a_folder_stays_beneath_it(text in "[a./\\\\\n-]{0,40}|\\PC{0,40}") {
            if let Ok(path) = PackagePath::parse(&text) {
                let joined = std::path::Path::new("/base").join(path.as_str());
                prop_assert!(joined.starts_with("/base"));
                use std::path::Component::{CurDir, ParentDir};
                let wanders = joined.components().any(|part| matches!(part, ParentDir | CurDir));
                prop_assert!(!wanders);
                prop_assert_eq!(path.components().collect::<Vec<_>>().join("/"), text);
            }
        }

        #[test]
        fn any_bytes_are_judged_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = PackagePath::parse_bytes(&bytes);
            prop_assert!(shown(&bytes).chars().all(|c| !c.is_control()));
        }

        #[test]
        fn names_joined_by_slashes_are_accepted(names in proptest::collection::vec("[a-z0-9_-]{1,20}", 1..32)) {
            prop_assert!(PackagePath::parse(&names.join("/")).is_ok());
        }
    }
}
