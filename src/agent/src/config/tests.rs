use super::*;

fn rule_of(text: &str) -> String {
    match Config::parse(text) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("accepted: {text}"),
    }
}

#[test]
fn an_empty_file_is_all_defaults() {
    assert_eq!(Config::parse("").unwrap(), Config::default());
}

#[test]
fn the_shipped_file_shows_exactly_the_defaults() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/robotd.toml");
    let shipped = std::fs::read_to_string(path).unwrap();
    assert_eq!(Config::parse(&shipped).unwrap(), Config::default());
    // What is commented out as a default must parse too, so that taking the mark away works.
    let uncommented: String = shipped
        .lines()
        .map(|line| line.strip_prefix("#= ").unwrap_or(line))
        .map(|line| format!("{line}\n"))
        .collect();
    let example = Config::parse(&uncommented).unwrap();
    assert!(!example.labels.is_empty() && example.admission.max_jobs.is_some());
}

#[test]
fn an_unknown_key_is_refused_by_name() {
    assert!(rule_of("stat-dir = \"/x\"").contains("stat-dir"));
    assert!(rule_of("[link]\nurl = \"x\"").contains("url"));
}

#[test]
fn each_value_out_of_its_range_names_key_and_rule() {
    for (text, key) in [
        ("state-dir = \"var\"", "state-dir"),
        (
            "runtime-dir = \"/run/a-name-that-is-much-too-long-for-sockets\"",
            "runtime-dir",
        ),
        ("[labels]\nsite = \"\"", "labels"),
        ("[admission]\nmax-jobs = 0", "admission.max-jobs"),
        ("[admission]\nmin-free-mib = 1", "admission.min-free-mib"),
        ("[admission]\nspool-mib = 1", "admission.spool-mib"),
        ("[link]\nconnect-timeout-s = 0", "link.connect-timeout-s"),
        ("[link]\nbackoff-max-s = 0", "link.backoff-max-s"),
    ] {
        assert!(rule_of(text).starts_with(&format!("{key}: ")), "{text}");
    }
}

#[test]
fn the_longest_attendant_socket_fits_a_socket_address() {
    let text = format!("runtime-dir = \"/{}\"", "r".repeat(37));
    let config = Config::parse(&text).unwrap();
    let attempt = order::AttemptRef {
        job: order::JobId::new(),
        number: u32::MAX,
    };
    assert!(config.attendant_socket(&attempt).as_os_str().len() <= 107);
}

#[test]
fn a_state_directory_that_a_reboot_empties_is_told_with_a_remedy() {
    let config = Config::parse("state-dir = \"/tmp/robotd\"").unwrap();
    let findings = config.check();
    assert!(
        findings
            .iter()
            .any(|finding| finding.what.contains("reboot")),
        "{findings:?}"
    );
    assert!(findings.iter().all(|finding| !finding.remedy.is_empty()));
}
