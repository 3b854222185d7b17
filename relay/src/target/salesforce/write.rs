//! The packed writes: collection upsert by our external id, collection update and deletion by native id. Updates with a
//! precondition are made row by row beside them.
//!
//! Neither takes `Sforce-Auto-Assign`: the guide lists that header for single rows only, so a collection that sent it would
//! rely on something undocumented. Answers are matched by position, and an answer of another length proves nothing.

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use super::super::single::{Single, each, together};
use super::super::{
    Answered, CreateItem, DeleteItem, Disposition, NativeValues, TargetError, UpdateItem, WriteCall, WriteItems,
    Written,
};
use super::{Salesforce, errors, malformed, parse, quota, soql, type_of};
use crate::http::{Call, Effect};

/// Rows written one by one inside one call that run at once; the others wait.
const ROWS_AT_ONCE: usize = 8;

type Outcome = Result<Written, TargetError>;

impl Salesforce {
    pub(super) async fn write_records(&self, call: &WriteCall) -> Result<Answered<Outcome>, TargetError> {
        if call.items.is_empty() {
            return Ok(Answered { items: Vec::new(), date: None, quota: Vec::new() });
        }
        let sobject = type_of(&call.object)?;
        match &call.items {
            WriteItems::Create(items) => self.upsert(sobject, items).await,
            WriteItems::Update(items) if items.iter().any(|i| i.unless_changed.is_some()) => {
                self.update_each(sobject, items).await
            }
            WriteItems::Update(items) => self.update(sobject, &items.iter().collect::<Vec<_>>()).await,
            WriteItems::Delete(items) => self.delete(items).await,
        }
    }

    async fn upsert(&self, sobject: &'static str, items: &[CreateItem]) -> Result<Answered<Outcome>, TargetError> {
        let field = &self.external_id_field;
        let key = |id: &Uuid| Key::External { field, id: id.hyphenated().to_string() };
        let attributes = Attributes { sobject };
        let records = items.iter().map(|i| Record { attributes, key: key(&i.external_id), values: &i.values });
        let path = format!("{}/composite/sobjects/{sobject}/{field}", self.base);
        self.collection(path, records.collect()).await
    }

    async fn update(&self, sobject: &'static str, items: &[&UpdateItem]) -> Result<Answered<Outcome>, TargetError> {
        let attributes = Attributes { sobject };
        let records = items.iter().map(|i| Record { attributes, key: Key::Native(&i.id), values: &i.values });
        self.collection(format!("{}/composite/sobjects", self.base), records.collect()).await
    }

    /// Rows with a precondition one by one, the others in a collection.
    async fn update_each(&self, sobject: &'static str, items: &[UpdateItem]) -> Result<Answered<Outcome>, TargetError> {
        let free: Vec<&UpdateItem> = items.iter().filter(|i| i.unless_changed.is_none()).collect();
        let collected: Vec<Result<Single, TargetError>> = match self.free(sobject, &free).await {
            Ok(answered) => {
                let (date, quota) = (answered.date, answered.quota);
                answered.items.into_iter().map(|item| item.map(|w| (w, date, quota.clone()))).collect()
            }
            Err(error) => free.iter().map(|_| Err(error.clone())).collect(),
        };
        let guarded = items.iter().filter_map(|i| Some(self.write_row(sobject, i, i.unless_changed?))).collect();
        let mut guarded = each(guarded, ROWS_AT_ONCE, self.client.deadline()).await.into_iter();
        let mut collected = collected.into_iter();
        let next = |i: &UpdateItem| if i.unless_changed.is_some() { guarded.next() } else { collected.next() };
        together(items.iter().filter_map(next).collect())
    }

    async fn free(&self, sobject: &'static str, items: &[&UpdateItem]) -> Result<Answered<Outcome>, TargetError> {
        if items.is_empty() {
            return Ok(Answered { items: Vec::new(), date: None, quota: Vec::new() });
        }
        self.update(sobject, items).await
    }

    /// The bin keeps what is deleted for 15 days, for privacy too: only SOAP's `emptyRecycleBin` shortens that.
    async fn delete(&self, items: &[DeleteItem]) -> Result<Answered<Outcome>, TargetError> {
        let ids: Vec<Option<String>> = items.iter().map(|i| Some(soql::id18(&i.id)?.into_owned())).collect();
        let sent: Vec<&str> = ids.iter().flatten().map(String::as_str).collect();
        let mut answered = Answered { items: Vec::new(), date: None, quota: Vec::new() };
        if !sent.is_empty() {
            let path = format!("{}/composite/sobjects?ids={}&allOrNone=false", self.base, sent.join(","));
            let call = Call { effect: Effect::Write, method: Method::DELETE, path, headers: Vec::new(), body: None };
            answered = self.results(call, sent.len()).await?;
        }
        let mut results = std::mem::take(&mut answered.items).into_iter();
        answered.items = ids
            .into_iter()
            .map(|id| match id {
                Some(id) => deleted(id, results.next()),
                None => Err(TargetError::new("MALFORMED_ID", "not a Salesforce id", Disposition::Permanent)),
            })
            .collect();
        Ok(answered)
    }

    async fn collection(&self, path: String, records: Vec<Record<'_>>) -> Result<Answered<Outcome>, TargetError> {
        let count = records.len();
        let body = serde_json::to_vec(&Collection { all_or_none: false, records })
            .map_err(|e| TargetError::new("unsendable", e.to_string(), Disposition::Permanent))?;
        self.results(Call::json(Effect::Write, Method::PATCH, path, Bytes::from(body)), count).await
    }

    /// Makes a collection call and takes its answer apart.
    async fn results(&self, call: Call, count: usize) -> Result<Answered<Outcome>, TargetError> {
        let reply = self.send(call).await?;
        if reply.status.is_client_error() || reply.status.is_server_error() {
            return Err(errors::whole_call(&reply, Effect::Write));
        }
        if reply.status != StatusCode::OK {
            return Err(malformed("a status that a collection never answers with", Effect::Write));
        }
        let results: Vec<SaveResult> = parse(&reply, Effect::Write)?;
        if results.len() != count {
            return Err(malformed("another number of results than records were sent", Effect::Write));
        }
        let items = results.into_iter().map(SaveResult::written).collect();
        Ok(Answered { items, date: reply.date, quota: quota(&reply) })
    }
}

/// A row that is gone already is as good as deleted.
fn deleted(id: String, result: Option<Outcome>) -> Outcome {
    match result {
        Some(Err(error)) if error.disposition != Disposition::Gone => Err(error),
        Some(_) => Ok(Written { id: Some(id), created: None, version: None, stored: None }),
        None => Err(malformed("fewer results than records were sent", Effect::Write)),
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
pub(super) struct SaveResult {
    id: Option<String>,
    success: bool,
    created: Option<bool>,
    #[serde(default)]
    errors: Vec<errors::Fault>,
}

impl SaveResult {
    pub(super) fn written(self) -> Result<Written, TargetError> {
        if !self.success {
            return Err(errors::record(self.errors));
        }
        let id = self.id.as_deref().and_then(soql::id18).map(std::borrow::Cow::into_owned);
        Ok(Written { id, created: self.created, version: None, stored: None })
    }
}
