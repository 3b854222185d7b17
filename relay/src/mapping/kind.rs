//! Types of neutral fields, their normal forms, and how a CRM spells them.

use std::borrow::Cow;

use headgate_schemas::Value;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// The type of a neutral field. It decides when two values are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text: outer white space and Unicode composition do not count.
    Text,
    /// An e-mail address: case does not count, either.
    Email,
    /// A telephone number: in international form only the digits count.
    Phone,
    /// A number: `5000`, `5000.0` and `5e3` are the same.
    Number,
    /// A day, `YYYY-MM-DD`; never shifted by a time zone.
    Date,
    /// True or false; nothing is false, because some CRMs know no third state.
    Bool,
    /// An internet domain: scheme, `www.` and path do not count.
    Domain,
    /// One of a list; exact.
    Choice,
}

/// How a CRM's API spells values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Everything is text, empty text clears (HubSpot's properties).
    Text,
    /// JSON types, null clears (Salesforce).
    Json,
}

impl Kind {
    /// Whether two values are the same under the normal form.
    pub fn same(self, a: &Value, b: &Value) -> bool {
        if a == b {
            return true;
        }
        match (a, b) {
            (Value::List(x), Value::List(y)) => x.len() == y.len() && x.iter().zip(y).all(|(p, q)| self.same(p, q)),
            _ if self == Self::Bool => self.normal(a) == self.normal(b),
            _ => a.is_empty() == b.is_empty() && (a.is_empty() || self.normal(a) == self.normal(b)),
        }
    }

    /// The normal form of a scalar, as text.
    pub fn normal(self, value: &Value) -> Cow<'_, str> {
        let plain = value.to_plain();
        match self {
            Self::Bool if value.is_empty() => Cow::Borrowed("false"),
            Self::Choice | Self::Bool => plain,
            Self::Text => match plain {
                Cow::Borrowed(s) => compose(s.trim()),
                Cow::Owned(s) => Cow::Owned(compose(s.trim()).into_owned()),
            },
            // Composed last: small letters compose where capital ones do not.
            Self::Email => Cow::Owned(compose(&plain.trim().to_lowercase()).into_owned()),
            Self::Phone => Cow::Owned(phone(&plain)),
            Self::Number => Cow::Owned(decimal(plain.trim()).unwrap_or_else(|| plain.trim().to_owned())),
            Self::Date => Cow::Owned(date(plain.trim()).unwrap_or_else(|| plain.trim().to_owned())),
            Self::Domain => Cow::Owned(host(&plain.to_lowercase()).to_owned()),
        }
    }

    /// From the wire. What does not parse is kept as it is: the target's refusal then names it.
    pub fn decode(self, form: Form, wire: &Value) -> Value {
        if wire.is_empty() {
            return Value::Null;
        }
        match (self, form) {
            (Self::Number, _) => {
                decimal(wire.to_plain().trim()).map_or_else(|| wire.clone(), |n| Value::Number(n.into()))
            }
            // Messages write everything as text, whatever the form of the same CRM's answers.
            (Self::Bool, _) => match wire.as_text() {
                Some("true") => Value::Bool(true),
                Some("false") => Value::Bool(false),
                Some(_) | None => wire.clone(),
            },
            (Self::Date, _) => date(wire.to_plain().trim()).map_or_else(|| wire.clone(), |d| Value::Text(d.into())),
            (Self::Text | Self::Email | Self::Phone | Self::Domain | Self::Choice, _) => wire.clone(),
        }
    }

    /// A value as a person typed it. `None` when it is none of this type.
    pub fn typed(self, value: Value) -> Option<Value> {
        let typed = self.decode(Form::Text, &value);
        let fits = match (self, &typed) {
            (_, Value::Null) => true,
            (Self::Number, value) => matches!(value, Value::Number(_)),
            (Self::Bool, value) => matches!(value, Value::Bool(_)),
            (Self::Date, value) => value.as_text().is_some_and(|text| date(text).as_deref() == Some(text)),
            (_, value) => matches!(value, Value::Text(_)),
        };
        fits.then_some(typed)
    }

    /// To the wire.
    pub fn encode(form: Form, native: &Value) -> Value {
        match form {
            Form::Json => native.clone(),
            Form::Text => Value::text(native.to_plain()),
        }
    }
}

fn compose(s: &str) -> Cow<'_, str> {
    if is_nfc_quick(s.chars()) == IsNormalized::Yes { Cow::Borrowed(s) } else { Cow::Owned(s.nfc().collect()) }
}

/// `+` and digits for international numbers; anything else only loses its outer white space, because the country of a
/// national number cannot be told.
fn phone(s: &str) -> String {
    let s = s.trim();
    let spelled = |c: char| c.is_ascii_digit() || matches!(c, '+' | ' ' | '-' | '.' | '(' | ')' | '/' | '\u{a0}');
    if s.starts_with('+') && s.chars().all(spelled) {
        let digits: String = s.chars().filter(char::is_ascii_digit).collect();
        return format!("+{digits}");
    }
    s.to_owned()
}

/// The shortest plain decimal, without exponent, or `None` if it is no number or has an absurd exponent.
fn decimal(s: &str) -> Option<String> {
    const MOST_DIGITS: usize = 400;
    let (mantissa, exponent) = match s.split_once(['e', 'E']) {
        Some((m, e)) => (m, e.parse::<i32>().ok()?),
        None => (s, 0),
    };
    let (negative, digits) = match mantissa.strip_prefix('-') {
        Some(d) => (true, d),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all: String = [whole, fraction].concat();
    if all.is_empty() || !all.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let point = i64::try_from(whole.len()).ok()? + i64::from(exponent);
    let width = usize::try_from(point.unsigned_abs()).ok()?;
    if width + all.len() > MOST_DIGITS {
        return None;
    }
    let (whole, fraction) = match usize::try_from(point) {
        Ok(p) if p >= all.len() => (format!("{all}{}", "0".repeat(p - all.len())), String::new()),
        Ok(p) => (all[..p].to_owned(), all[p..].to_owned()),
        Err(_) => (String::new(), format!("{}{all}", "0".repeat(width))),
    };
    let whole = whole.trim_start_matches('0');
    let fraction = fraction.trim_end_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let sign = if negative && (whole != "0" || !fraction.is_empty()) { "-" } else { "" };
    Some(if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") })
}

/// The day of a date, of a date and time, or of milliseconds since the epoch, in UTC.
fn date(s: &str) -> Option<String> {
    if let Ok(day) = s.parse::<jiff::civil::Date>() {
        return Some(day.to_string());
    }
    if let Ok(ms) = s.parse::<i64>() {
        let at = jiff::Timestamp::from_millisecond(ms).ok()?;
        return Some(at.to_zoned(jiff::tz::TimeZone::UTC).date().to_string());
    }
    let at: jiff::Timestamp = s.parse().ok()?;
    Some(at.to_zoned(jiff::tz::TimeZone::UTC).date().to_string())
}

/// The host part of a web address in small letters. A host has no other host part.
fn host(s: &str) -> &str {
    let s = s.split_once("://").map_or(s, |(_, rest)| rest);
    let mut host = s.split(['/', '?', '#']).next().unwrap_or(s).trim();
    while let Some(rest) = host.strip_prefix("www.") {
        host = rest.trim_start();
    }
    host
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(s: &str) -> Value {
        Value::from(s)
    }

    #[test]
    fn the_same_under_the_normal_form() {
        let yes: &[(Kind, Value, Value)] = &[
            (Kind::Text, t(" Zo\u{eb} "), t("Zoe\u{308}")),
            (Kind::Text, Value::Null, t("")),
            (Kind::Email, t("Ana@Example.com"), t("ana@example.COM ")),
            (Kind::Phone, t("+1 (415) 555-0100"), t("+14155550100")),
            (Kind::Number, t("5000"), Value::Number("5000.0".into())),
            (Kind::Number, Value::Number("5e3".into()), t("5000")),
            (Kind::Number, t("-0"), t("0.00")),
            (Kind::Date, t("2026-03-01"), t("2026-03-01T23:59:00Z")),
            (Kind::Date, t("1767225600000"), t("2026-01-01")),
            (Kind::Domain, t("https://www.Acme.com/about"), t("acme.com")),
            (Kind::Domain, t("HTTPS:// WWW.acme.com"), t("acme.com")),
            (Kind::Domain, t("www.www.acme.com"), t("www.acme.com")),
            (Kind::Email, t("H\u{331}@example.com"), t("\u{1e96}@example.com")),
            (Kind::Bool, t("true"), Value::Bool(true)),
            (Kind::Bool, Value::Bool(false), Value::Null),
        ];
        for (kind, a, b) in yes {
            assert!(kind.same(a, b), "{kind:?} {a:?} {b:?}");
            assert!(kind.same(b, a), "{kind:?} {b:?} {a:?}");
        }
        let no: &[(Kind, Value, Value)] = &[
            (Kind::Text, t("a"), t("A")),
            (Kind::Phone, t("555 0100"), t("5550100")),
            (Kind::Number, t("5000"), t("5001")),
            (Kind::Number, t("many"), t("5")),
            (Kind::Choice, t("a"), t("a ")),
            (Kind::Bool, Value::Bool(true), Value::Null),
            (Kind::Email, t("a@b.c"), Value::Null),
        ];
        for (kind, a, b) in no {
            assert!(!kind.same(a, b), "{kind:?} {a:?} {b:?}");
        }
    }

    #[test]
    fn a_message_in_text_reads_as_the_answer_in_types() {
        for (kind, told, answered) in [
            (Kind::Bool, t("true"), Value::Bool(true)),
            (Kind::Bool, t("false"), Value::Bool(false)),
            (Kind::Number, t("5000.0"), Value::Number("5000.0".into())),
            (Kind::Number, t("12"), Value::Number("12".into())),
            (Kind::Date, t("2026-03-01"), t("2026-03-01")),
            (Kind::Date, t("2026-03-01T23:59:00.000Z"), t("2026-03-01T23:59:00.000+0000")),
            (Kind::Text, Value::Null, t("")),
            (Kind::Choice, t("a;b"), t("a;b")),
        ] {
            let (told, answered) = (kind.decode(Form::Json, &told), kind.decode(Form::Json, &answered));
            assert_eq!(told, answered, "{kind:?}");
        }
    }

    #[test]
    fn wire_forms() {
        assert_eq!(Kind::Number.decode(Form::Text, &t("1250.50")), Value::Number("1250.5".into()));
        assert_eq!(Kind::Number.decode(Form::Text, &t("1e999999999")), t("1e999999999"));
        assert_eq!(Kind::Bool.decode(Form::Text, &t("true")), Value::Bool(true));
        assert_eq!(Kind::Text.decode(Form::Text, &t("")), Value::Null);
        assert_eq!(Kind::encode(Form::Text, &Value::Null), t(""));
        assert_eq!(Kind::encode(Form::Text, &Value::Number("7".into())), t("7"));
        assert_eq!(Kind::encode(Form::Json, &Value::Number("7".into())), Value::Number("7".into()));
    }
}
