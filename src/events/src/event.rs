//! One event.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bound;
use crate::code::{Code, Severity};

/// Version of the JSON form.
pub const VERSION: u32 = 1;

/// What an event is about, when that is not the job itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entity {
    /// Its kind: `slot`, `package`, `license`, `agent`, `secret` ...
    #[serde(rename = "type")]
    pub kind: String,
    /// Its id or name.
    pub id: String,
}

/// Something that security people want to know, later too.
///
/// Absent fields are left out of the JSON. No secret ever goes into one; names of secrets may.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// [`VERSION`].
    pub v: u32,
    /// The stable number.
    pub code: u32,
    /// Its name.
    pub name: String,
    /// How bad it is.
    pub severity: Severity,
    /// Host's wall clock, milliseconds since 1970 (UTC).
    pub time_unix_ms: u64,
    /// Name of the host that saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Enrolled agent of that host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// Address of the peer that caused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// Who caused it: an account or a person's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// On whose behalf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Who asked for the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester: Option<String>,
    /// Who approved it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approver: Option<String>,
    /// Class of the data that the job works on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_class: Option<String>,
    /// The sentence for people.
    pub text: String,
    /// What it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<Entity>,
    /// Details.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, Value>,
    /// The one business operation that it belongs to: the attempt (`JOB.N`) where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation_key: Option<String>,
    /// The job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// Whether the signature of what caused it was right, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correct_signature: Option<bool>,
}

impl Event {
    /// An event with its time.
    #[must_use]
    pub fn new(code: Code, time_unix_ms: u64) -> Self {
        Self {
            v: VERSION,
            code: code.number(),
            name: code.name().to_owned(),
            severity: code.severity(),
            time_unix_ms,
            host: None,
            agent_id: None,
            ip: None,
            user: None,
            tenant: None,
            requester: None,
            approver: None,
            data_class: None,
            text: render(code.text(), &BTreeMap::new()),
            entity: None,
            data: BTreeMap::new(),
            operation_key: None,
            job_id: None,
            correct_signature: None,
        }
    }

    /// Of this attempt of this job; the attempt is the operation.
    #[must_use]
    pub fn of_attempt(mut self, job_id: impl ToString, attempt: impl ToString) -> Self {
        self.job_id = Some(job_id.to_string());
        self.operation_key = Some(attempt.to_string());
        self
    }

    /// On this host.
    #[must_use]
    pub fn on_host(mut self, host: impl Into<String>) -> Self {
        self.host = Some(host.into());
        self
    }

    /// Of this agent.
    #[must_use]
    pub fn of_agent(mut self, agent_id: impl ToString) -> Self {
        self.agent_id = Some(agent_id.to_string());
        self
    }

    /// Caused by this account or person.
    #[must_use]
    pub fn by_user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// About this.
    #[must_use]
    pub fn about(mut self, kind: &str, id: impl ToString) -> Self {
        self.entity = Some(Entity {
            kind: kind.to_owned(),
            id: id.to_string(),
        });
        self
    }

    /// A detail. The text's `{key}` shows it.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.data.insert(key.to_owned(), value.into());
        if let Some(code) = Code::from_number(self.code) {
            self.text = render(code.text(), &self.data);
        }
        self
    }

    /// The catalogue's row, unless a newer program made the event.
    #[must_use]
    pub fn known_code(&self) -> Option<Code> {
        Code::from_number(self.code)
    }

    /// As one line of JSON.
    ///
    /// Strings, numbers and string keys only: this can't fail.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The same event with a JSON form of at most `limit` bytes. What had to be cut is named in
    /// `data.truncated`.
    #[must_use]
    pub fn bounded(&self, limit: usize) -> Self {
        bound::cut(self, limit)
    }
}

/// Fills in the sentence. What nobody supplied reads `?`, so that a person sees that it is missing.
fn render(template: &str, data: &BTreeMap<String, Value>) -> String {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let Some((key, behind)) = after.split_once('}') else {
            break;
        };
        match data.get(key) {
            Some(Value::String(value)) => text.push_str(value),
            Some(value) => text.push_str(&value.to_string()),
            None => text.push('?'),
        }
        rest = behind;
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> Event {
        Event::new(Code::OrderRefused, 1_700_000_000_123)
            .on_host("host-1")
            .of_attempt("0190", "0190.1")
            .with("reason_code", "ORDER_EXPIRED")
            .with("reason", "it ended 5 s ago")
    }

    #[test]
    fn the_text_shows_the_details() {
        assert_eq!(
            refused().text,
            "an order was refused (ORDER_EXPIRED): it ended 5 s ago"
        );
    }

    #[test]
    fn a_detail_that_nobody_supplied_reads_as_a_question_mark() {
        assert_eq!(
            Event::new(Code::SlotRecovered, 0).text,
            "slot ? is in use again"
        );
    }

    #[test]
    fn a_detail_with_braces_is_not_read_as_a_template() {
        let event = Event::new(Code::OrderRefused, 0)
            .with("reason_code", "{reason}")
            .with("reason", "x{reason_code}");
        assert_eq!(
            event.text,
            "an order was refused ({reason}): x{reason_code}"
        );
    }

    #[test]
    fn the_json_has_the_fields_and_leaves_out_what_is_absent() {
        let json: Value = serde_json::from_str(&refused().to_json()).unwrap();
        assert_eq!(json["v"], 1);
        assert_eq!(json["code"], 100_203);
        assert_eq!(json["name"], "OrderRefused");
        assert_eq!(json["severity"], "error");
        assert_eq!(json["time_unix_ms"], 1_700_000_000_123_u64);
        assert_eq!(json["host"], "host-1");
        assert_eq!(json["operation_key"], "0190.1");
        assert_eq!(json["job_id"], "0190");
        assert_eq!(json["data"]["reason_code"], "ORDER_EXPIRED");
        assert!(json.get("tenant").is_none());
    }

    #[test]
    fn an_event_comes_back_from_its_json() {
        let event = refused().about("slot", "2");
        assert_eq!(
            serde_json::from_str::<Event>(&event.to_json()).unwrap(),
            event
        );
    }
}
