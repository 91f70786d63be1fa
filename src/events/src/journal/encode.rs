//! The native protocol's form of one entry.

use crate::event::Event;

/// All fields of an event.
pub(super) fn fields(identifier: &str, event: &Event) -> Vec<u8> {
    let mut entry = Vec::with_capacity(2048);
    field(&mut entry, "MESSAGE", &event.text);
    if let Some(code) = event.known_code() {
        field(
            &mut entry,
            "MESSAGE_ID",
            &format!("{:032x}", code.message_id()),
        );
    }
    field(
        &mut entry,
        "PRIORITY",
        &event.severity.priority().to_string(),
    );
    field(&mut entry, "SYSLOG_IDENTIFIER", identifier);
    field(&mut entry, "EVENT_CODE", &event.code.to_string());
    field(&mut entry, "EVENT_NAME", &event.name);
    // The catalogue's texts name the job: a field that is not there would show as its own name.
    field(
        &mut entry,
        "JOB_ID",
        event.job_id.as_deref().unwrap_or("none"),
    );
    field(
        &mut entry,
        "OPERATION_KEY",
        event.operation_key.as_deref().unwrap_or("none"),
    );
    let optional = [
        ("ROBOTD_TENANT", event.tenant.as_deref()),
        ("ROBOTD_USER", event.user.as_deref()),
        ("ROBOTD_AGENT", event.agent_id.as_deref()),
        (
            "ENTITY_TYPE",
            event.entity.as_ref().map(|entity| entity.kind.as_str()),
        ),
        (
            "ENTITY_ID",
            event.entity.as_ref().map(|entity| entity.id.as_str()),
        ),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            field(&mut entry, name, value);
        }
    }
    field(&mut entry, "ROBOTD_EVENT", &event.to_json());
    entry
}

/// One field. A value with a newline goes in the form with a length, so that it can't start a
/// field of its own.
fn field(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Code;

    /// Reads an entry as journald does.
    fn read(mut entry: &[u8]) -> Vec<(String, String)> {
        let mut found = Vec::new();
        while !entry.is_empty() {
            let end = entry.iter().position(|byte| *byte == b'\n').unwrap();
            let (line, rest) = (&entry[..end], &entry[end + 1..]);
            let (name, value, rest) = if let Some(at) = line.iter().position(|byte| *byte == b'=') {
                (&line[..at], &line[at + 1..], rest)
            } else {
                let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
                assert_eq!(rest[8 + length], b'\n');
                (line, &rest[8..8 + length], &rest[9 + length..])
            };
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            found.push((text(name), text(value)));
            entry = rest;
        }
        found
    }

    #[test]
    fn a_newline_in_a_value_starts_no_field_of_its_own() {
        let event = Event::new(Code::OrderRefused, 1).with("reason", "x\nPRIORITY=0\n_UID=0");
        let found = read(&fields("robotd", &event));
        assert_eq!(
            found.iter().filter(|(name, _)| name == "PRIORITY").count(),
            1
        );
        assert!(found.iter().all(|(name, _)| name != "_UID"));
        assert!(found[0].1.ends_with("x\nPRIORITY=0\n_UID=0"));
    }

    proptest! {
        #[test]
        fn whatever_a_value_holds_journald_reads_it_back(value: String, user: String) {
            let event = Event::new(Code::OrderRefused, 1).with("reason", value).by_user(user.clone());
            let found = read(&fields("robotd", &event));
            prop_assert_eq!(&found[0].1, &event.text);
            prop_assert_eq!(found.last().unwrap(), &("ROBOTD_EVENT".to_owned(), event.to_json()));
            prop_assert!(found.contains(&("ROBOTD_USER".to_owned(), user)));
        }
    }
}
