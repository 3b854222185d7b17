//! What HubSpot's refusals mean. Statuses and categories: HubSpot's "Error handling" and "API usage guidelines" pages.
//!
//! One shape serves for a refused call and for one refused record of a batch; only the latter names ids.

use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;

use super::super::{Disposition, TargetError};
use crate::http::{Effect, Reply, by_status};

/// A write over many records locks their type for two seconds.
const LOCKED: Duration = Duration::from_secs(2);
/// The rolling window of the burst limit.
const BURST: Duration = Duration::from_secs(10);
/// The window of the search limit.
const SECOND: Duration = Duration::from_secs(1);
/// The daily limit opens at midnight of a time zone we are not told, so it is tried again in short steps.
const DAILY: Duration = Duration::from_secs(60);

/// An error as HubSpot writes it, of a call or of records in a batch. Everything is optional: proxies answer too.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Fault {
    category: Option<String>,
    sub_category: Option<serde_json::Value>,
    message: String,
    policy_name: Option<String>,
    errors: Vec<Detail>,
    context: Context,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Detail {
    #[serde(rename = "in")]
    field: Option<String>,
    code: Option<String>,
    context: Context,
}

/// Lists by name: `ids`, `propertyName`, and others.
type Context = HashMap<String, serde_json::Value>;

fn listed<'a>(context: &'a Context, name: &str) -> impl Iterator<Item = &'a str> {
    context.get(name).and_then(|v| v.as_array()).into_iter().flatten().filter_map(|v| v.as_str())
}

impl Fault {
    /// The record is not there.
    pub(super) fn is_absence(&self) -> bool {
        self.category.as_deref() == Some("OBJECT_NOT_FOUND")
    }

    /// What is to be done about a record that this stands for.
    pub(super) fn error(&self) -> TargetError {
        let disposition = match self.category.as_deref() {
            Some("OBJECT_NOT_FOUND") => Disposition::Gone,
            _ if self.is_conflict() => Disposition::Conflict,
            Some("RATE_LIMITS") => Disposition::Rate { wait: self.window() },
            Some("INTERNAL_ERROR" | "SERVICE_UNAVAILABLE") => Disposition::Retry,
            _ => Disposition::Permanent,
        };
        self.as_error("unknown_error", disposition)
    }

    /// Another record holds a value that only one may hold. HubSpot says so in a category of its own or, for a property
    /// with unique values, among the details of a validation.
    fn is_conflict(&self) -> bool {
        let told = self.category.as_deref().into_iter().chain(self.errors.iter().filter_map(|d| d.code.as_deref()));
        told.into_iter().any(|t| matches!(t, "CONFLICT" | "CONTACT_EXISTS" | "CONFLICTING_UNIQUE_VALUE"))
    }

    /// The record that stands in the way: told in the context or, as `Existing ID: 123`, in the message only.
    fn existing(&self) -> Option<String> {
        if let Some(id) = listed(&self.context, "existingId").next() {
            return Some(id.to_owned());
        }
        let (_, rest) = self.message.split_once("Existing ID:")?;
        let rest = rest.trim_start();
        let id = &rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())];
        (!id.is_empty()).then(|| id.to_owned())
    }

    fn as_error(&self, otherwise: &str, disposition: Disposition) -> TargetError {
        let detail = self.errors.iter().find_map(|d| d.code.as_deref());
        let sub_category = self.sub_category.as_ref().and_then(|v| v.as_str());
        let code = detail.or(sub_category).or(self.category.as_deref()).unwrap_or(otherwise);
        let own = listed(&self.context, "propertyName").map(str::to_owned);
        let nested = self
            .errors
            .iter()
            .flat_map(|d| d.field.iter().cloned().chain(listed(&d.context, "propertyName").map(str::to_owned)));
        let mut fields: Vec<String> = own.chain(nested).collect();
        fields.sort_unstable();
        fields.dedup();
        let existing = if disposition == Disposition::Conflict { self.existing() } else { None };
        TargetError::new(code, self.message.clone(), disposition).naming(fields).because_of(existing)
    }

    fn window(&self) -> Duration {
        match self.policy_name.as_deref() {
            Some("DAILY") => DAILY,
            // The search has a limit of its own.
            Some("SECONDLY") => SECOND,
            Some(_) | None => BURST,
        }
    }
}

/// The errors of a batch by the id they name.
pub(super) fn by_id(faults: &[Fault]) -> HashMap<&str, &Fault> {
    faults.iter().flat_map(|f| listed(&f.context, "ids").map(move |id| (id, f))).collect()
}

/// The errors of a batch by the trace of the write they name.
pub(super) fn by_trace(faults: &[Fault]) -> HashMap<&str, &Fault> {
    faults.iter().flat_map(|f| listed(&f.context, "objectWriteTraceId").map(move |id| (id, f))).collect()
}

/// What a refused call means.
pub(super) fn whole_call(reply: &Reply, effect: Effect) -> TargetError {
    let fault: Fault = serde_json::from_slice(&reply.body).unwrap_or_default();
    let disposition = match reply.status.as_u16() {
        // Not one record but the path: the type, or the API version.
        404 if !fault.is_absence() => Disposition::Permanent,
        400 if fault.is_conflict() => Disposition::Conflict,
        423 => Disposition::Rate { wait: reply.retry_after().unwrap_or(LOCKED).max(LOCKED) },
        429 => Disposition::Rate { wait: reply.retry_after().unwrap_or_else(|| fault.window()) },
        // The account is being moved to another data centre.
        477 => Disposition::Rate { wait: reply.retry_after().unwrap_or(DAILY) },
        _ => by_status(reply, effect),
    };
    fault.as_error(&format!("http_{}", reply.status.as_u16()), disposition)
}
