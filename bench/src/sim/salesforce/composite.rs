//! Composite calls: up to 25 sub-requests, run one after the other, with results of earlier ones in later ones.
//!
//! `@{ref.path}` in an address or a text of a body stands for a value of an earlier answer. The surprising thing: a
//! sub-request that needs a failed one is not run at all and answers `PROCESSING_HALTED`.

use std::collections::{BTreeMap, HashMap};

use hyper::Method;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::problem::{Problem, Refused};
use super::session::Session;
use crate::sim::http::{Answer, Call};

/// Sub-requests of one call, and how many of them may be queries.
const PARTS: usize = 25;
const QUERIES: usize = 5;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Composite {
    #[serde(default)]
    all_or_none: bool,
    #[serde(rename = "collateSubrequests")]
    _collate: Option<bool>,
    composite_request: Vec<Part>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Part {
    method: String,
    url: String,
    reference_id: String,
    body: Option<Map<String, Value>>,
    #[serde(default)]
    http_headers: BTreeMap<String, String>,
}

impl Session<'_> {
    /// Answers `composite`.
    pub(super) fn composite(&mut self, call: &Call) -> Result<Answer, Refused> {
        self.writing(call)?;
        let body: Composite = serde_json::from_slice(&call.body).map_err(|e| Refused::json(e.to_string()))?;
        check(&body.composite_request)?;
        let mark = self.org.mark();
        let mut answers: HashMap<String, Option<Value>> = HashMap::new();
        let (mut results, mut failed) = (Vec::new(), false);
        for part in &body.composite_request {
            let (status, answer) = match self.part(call, part, &answers) {
                Ok(answer) => (answer.status, serde_json::from_slice(&answer.body).unwrap_or(Value::Null)),
                Err(refused) => (refused.status, serde_json::from_slice(&refused.answer().body).unwrap_or(Value::Null)),
            };
            failed |= status >= 400;
            answers.insert(part.reference_id.clone(), (status < 400).then(|| answer.clone()));
            results.push((part.reference_id.clone(), status, answer));
        }
        if failed && body.all_or_none {
            self.org.roll_back(mark);
            let text = "The transaction was rolled back since another operation in the same transaction failed.";
            for result in results.iter_mut().filter(|r| r.1 < 400) {
                (result.1, result.2) = (400, json!([{"errorCode": "PROCESSING_HALTED", "message": text}]));
            }
        }
        let shown = results.into_iter().map(|(reference, status, body)| {
            json!({"body": body, "httpHeaders": {}, "httpStatusCode": status, "referenceId": reference})
        });
        Ok(Answer::json(200, &json!({"compositeResponse": shown.collect::<Vec<_>>()})))
    }

    fn part(&mut self, outer: &Call, part: &Part, answers: &HashMap<String, Option<Value>>) -> Result<Answer, Refused> {
        let url = fill(&part.url, answers)?;
        let body = match &part.body {
            Some(body) => serde_json::to_vec(&fill_value(&Value::Object(body.clone()), answers)?).unwrap_or_default(),
            None => Vec::new(),
        };
        let method = Method::from_bytes(part.method.as_bytes()).map_err(|_| Refused::method(&part.method))?;
        let mut headers = HeaderMap::new();
        for name in ["content-type", "sforce-call-options"] {
            if let Some(value) = outer.headers.get(name) {
                headers.insert(HeaderName::from_static(name), value.clone());
            }
        }
        for (name, value) in &part.http_headers {
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
                headers.insert(name, value);
            }
        }
        let call = Call::new(method, &url, headers, body.into());
        if call.parts().get(3) == Some(&"composite") && call.parts().len() == 4 {
            return Err(Refused::new(400, Problem::new("INVALID_INPUT", "A composite call cannot hold another")));
        }
        self.route(&call)
    }
}

fn check(parts: &[Part]) -> Result<(), Refused> {
    let refuse = |text: String| Err(Refused::new(400, Problem::new("INVALID_INPUT", text)));
    if parts.is_empty() || parts.len() > PARTS {
        return refuse(format!("The limit of {PARTS} for operations per composite request is not kept"));
    }
    let queries = parts.iter().filter(|p| p.url.contains("/query")).count();
    if queries > QUERIES {
        return refuse(format!("At most {QUERIES} sub-requests may be queries"));
    }
    let mut names: Vec<&str> = parts.iter().map(|p| p.reference_id.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let plain = |n: &&str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if names.len() < parts.len() || !names.iter().all(plain) {
        return refuse("Reference ids must be unique and hold letters, digits and underscores only".into());
    }
    let known = |p: &Part| {
        ["GET", "POST", "PATCH", "PUT", "DELETE"].contains(&p.method.as_str()) && p.url.starts_with("/services/data/v")
    };
    if parts.iter().all(known) {
        Ok(())
    } else {
        refuse("A sub-request has an unknown method or an address outside /services/data".into())
    }
}

fn fill_value(value: &Value, answers: &HashMap<String, Option<Value>>) -> Result<Value, Refused> {
    Ok(match value {
        Value::String(text) => Value::String(fill(text, answers)?),
        Value::Array(all) => Value::Array(all.iter().map(|v| fill_value(v, answers)).collect::<Result<_, _>>()?),
        Value::Object(all) => Value::Object(
            all.iter().map(|(k, v)| Ok((k.clone(), fill_value(v, answers)?))).collect::<Result<_, Refused>>()?,
        ),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    })
}

/// Replaces every `@{ref.path}`.
fn fill(text: &str, answers: &HashMap<String, Option<Value>>) -> Result<String, Refused> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("@{") {
        out.push_str(before);
        let invalid = || Refused::new(400, Problem::new("INVALID_INPUT", "Invalid reference specified"));
        let (path, tail) = after.split_once('}').ok_or_else(invalid)?;
        let (name, path) = path.split_once('.').ok_or_else(invalid)?;
        let halted = || {
            let text = "The request cannot be processed because it depends on another request that failed.";
            Refused::new(400, Problem::new("PROCESSING_HALTED", text))
        };
        let answer = answers.get(name).ok_or_else(invalid)?.as_ref().ok_or_else(halted)?;
        let pointer =
            path.split(['.', '[']).map(|step| step.trim_end_matches(']')).fold(String::new(), |p, s| p + "/" + s);
        out.push_str(&super::org::text(answer.pointer(&pointer)).ok_or_else(invalid)?);
        rest = tail;
    }
    Ok(out + rest)
}
