//! The two packed writes: collection upsert by our external id, collection update by native id.
//!
//! Neither takes `Sforce-Auto-Assign`: the guide lists that header for single rows only, so a collection that sent it would
//! rely on something undocumented. Answers are matched by position, and an answer of another length proves nothing.

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use super::super::{Answered, Disposition, NativeValues, TargetError, WriteCall, WriteItems, Written};
use super::{Salesforce, errors, malformed, parse, quota, soql, type_of};
use crate::http::{Call, Effect};

impl Salesforce {
    pub(super) async fn write_records(
        &self,
        call: &WriteCall,
    ) -> Result<Answered<Result<Written, TargetError>>, TargetError> {
        if call.items.is_empty() {
            return Ok(Answered { items: Vec::new(), date: None, quota: Vec::new() });
        }
        let sobject = type_of(&call.object)?;
        let (path, body) = self.collection(sobject, &call.items)?;
        let reply = self.send(Call::json(Effect::Write, Method::PATCH, path, body)).await?;
        if reply.status.is_client_error() || reply.status.is_server_error() {
            return Err(errors::whole_call(&reply, Effect::Write));
        }
        if reply.status != StatusCode::OK {
            return Err(malformed("a status that a collection never answers with", Effect::Write));
        }
        let results: Vec<SaveResult> = parse(&reply, Effect::Write)?;
        if results.len() != call.items.len() {
            return Err(malformed("another number of results than records were sent", Effect::Write));
        }
        let items = results.into_iter().map(SaveResult::written).collect();
        Ok(Answered { items, date: reply.date, quota: quota(&reply) })
    }

    fn collection(&self, sobject: &'static str, items: &WriteItems) -> Result<(String, Bytes), TargetError> {
        let attributes = Attributes { sobject };
        let (path, records) = match items {
            WriteItems::Create(items) => {
                let field = &self.external_id_field;
                let path = format!("{}/composite/sobjects/{sobject}/{field}", self.base);
                let key = |id: &Uuid| Key::External { field, id: id.hyphenated().to_string() };
                let record = |values, key| Record { attributes, key, values };
                (path, items.iter().map(|i| record(&i.values, key(&i.external_id))).collect())
            }
            WriteItems::Update(items) => {
                let path = format!("{}/composite/sobjects", self.base);
                let records: Vec<_> =
                    items.iter().map(|i| Record { attributes, key: Key::Native(&i.id), values: &i.values }).collect();
                (path, records)
            }
        };
        let body = serde_json::to_vec(&Collection { all_or_none: false, records })
            .map_err(|e| TargetError::new("unsendable", e.to_string(), Disposition::Permanent))?;
        Ok((path, Bytes::from(body)))
    }
}

/// The body of a collection call.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Collection<'a> {
    all_or_none: bool,
    records: Vec<Record<'a>>,
}

struct Record<'a> {
    attributes: Attributes,
    key: Key<'a>,
    values: &'a NativeValues,
}

#[derive(Clone, Copy, Serialize)]
struct Attributes {
    #[serde(rename = "type")]
    sobject: &'static str,
}

enum Key<'a> {
    External { field: &'a str, id: String },
    Native(&'a str),
}

impl Key<'_> {
    const fn pair(&self) -> (&str, &str) {
        match self {
            Self::External { field, id } => (field, id.as_str()),
            Self::Native(id) => ("id", id),
        }
    }
}

impl Serialize for Record<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (field, id) = self.key.pair();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("attributes", &self.attributes)?;
        map.serialize_entry(field, id)?;
        // A key named twice would leave it to the parser there which one holds.
        for (name, value) in self.values.iter().filter(|(name, _)| !name.eq_ignore_ascii_case(field)) {
            map.serialize_entry(&**name, value)?;
        }
        map.end()
    }
}

/// What became of one record.
#[derive(Deserialize)]
struct SaveResult {
    id: Option<String>,
    success: bool,
    created: Option<bool>,
    #[serde(default)]
    errors: Vec<errors::Fault>,
}

impl SaveResult {
    fn written(self) -> Result<Written, TargetError> {
        if !self.success {
            return Err(errors::record(self.errors));
        }
        let id = self.id.map(|id| soql::id18(&id).map(std::borrow::Cow::into_owned).unwrap_or(id));
        Ok(Written { id, created: self.created, version: None, stored: None })
    }
}
