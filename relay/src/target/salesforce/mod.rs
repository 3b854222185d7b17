//! Salesforce as a CRM that is read and written. Paths and shapes: the "Query", "sObject Collections" and "sObject Describe"
//! resources of Salesforce's REST API Developer Guide.
//!
//! Reads are queries by id, creates are collection upserts on our external id, updates are collection updates by native
//! id. The surprising things: a collection answers 200 whatever happened to its records and tells it by position; and ids
//! come in 15 or 18 characters, so they are always compared in 18.

mod errors;
mod find;
mod row;
mod setup;
mod soql;
#[cfg(test)]
mod tests;
mod write;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use headgate_schemas::{ObjectType, Timestamp, Value};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{StatusCode, Uri};
use parking_lot::Mutex;
use serde::Deserialize;

use super::{
    Answered, By, Calling, Disposition, FieldInfo, FindCall, Found, LONGEST_NAME, NativeName, Pack, Prepared, Quota,
    ReadCall, ReadItem, Target, TargetError, WriteCall, Written,
};
use crate::config::ConnectionConfig;
use crate::http::{Call, Client, Effect, Reply};

/// Records in one collection call, by "sObject Collections".
const PACK: usize = 200;
/// The window of the allocation, which rolls.
const DAY: Duration = Duration::from_hours(24);
/// Queries of one read that run at once; the others wait.
const QUERIES_AT_ONCE: usize = 4;
/// Pages of one query that are followed. A page holds at least one record and a query asks for at most [`PACK`].
const MOST_PAGES: usize = PACK;
/// The types whose rows can be merged, and that therefore have `MasterRecordId`; see "merge()" of the SOAP API Developer
/// Guide.
const MERGED: [&str; 2] = ["Contact", "Account"];
/// The header that names us to the org; see "Call Options Header".
const CALL_OPTIONS: HeaderName = HeaderName::from_static("sforce-call-options");

/// Salesforce's type for a neutral type.
pub fn sobject(object: &ObjectType) -> Option<&'static str> {
    match object.as_str() {
        "contact" => Some("Contact"),
        "company" => Some("Account"),
        "deal" => Some("Opportunity"),
        _ => None,
    }
}

/// One Salesforce org.
#[derive(Debug)]
pub struct Salesforce {
    client: Client,
    /// `/services/data/vNN.0`.
    base: String,
    call_options: HeaderValue,
    external_id_field: String,
    /// Types in which that field does not exist or is hidden from us, so that reads must not ask for it.
    without_id: Mutex<BTreeSet<&'static str>>,
}

/// What the answers of one read hold together.
#[derive(Default)]
struct Rows {
    rows: Vec<Row>,
    date: Option<Timestamp>,
    quota: Vec<Quota>,
}

type Row = serde_json::Map<String, serde_json::Value>;

impl Salesforce {
    /// The target of a connection.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn new(config: &ConnectionConfig, client: Client) -> Result<Self, &'static str> {
        let version = config.api_version.strip_prefix('v').unwrap_or(&config.api_version);
        let release = version.strip_suffix(".0").and_then(|n| n.parse::<u16>().ok());
        if release.is_none_or(|n| !(59..=999).contains(&n)) {
            return Err("api_version must be 59.0 or later, like 62.0");
        }
        if !soql::is_name(&config.external_id_field) {
            return Err("external_id_field must be a field name, like Relay_Id__c");
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'/' | b'-');
        if config.client.is_empty() || !config.client.bytes().all(plain) {
            return Err("client may hold letters, digits and ._/- only, because Salesforce records it");
        }
        let call_options = HeaderValue::try_from(format!("client={}", config.client))
            .map_err(|_| "client cannot be sent in a header")?;
        let base = format!("/services/data/v{version}");
        let external_id_field = config.external_id_field.clone();
        Ok(Self { client, base, call_options, external_id_field, without_id: Mutex::default() })
    }

    async fn send(&self, call: Call) -> Result<Reply, TargetError> {
        self.client.send(call.header(CALL_OPTIONS, self.call_options.clone())).await
    }

    /// Reads ask for our own id beside the fields wanted. A column that does not exist spoils the whole query, so a type
    /// that has none is read without it until set-up finds it there.
    async fn read_records(&self, call: &ReadCall) -> Result<Answered<ReadItem>, TargetError> {
        let sobject = type_of(&call.object)?;
        let field = self.external_id_field.as_str();
        let hidden = call.by == By::NativeId && self.without_id.lock().contains(sobject);
        let answer = self.read_columns(call, sobject, (!hidden).then_some(field)).await;
        match answer {
            Err(error)
                if call.by == By::NativeId
                    && !hidden
                    && error.code == "INVALID_FIELD"
                    && error.message.contains(field) =>
            {
                self.without_id.lock().insert(sobject);
                self.read_columns(call, sobject, None).await
            }
            answer => answer,
        }
    }

    async fn read_columns(
        &self,
        call: &ReadCall,
        sobject: &'static str,
        external_id: Option<&str>,
    ) -> Result<Answered<ReadItem>, TargetError> {
        let key = match call.by {
            By::NativeId => "Id",
            By::ExternalId => &self.external_id_field,
        };
        let columns = columns([key].into_iter().chain(external_id), &call.fields);
        let asked: Vec<Option<String>> = call.ids.iter().map(|id| canonical(call.by, id)).collect();
        let values: Vec<&str> = asked.iter().flatten().map(String::as_str).collect();
        let paths = soql::paths(&format!("{}/query", self.base), sobject, &columns, key, &values)?;
        let answer = self.rows(&paths).await?;
        let found = index(call, key, &self.external_id_field, &answer.rows)?;
        let missing: Vec<&str> = values.into_iter().filter(|id| !found.contains_key(*id)).collect();
        let survivors = if call.by == By::NativeId { self.survivors(sobject, &missing).await? } else { HashMap::new() };
        let items = asked.iter().map(|id| match id {
            None => ReadItem::Failed(TargetError::new("MALFORMED_ID", "not a Salesforce id", Disposition::Permanent)),
            Some(id) => {
                found.get(id).cloned().unwrap_or_else(|| ReadItem::Missing { merged_into: survivors.get(id).cloned() })
            }
        });
        Ok(Answered { items: items.collect(), date: answer.date, quota: answer.quota })
    }

    /// The rows that deleted ones were merged into. A merge leaves the losing row deleted with `MasterRecordId` set, which
    /// only `queryAll` shows.
    async fn survivors(&self, sobject: &str, ids: &[&str]) -> Result<HashMap<String, String>, TargetError> {
        if !MERGED.contains(&sobject) {
            return Ok(HashMap::new());
        }
        let resource = format!("{}/queryAll", self.base);
        let paths = soql::paths(&resource, sobject, &["Id", "IsDeleted", "MasterRecordId"], "Id", ids)?;
        let rows = self.rows(&paths).await?.rows;
        let id = |row: &Row, name| Some(soql::id18(column(row, name)?.as_str()?)?.into_owned());
        Ok(rows.iter().filter_map(|row| Some((id(row, "Id")?, id(row, "MasterRecordId")?))).collect())
    }

    /// Runs the queries side by side. They are not put into one composite call, although it counts as one: that holds at
    /// most five queries, runs them one after another, and does not page the answers of its parts in step with them.
    async fn rows(&self, paths: &[String]) -> Result<Rows, TargetError> {
        let mut all = Rows::default();
        for some in paths.chunks(QUERIES_AT_ONCE) {
            for part in try_join_all(some.iter().map(|path| self.pages(path.clone()))).await? {
                all.rows.extend(part.rows);
                all.date = all.date.max(part.date);
                all.quota = part.quota;
            }
        }
        Ok(all)
    }

    async fn pages(&self, first: String) -> Result<Rows, TargetError> {
        let mut all = Rows::default();
        let mut next = Some(first);
        for _ in 0..MOST_PAGES {
            let Some(path) = next else { return Ok(all) };
            let reply = self.send(Call::get(path)).await?;
            if reply.status != StatusCode::OK {
                return Err(errors::whole_call(&reply, Effect::Read));
            }
            let page: Page = parse(&reply, Effect::Read)?;
            all.rows.extend(page.records);
            all.date = all.date.max(reply.date);
            all.quota = quota(&reply);
            next = match (page.done, page.next_records_url) {
                (true, _) => None,
                (false, Some(url)) if is_next(&url) => Some(url),
                (false, _) => return Err(malformed("an unfinished answer without its next page", Effect::Read)),
            };
        }
        Err(malformed("an answer without an end", Effect::Read))
    }

    async fn described(&self, object: &ObjectType) -> Result<Option<Vec<Field>>, TargetError> {
        let reply = self.description(object).await?;
        match reply.status {
            StatusCode::OK => {
                let answer: Description = parse(&reply, Effect::Read)?;
                Ok(Some(answer.fields))
            }
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(errors::whole_call(&reply, Effect::Read)),
        }
    }

    async fn description(&self, object: &ObjectType) -> Result<Reply, TargetError> {
        self.send(Call::get(format!("{}/sobjects/{}/describe", self.base, type_of(object)?))).await
    }
}

impl Target for Salesforce {
    fn pack(&self) -> Pack {
        Pack { read: PACK, write: PACK }
    }

    fn writable(&self) -> bool {
        true
    }

    fn conditional(&self) -> bool {
        true
    }

    fn read<'a>(&'a self, call: &'a ReadCall) -> Calling<'a, Answered<ReadItem>> {
        Box::pin(self.read_records(call))
    }

    fn write<'a>(&'a self, call: &'a WriteCall) -> Calling<'a, Answered<Result<Written, TargetError>>> {
        Box::pin(self.write_records(call))
    }

    fn find<'a>(&'a self, call: &'a FindCall) -> Calling<'a, Answered<Vec<String>>> {
        Box::pin(self.find_records(call))
    }

    fn prepare<'a>(&'a self, object: &'a ObjectType) -> Calling<'a, Prepared> {
        Box::pin(self.prepare_type(object))
    }

    fn describe<'a>(&'a self, object: &'a ObjectType) -> Calling<'a, Option<Vec<FieldInfo>>> {
        Box::pin(async {
            let fields = self.described(object).await?;
            Ok(fields.map(|all| all.into_iter().map(FieldInfo::from).collect()))
        })
    }
}

fn type_of(object: &ObjectType) -> Result<&'static str, TargetError> {
    sobject(object).ok_or_else(|| {
        TargetError::new("unsupported_object", format!("no Salesforce type for {object}"), Disposition::Permanent)
    })
}

/// The columns of a read. Salesforce refuses a column named twice, in whatever case.
fn columns<'a>(keys: impl Iterator<Item = &'a str>, fields: &'a [NativeName]) -> Vec<&'a str> {
    let mut columns = vec!["Id", "SystemModstamp"];
    for name in keys.chain(fields.iter().map(|f| &**f)) {
        if !columns.iter().any(|c| c.eq_ignore_ascii_case(name)) {
            columns.push(name);
        }
    }
    columns
}

/// An id in the form in which it is compared; `None` for what cannot be one.
fn canonical(by: By, id: &str) -> Option<String> {
    match by {
        By::NativeId => soql::id18(id).map(std::borrow::Cow::into_owned),
        // Salesforce compares external ids of text without case unless the field says otherwise; ours are UUIDs.
        By::ExternalId => Some(id.to_ascii_lowercase()),
    }
}

/// The rows by the id they were asked for.
fn index(
    call: &ReadCall,
    key: &str,
    external_id: &str,
    rows: &[Row],
) -> Result<HashMap<String, ReadItem>, TargetError> {
    let mut found = HashMap::with_capacity(rows.len());
    for row in rows {
        let id = column(row, key)
            .and_then(|v| v.as_str())
            .and_then(|id| canonical(call.by, id))
            .ok_or_else(|| malformed("a row without its id", Effect::Read))?;
        let item = ReadItem::Found(found_row(row, &call.fields, external_id)?);
        if found.insert(id.clone(), item).is_some() && call.by == By::ExternalId {
            let message = "several records carry this external id; clear it in all but one";
            let error = TargetError::new("DUPLICATE_EXTERNAL_ID", message, Disposition::Conflict);
            found.insert(id, ReadItem::Failed(error.naming([key.to_owned()])));
        }
    }
    Ok(found)
}

fn found_row(row: &Row, fields: &[NativeName], external_id: &str) -> Result<Found, TargetError> {
    let text = |name| column(row, name).and_then(|v| v.as_str());
    let id = text("Id").and_then(soql::id18).ok_or_else(|| malformed("a row without its Id", Effect::Read))?;
    let version = text("SystemModstamp")
        .and_then(soql::version)
        .ok_or_else(|| malformed("a row without a readable SystemModstamp", Effect::Read))?;
    let values =
        fields.iter().filter_map(|name| Some((name.clone(), Value::from(column(row, name)?.clone())))).collect();
    let external_id = column(row, external_id).and_then(|v| v.as_str()).filter(|id| id.len() <= LONGEST_NAME);
    let external_id = external_id.map(str::to_owned);
    Ok(Found { id: id.into_owned(), external_id, version, values })
}

/// A column of a row. Salesforce answers in its own spelling, whatever case was asked for.
fn column<'a>(row: &'a Row, name: &str) -> Option<&'a serde_json::Value> {
    row.get(name).or_else(|| row.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v))
}

/// A next page lies on the same host: a path, never an address that could lead our credentials elsewhere.
fn is_next(url: &str) -> bool {
    url.starts_with("/services/data/") && url.parse::<Uri>().is_ok()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    done: bool,
    records: Vec<Row>,
    next_records_url: Option<String>,
}

#[derive(Deserialize)]
struct Description {
    fields: Vec<Field>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Field {
    name: String,
    createable: Option<bool>,
    updateable: Option<bool>,
    external_id: Option<bool>,
    unique: Option<bool>,
}

impl From<Field> for FieldInfo {
    fn from(f: Field) -> Self {
        Self { name: Arc::from(f.name), createable: f.createable == Some(true), updateable: f.updateable == Some(true) }
    }
}

/// The allocation as every answer tells it: `Sforce-Limit-Info: api-usage=18/15000`, other pairs may follow.
fn quota(reply: &Reply) -> Vec<Quota> {
    let read = || {
        let text = reply.header("sforce-limit-info")?;
        let (used, most) = text.split(',').find_map(|pair| pair.trim().strip_prefix("api-usage="))?.split_once('/')?;
        let (used, most): (u64, u64) = (used.parse().ok()?, most.parse().ok().filter(|n| *n > 0)?);
        Some(Quota { window: "daily", left: most.saturating_sub(used), most, per: DAY })
    };
    read().into_iter().collect()
}

/// An answer that cannot be understood: asked for again after a read, and of unknown outcome after a write.
fn parse<T: for<'de> Deserialize<'de>>(reply: &Reply, effect: Effect) -> Result<T, TargetError> {
    serde_json::from_slice(&reply.body).map_err(|e| malformed(&e.to_string(), effect))
}

fn malformed(why: &str, effect: Effect) -> TargetError {
    TargetError::new("malformed_answer", why, effect.when_lost())
}
