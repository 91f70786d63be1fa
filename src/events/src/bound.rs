//! Cutting an event to a size: whatever a peer managed to put into a reason, the event still
//! gets out, and says that it was cut.

use serde_json::Value;

use crate::event::Event;

/// Where the cut fields are named.
const MARK: &str = "truncated";

/// A field is never cut below this; an event with so many fields loses whole ones instead.
const SHORTEST: usize = 64;

pub(crate) fn cut(event: &Event, limit: usize) -> Event {
    let mut event = event.clone();
    while event.to_json().len() > limit && cut_largest(&mut event) {}
    event
}

/// Halves the largest of the free texts; false when nothing is left to cut.
fn cut_largest(event: &mut Event) -> bool {
    let in_data = event
        .data
        .iter()
        .filter(|(key, _)| *key != MARK)
        .map(|(key, value)| (value.to_string().len(), key));
    match in_data.max() {
        Some((size, key)) if size >= event.text.len() && size > SHORTEST => {
            let key = key.clone();
            cut_value(event, &key);
        }
        _ if event.text.len() > SHORTEST => {
            halve(&mut event.text);
            name(event, "text");
        }
        Some((_, key)) => {
            let key = key.clone();
            event.data.remove(&key);
            name(event, "data");
        }
        None => return false,
    }
    true
}

fn cut_value(event: &mut Event, key: &str) {
    match event.data.get_mut(key) {
        Some(Value::String(text)) => halve(text),
        // Half a list or object would be another one: it goes as a whole.
        Some(value) => *value = Value::String("...".to_owned()),
        None => {}
    }
    name(event, key);
}

fn halve(text: &mut String) {
    let end = text.floor_char_boundary(text.len() / 2);
    text.truncate(end);
    text.push_str("...");
}

fn name(event: &mut Event, key: &str) {
    let names = event
        .data
        .entry(MARK.to_owned())
        .or_insert_with(|| Value::Array(Vec::new()));
    if let Value::Array(names) = names {
        // A key may be long itself; its beginning says which it was.
        let key = Value::String(key[..key.floor_char_boundary(SHORTEST)].to_owned());
        if !names.contains(&key) {
            names.push(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;

    #[test]
    fn an_event_that_fits_is_unchanged() {
        let event = Event::new(Code::OrderRefused, 0).with("reason", "short");
        assert_eq!(event.bounded(8192), event);
    }

    #[test]
    fn a_huge_reason_is_cut_and_the_event_says_so() {
        let event = Event::new(Code::OrderRefused, 0)
            .of_attempt("job", "job.1")
            .with("reason_code", "ORDER_MALFORMED")
            .with("reason", "\u{1}\u{e9}".repeat(100_000));
        let cut = event.bounded(8192);
        assert!(cut.to_json().len() <= 8192);
        assert_eq!(cut.data["reason_code"], "ORDER_MALFORMED");
        assert_eq!(cut.job_id.as_deref(), Some("job"));
        let names = cut.data[MARK].as_array().unwrap();
        assert!(names.contains(&Value::from("reason")) && names.contains(&Value::from("text")));
    }

    #[test]
    fn many_small_details_are_dropped_whole() {
        let mut event = Event::new(Code::Wiped, 0);
        for number in 0..2000 {
            event = event.with(&format!("key-{number}"), number);
        }
        let cut = event.bounded(4096);
        assert!(cut.to_json().len() <= 4096);
        assert_eq!(cut.data[MARK], serde_json::json!(["data"]));
    }
}
