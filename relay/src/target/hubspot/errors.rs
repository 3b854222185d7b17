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
            Some("CONFLICT" | "CONTACT_EXISTS") => Disposition::Conflict,
            Some("RATE_LIMITS") => Disposition::Rate { wait: self.window() },
            Some("INTERNAL_ERROR" | "SERVICE_UNAVAILABLE") => Disposition::Retry,
            _ => Disposition::Permanent,
        };
        self.as_error("unknown_error", disposition)
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
        TargetError::new(code, self.message.clone(), disposition).naming(fields)
    }

    fn window(&self) -> Duration {
        if self.policy_name.as_deref() == Some("DAILY") { DAILY } else { BURST }
    }
}

/// The errors of a batch by the id they name.
pub(super) fn by_id(faults: &[Fault]) -> HashMap<&str, &Fault> {
    faults.iter().flat_map(|f| listed(&f.context, "ids").map(move |id| (id, f))).collect()
}

/// What a refused call means.
pub(super) fn whole_call(reply: &Reply, effect: Effect) -> TargetError {
    let fault: Fault = serde_json::from_slice(&reply.body).unwrap_or_default();
    let disposition = match reply.status.as_u16() {
        // Not one record but the path: the type, or the API version.
        404 if !fault.is_absence() => Disposition::Permanent,
        423 => Disposition::Rate { wait: reply.retry_after().unwrap_or(LOCKED).max(LOCKED) },
        429 => Disposition::Rate { wait: reply.retry_after().unwrap_or_else(|| fault.window()) },
        // The account is being moved to another data centre.
        477 => Disposition::Rate { wait: reply.retry_after().unwrap_or(DAILY) },
        _ => by_status(reply, effect),
    };
    fault.as_error(&format!("http_{}", reply.status.as_u16()), disposition)
}
