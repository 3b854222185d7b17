//! Recorded calls with a known verdict, run through the verification the gateway itself uses; and the explanation of
//! one captured call to a person. It must not know sockets.
//!
//! The surprising thing: a file whose scheme is not implemented counts every one of its checks as failed, so that a
//! green report cannot hide a provider that is missing.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headgate_schemas::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::signature;
use case::{Case, Checked};

mod case;
mod part;

/// How a file of vectors came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VectorReport {
    /// The provider the file names.
    pub provider: String,
    /// Checks that came out as expected.
    pub passed: usize,
    /// The others.
    pub failed: Vec<Failure>,
}

/// One check that did not come out as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Name of the case, with the option that was switched on.
    pub name: String,
    /// `accept` or `reject`.
    pub expected: String,
    /// What came out and why.
    pub got: String,
}

/// What a signature covered and whether it matched. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The scheme the headers ask for, or `none`.
    pub scheme: String,
    /// Method of the call.
    pub method: String,
    /// The URL that entered the signature, if one does.
    pub signed_url: Option<String>,
    /// The timestamp header, if the scheme has one.
    pub timestamp: Option<String>,
    /// The clock the call was judged by.
    pub judged_at: Timestamp,
    /// Length of the body.
    pub body_bytes: usize,
    /// SHA-256 of the body in hexadecimal.
    pub body_sha256: String,
    /// Whether the gateway would believe it.
    pub accepted: bool,
    /// The scheme that matched, or why none did.
    pub reason: String,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let none = "not part of the signature";
        writeln!(f, "verdict    {} ({})", if self.accepted { "accept" } else { "reject" }, self.reason)?;
        writeln!(f, "scheme     {}", self.scheme)?;
        writeln!(f, "method     {}", self.method)?;
        writeln!(f, "url        {}", self.signed_url.as_deref().unwrap_or(none))?;
        writeln!(f, "timestamp  {}", self.timestamp.as_deref().unwrap_or(none))?;
        writeln!(f, "judged at  {}", self.judged_at)?;
        writeln!(f, "body       {} bytes, sha256 {}", self.body_bytes, self.body_sha256)?;
        write!(f, "secret     (hidden)")
    }
}

/// A captured call that cannot be judged at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaseError {
    /// Not the JSON of a case.
    #[error("the call is not in the format of a vector: name, scheme, secret, method, url, headers, body_base64")]
    Format,
    /// No implementation of the scheme.
    #[error("this scheme is not available in this version")]
    NotAvailable,
    /// The secret is not what the scheme needs.
    #[error("the secret is not in the form the scheme needs")]
    Secret,
    /// A header is not one.
    #[error("a header has an impossible name or value")]
    Header,
    /// The body is not base64.
    #[error("body_base64 is not base64")]
    Body,
    /// Another window than the gateway's.
    #[error("tolerance_ms must be 300000, the window of the gateway")]
    Tolerance,
    /// An option this version does not know.
    #[error("the case needs an option that is not available in this version")]
    Option,
}

/// A file. Which arrays count as checks: `cases`, `handshake`, `dates`, `ids`, and the cases of `encryption`.
#[derive(Deserialize)]
struct File {
    format: u32,
    provider: String,
    #[serde(default)]
    cases: Vec<Value>,
    #[serde(default)]
    handshake: Vec<Value>,
    #[serde(default)]
    dates: Vec<Value>,
    #[serde(default)]
    ids: Vec<Value>,
    #[serde(default)]
    encryption: Encryption,
}

#[derive(Default, Deserialize)]
struct Encryption {
    #[serde(default)]
    cases: Vec<Value>,
}

/// Runs every check of a file of vectors.
pub fn run_file(json: &str) -> VectorReport {
    let file = match serde_json::from_str::<File>(json) {
        Ok(file) if file.format == 1 => file,
        Ok(file) => return unreadable(file.provider, "format 1"),
        Err(_) => return unreadable("unknown".to_owned(), "a file of vectors"),
    };
    let mut report = VectorReport { provider: file.provider, passed: 0, failed: Vec::new() };
    let whole: Value = serde_json::from_str(json).unwrap_or_default();
    for case in &file.cases {
        if case.get("bitmaps").is_some() {
            report.count(name(case), "accept", part::bitmaps(case, &whole));
            continue;
        }
        for (name, expected, option) in checks(case) {
            report.count(name, &expected, judge(case, option.as_deref(), None).map(|e| (e.accepted, e.reason)));
        }
    }
    for check in &file.ids {
        let name = check.get("id18").and_then(Value::as_str).unwrap_or("unnamed").to_owned();
        report.count(name, "accept", part::id(check));
    }
    for check in &file.dates {
        let name = check.get("input").and_then(Value::as_str).unwrap_or("unnamed").to_owned();
        report.count(name, "accept", part::day(check));
    }
    for check in &file.handshake {
        let known = report.provider == "cloudevents";
        let verdict = if known { consent(check) } else { Err(CaseError::NotAvailable) };
        report.count(name(check), "accept", verdict);
    }
    // Decryption belongs to a provider that is not implemented.
    for check in &file.encryption.cases {
        report.count(name(check), "pass", Err(CaseError::NotAvailable));
    }
    report
}

/// Explains one captured call, given as one case of a file of vectors. Without `now_ms` it is judged by `now`.
///
/// # Errors
/// [`CaseError`] when the call cannot be judged.
pub fn explain(json: &str, now: Timestamp) -> Result<Explanation, CaseError> {
    let case = serde_json::from_str(json).map_err(|_| CaseError::Format)?;
    judge(&case, None, Some(now))
}

impl VectorReport {
    fn count(&mut self, name: String, expected: &str, got: Result<(bool, String), CaseError>) {
        let (verdict, why) = match got {
            Ok((true, scheme)) => ("accept", scheme),
            Ok((false, reason)) => ("reject", reason),
            Err(error) => ("error", error.to_string()),
        };
        if verdict == expected {
            self.passed += 1;
        } else {
            self.failed.push(Failure { name, expected: expected.to_owned(), got: format!("{verdict}: {why}") });
        }
    }
}

fn unreadable(provider: String, expected: &str) -> VectorReport {
    let failure = Failure { name: "file".to_owned(), expected: expected.to_owned(), got: "something else".to_owned() };
    VectorReport { provider, passed: 0, failed: vec![failure] }
}

fn name(case: &Value) -> String {
    case.get("name").and_then(Value::as_str).unwrap_or("unnamed").to_owned()
}

/// The checks of one case: itself, and once more for each `expect_with_<option>`.
fn checks(case: &Value) -> Vec<(String, String, Option<String>)> {
    let text = |v: Option<&Value>| v.and_then(Value::as_str).unwrap_or("accept or reject").to_owned();
    let mut checks = vec![(name(case), text(case.get("expect")), None)];
    for (key, expected) in case.as_object().into_iter().flatten() {
        if let Some(option) = key.strip_prefix("expect_with_") {
            checks.push((format!("{} with {option}", name(case)), text(Some(expected)), Some(option.to_owned())));
        }
    }
    checks
}

/// A request for consent to deliveries.
fn consent(check: &Value) -> part::Verdict {
    part::handshake(check, &case::headers_of(check)?)
}

fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

fn judge(case: &Value, option: Option<&str>, now: Option<Timestamp>) -> Result<Explanation, CaseError> {
    // Cases of CloudEvents name a mode instead, and no credential.
    let by_mode = if case.get("mode").is_some() { case::CLOUDEVENTS } else { "" };
    let scheme_name = case.get("scheme").and_then(Value::as_str).unwrap_or(by_mode);
    let checked = Checked::find(scheme_name).ok_or(CaseError::NotAvailable)?;
    let (parsed, events) = (case.get("parsed"), case.get("events").filter(|events| !events.is_null()));
    let case = Case::read(case, checked, option)?;
    let now = case.now.or(now).ok_or(CaseError::Format)?;
    let call = case.call();
    let signed = checked.provider.signed(&call);
    let mut verdict = checked.provider.verify(&call, &case.endpoint, now).map_err(|refusal| refusal.to_string());
    if checked.reads() && verdict.is_ok() {
        let reading = checked.provider.changes(&call, &case.endpoint, now);
        verdict = reading.map_err(|malformed| malformed.to_string()).and(verdict);
    }
    if let (Some(expected), Ok(_)) = (parsed, &verdict) {
        verdict = part::parsed(scheme_name, call.body, expected).and(verdict);
    }
    if scheme_name == case::CLOUDEVENTS && verdict.is_ok() {
        verdict = part::events(&call, events).and(verdict);
    }
    Ok(Explanation {
        scheme: signed.scheme.to_owned(),
        signed_url: signed.url,
        timestamp: signed.timestamp,
        judged_at: now,
        body_bytes: call.body.len(),
        body_sha256: signature::hex(&Sha256::digest(call.body)),
        accepted: verdict.is_ok(),
        method: call.method.to_owned(),
        reason: verdict.map_or_else(|refusal| refusal, str::to_owned),
    })
}
