//! HubSpot as a CRM that is read and written. Paths and shapes: HubSpot's "CRM objects" and "Properties" API references;
//! the two path styles and their ends of life: its "Date-based versioning" changelog.
//!
//! The surprising things: every value is text and an empty one means no value; answers of a batch come in any order and
//! are matched by id; a record that was merged away answers under its survivor's id and is recognised by the list of
//! merged ids that the survivor carries.

mod errors;
mod find;
mod setup;
#[cfg(test)]
mod tests;
mod write;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use headgate_schemas::{ObjectType, Resolution, Timestamp, Value};
use hyper::StatusCode;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::{
    Answered, By, Calling, Disposition, FieldInfo, FindCall, Found, LONGEST_NAME, NativeName, NativeValues, Pack,
    Prepared, Quota, ReadCall, ReadItem, Target, TargetError, Version, WriteCall, Written, is_id,
};
use crate::config::{ConnectionConfig, SetUp};
use crate::http::{Call, Client, Effect, Reply};

/// Records in one batch call, by the "batch" endpoints of HubSpot's CRM objects API.
const PACK: usize = 100;
/// The interval of the limit of calls where the answer names none.
const INTERVAL: Duration = Duration::from_secs(10);
/// The day of the daily limit.
const DAY: Duration = Duration::from_hours(24);
/// The ids of the records merged into one, separated by semicolons; HubSpot keeps it on every standard object.
const MERGED_IDS: &str = "hs_merged_object_ids";

/// HubSpot's path name of a neutral type.
pub fn object_path(object: &ObjectType) -> Option<&'static str> {
    match object.as_str() {
        "contact" => Some("contacts"),
        "company" => Some("companies"),
        "deal" => Some("deals"),
        _ => None,
    }
}

/// One HubSpot account.
#[derive(Debug)]
pub struct Hubspot {
    client: Client,
    /// Everything of an object's path before the type.
    objects: String,
    external_id_field: String,
    /// Whether a missing property is made.
    makes_fields: bool,
}

impl Hubspot {
    /// The target of a connection.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn new(config: &ConnectionConfig, client: Client) -> Result<Self, &'static str> {
        let objects = match config.api_version.as_str() {
            "v3" => "/crm/v3/objects".to_owned(),
            dated @ ("2026-03" | "2026-09") => format!("/crm/objects/{dated}"),
            _ => return Err("api_version must be 2026-09, 2026-03 or v3"),
        };
        let makes_fields = config.set_up == SetUp::Auto;
        Ok(Self { client, objects, external_id_field: config.external_id_field.clone(), makes_fields })
    }

    async fn read_batch(&self, call: &ReadCall) -> Result<Answered<ReadItem>, TargetError> {
        if call.ids.is_empty() {
            return Ok(Answered { items: Vec::new(), date: None, quota: Vec::new() });
        }
        let object = path_of(&call.object)?;
        let body = ReadBody::new(call, &self.external_id_field);
        let reply = self.ask(format!("{}/{object}/batch/read", self.objects), &body).await?;
        if !matches!(reply.status, StatusCode::OK | StatusCode::MULTI_STATUS) {
            return Err(errors::whole_call(&reply, Effect::Read));
        }
        let items = match_items(call, &self.external_id_field, complete(parse(&reply)?)?)?;
        Ok(Answered { items, date: reply.date, quota: quota(&reply) })
    }

    async fn properties(&self, object: &ObjectType) -> Result<Option<Vec<Property>>, TargetError> {
        let reply = self.listing(object).await?;
        match reply.status {
            StatusCode::OK => {
                let answer: PropertiesAnswer = parse(&reply)?;
                Ok(Some(answer.results))
            }
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(errors::whole_call(&reply, Effect::Read)),
        }
    }

    async fn listing(&self, object: &ObjectType) -> Result<Reply, TargetError> {
        self.client.send(Call::get(format!("/crm/v3/properties/{}", path_of(object)?))).await
    }
}

impl Target for Hubspot {
    fn pack(&self) -> Pack {
        Pack { read: PACK, write: PACK }
    }

    fn writable(&self) -> bool {
        true
    }

    /// HubSpot has no precondition of any kind.
    fn conditional(&self) -> bool {
        false
    }

    fn read<'a>(&'a self, call: &'a ReadCall) -> Calling<'a, Answered<ReadItem>> {
        Box::pin(self.read_batch(call))
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
            let properties = self.properties(object).await?;
            Ok(properties.map(|all| all.into_iter().map(FieldInfo::from).collect()))
        })
    }
}

fn path_of(object: &ObjectType) -> Result<&'static str, TargetError> {
    object_path(object).ok_or_else(|| {
        TargetError::new("unsupported_object", format!("no HubSpot type for {object}"), Disposition::Permanent)
    })
}

/// The body of a batch read.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReadBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id_property: Option<&'a str>,
    inputs: Vec<Input<'a>>,
    properties: Vec<&'a str>,
}

#[derive(Serialize)]
struct Input<'a> {
    id: &'a str,
}

impl<'a> ReadBody<'a> {
    fn new(call: &'a ReadCall, external_id_field: &'a str) -> Self {
        let id_property = (call.by == By::ExternalId).then_some(external_id_field);
        let mut properties: Vec<&str> = call.fields.iter().map(|f| &**f).collect();
        // A property that the account does not have is left out of the answer and is no error.
        let keys = [external_id_field, MERGED_IDS];
        for key in if id_property.is_some() { &keys[..1] } else { &keys[..] } {
            if !properties.contains(key) {
                properties.push(key);
            }
        }
        Self { id_property, inputs: call.ids.iter().map(|id| Input { id }).collect(), properties }
    }
}

/// Anything but a finished batch would make records look missing that merely were not looked at.
fn complete(answer: BatchAnswer) -> Result<BatchAnswer, TargetError> {
    if answer.status == "COMPLETE" {
        return Ok(answer);
    }
    Err(TargetError::new("unfinished_batch", answer.status, Disposition::Retry))
}

#[derive(Deserialize)]
struct BatchAnswer {
    status: String,
    results: Vec<Record>,
    #[serde(default)]
    errors: Vec<errors::Fault>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    #[serde(deserialize_with = "record_id")]
    id: String,
    updated_at: String,
    properties: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    archived: bool,
}

/// The id of a record. An answer with one that is none cannot be understood at all.
fn record_id<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let id = String::deserialize(from)?;
    if is_id(&id) { Ok(id) } else { Err(D::Error::custom("an id of a record is none")) }
}

impl Record {
    fn found(&self, fields: &[NativeName], external_id_field: &str) -> Result<Found, TargetError> {
        let at: Timestamp = self.updated_at.parse().map_err(|_| malformed("updatedAt is not a date and time"))?;
        let values: NativeValues =
            fields.iter().filter_map(|name| Some((name.clone(), value(self.properties.get(&**name)?)))).collect();
        let external_id = self.text(external_id_field).filter(|id| (1..=LONGEST_NAME).contains(&id.len()));
        let external_id = external_id.map(str::to_owned);
        Ok(Found { id: self.id.clone(), external_id, version: Version { at, resolution: Resolution::Ms }, values })
    }

    fn text(&self, property: &str) -> Option<&str> {
        self.properties.get(property)?.as_str()
    }
}

fn value(v: &serde_json::Value) -> Value {
    match Value::from(v.clone()) {
        Value::Text(t) if t.is_empty() => Value::Null,
        other => other,
    }
}

/// The one record that nobody asked for by its id. Where a merge makes a new record, its list need not name both old
/// ones; an id that is neither answered nor reported absent can then only mean this record.
fn only_stranger<'a>(call: &ReadCall, results: &'a [Record]) -> Option<&'a Record> {
    let mut strangers = results.iter().filter(|r| call.by == By::NativeId && !r.archived && !call.ids.contains(&r.id));
    let first = strangers.next()?;
    // It may stand in the answer once for each id that led to it.
    strangers.all(|r| r.id == first.id).then_some(first)
}

/// One entry per id asked for. Ids are matched, never positions.
fn match_items(call: &ReadCall, external_id_field: &str, answer: BatchAnswer) -> Result<Vec<ReadItem>, TargetError> {
    let mut found: HashMap<Cow<'_, str>, &Record> = HashMap::with_capacity(answer.results.len());
    for record in answer.results.iter().filter(|r| !r.archived) {
        match call.by {
            By::NativeId => {
                let merged = record.text(MERGED_IDS).unwrap_or_default().split(';').map(str::trim);
                for id in merged.filter(|id| !id.is_empty()) {
                    found.entry(Cow::Borrowed(id)).or_insert(record);
                }
                found.insert(Cow::Borrowed(&record.id), record);
            }
            By::ExternalId => {
                let id = record.text(external_id_field).ok_or_else(|| malformed("a record without its external id"))?;
                found.insert(Cow::Owned(id.to_ascii_lowercase()), record);
            }
        }
    }
    let failed = errors::by_id(&answer.errors);
    let survivor = only_stranger(call, &answer.results);
    call.ids
        .iter()
        .map(|id| {
            let key = match call.by {
                By::NativeId => Cow::Borrowed(id.as_str()),
                By::ExternalId => Cow::Owned(id.to_ascii_lowercase()),
            };
            let fault = failed.get(id.as_str());
            match (found.get(&key).copied().or_else(|| survivor.filter(|_| fault.is_none())), fault) {
                (Some(record), _) => Ok(ReadItem::Found(record.found(&call.fields, external_id_field)?)),
                (None, Some(fault)) if !fault.is_absence() => Ok(ReadItem::Failed(fault.error())),
                (None, Some(_) | None) => Ok(ReadItem::Missing { merged_into: None }),
            }
        })
        .collect()
}

#[derive(Deserialize)]
struct PropertiesAnswer {
    results: Vec<Property>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Property {
    name: String,
    has_unique_value: Option<bool>,
    #[serde(default)]
    modification_metadata: ModificationMetadata,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ModificationMetadata {
    #[serde(default)]
    read_only_value: bool,
}

impl From<Property> for FieldInfo {
    fn from(p: Property) -> Self {
        let settable = !p.modification_metadata.read_only_value;
        Self { name: Arc::from(p.name), createable: settable, updateable: settable }
    }
}

/// The limits named in HubSpot's "API usage guidelines": in an interval, ten seconds by default, and in a day.
fn quota(reply: &Reply) -> Vec<Quota> {
    let number = |name: &str| reply.header(name)?.parse::<u64>().ok();
    let limit = |window, left: &str, most: &str, per| {
        let most = number(most).filter(|n| *n > 0)?;
        Some(Quota { window, left: number(left)?, most, per })
    };
    let interval = number("x-hubspot-ratelimit-interval-milliseconds").filter(|ms| *ms > 0);
    let interval = interval.map_or(INTERVAL, Duration::from_millis);
    [
        limit("burst", "x-hubspot-ratelimit-remaining", "x-hubspot-ratelimit-max", interval),
        limit("daily", "x-hubspot-ratelimit-daily-remaining", "x-hubspot-ratelimit-daily", DAY),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The answer of a read; one that cannot be understood is asked for again.
fn parse<T: for<'de> Deserialize<'de>>(reply: &Reply) -> Result<T, TargetError> {
    serde_json::from_slice(&reply.body).map_err(|e| malformed(&e.to_string()))
}

fn malformed(why: &str) -> TargetError {
    TargetError::new("malformed_answer", why, Disposition::Retry)
}
