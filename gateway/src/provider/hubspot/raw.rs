//! Single values of a HubSpot event, read when their kind is known. It must not know which event they belong to. The
//! surprising thing: a number is never parsed as one, it stays the digits that were sent.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::provider::Malformed;

/// Longest id, name or label taken over.
pub(super) const NAME_BYTES: usize = 512;

/// Text that borrows from the body unless it holds an escape.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// A whole number as its digits, however many; text of digits counts as one.
pub(super) fn number(raw: Option<&RawValue>) -> Result<Option<&str>, Malformed> {
    let Some(raw) = raw.map(RawValue::get).filter(|r| *r != "null") else { return Ok(None) };
    let digits = raw.strip_prefix('"').and_then(|r| r.strip_suffix('"')).unwrap_or(raw);
    let unsigned = digits.strip_prefix('-').unwrap_or(digits);
    if unsigned.is_empty() || unsigned.len() > 40 || !unsigned.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Malformed("an id or a time is not a whole number"));
    }
    Ok(Some(digits))
}

/// Text of bounded length.
pub(super) fn text<'a>(raw: Option<&'a RawValue>) -> Result<Option<Cow<'a, str>>, Malformed> {
    let Some(raw) = raw.filter(|r| r.get() != "null") else { return Ok(None) };
    let text: Text<'a> = serde_json::from_str(raw.get()).map_err(|_| Malformed("a name or label is not text"))?;
    if text.0.len() > NAME_BYTES {
        return Err(Malformed("a name or label is too long"));
    }
    Ok(Some(text.0))
}

/// Text that is not empty.
pub(super) fn label(raw: Option<&RawValue>) -> Result<Option<String>, Malformed> {
    Ok(text(raw)?.filter(|t| !t.is_empty()).map(Cow::into_owned))
}

/// True or false.
pub(super) fn flag(raw: Option<&RawValue>) -> Result<Option<bool>, Malformed> {
    match raw.map(RawValue::get) {
        None | Some("null") => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(_) => Err(Malformed("a flag is neither true nor false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_every_digit() {
        let raw = |s: &str| RawValue::from_string(s.to_owned()).unwrap();
        for (json, expected) in [
            ("7001", Ok(Some("7001"))),
            ("123456789012345678901234567890", Ok(Some("123456789012345678901234567890"))),
            (r#""42""#, Ok(Some("42"))),
            ("null", Ok(None)),
            ("1.5", Err(Malformed("an id or a time is not a whole number"))),
            ("1e3", Err(Malformed("an id or a time is not a whole number"))),
            (r#""4 2""#, Err(Malformed("an id or a time is not a whole number"))),
            ("true", Err(Malformed("an id or a time is not a whole number"))),
        ] {
            assert_eq!(number(Some(&raw(json))), expected, "{json}");
        }
    }
}
