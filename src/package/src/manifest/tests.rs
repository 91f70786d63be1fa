use super::*;
use crate::code::Code;

fn file(path: &str) -> FileEntry {
    FileEntry {
        path: PackagePath::parse(path).expect("valid path"),
        size: 3,
        executable: false,
        sha256: Digest::of(b"abc"),
    }
}

fn draft(paths: &[&str]) -> Draft {
    Draft {
        name: "сверка-1".into(),
        version: "1.0+a".into(),
        entry: PackagePath::parse("bot.py").expect("valid path"),
        language: None,
        automation: None,
        files: paths.iter().map(|path| file(path)).collect(),
    }
}

fn refused(draft: Draft) -> Code {
    Manifest::new(draft).expect_err("must be refused").code()
}

fn text() -> String {
    let bytes = Manifest::new(draft(&["bot.py"]))
        .expect("valid")
        .encode()
        .expect("encodes");
    String::from_utf8(bytes).expect("JSON is UTF-8")
}

fn refused_text(text: &str) -> Code {
    Manifest::parse(text.as_bytes()).expect_err(text).code()
}

#[test]
fn the_spelling_is_fixed() {
    let sha256 = Digest::of(b"abc");
    let expected = format!(
        r#"{{"format":1,"name":"сверка-1","version":"1.0+a","entry":"bot.py","files":[{{"path":"bot.py","size":3,"executable":false,"sha256":"{sha256}"}}]}}"#
    );
    assert_eq!(text(), expected);
}

#[test]
fn what_is_encoded_parses_to_the_same() {
    let mut full = draft(&["a/b", "bot.py"]);
    full.language = Some("python".into());
    full.automation = Some(Automation {
        name: Some("Invoices".into()),
        version: None,
    });
    let manifest = Manifest::new(full).expect("valid");
    let parsed = Manifest::parse(&manifest.encode().expect("encodes")).expect("parses");
    assert_eq!(parsed, manifest);
    assert_eq!(parsed.entry().path.as_str(), "bot.py");
    assert_eq!(parsed.total_bytes(), 6);
}

#[test]
fn any_other_spelling_is_refused() {
    let text = text();
    assert!(Manifest::parse(text.as_bytes()).is_ok());
    let others = [
        format!(" {text}"),
        format!("{text}\n"),
        text.replace("bot.py\",\"files", "\\u0062ot.py\",\"files"),
        text.replace("\"size\":3", "\"size\":3.0"),
        text.replace("\"files\"", "\"language\":null,\"files\""),
        text.replace("\"files\"", "\"automation\":null,\"files\""),
        text.replace("\"name\"", "\"extra\":1,\"name\""),
        text.replace("\"size\"", "\"extra\":1,\"size\""),
        text.replace("\"format\":1", "\"format\":1,\"format\":1"),
        text.replace("\"format\":1", "\"format\":2"),
        text.replace("\"executable\":false,", ""),
        text.replace("\"size\":3", "\"size\":-3"),
        text.to_uppercase(),
        String::new(),
        "null".into(),
    ];
    for other in others {
        assert_eq!(refused_text(&other), Code::ManifestInvalid, "{other}");
    }
}

#[test]
fn paths_in_a_manifest_keep_the_path_rules() {
    let bad = text().replace("bot.py", "../bot.py");
    assert_eq!(refused_text(&bad), Code::PathInvalid);
    let bad_digest = text().replace(&Digest::of(b"abc").to_string(), "00");
    assert_eq!(refused_text(&bad_digest), Code::ManifestInvalid);
}

#[test]
fn lists_that_collide_or_lack_order_or_entry_are_refused() {
    assert_eq!(refused(draft(&["Bot.py", "bot.py"])), Code::Duplicate);
    assert_eq!(refused(draft(&["bot.py", "bot.py"])), Code::Duplicate);
    assert_eq!(refused(draft(&["bot.py", "bot.py/x"])), Code::Duplicate);
    assert_eq!(refused(draft(&["bot.py", "a"])), Code::ManifestInvalid);
    assert_eq!(refused(draft(&["a"])), Code::EntryMissing);
    assert_eq!(refused(draft(&[])), Code::EntryMissing);
}

#[test]
fn labels_outside_their_rules_are_refused() {
    for name in ["", "-a", "a b", "a/b", "a\nb", &"x".repeat(65)] {
        let draft = Draft {
            name: name.into(),
            ..draft(&["bot.py"])
        };
        assert_eq!(refused(draft), Code::LabelInvalid, "{name}");
    }
    for version in ["", ".1", "1 0", "1é"] {
        let draft = Draft {
            version: version.into(),
            ..draft(&["bot.py"])
        };
        assert_eq!(refused(draft), Code::LabelInvalid, "{version}");
    }
    let language = Draft {
        language: Some("Py thon".into()),
        ..draft(&["bot.py"])
    };
    assert_eq!(refused(language), Code::LabelInvalid);
    let automation = Automation {
        name: Some("a\nb".into()),
        version: None,
    };
    let automation = Draft {
        automation: Some(automation),
        ..draft(&["bot.py"])
    };
    assert_eq!(refused(automation), Code::LabelInvalid);
}

#[test]
fn sizes_that_overflow_and_lists_that_are_too_long_are_refused() {
    let mut huge = draft(&["a", "bot.py"]);
    huge.files[0].size = u64::MAX;
    assert_eq!(refused(huge), Code::TooLarge);
    let names: Vec<String> = (0..50_001).map(|n| format!("f{n:06}")).collect();
    let many = draft(&names.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(refused(many), Code::TooLarge);
}

#[test]
fn a_manifest_above_its_limit_is_refused_before_it_is_parsed() {
    let long = vec![b' '; MAX_MANIFEST_BYTES as usize + 1];
    let error = Manifest::parse(&long).expect_err("too long");
    assert!(matches!(error, ManifestError::TooLong { .. }));
}
