//! Checks of parts that are no call: how a body is read, how an id or a date is written. It must not know verdicts of
//! senders. The surprising thing: what a body is expected to hold is compared in the form of the file, which is smaller
//! than a change and the same for all its readers.

use serde_json::Value;

use super::CaseError;
use crate::provider::salesforce::id::id18;
use crate::provider::salesforce::soap;

/// Compares what `body` holds with what the case says it holds.
pub(super) fn parsed(scheme: &str, body: &[u8], expected: &Value) -> Result<(), String> {
    let found = match scheme {
        "salesforce-outbound-message" => soap::message(body).map_err(|malformed| malformed.to_string())?.to_json(),
        _ => return Err("nothing of this scheme is compared".to_owned()),
    };
    if found == *expected { Ok(()) } else { Err("the body holds something else".to_owned()) }
}

/// A short id and its long form.
pub(super) fn id(check: &Value) -> Result<bool, CaseError> {
    let text = |key: &str| check.get(key).and_then(Value::as_str).ok_or(CaseError::Format);
    let (short, long) = (text("id15")?, text("id18")?);
    Ok([short, long].iter().all(|id| id18(id).as_deref() == Some(long)))
}
