//! The packed writes: upsert by our external id, update by native id, archive, and the deletion for privacy.
//!
//! Every item carries `objectWriteTraceId`: it switches a batch to one answer per record and comes back with each of
//! them, so results are matched by it and never by position. The surprising things: archiving answers nothing at all,
//! and a record that is gone already counts as archived; and the deletion for privacy takes one record per call.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use headgate_schemas::{Resolution, Timestamp};
use hyper::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::super::single::{Single, each, together};
use super::super::{
    Answered, CreateItem, DeleteItem, Disposition, NativeName, NativeValues, TargetError, UpdateItem, Version,
    WriteCall, WriteItems, Written,
};
use super::{Hubspot, Input, errors, path_of, quota, record_id, value};
use crate::http::{Call, Effect, Reply};

/// Deletions for privacy that run at once inside one call; the others wait.
const ERASED_AT_ONCE: usize = 4;

type Outcome = Result<Written, TargetError>;

impl Hubspot {
    pub(super) async fn write_records(&self, call: &WriteCall) -> Result<Answered<Outcome>, TargetError> {
        if call.items.is_empty() {
            return Ok(Answered { items: Vec::new(), date: None, quota: Vec::new() });
        }
        let object = path_of(&call.object)?;
        match &call.items {
            WriteItems::Create(items) => {
                let inputs = items.iter().map(|i| Sent::create(i, &self.external_id_field)).collect();
                self.batch(object, "upsert", inputs).await
            }
            WriteItems::Update(items) => self.batch(object, "update", items.iter().map(Sent::update).collect()).await,
            WriteItems::Delete(items) => self.delete(object, items).await,
        }
    }

    async fn batch(&self, object: &str, verb: &str, sent: Vec<Sent<'_>>) -> Result<Answered<Outcome>, TargetError> {
        let reply = self.post(format!("{}/{object}/batch/{verb}", self.objects), &Batch { inputs: &sent }).await?;
        if !matches!(reply.status, StatusCode::OK | StatusCode::CREATED | StatusCode::MULTI_STATUS) {
            return Err(refused(&reply));
        }
        let answer: BatchAnswer = serde_json::from_slice(&reply.body).map_err(|e| unclear(&e.to_string()))?;
        let items = answer.outcomes(&sent);
        Ok(Answered { items, date: reply.date, quota: quota(&reply) })
    }

    async fn post<T: Serialize + Sync>(&self, path: String, body: &T) -> Result<Reply, TargetError> {
        let body = serde_json::to_vec(body)
            .map_err(|e| TargetError::new("unsendable", e.to_string(), Disposition::Permanent))?;
        self.client.send(Call::json(Effect::Write, Method::POST, path, Bytes::from(body))).await
    }

    async fn delete(&self, object: &str, items: &[DeleteItem]) -> Result<Answered<Outcome>, TargetError> {
        let archived: Vec<Input<'_>> = items.iter().filter(|i| !i.erase).map(|i| Input { id: &i.id }).collect();
        let archive = if archived.is_empty() { None } else { Some(self.archive(object, archived).await) };
        let erased = items.iter().filter(|i| i.erase).map(|i| self.erase(object, &i.id)).collect();
        let mut erased = each(erased, ERASED_AT_ONCE, self.client.deadline()).await.into_iter();
        let archived = |id: &str| Some(archive.as_ref()?.as_ref().map(|r| removed(id, r)).map_err(Clone::clone));
        together(items.iter().filter_map(|i| if i.erase { erased.next() } else { archived(&i.id) }).collect())
    }

    async fn archive(&self, object: &str, inputs: Vec<Input<'_>>) -> Result<Reply, TargetError> {
        let reply = self.post(format!("{}/{object}/batch/archive", self.objects), &Batch { inputs: &inputs }).await?;
        if reply.status.is_success() { Ok(reply) } else { Err(refused(&reply)) }
    }

    async fn erase(&self, object: &str, id: &str) -> Result<Single, TargetError> {
        let body = Erasure { object_id: id };
        let reply = self.post(format!("{}/{object}/gdpr-delete", self.objects), &body).await?;
        if reply.status.is_success() {
            return Ok(removed(id, &reply));
        }
        match refused(&reply) {
            error if error.disposition == Disposition::Gone => Ok(removed(id, &reply)),
            error => Err(error),
        }
    }
}

fn removed(id: &str, reply: &Reply) -> Single {
    let written = Written { id: Some(id.to_owned()), created: None, version: None, stored: None };
    (written, reply.date, quota(reply))
}

/// A status that these calls never answer with says nothing of what was applied.
fn refused(reply: &Reply) -> TargetError {
    if reply.status.is_client_error() || reply.status.is_server_error() {
        return errors::whole_call(reply, Effect::Write);
    }
    unclear("a status that this call never answers with")
}

fn unclear(why: &str) -> TargetError {
    TargetError::new("malformed_answer", why, Disposition::Unknown)
}

#[derive(Serialize)]
struct Batch<'a, T> {
    inputs: &'a [T],
}

/// One record of a batch.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sent<'a> {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id_property: Option<&'a str>,
    object_write_trace_id: &'a str,
    properties: BTreeMap<&'a str, Cow<'a, str>>,
}

impl<'a> Sent<'a> {
    fn create(item: &'a CreateItem, external_id_field: &'a str) -> Self {
        let mut properties = texts(&item.values);
        // The id sets it; named twice, it would be open which one holds.
        properties.remove(external_id_field);
        Self {
            id: item.external_id.hyphenated().to_string(),
            id_property: Some(external_id_field),
            object_write_trace_id: &item.trace,
            properties,
        }
    }

    fn update(item: &'a UpdateItem) -> Self {
        Self {
            id: item.id.clone(),
            id_property: None,
            object_write_trace_id: &item.trace,
            properties: texts(&item.values),
        }
    }

    /// Whether an answered record is this one, where the answer does not repeat the trace.
    fn is(&self, record: &Record) -> bool {
        match self.id_property {
            None => record.id == self.id,
            Some(name) => {
                record.properties.get(name).and_then(|v| v.as_str()).is_some_and(|v| v.eq_ignore_ascii_case(&self.id))
            }
        }
    }
}

/// Every value is text, and no value is the empty one.
fn texts(values: &NativeValues) -> BTreeMap<&str, Cow<'_, str>> {
    values.iter().map(|(name, value)| (&**name, value.to_plain())).collect()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Erasure<'a> {
    object_id: &'a str,
}

#[derive(Deserialize)]
struct BatchAnswer {
    status: String,
    #[serde(default)]
    results: Vec<Record>,
    #[serde(default)]
    errors: Vec<errors::Fault>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    #[serde(deserialize_with = "record_id")]
    id: String,
    updated_at: Option<String>,
    new: Option<bool>,
    object_write_trace_id: Option<String>,
    #[serde(default)]
    properties: HashMap<String, serde_json::Value>,
}

impl Record {
    fn written(&self, sent: &Sent<'_>) -> Written {
        let at: Option<Timestamp> = self.updated_at.as_deref().and_then(|t| t.parse().ok());
        let stored = sent.properties.keys().filter_map(|name| {
            let shown = self.properties.get(*name)?;
            Some((NativeName::from(*name), value(shown)))
        });
        Written {
            id: Some(self.id.clone()),
            created: self.new,
            version: at.map(|at| Version { at, resolution: Resolution::Ms }),
            stored: Some(stored.collect()),
        }
    }
}

impl BatchAnswer {
    /// One outcome per record sent. A record of which the answer says nothing may have been written.
    fn outcomes(&self, sent: &[Sent<'_>]) -> Vec<Outcome> {
        let traced: HashMap<&str, &Record> =
            self.results.iter().filter_map(|r| Some((r.object_write_trace_id.as_deref()?, r))).collect();
        let failed = errors::by_trace(&self.errors);
        let named = errors::by_id(&self.errors);
        let untraced = || self.results.iter().filter(|r| r.object_write_trace_id.is_none());
        sent.iter()
            .map(|item| {
                let record = traced.get(item.object_write_trace_id).copied();
                if let Some(record) = record.or_else(|| untraced().find(|r| item.is(r))) {
                    return Ok(record.written(item));
                }
                let fault = failed.get(item.object_write_trace_id).or_else(|| named.get(item.id.as_str()));
                Err(fault.map_or_else(|| self.silent(), |fault| fault.error()))
            })
            .collect()
    }

    fn silent(&self) -> TargetError {
        let why = format!("the batch is {} and does not tell of this record", self.status);
        TargetError::new("answer_incomplete", why, Disposition::Unknown)
    }
}
