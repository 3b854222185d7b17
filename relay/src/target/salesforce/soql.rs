//! The one query that is sent to Salesforce, and the forms of its ids and times.
//!
//! Pure text. `SELECT … FROM S WHERE key IN ('…', …)` as a percent-encoded GET; the surprising thing is that the limit is
//! on the encoded address, so ids are counted in the form in which they travel.

use std::borrow::Cow;

use headgate_schemas::{Resolution, Timestamp};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::super::{Disposition, TargetError, Version};

/// Longest path with query. Salesforce refuses longer addresses with 414 or 431, at a length that depends on the way.
const LONGEST: usize = 4_000;
/// What must be encoded in a query. Quotes, brackets and commas may stand as they are (RFC 3986, sub-delimiters), which
/// saves six characters per id.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b',');

/// The paths below `resource` (`…/query` or `…/queryAll`) that together ask for `columns` of every row of `sobject` whose
/// `key` is one of `values`.
pub(super) fn paths(
    resource: &str,
    sobject: &str,
    columns: &[&str],
    key: &str,
    values: &[&str],
) -> Result<Vec<String>, TargetError> {
    if let Some(bad) = columns.iter().chain([&key]).find(|name| !is_name(name)) {
        let message = format!("`{bad}` is not a field name of Salesforce; correct the mapping");
        return Err(TargetError::new("INVALID_FIELD", message, Disposition::Permanent).naming([(*bad).to_owned()]));
    }
    let query = format!("SELECT {} FROM {sobject} WHERE {key} IN (", columns.join(","));
    let start = format!("{resource}?q={}", utf8_percent_encode(&query, ENCODED));
    let mut paths = Vec::new();
    let mut path = String::new();
    for value in values {
        let literal = utf8_percent_encode(&literal(value), ENCODED).to_string();
        // One more for the comma or the closing bracket, and one for that bracket.
        if !path.is_empty() && path.len() + literal.len() + 2 > LONGEST {
            paths.push(std::mem::take(&mut path) + ")");
        }
        if path.is_empty() {
            path.push_str(&start);
        } else {
            path.push(',');
        }
        path.push_str(&literal);
        if path.len() + 1 > LONGEST {
            let message = "the mapping has too many fields for one query; map fewer";
            return Err(TargetError::new("query_too_long", message, Disposition::Permanent));
        }
    }
    if !path.is_empty() {
        paths.push(path + ")");
    }
    Ok(paths)
}

/// A text literal. Escapes are those of the "Quoted string escape sequences" of the SOQL reference.
fn literal(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('\'');
    for c in text.chars() {
        match c {
            '\'' => quoted.push_str(r"\'"),
            '\\' => quoted.push_str(r"\\"),
            '\n' => quoted.push_str(r"\n"),
            '\r' => quoted.push_str(r"\r"),
            other => quoted.push(other),
        }
    }
    quoted.push('\'');
    quoted
}

/// Whether `name` can be a field or type: a letter, then letters, digits and underscores.
pub(super) fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// An id in its 18-character form, which unlike the 15-character one survives a comparison without case; `None` for what
/// cannot be an id. Each of the three last characters tells which of five characters before are upper-case.
pub(super) fn id18(id: &str) -> Option<Cow<'_, str>> {
    const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345";
    if !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    match id.len() {
        18 => Some(Cow::Borrowed(id)),
        15 => {
            let suffix = id.as_bytes().chunks(5).map(|five| {
                let bits = five.iter().rev().fold(0_usize, |bits, b| bits << 1 | usize::from(b.is_ascii_uppercase()));
                char::from(LETTERS[bits])
            });
            Some(Cow::Owned(id.chars().chain(suffix).collect()))
        }
        _ => None,
    }
}

/// A `SystemModstamp`. Salesforce writes `+0000` and, whatever the field holds, whole seconds; milliseconds are believed
/// where there are any.
pub(super) fn version(text: &str) -> Option<Version> {
    let at: Timestamp = text.parse().ok()?;
    let resolution = if at.micros() % 1_000_000 == 0 { Resolution::S } else { Resolution::Ms };
    Some(Version { at, resolution })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_travels_encoded() {
        let paths =
            paths("/services/data/v62.0/query", "Contact", &["Id", "LastName"], "Relay_Id__c", &["a b", r"it's\"])
                .unwrap();
        let expected = r"/services/data/v62.0/query?q=SELECT%20Id,LastName%20FROM%20Contact%20WHERE%20Relay_Id__c%20IN%20('a%20b','it%5C's%5C%5C')";
        assert_eq!(paths, [expected]);
    }

    #[test]
    fn no_address_is_longer_than_the_limit_and_no_id_is_lost() {
        let ids: Vec<String> = (0..200).map(|i| format!("003000000000{i:03}AAA")).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let paths = paths("/services/data/v62.0/query", "Contact", &["Id", "SystemModstamp"], "Id", &ids).unwrap();
        assert_eq!(paths.len(), 2);
        assert!(paths.iter().all(|p| p.len() <= 4_000));
        assert!(paths[0].len() > 4_000 - 22, "the first one is filled");
        let sent: Vec<&str> = paths.iter().flat_map(|p| p.split('\'').skip(1).step_by(2)).collect();
        assert_eq!(sent, ids);
    }

    #[test]
    fn what_cannot_be_asked_is_refused() {
        let long: Vec<String> = (0..500).map(|i| format!("Field_{i}__c")).collect();
        let long: Vec<&str> = long.iter().map(String::as_str).collect();
        assert_eq!(paths("/b/query", "Contact", &long, "Id", &["1"]).unwrap_err().code, "query_too_long");
        for bad in ["Name FROM User--", "", "1st", "Account.Name", "Größe"] {
            let error = paths("/b/query", "Contact", &["Id", bad], "Id", &["1"]).unwrap_err();
            assert_eq!((error.code.as_str(), &error.fields[..]), ("INVALID_FIELD", &[bad.to_owned()][..]));
        }
        assert_eq!(paths("/b/query", "Contact", &["Id"], "Id", &[]).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn ids_widen_to_eighteen_characters() {
        let table = [
            ("00D7F00000107Xs", "00D7F00000107XsUAI"),
            ("00D5g000000ABCD", "00D5g000000ABCDEA4"),
            ("0035g00000AbCdE", "0035g00000AbCdEAAV"),
            ("001000000000001", "001000000000001AAA"),
            ("aaaaaAAAAAaAaAa", "aaaaaAAAAAaAaAaA5K"),
        ];
        for (id15, expected) in table {
            assert_eq!(id18(id15).unwrap(), expected);
            assert_eq!(id18(expected).unwrap(), expected);
        }
        for bad in ["", "00D7F00000107X", "00D7F00000107Xs'", "00D7F00000107XsUA", "00D7F00000107Xsé"] {
            assert_eq!(id18(bad), None, "{bad}");
        }
    }

    #[test]
    fn times_are_read_in_every_form_of_the_offset() {
        let noon: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        for text in [
            "2026-01-01T12:00:00.000+0000",
            "2026-01-01T12:00:00.000+00:00",
            "2026-01-01T12:00:00Z",
            "2026-01-01T12:00:00.000Z",
            "2026-01-01T13:30:00.000+0130",
            "2026-01-01T09:00:00-03:00",
        ] {
            assert_eq!(version(text), Some(Version { at: noon, resolution: Resolution::S }), "{text}");
        }
        let fine = version("2026-01-01T12:00:00.007+0000").unwrap();
        assert_eq!((fine.at.millis(), fine.resolution), (noon.millis() + 7, Resolution::Ms));
        for bad in ["", "noon", "2026-01-01", "2026-01-01T12:00:00", "2026-01-01T12:00:00+é00"] {
            assert_eq!(version(bad), None, "{bad}");
        }
    }
}
