//! Publishers that count no more: revoked, or past their time.

use privsep::Refusal;
use toml::value::Datetime;

use super::{Policy, PolicyError, Publisher};

impl Publisher {
    /// Whether a job with its package may start at this time, milliseconds since 1970.
    pub(super) fn permit(&self, now_unix_ms: u64) -> Result<(), Refusal> {
        if self.revoked {
            let detail = format!("publisher {} is revoked in this host's policy", self.name);
            return Err(Refusal::new("PUBLISHER_REVOKED", detail));
        }
        let now_s = i64::try_from(now_unix_ms / 1000).unwrap_or(i64::MAX);
        match self.not_after.as_ref().and_then(unix_seconds) {
            Some(until) if until < now_s => {
                let detail = format!(
                    "publisher {} counts until {} by this host's policy (not-after)",
                    self.name,
                    self.not_after
                        .as_ref()
                        .map(ToString::to_string)
                        .unwrap_or_default()
                );
                Err(Refusal::new("PUBLISHER_EXPIRED", detail))
            }
            _ => Ok(()),
        }
    }
}

pub(super) fn check(policy: &Policy) -> Result<(), PolicyError> {
    let wrong = |publisher: &&Publisher| {
        publisher
            .not_after
            .as_ref()
            .is_some_and(|until| unix_seconds(until).is_none())
    };
    match policy.publishers.iter().find(wrong) {
        Some(publisher) => Err(PolicyError::Value {
            key: "publisher.not-after".into(),
            reason: format!(
                "{}: write a date, or a moment with its offset such as 2027-01-31T12:00:00Z",
                publisher.name
            ),
        }),
        None => Ok(()),
    }
}

/// The end of a day, or a moment with its offset.
fn unix_seconds(until: &Datetime) -> Option<i64> {
    let date = until.date?;
    let day = days(
        i64::from(date.year),
        i64::from(date.month),
        i64::from(date.day),
    ) * 86_400;
    let Some(time) = until.time else {
        return Some(day + 86_400);
    };
    let offset = match until.offset? {
        toml::value::Offset::Z => 0,
        toml::value::Offset::Custom { minutes } => i64::from(minutes) * 60,
    };
    let (hour, minute, second) = (time.hour, time.minute, time.second);
    let of_day = i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second.unwrap_or(0));
    Some(day + of_day - offset)
}

/// Days since 1970 of a date of the Gregorian calendar (H. Hinnant, days_from_civil).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_moments_are_read_as_people_mean_them() {
        let seconds = |text: &str| unix_seconds(&text.parse().unwrap());
        assert_eq!(seconds("1970-01-01"), Some(86_400), "the end of the day");
        assert_eq!(seconds("2027-01-15T08:00:00Z"), Some(1_800_000_000));
        assert_eq!(seconds("2027-01-15T10:00:00+02:00"), Some(1_800_000_000));
        assert_eq!(seconds("2000-02-29T00:00:00Z"), Some(951_782_400));
        assert_eq!(seconds("2027-01-15T08:00:00"), None, "where?");
    }

    #[test]
    fn a_revoked_or_outdated_publisher_is_refused_with_its_code() {
        let key = order::SigningKey::generate().unwrap().public().to_base64();
        let code = |more: &str| {
            let text = format!("[[publisher]]\nname = \"p\"\nkey = \"{key}\"\n{more}");
            let policy = Policy::parse(&text).unwrap();
            let permitted = policy.publishers[0].permit(1_800_000_000_000);
            permitted
                .err()
                .map(|refusal| refusal.code)
                .unwrap_or_default()
        };
        assert_eq!(code(""), "");
        assert_eq!(code("revoked = true"), "PUBLISHER_REVOKED");
        assert_eq!(code("not-after = 2027-01-15"), "");
        assert_eq!(code("not-after = 2027-01-14"), "PUBLISHER_EXPIRED");
        let local = format!(
            "[[publisher]]\nname = \"p\"\nkey = \"{key}\"\nnot-after = 2027-01-15T08:00:00"
        );
        assert!(Policy::parse(&local).is_err());
    }
}
