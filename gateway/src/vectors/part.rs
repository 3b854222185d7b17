//! Checks of parts that no sender proves: how a body is read, how an id, a date or a list of fields is written, what a
//! request for consent hears. It must not know verdicts of senders. The surprising thing: what a body holds is compared
//! in the form of the file, which is smaller than a change and the same for all its readers.

use hyper::HeaderMap;
use serde_json::{Map, Value, json};

use super::CaseError;
use crate::provider::Call;
use crate::provider::cloudevents::consent;
use crate::provider::cloudevents::event::{self, Data, Event};
use crate::provider::dynamics::value::date;
use crate::provider::salesforce::cdc::expand;
use crate::provider::salesforce::id::id18;
use crate::provider::salesforce::soap;

/// What most checks come to: whether it is as expected, and what was looked at.
pub(super) type Verdict = Result<(bool, String), CaseError>;

/// Compares what `body` holds with what the case says it holds.
pub(super) fn parsed(scheme: &str, body: &[u8], expected: &Value) -> Result<(), String> {
    let found = match scheme {
        "salesforce-outbound-message" => soap::message(body).map_err(|malformed| malformed.to_string())?.to_json(),
        _ => return Err("nothing of this scheme is compared".to_owned()),
    };
    if found == *expected { Ok(()) } else { Err("the body holds something else".to_owned()) }
}

/// A short id and its long form.
pub(super) fn id(check: &Value) -> Verdict {
    let (short, long) = (text(check, "id15")?, text(check, "id18")?);
    let same = [short, long].iter().all(|id| id18(id).as_deref() == Some(long));
    Ok((same, "the two forms of the id".to_owned()))
}

/// A time as Dataverse writes it.
pub(super) fn day(check: &Value) -> Verdict {
    let found = date(text(check, "input")?).map(|date| date.ms);
    let expected = check.get("epoch_ms").and_then(Value::as_i64);
    let known = expected.is_some() || check.get("error").and_then(Value::as_bool) == Some(true);
    if known { Ok((found == expected, "the time".to_owned())) } else { Err(CaseError::Format) }
}

/// Bitmaps of fields; `file` names the fields.
pub(super) fn bitmaps(check: &Value, file: &Value) -> Verdict {
    let fields = texts(file.get("schema_fields"))?;
    let names: Vec<&str> = fields.iter().map(String::as_str).collect();
    let nested = |name: &str| texts(file.get("nested_fields").and_then(|n| n.get(name))).unwrap_or_default();
    let found = expand(&texts(check.get("bitmaps"))?, &names, nested);
    let expected = texts(check.get("expect_fields"))?;
    Ok((found.is_ok_and(|found| found == expected), "the fields".to_owned()))
}

/// What a call in one of the modes of CloudEvents holds.
pub(super) fn events(call: &Call<'_>, expected: Option<&Value>) -> Result<(), String> {
    let events = event::read(call).map_err(|malformed| malformed.to_string())?;
    let found: Vec<Value> = events.iter().map(event_json).collect();
    match expected {
        Some(expected) if *expected != Value::Array(found) => Err("the call holds other events".to_owned()),
        Some(_) | None => Ok(()),
    }
}

fn event_json(event: &Event) -> Value {
    let attributes = event.attributes.iter().map(|(name, value)| (name.clone(), json!(value)));
    let mut out: Map<String, Value> = attributes.collect();
    match &event.data {
        Data::Absent => None,
        Data::Value(value) => out.insert("data".to_owned(), value.clone().into()),
        Data::Bytes(bytes) => out.insert("data_base64".to_owned(), json!(super::base64(bytes))),
    };
    Value::Object(out)
}

/// What a request for consent hears.
pub(super) fn handshake(check: &Value, headers: &HeaderMap) -> Verdict {
    let origins = texts(check.get("allowed_origins"))?;
    let most = check.get("max_rate").and_then(Value::as_u64).unwrap_or(u64::MAX);
    let given = consent(headers, &origins, most);
    let told = |name: &str| match name.to_ascii_lowercase().as_str() {
        "allow" => Some("POST, OPTIONS"),
        name => given.headers.iter().find(|(known, _)| known == name).and_then(|(_, value)| value.to_str().ok()),
    };
    let expected = check.get("expect_headers").and_then(Value::as_object).into_iter().flatten();
    let present = expected.into_iter().all(|(name, value)| told(name) == value.as_str());
    let absent = match check.get("expect_absent_headers") {
        Some(names) => texts(Some(names))?.iter().all(|name| told(name).is_none()),
        None => true,
    };
    Ok((present && absent, "the headers that give consent".to_owned()))
}

fn text<'v>(check: &'v Value, key: &str) -> Result<&'v str, CaseError> {
    check.get(key).and_then(Value::as_str).ok_or(CaseError::Format)
}

fn texts(list: Option<&Value>) -> Result<Vec<String>, CaseError> {
    let list = list.and_then(Value::as_array).ok_or(CaseError::Format)?;
    list.iter().map(|entry| entry.as_str().map(str::to_owned).ok_or(CaseError::Format)).collect()
}
