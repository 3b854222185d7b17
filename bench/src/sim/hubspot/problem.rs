//! What the HubSpot model refuses, in the body HubSpot answers.
//!
//! Categories and codes are those of HubSpot's guide on error handling; one problem serves both a whole call and one
//! item of a batch.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::sim::http::Answer;

/// One fault of one property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Detail {
    pub(super) property: String,
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl Detail {
    pub(super) fn new(property: &str, code: &'static str, message: &str) -> Self {
        Self { property: property.into(), code, message: message.into() }
    }

    fn body(&self) -> Value {
        json!({
            "message": self.message, "code": self.code, "in": self.property,
            "context": {"propertyName": [self.property]},
        })
    }
}

/// A refusal of a call or of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) status: u16,
    pub(super) category: &'static str,
    pub(super) message: String,
    pub(super) details: Vec<Detail>,
    pub(super) context: BTreeMap<String, Vec<String>>,
    pub(super) policy: Option<&'static str>,
}

impl Problem {
    pub(super) fn new(status: u16, category: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { status, category, message, details: Vec::new(), context: BTreeMap::new(), policy: None }
    }

    /// 400 for something wrong with the request itself.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "VALIDATION_ERROR", message)
    }

    /// 400 for values that properties do not take.
    pub(super) fn values(details: Vec<Detail>) -> Self {
        let named: Vec<_> = details.iter().map(|d| format!("{}: {}", d.code, d.property)).collect();
        let mut problem = Self::invalid(format!("Property values were not valid: {}", named.join(", ")));
        problem.details = details;
        problem
    }

    /// 409: another record holds the value. HubSpot's message names that record.
    pub(super) fn conflict(singular: &str, property: &str, existing: u64) -> Self {
        let mut name = singular.to_owned();
        if let Some(first) = name.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        let mut problem = Self::new(409, "CONFLICT", format!("{name} already exists. Existing ID: {existing}"));
        problem.context.insert("existingId".into(), vec![existing.to_string()]);
        problem.context.insert("propertyName".into(), vec![property.into()]);
        problem
    }

    /// 404 for records that are not there.
    pub(super) fn missing(singular: &str, ids: Vec<String>) -> Self {
        let kind = singular.to_uppercase();
        let text =
            format!("Could not get some {kind} objects, they may be deleted or not exist. Check that ids are valid.");
        let mut problem = Self::new(404, "OBJECT_NOT_FOUND", text);
        problem.context.insert("ids".into(), ids);
        problem
    }

    /// Adds ids the problem concerns.
    pub(super) fn about(mut self, key: &str, id: Option<&str>) -> Self {
        if let Some(id) = id {
            self.context.entry(key.into()).or_default().push(id.into());
        }
        self
    }

    /// As the body of a refused call.
    pub(super) fn answer(&self, correlation: &str) -> Answer {
        let mut body = self.body();
        body["correlationId"] = correlation.into();
        if let Some(policy) = self.policy {
            body["policyName"] = policy.into();
        }
        Answer::json(self.status, &body)
    }

    /// As one entry of `errors` in a batch answer.
    pub(super) fn body(&self) -> Value {
        let details: Vec<_> = self.details.iter().map(Detail::body).collect();
        json!({
            "status": "error", "category": self.category, "message": self.message,
            "errors": details, "context": self.context,
        })
    }
}
