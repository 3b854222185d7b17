//! One API call on the organisation: the table of paths.
//!
//! A session holds what a call may touch. Sub-requests of a composite call run through the same table, under the same
//! session, so they obey the same rules.

use std::collections::BTreeMap;

use hyper::Method;
use serde_json::{Map, Value, json};

use super::org::{By, Org};
use super::problem::{Problem, Refused};
use super::query::{self, Cursors};
use super::{SalesforceOptions, metadata};
use crate::sim::fault::Faults;
use crate::sim::http::{Answer, Call};

/// One call and what it may touch.
pub(super) struct Session<'a> {
    pub(super) org: &'a mut Org,
    pub(super) cursors: &'a mut Cursors,
    pub(super) faults: &'a Faults,
    pub(super) options: &'a SalesforceOptions,
    pub(super) by: By,
    pub(super) used_today: u64,
}

/// Whether `v59.0` to `v79.0`: what the interface description names.
pub(super) fn is_version(segment: &str) -> bool {
    let number = segment.strip_prefix('v').and_then(|v| v.strip_suffix(".0"));
    number.and_then(|n| n.parse::<u32>().ok()).is_some_and(|n| (59..=79).contains(&n))
}

impl Session<'_> {
    /// Answers a call below `/services/data/`.
    pub(super) fn route(&mut self, call: &Call) -> Result<Answer, Refused> {
        let parts = call.parts();
        let ["services", "data", version, rest @ ..] = parts.as_slice() else { return Err(Refused::not_found()) };
        if !is_version(version) {
            return Err(Refused::not_found());
        }
        let get = call.method == Method::GET;
        match rest {
            [] if get => Ok(metadata::resources(version)),
            ["limits"] if get => Ok(metadata::limits(self.options.daily, self.used_today)),
            ["query"] if get => query::answer(self.org, self.cursors, call, version, false),
            ["queryAll"] if get => query::answer(self.org, self.cursors, call, version, true),
            ["query", locator] if get => query::more(self.cursors, locator, call, version),
            ["sobjects"] if get => Ok(metadata::global(self.org, version)),
            ["sobjects", name, "describe"] if get => metadata::describe(self.org, name, version),
            ["sobjects", name, "updated"] if get => metadata::updated(self.org, name, call, self.by.now),
            ["sobjects", name, "deleted"] if get => metadata::deleted(self.org, name, call, self.by.now),
            ["sobjects", name] if call.method == Method::POST => self.create_row(call, name),
            ["sobjects", name, id] => self.on_row(call, name, id, version),
            ["sobjects", name, field, value] => self.on_key(call, name, field, value, version),
            ["composite"] if call.method == Method::POST => self.composite(call),
            ["composite", "sobjects"] => self.collection(call),
            ["composite", "sobjects", name, field] if call.method == Method::PATCH => {
                self.collection_upsert(call, name, field)
            }
            ["limits" | "query" | "queryAll" | "sobjects" | "composite", ..] => {
                Err(Refused::method(call.method.as_str()))
            }
            _ => Err(Refused::not_found()),
        }
    }

    /// Checks what every write must carry: a JSON body and the client tag.
    pub(super) fn writing(&self, call: &Call) -> Result<(), Refused> {
        let tag = client_tag(call);
        if self.options.contract && tag.is_none() {
            let text = "Sforce-Call-Options: client=<name> is required by the interface description";
            return Err(Refused::new(400, Problem::new("MISSING_ARGUMENT", text)));
        }
        if call.method != Method::DELETE && !call.has_media("application/json") {
            let text = "Content-Type must be application/json";
            return Err(Refused::new(415, Problem::new("UNSUPPORTED_MEDIA_TYPE", text)));
        }
        Ok(())
    }

    /// The fields of a single-record body, shaped.
    fn record(&self, call: &Call, table: usize) -> Result<BTreeMap<String, Value>, Refused> {
        let body: Map<String, Value> =
            serde_json::from_slice(&call.body).map_err(|e| Refused::json(format!("Unexpected input: {e}")))?;
        let forbidden =
            body.keys().find(|k| k.eq_ignore_ascii_case("id") || self.options.contract && *k == "attributes");
        if let Some(name) = forbidden {
            let text = format!("The {name} field should not be specified in the sobject data.");
            return Err(Refused::new(400, Problem::new("INVALID_FIELD", text).field(name)));
        }
        self.org.shape(table, &body)
    }

    /// Refuses a record on which the fault plan has a rule.
    pub(super) fn rejected(&self, path: &str, values: &BTreeMap<String, Value>) -> Result<(), Problem> {
        if self.faults.rejects(path, |name| super::org::text(values.get(name))) {
            let text = "The record is refused by a validation rule";
            return Err(Problem::new("FIELD_CUSTOM_VALIDATION_EXCEPTION", text));
        }
        Ok(())
    }

    /// The standard duplicate rule, where the organisation has it switched on and the call does not override it.
    pub(super) fn unlike_others(
        &self,
        call: &Call,
        table: usize,
        values: &BTreeMap<String, Value>,
        own: Option<&str>,
    ) -> Result<(), Problem> {
        let allowed = call.header("sforce-duplicate-rule-header").is_some_and(|h| h.contains("allowSave=true"));
        let object = self.org.tables[table].spec.name;
        let email = values.get("Email").and_then(Value::as_str).map(str::to_lowercase);
        let Some(email) = email.filter(|_| self.options.duplicate_rule && !allowed && object != "User") else {
            return Ok(());
        };
        let holds = |row: &&super::org::Row| {
            let there = row.fields.get("Email").and_then(Value::as_str).map(str::to_lowercase);
            row.deleted.is_none() && Some(row.id.as_str()) != own && there.as_deref() == Some(email.as_str())
        };
        let found = self.org.tables[table].rows.values().filter(holds).map(|row| (object, row.id.clone()));
        let matches: Vec<_> = found.collect();
        if matches.is_empty() {
            return Ok(());
        }
        Err(Problem { matches, ..Problem::new("DUPLICATES_DETECTED", "Use one of these records?") })
    }

    fn create_row(&mut self, call: &Call, name: &str) -> Result<Answer, Refused> {
        self.writing(call)?;
        let table = self.org.table(name)?;
        let values = self.record(call, table)?;
        self.rejected(&call.path, &values)?;
        self.unlike_others(call, table, &values, None)?;
        let id = self.org.create(table, values, &self.by)?;
        Ok(saved(201, &id, None))
    }

    fn on_row(&mut self, call: &Call, name: &str, id: &str, version: &str) -> Result<Answer, Refused> {
        let table = self.org.table(name)?;
        match call.method {
            Method::GET => self.read_row(call, table, id, version),
            Method::PATCH => {
                self.writing(call)?;
                let values = self.record(call, table)?;
                self.precondition(call, table, id)?;
                self.rejected(&call.path, &values)?;
                self.unlike_others(call, table, &values, super::id::id18(id).as_deref())?;
                self.org.update(table, id, values, &self.by).map_err(lost)?;
                Ok(Answer::empty(204))
            }
            Method::DELETE => {
                self.writing(call)?;
                self.org.delete(table, id, &self.by, None).map_err(lost)?;
                Ok(Answer::empty(204))
            }
            _ => Err(Refused::method(call.method.as_str())),
        }
    }

    fn read_row(&self, call: &Call, table: usize, id: &str, version: &str) -> Result<Answer, Refused> {
        let row = self.org.row(table, id).map_err(lost)?;
        let spec = &self.org.tables[table].spec;
        let unknown = |n: &String| {
            Problem::new("INVALID_FIELD", format!("No such column '{n}' on sobject of type {}", spec.name))
        };
        let asked = call.list("fields");
        let asked = asked.iter().map(|n| spec.field(n).map(|f| f.name.clone()).ok_or_else(|| unknown(n)));
        let mut fields: Vec<String> = asked.collect::<Result<_, _>>()?;
        if fields.is_empty() {
            fields = spec.fields.iter().map(|f| f.name.clone()).collect();
        }
        let modified = row.modified.micros().div_euclid(1_000_000);
        let since = http_seconds(call, "if-modified-since")?;
        if since.is_some_and(|s| modified <= s) {
            return Ok(Answer::empty(304));
        }
        let body = query::show(&self.org.tables[table], row, &fields, version);
        let answer = Answer::json(200, &body).with("last-modified", http_date(modified));
        Ok(if spec.name == "Account" { answer.with("etag", etag(modified)) } else { answer })
    }

    /// `If-Unmodified-Since` on every row, `If-Match` on accounts.
    fn precondition(&self, call: &Call, table: usize, id: &str) -> Result<(), Refused> {
        let limit = http_seconds(call, "if-unmodified-since")?;
        let row = self.org.row(table, id).map_err(lost)?;
        let modified = row.modified.micros().div_euclid(1_000_000);
        let account = self.org.tables[table].spec.name == "Account";
        let wanted = call.header("if-match").filter(|_| account);
        if limit.is_some_and(|l| modified > l) || wanted.is_some_and(|w| w != "*" && w != etag(modified)) {
            let text = "The requested resource has been modified";
            return Err(Refused::new(412, Problem::new("PRECONDITION_FAILED", text)));
        }
        Ok(())
    }

    fn on_key(&mut self, call: &Call, name: &str, field: &str, value: &str, version: &str) -> Result<Answer, Refused> {
        let table = self.org.table(name)?;
        let spec = &self.org.tables[table].spec;
        let key = spec.field(field).filter(|f| f.external_id).map(|f| f.name.clone());
        let unusable = || {
            let text = format!("Provided external ID field does not exist or is not accessible: {field}");
            Refused::new(404, Problem::new("NOT_FOUND", text))
        };
        let key = key.ok_or_else(unusable)?;
        let found = self.org.by_key(table, &key, value);
        if found.len() > 1 {
            let urls: Vec<_> =
                found.iter().map(|id| format!("/services/data/{version}/sobjects/{name}/{id}")).collect();
            return Ok(Answer::json(300, &urls));
        }
        let id = found.into_iter().next();
        match call.method {
            Method::GET => self.read_row(call, table, &id.ok_or_else(Refused::not_found)?, version),
            Method::DELETE => {
                self.writing(call)?;
                self.org.delete(table, &id.ok_or_else(Refused::not_found)?, &self.by, None).map_err(lost)?;
                Ok(Answer::empty(204))
            }
            Method::PATCH => self.upsert_row(call, table, (&key, value), id),
            _ => Err(Refused::method(call.method.as_str())),
        }
    }

    fn upsert_row(
        &mut self,
        call: &Call,
        table: usize,
        key: (&str, &str),
        id: Option<String>,
    ) -> Result<Answer, Refused> {
        self.writing(call)?;
        let mut values = self.record(call, table)?;
        if values.contains_key(key.0) {
            let text = format!("The {} field should not be specified in the sobject data.", key.0);
            return Err(Refused::new(400, Problem::new("INVALID_FIELD", text).field(key.0)));
        }
        self.rejected(&call.path, &values)?;
        self.unlike_others(call, table, &values, id.as_deref())?;
        match id {
            Some(id) => {
                self.org.update(table, &id, values, &self.by)?;
                Ok(saved(200, &id, Some(false)))
            }
            None if call.param("updateOnly") == Some("true") => Err(Refused::not_found()),
            None => {
                values.insert(key.0.to_owned(), Value::String(key.1.to_owned()));
                let id = self.org.create(table, values, &self.by)?;
                Ok(saved(201, &id, Some(true)))
            }
        }
    }
}

/// On a row of its own path, an id that points nowhere is a path that points nowhere.
fn lost(problem: Problem) -> Refused {
    match problem.code {
        "INVALID_CROSS_REFERENCE_KEY" if problem.fields.is_empty() => Refused::not_found(),
        _ => problem.into(),
    }
}

/// The client tag of the call, when it is well formed.
pub(super) fn client_tag(call: &Call) -> Option<&str> {
    let (_, tag) = call.header("sforce-call-options")?.split_once("client=")?;
    let end =
        tag.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '/' | '-')).unwrap_or(tag.len());
    tag.get(..end).filter(|t| !t.is_empty())
}

fn saved(status: u16, id: &str, created: Option<bool>) -> Answer {
    let mut body = json!({"id": id, "success": true, "errors": []});
    if let Some(created) = created {
        body["created"] = created.into();
    }
    Answer::json(status, &body)
}

fn etag(modified: i64) -> String {
    format!("\"{modified}--gzip\"")
}

const HTTP_DATE: &str = "%a, %d %b %Y %H:%M:%S GMT";

fn http_date(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| String::new(), |t| t.strftime(HTTP_DATE).to_string())
}

/// A date header in whole seconds; a malformed one refuses the call.
fn http_seconds(call: &Call, name: &str) -> Result<Option<i64>, Refused> {
    let Some(text) = call.header(name) else { return Ok(None) };
    let parsed = jiff::fmt::strtime::parse(HTTP_DATE, text).and_then(|t| t.to_datetime());
    let instant = parsed.and_then(|d| d.to_zoned(jiff::tz::TimeZone::UTC));
    let malformed = |_| Refused::new(400, Problem::new("INVALID_HEADER", format!("The header {name} is malformed")));
    instant.map(|z| Some(z.timestamp().as_second())).map_err(malformed)
}
