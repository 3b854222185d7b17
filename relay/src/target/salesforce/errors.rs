//! What Salesforce's error codes mean. Code names: "Status Codes and Error Responses" of the REST API Developer Guide and
//! `StatusCode` of the SOAP API Developer Guide; what to do about each is our decision.
//!
//! A refused call is an array of errors; a refused record of a collection carries an array of its own. The surprising
//! thing: on a write a server error may mean applied or not, except where Salesforce says that it never began.

use std::time::Duration;

use serde::Deserialize;

use super::super::{Disposition, TargetError};
use super::soql;
use crate::http::{Effect, Reply, by_status};

/// Too many calls at once: over in moments.
const CONCURRENT: Duration = Duration::from_secs(5);
/// The allocation of the last 24 hours is used up: it frees itself slowly.
const ALLOCATION: Duration = Duration::from_secs(300);

/// One error, of a call (`errorCode`) or of a record in a collection (`statusCode`).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Fault {
    #[serde(alias = "errorCode")]
    status_code: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    fields: Vec<String>,
    /// Spelt wrongly in answers of older versions.
    #[serde(default, alias = "duplicateResut")]
    duplicate_result: serde_json::Value,
}

impl Fault {
    /// The one record that stands in the way: what a duplicate rule matched, or what the message names.
    fn existing(&self) -> Option<String> {
        const NAMED: &str = "on record with id: ";
        let listed = |v: &'static str| move |of: &serde_json::Value| of.get(v).and_then(|l| l.as_array()).cloned();
        let matched = listed("matchResults")(&self.duplicate_result).unwrap_or_default();
        let records = matched.iter().filter_map(listed("matchRecords")).flatten();
        let told = records.filter_map(|r| r.get("record")?.get("Id")?.as_str().map(str::to_owned));
        let named = self.message.split_once(NAMED).map(|(_, rest)| rest);
        let named = named.and_then(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric()).next().map(str::to_owned));
        let mut ids: Vec<String> = told.chain(named).filter_map(|id| Some(soql::id18(&id)?.into_owned())).collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.len() == 1 { ids.pop() } else { None }
    }
}

/// What a refused record means. Of several errors the most lasting one decides, and all their fields are named.
pub(super) fn record(faults: Vec<Fault>) -> TargetError {
    let fields: Vec<String> = faults.iter().flat_map(|f| f.fields.iter().cloned()).collect();
    let worst = faults.into_iter().map(|f| (of_record(&f), f)).max_by_key(|(disposition, _)| lasting(disposition));
    match worst {
        Some((disposition, fault)) => {
            let existing = if disposition == Disposition::Conflict { fault.existing() } else { None };
            TargetError::new(&fault.status_code, fault.message, disposition).naming(fields).because_of(existing)
        }
        None => TargetError::new("malformed_answer", "a record failed without a reason", Disposition::Unknown),
    }
}

/// What a refused call means.
pub(super) fn whole_call(reply: &Reply, effect: Effect) -> TargetError {
    let status = reply.status.as_u16();
    let faults: Vec<Fault> = serde_json::from_slice(&reply.body).unwrap_or_default();
    let Some(fault) = faults.into_iter().next() else {
        return TargetError::new(&format!("http_{status}"), "", without_code(reply, effect));
    };
    let disposition = match (status, fault.status_code.as_str()) {
        (401, _) | (_, "INVALID_SESSION_ID") => Disposition::Reauthorise,
        (503, "SERVER_UNAVAILABLE") => Disposition::Retry,
        (500.., _) => effect.when_lost(),
        (_, "REQUEST_LIMIT_EXCEEDED") => match reply.retry_after() {
            Some(wait) => Disposition::Rate { wait },
            None => limit(&fault.message),
        },
        (429, _) => by_status(reply, effect),
        // No row is meant here but the address: the type, the external id field or the API version.
        (404, _) => Disposition::Permanent,
        (_, code) => by_code(code, &fault).unwrap_or_else(|| without_code(reply, effect)),
    };
    TargetError::new(&fault.status_code, fault.message, disposition).naming(fault.fields)
}

fn without_code(reply: &Reply, effect: Effect) -> Disposition {
    if reply.status == 404 { Disposition::Permanent } else { by_status(reply, effect) }
}

fn of_record(fault: &Fault) -> Disposition {
    by_code(&fault.status_code, fault).unwrap_or(Disposition::Permanent)
}

/// The table. `None` for a code that is not in it.
fn by_code(code: &str, fault: &Fault) -> Option<Disposition> {
    Some(match code {
        "INVALID_SESSION_ID" => Disposition::Reauthorise,
        "REQUEST_LIMIT_EXCEEDED" => limit(&fault.message),
        "DUPLICATES_DETECTED" | "DUPLICATE_VALUE" | "DUPLICATE_EXTERNAL_ID" => Disposition::Conflict,
        "ENTITY_IS_DELETED" | "NOT_FOUND" => Disposition::Gone,
        // The code also stands for a bad owner or parent, and then names that field.
        "INVALID_CROSS_REFERENCE_KEY" if fault.fields.iter().all(|f| f.eq_ignore_ascii_case("id")) => Disposition::Gone,
        "UNABLE_TO_LOCK_ROW"
        | "ALL_OR_NONE_OPERATION_ROLLED_BACK"
        | "PROCESSING_HALTED"
        | "SERVER_UNAVAILABLE"
        | "QUERY_TIMEOUT"
        | "REQUEST_RUNNING_TOO_LONG"
        | "UNKNOWN_EXCEPTION" => Disposition::Retry,
        // It wraps the customer's own triggers, and a lock inside one passes.
        "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY" if fault.message.contains("UNABLE_TO_LOCK_ROW") => Disposition::Retry,
        "INVALID_CROSS_REFERENCE_KEY"
        | "REQUIRED_FIELD_MISSING"
        | "FIELD_CUSTOM_VALIDATION_EXCEPTION"
        | "STRING_TOO_LONG"
        | "INVALID_EMAIL_ADDRESS"
        | "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST"
        | "FIELD_INTEGRITY_EXCEPTION"
        | "JSON_PARSER_ERROR"
        | "MALFORMED_ID"
        | "MALFORMED_QUERY"
        | "INVALID_TYPE"
        | "INVALID_FIELD"
        | "INVALID_FIELD_FOR_INSERT_UPDATE"
        | "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY"
        | "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY"
        | "API_DISABLED_FOR_ORG" => Disposition::Permanent,
        _ => return None,
    })
}

/// Salesforce tells its two limits apart in words only.
fn limit(message: &str) -> Disposition {
    let wait = if message.to_ascii_lowercase().contains("concurrent") { CONCURRENT } else { ALLOCATION };
    Disposition::Rate { wait }
}

/// How long a verdict holds; a record with several errors gets the longest.
const fn lasting(disposition: &Disposition) -> u8 {
    match disposition {
        Disposition::Retry => 0,
        Disposition::Unknown => 1,
        Disposition::Rate { .. } => 2,
        Disposition::Reauthorise => 3,
        Disposition::Conflict => 4,
        Disposition::Permanent => 5,
        Disposition::Gone => 6,
    }
}
