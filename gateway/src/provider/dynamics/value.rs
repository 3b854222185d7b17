//! How Dataverse writes values: wrapped in a type, and times as milliseconds between slashes. It must not know events.
//!
//! Facts come from Microsoft's documentation of the data contract serialiser ("Stand-Alone JSON Serialization"). The
//! surprising thing: an offset behind the milliseconds is there for display; by the contract the number is UTC already.
//! Yet a published sample of Dataverse contradicts its own offset, so a time *with* one is good for a value only, and
//! never says when something happened.

use headgate_schemas::{Timestamp, Value};

use crate::provider::TIMES;
use crate::provider::json::Lookup as _;

/// The first instant of year 1, which stands for "not set".
const UNSET_MS: i64 = -62_135_596_800_000;

/// A time as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Date {
    /// Milliseconds since 1970.
    pub(crate) ms: i64,
    /// It carries no offset, or that of UTC.
    pub(crate) certain: bool,
}

/// `/Date(ms)/` or `/Date(ms±hhmm)/`, with or without the escapes that JSON allows before a slash.
pub(crate) fn date(text: &str) -> Option<Date> {
    let open = text.strip_prefix("\\/").or_else(|| text.strip_prefix('/'))?;
    let inside = open.strip_prefix("Date(")?;
    let inside = inside.strip_suffix(")\\/").or_else(|| inside.strip_suffix(")/"))?;
    // The first character may be the sign of the number.
    let offset = inside.get(1..)?.find(['+', '-']).map(|at| at + 1);
    let (digits, offset) = inside.split_at(offset.unwrap_or(inside.len()));
    let whole = digits.strip_prefix('-').unwrap_or(digits);
    if whole.is_empty() || !whole.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let zone = offset.get(1..).unwrap_or_default();
    let is_zone = zone.len() == 4 && zone.bytes().all(|b| b.is_ascii_digit());
    if !is_zone && !offset.is_empty() {
        return None;
    }
    Some(Date { ms: digits.parse().ok()?, certain: zone.bytes().all(|b| b == b'0') })
}

/// The time of a value, if it says when something happened.
pub(super) fn instant(value: Option<&Value>) -> Option<Timestamp> {
    let date = value.and_then(Value::as_text).and_then(date)?;
    (date.certain && TIMES.contains(&date.ms)).then(|| Timestamp::from_millis(date.ms))
}

/// The plain value inside: an id for a reference, a number for a choice or money, text for a time.
pub(super) fn plain(value: &Value) -> Value {
    match value {
        Value::Text(text) => match date(text) {
            Some(Date { ms: UNSET_MS, .. }) => Value::Null,
            Some(Date { ms, .. }) if TIMES.contains(&ms) => Value::text(Timestamp::from_millis(ms).to_string()),
            Some(_) | None => value.clone(),
        },
        Value::List(list) => Value::List(list.iter().map(plain).collect()),
        Value::Map(map) => {
            let kind = map.text("__type").and_then(|kind| kind.split(':').next()).unwrap_or_default();
            let inner = match kind {
                "EntityReference" => map.get("Id"),
                "EntityCollection" => map.get("Entities"),
                // Choices, money, managed properties and aliases hold one value.
                _ => map.get("Value"),
            };
            inner.map_or_else(|| value.clone(), plain)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(json: &str) -> Value {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn dates_are_read_in_every_form_and_believed_in_one() {
        for (text, expected) in [
            ("/Date(1506384247000)/", Some((1_506_384_247_000, true))),
            ("\\/Date(1506384247000)\\/", Some((1_506_384_247_000, true))),
            ("/Date(1506409448000-0700)/", Some((1_506_409_448_000, false))),
            ("/Date(1767268798000+0000)/", Some((1_767_268_798_000, true))),
            ("/Date(-62135596800000)/", Some((UNSET_MS, true))),
            ("/Date(-1+0100)/", Some((-1, false))),
            ("/Date()/", None),
            ("/Date(-)/", None),
            ("/Date(1+)/", None),
            ("/Date(1+1)/", None),
            ("/Date(1+01:00)/", None),
            ("/Date(abc)/", None),
            ("/Date(1)", None),
            ("2026-01-01T00:00:00Z", None),
        ] {
            assert_eq!(date(text).map(|d| (d.ms, d.certain)), expected, "{text}");
        }
        assert_eq!(instant(Some(&Value::from("/Date(1506409448000-0700)/"))), None);
        assert_eq!(instant(Some(&Value::from("/Date(-62135596800000)/"))), None);
    }

    #[test]
    fn wrapped_values_are_unwrapped() {
        for (wrapped, expected) in [
            (r#"{"__type":"OptionSetValue:http://x","Value":3}"#, "3"),
            (r#"{"__type":"Money:http://x","Value":12.50}"#, "12.50"),
            (r#"{"__type":"EntityReference:http://x","Id":"6d81","LogicalName":"account","Name":"A"}"#, r#""6d81""#),
            (r#"{"__type":"OptionSetValueCollection:http://x","Value":[{"Value":1},{"Value":2}]}"#, "[1,2]"),
            (r#""/Date(1767268798000)/""#, r#""2026-01-01T11:59:58.000000Z""#),
            (r#""/Date(-62135596800000)/""#, "null"),
            (r#"{"a":1}"#, r#"{"a":1}"#),
            ("true", "true"),
        ] {
            assert_eq!(plain(&value(wrapped)), value(expected), "{wrapped}");
        }
    }
}
