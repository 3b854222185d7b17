//! Times as a person reads them beside each other: how long ago, or in how long. Pure: the present is an argument, and it
//! is the server's, because the clock of the machine that asks may be another.

use headgate_schemas::Timestamp;
use serde_json::Value;

/// How long ago `at` was, or in how long it will be.
pub(super) fn relative(at: Timestamp, now: Timestamp) -> String {
    let us = at.micros().saturating_sub(now.micros());
    let span = span(us.unsigned_abs());
    match us {
        _ if us.unsigned_abs() < 1_000_000 => "now".to_owned(),
        ..0 => format!("{span} ago"),
        _ => format!("in {span}"),
    }
}

/// The same of a time in JSON; `-` where there is none, as it stands where it is none.
pub(super) fn told(at: Option<&Value>, now: Option<Timestamp>) -> String {
    let Some(text) = at.and_then(Value::as_str) else { return "-".to_owned() };
    match (text.parse::<Timestamp>(), now) {
        (Ok(at), Some(now)) => relative(at, now),
        _ => text.to_owned(),
    }
}

/// Microseconds in one unit, rounded down.
fn span(us: u64) -> String {
    let seconds = us / 1_000_000;
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A latency.
pub(super) fn took(ms: Option<&Value>) -> String {
    match ms.and_then(Value::as_f64) {
        None => "-".to_owned(),
        Some(ms) if ms < 10.0 => format!("{ms:.1} ms"),
        Some(ms) if ms < 10_000.0 => format!("{ms:.0} ms"),
        Some(ms) => format!("{:.1} s", ms / 1_000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_in_one_unit() {
        let now = Timestamp::from_micros(1_000_000_000_000);
        for (seconds, text) in [
            (0, "now"),
            (-12, "12 s ago"),
            (4, "in 4 s"),
            (-119, "119 s ago"),
            (-120, "2 min ago"),
            (-7_199, "119 min ago"),
            (-7_200, "2 h ago"),
            (172_800, "in 2 d"),
        ] {
            let at = Timestamp::from_micros(now.micros() + seconds * 1_000_000);
            assert_eq!(relative(at, now), text, "{seconds}");
        }
        assert_eq!(relative(Timestamp::from_micros(now.micros() - 999_999), now), "now");
    }

    #[test]
    fn what_is_no_time_stays_as_it_is() {
        let now = Timestamp::from_micros(5_000_000);
        assert_eq!(told(Some(&"1970-01-01T00:00:01Z".into()), Some(now)), "4 s ago");
        assert_eq!(told(Some(&"1970-01-01T00:00:01Z".into()), None), "1970-01-01T00:00:01Z");
        assert_eq!(told(Some(&"soon".into()), Some(now)), "soon");
        assert_eq!(told(Some(&Value::Null), Some(now)), "-");
        assert_eq!(told(None, Some(now)), "-");
    }

    #[test]
    fn a_latency_has_as_many_digits_as_help() {
        for (ms, text) in [(0.4, "0.4 ms"), (84.2, "84 ms"), (9_999.0, "9999 ms"), (12_345.0, "12.3 s")] {
            assert_eq!(took(Some(&ms.into())), text);
        }
        assert_eq!(took(None), "-");
    }
}
