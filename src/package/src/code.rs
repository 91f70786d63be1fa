//! The stable codes of this crate's errors. A code is never renamed and never reused: they stand in
//! audit records, in results of jobs and in what administrators search for.

/// Writes the table once and derives everything from it.
macro_rules! codes {
    ($($variant:ident = $text:literal, $meaning:literal;)*) => {
        /// Why a package, a key or a tree was refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $(#[doc = $meaning] $variant,)* }

        impl Code {
            /// Every code, in the order of the table.
            pub const ALL: &[Code] = &[$(Code::$variant,)*];

            /// The code as it is written in records.
            pub const fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $text,)* }
            }

            /// One line for people.
            pub const fn meaning(self) -> &'static str {
                match self { $(Code::$variant => $meaning,)* }
            }
        }
    };
}

codes! {
    Truncated = "PACKAGE_TRUNCATED", "the archive ends before it is complete";
    TrailingBytes = "PACKAGE_TRAILING_BYTES", "bytes follow the end of the archive";
    FormatInvalid = "PACKAGE_FORMAT_INVALID", "not a readable archive of the kind it claims to be";
    NotCanonical = "PACKAGE_NOT_CANONICAL", "readable, but not in the one form that a package has";
    PathInvalid = "PACKAGE_PATH_INVALID", "a path that leaves the package or breaks the path rules";
    Duplicate = "PACKAGE_DUPLICATE", "two entries that are, or could be taken for, the same path";
    Link = "PACKAGE_LINK", "a symbolic or hard link";
    SpecialFile = "PACKAGE_SPECIAL_FILE", "a device, pipe, socket or sparse file";
    ModeInvalid = "PACKAGE_MODE_INVALID", "mode bits other than 0644 and 0755, such as setuid";
    Encrypted = "PACKAGE_ENCRYPTED", "an encrypted zip entry";
    Overlap = "PACKAGE_OVERLAP", "zip entries that share bytes or contradict their headers";
    TooLarge = "PACKAGE_TOO_LARGE", "more files or bytes than the limits allow";
    Bomb = "PACKAGE_BOMB", "compressed further than any honest package is";
    ManifestInvalid = "PACKAGE_MANIFEST_INVALID", "the manifest is missing, malformed or out of range";
    ManifestMismatch = "PACKAGE_MANIFEST_MISMATCH", "the files are not those that the manifest lists";
    EntryMissing = "PACKAGE_ENTRY_MISSING", "the entry point is not among the files";
    LabelInvalid = "PACKAGE_LABEL_INVALID", "a name, version or language outside its rules";
    LabelConflict = "PACKAGE_LABEL_CONFLICT", "an existing package says otherwise than the caller";
    SignatureMissing = "PACKAGE_SIGNATURE_MISSING", "a signature is required and there is none";
    SignatureInvalid = "PACKAGE_SIGNATURE_INVALID", "the signature is malformed or does not verify";
    PublisherUnknown = "PACKAGE_PUBLISHER_UNKNOWN", "signed with a key that is not trusted here";
    KeyInvalid = "PACKAGE_KEY_INVALID", "a key that can't be read or must not be used";
    KeyExposed = "PACKAGE_KEY_EXPOSED", "a private key that others can read";
    SourceUnknown = "PACKAGE_SOURCE_UNKNOWN", "neither a folder, a zip archive nor a package";
    SourceChanged = "PACKAGE_SOURCE_CHANGED", "a source file changed while it was being packed";
    TargetInvalid = "PACKAGE_TARGET_INVALID", "the directory to unpack into is not an empty directory";
    Confinement = "PACKAGE_CONFINEMENT", "the unpacking process could not confine itself";
    Io = "PACKAGE_IO", "the operating system refused to read or write";
}

impl Code {
    /// The code spelled `text`, if there is one.
    pub fn from_text(text: &str) -> Option<Code> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text)
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_are_upper_snake_case_unique_and_found_again() {
        let texts: BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(texts.len(), Code::ALL.len());
        for code in Code::ALL {
            let text = code.as_str();
            assert!(
                text.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'),
                "{text}"
            );
            assert!(text.starts_with("PACKAGE_"), "{text}");
            assert!(!code.meaning().is_empty());
            assert_eq!(Code::from_text(text), Some(*code));
        }
        assert_eq!(Code::from_text("PACKAGE_"), None);
    }
}
