//! What the Salesforce model refuses, in the bodies Salesforce answers.
//!
//! Codes are those of the REST API guide's list of status codes. One problem serves the error array of a call
//! (`errorCode`) and the result of one record in a collection (`statusCode`).

use serde_json::{Value, json};

use crate::sim::http::Answer;

/// One error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) fields: Vec<String>,
    /// Rows that a duplicate rule found, with the name of their object.
    pub(super) matches: Vec<(&'static str, String)>,
}

impl Problem {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), fields: Vec::new(), matches: Vec::new() }
    }

    pub(super) fn field(mut self, name: &str) -> Self {
        self.fields.push(name.to_owned());
        self
    }

    /// As the result of one record.
    pub(super) fn result(&self) -> Value {
        let mut body = json!({"statusCode": self.code, "message": self.message, "fields": self.fields});
        self.add_matches(&mut body);
        body
    }

    fn add_matches(&self, body: &mut Value) {
        let Some((object, _)) = self.matches.first() else { return };
        let record = |(object, id): &(&str, String)| json!({"record": {"attributes": {"type": object}, "Id": id}, "matchConfidence": 100.0});
        let records: Vec<Value> = self.matches.iter().map(record).collect();
        body["duplicateResult"] = json!({
            "allowSave": true, "duplicateRule": "Standard_Rule", "duplicateRuleEntityType": object,
            "errorMessage": self.message,
            "matchResults": [{"entityType": object, "matchRecords": records, "size": records.len(), "success": true}],
        });
    }

    /// Status of a call on one row that fails with this error.
    pub(super) fn status(&self) -> u16 {
        match self.code {
            "NOT_FOUND" | "ENTITY_IS_DELETED" | "INVALID_CROSS_REFERENCE_KEY" if self.fields.is_empty() => 404,
            "INVALID_SESSION_ID" => 401,
            "REQUEST_LIMIT_EXCEEDED" => 403,
            _ => 400,
        }
    }
}

/// A refused call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) status: u16,
    pub(super) problem: Problem,
}

impl Refused {
    pub(super) const fn new(status: u16, problem: Problem) -> Self {
        Self { status, problem }
    }

    pub(super) fn not_found() -> Self {
        Self::new(404, Problem::new("NOT_FOUND", "The requested resource does not exist"))
    }

    pub(super) fn method(method: &str) -> Self {
        Self::new(405, Problem::new("METHOD_NOT_ALLOWED", format!("HTTP Method '{method}' not allowed.")))
    }

    pub(super) fn json(message: impl Into<String>) -> Self {
        Self::new(400, Problem::new("JSON_PARSER_ERROR", message))
    }

    pub(super) fn answer(&self) -> Answer {
        let Problem { code, message, fields, .. } = &self.problem;
        let mut body = json!({"message": message, "errorCode": code});
        if !fields.is_empty() {
            body["fields"] = json!(fields);
        }
        self.problem.add_matches(&mut body);
        Answer::json(self.status, &[body])
    }
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self { status: problem.status(), problem }
    }
}
