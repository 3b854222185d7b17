//! Change events of Salesforce's Change Data Capture, sent on as signed JSON by a relay of events or by code in the org.
//!
//! Facts come from Salesforce's Change Data Capture Developer Guide and the utilities of its Pub/Sub API. It must not know
//! signatures. Two forms exist: in the one only changed fields are present and a null clears; in the other all fields are
//! present, and the header says which changed, which were cleared, and which hold a difference instead of a value. The
//! surprising thing: those lists may be bitmaps over the order of the fields, so that order is kept.

use headgate_schemas::change::{FieldChange, Object, SequenceKind};
use headgate_schemas::{Change, ChangeKind, Resolution, Timestamp, Value};
use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::id::id18;
use super::neutral;
use crate::config::{EndpointConfig, Owner};
use crate::provider::json::NAME_BYTES;
use crate::provider::{Arrival, Call, Malformed, Reading, TIMES, bounded, nests_within_limit, object};

const HEADER: &str = "ChangeEventHeader";
/// Records that one event may name. The guide merges equal changes of one transaction.
const RECORDS: usize = 1_000;
/// Highest bit of a bitmap: objects have 800 fields of their own at most.
const BITS: usize = 2_048;

const NO_HEADER: Malformed = Malformed("the change event's header is not what Salesforce documents");

type Fields<'a> = IndexMap<String, &'a RawValue>;

/// The places an event may stand in: alone, as the payload of a streaming message, or as the detail of a relayed one.
#[derive(Deserialize)]
struct Outer<'a> {
    #[serde(rename = "ChangeEventHeader", borrow, default)]
    header: Option<&'a RawValue>,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
    #[serde(borrow, default)]
    detail: Option<&'a RawValue>,
    #[serde(borrow, default)]
    event: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    entity_name: String,
    record_ids: Vec<String>,
    change_type: String,
    #[serde(default)]
    change_origin: Option<String>,
    transaction_key: String,
    sequence_number: u64,
    commit_timestamp: i64,
    #[serde(default)]
    commit_user: Option<String>,
    #[serde(default)]
    nulled_fields: Option<Vec<String>>,
    #[serde(default)]
    diff_fields: Option<Vec<String>>,
    #[serde(default)]
    changed_fields: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "EventUuid", default)]
    uuid: Option<String>,
}

/// Reads a body that is a change event; none where it is something else.
pub(crate) fn read(
    call: &Call<'_>,
    endpoint: &EndpointConfig,
    received_at: Timestamp,
) -> Result<Option<Reading>, Malformed> {
    if !nests_within_limit(call.body) || call.body.trim_ascii_start().first() != Some(&b'{') {
        return Ok(None);
    }
    let Ok(body) = std::str::from_utf8(call.body) else { return Ok(None) };
    let Some((fields, outer)) = locate(body, 2) else { return Ok(None) };
    let header = fields.get(HEADER).ok_or(NO_HEADER)?;
    let header: Header = serde_json::from_str(header.get()).map_err(|_| NO_HEADER)?;
    let uuid = outer.event.and_then(|event| serde_json::from_str::<Envelope>(event.get()).ok()?.uuid);
    let owner = endpoint.owners.sole().ok_or(Malformed("these events name no account"))?;
    header.reading(&Arrival::new(call, endpoint, received_at, header.record_ids.len().max(1)), owner, &fields, uuid)
}

/// The fields of the event inside `body`, and what stands around them.
fn locate(body: &str, depth: usize) -> Option<(Fields<'_>, Outer<'_>)> {
    let outer: Outer<'_> = serde_json::from_str(body).ok()?;
    if outer.header.is_some() {
        return Some((serde_json::from_str(body).ok()?, outer));
    }
    let inner = outer.payload.or(outer.detail).filter(|_| depth > 0)?;
    let (fields, around) = locate(inner.get(), depth - 1)?;
    let event = outer.event.or(around.event);
    Some((fields, Outer { event, ..outer }))
}

impl Header {
    fn reading(
        &self,
        arrival: &Arrival<'_>,
        owner: &Owner,
        fields: &Fields<'_>,
        uuid: Option<String>,
    ) -> Result<Option<Reading>, Malformed> {
        let plain =
            |text: &str| !text.is_empty() && text.len() <= NAME_BYTES && text.bytes().all(|b| b.is_ascii_graphic());
        if self.record_ids.len() > RECORDS || !plain(&self.entity_name) || !TIMES.contains(&self.commit_timestamp) {
            return Err(NO_HEADER);
        }
        let Some(told) = Told::of(&self.change_type) else {
            return Ok(Some(Reading { unknown: 1, ..Reading::default() }));
        };
        let (fields, incomplete) = if told.values { self.fields(fields)? } else { (IndexMap::new(), true) };
        // Too many changes to name them: no id at all, and everything of the type has to be looked at.
        let nobody = [String::new()];
        let ids = if self.record_ids.is_empty() { &nobody[..] } else { &self.record_ids };
        let mut changes = Vec::with_capacity(ids.len());
        for (index, id) in ids.iter().enumerate() {
            let record = if told.kind == ChangeKind::Resync { None } else { id18(id) };
            // A wildcard stands for records that nobody lists.
            let kind = if record.is_some() { told.kind } else { ChangeKind::Resync };
            let mut change = self.change(arrival, owner, index, kind, record, uuid.as_deref(), id);
            change.needs_fetch = match kind {
                ChangeKind::Deleted => false,
                ChangeKind::Resync => true,
                _ => incomplete,
            };
            if kind != ChangeKind::Resync {
                change.fields_complete = !incomplete && matches!(kind, ChangeKind::Created | ChangeKind::Restored);
                change.fields.clone_from(&fields);
            }
            changes.push(change);
        }
        Ok(Some(Reading { changes, ..Reading::default() }))
    }

    #[expect(clippy::too_many_arguments, reason = "one change needs the parts of all three levels of an event")]
    fn change(
        &self,
        arrival: &Arrival<'_>,
        owner: &Owner,
        index: usize,
        kind: ChangeKind,
        record: Option<String>,
        uuid: Option<&str>,
        told_id: &str,
    ) -> Change {
        let entity = neutral(&self.entity_name);
        let subject = match &record {
            Some(id) => object(entity, &self.entity_name, id),
            None => Object { kind: entity, native_type: self.entity_name.clone(), id: None },
        };
        let place = self.sequence_number.to_string();
        let key = match uuid {
            Some(uuid) => vec!["event", uuid, told_id],
            None => vec![self.transaction_key.as_str(), &place, &self.entity_name, told_id],
        };
        let mut change = arrival.change(owner, index, kind, subject, key.into_iter().map(str::as_bytes));
        change.occurred_at = Some(Timestamp::from_millis(self.commit_timestamp));
        change.occurred_at_resolution = Resolution::Ms;
        change.sequence = Some(format!("{:020}{:020}", self.commit_timestamp, self.sequence_number));
        change.sequence_kind = SequenceKind::Time;
        change.origin.actor = self.commit_user.as_deref().map(|user| bounded(user, NAME_BYTES));
        let client = self.change_origin.as_deref().and_then(|origin| origin.split_once("client="));
        change.origin.client = client.map(|(_, client)| bounded(client, NAME_BYTES)).filter(|c| !c.is_empty());
        change.correlation = Some(bounded(&self.transaction_key, NAME_BYTES));
        change
    }

    /// The fields that changed, and whether some of them have to be read from the record.
    fn fields(&self, payload: &Fields<'_>) -> Result<(IndexMap<String, FieldChange>, bool), Malformed> {
        let changed = self.named(self.changed_fields.as_deref(), payload)?;
        let nulled = self.named(self.nulled_fields.as_deref(), payload)?;
        let differing = self.named(self.diff_fields.as_deref(), payload)?.unwrap_or_default();
        let mut out = IndexMap::new();
        let mut incomplete = !differing.is_empty();
        for (name, raw) in payload.iter().filter(|(name, _)| *name != HEADER) {
            let value: Value = serde_json::from_str(raw.get()).map_err(|_| Malformed("a field is not JSON"))?;
            for (path, field, value) in parts(name, value) {
                let listed = |list: &[String]| list.iter().any(|known| *known == path || *known == *name);
                if listed(&differing) {
                    continue;
                }
                // Where the header lists what was cleared, any other null says nothing.
                let silent = value.is_null() && nulled.as_ref().is_some_and(|nulled| !listed(nulled));
                if silent
                    || changed.as_ref().is_some_and(|changed| !listed(changed))
                        && !nulled.as_ref().is_some_and(|n| listed(n))
                {
                    continue;
                }
                out.insert(field, FieldChange::to(value));
            }
        }
        incomplete |= out.is_empty();
        Ok((out, incomplete))
    }

    /// A list of the header by names; bitmaps are read over the order of the fields.
    fn named(&self, list: Option<&[String]>, payload: &Fields<'_>) -> Result<Option<Vec<String>>, Malformed> {
        let Some(list) = list else { return Ok(None) };
        if !list.iter().any(|entry| is_bitmap(entry)) {
            return Ok(Some(list.to_vec()));
        }
        let names: Vec<&str> = payload.keys().map(String::as_str).collect();
        let nested = |name: &str| {
            let inner: Option<Fields<'_>> = payload.get(name).and_then(|raw| serde_json::from_str(raw.get()).ok());
            inner.map(|fields| fields.keys().cloned().collect()).unwrap_or_default()
        };
        expand(list, &names, nested).map(Some)
    }
}

/// What a type of change tells.
#[derive(Clone, Copy)]
struct Told {
    kind: ChangeKind,
    /// Fields come with it.
    values: bool,
}

impl Told {
    fn of(change_type: &str) -> Option<Self> {
        let (kind, values) = match change_type {
            "CREATE" => (ChangeKind::Created, true),
            "UPDATE" => (ChangeKind::Updated, true),
            "UNDELETE" => (ChangeKind::Restored, true),
            "DELETE" => (ChangeKind::Deleted, false),
            // Gaps name records and nothing else: too large, an internal error, a change behind the application's back.
            "GAP_CREATE" => (ChangeKind::Created, false),
            "GAP_UPDATE" => (ChangeKind::Updated, false),
            "GAP_UNDELETE" => (ChangeKind::Restored, false),
            "GAP_DELETE" => (ChangeKind::Deleted, false),
            "GAP_OVERFLOW" => (ChangeKind::Resync, false),
            _ => return None,
        };
        Some(Self { kind, values })
    }
}

/// A field as the lists of the header name it, as a record names it, and its value. A person's name and addresses come
/// in parts that records hold as fields of their own.
fn parts(name: &str, value: Value) -> Vec<(String, String, Value)> {
    let prefix = match name {
        "Name" => Some(""),
        _ => name.strip_suffix("Address"),
    };
    match (prefix, value) {
        (Some(prefix), Value::Map(map)) => {
            map.into_iter().map(|(part, value)| (format!("{name}.{part}"), format!("{prefix}{part}"), value)).collect()
        }
        (_, value) => vec![(name.to_owned(), name.to_owned(), value)],
    }
}

fn is_bitmap(entry: &str) -> bool {
    let hex = entry.split_once('-').map_or(entry, |(_, hex)| hex);
    hex.starts_with("0x")
}

/// The names behind bitmaps: `0x…` over `fields`, `n-0x…` over the parts of field `n`. The lowest bit is the first.
pub(crate) fn expand(
    bitmaps: &[String],
    fields: &[&str],
    nested: impl Fn(&str) -> Vec<String>,
) -> Result<Vec<String>, Malformed> {
    const WRONG: Malformed = Malformed("a bitmap of fields is not what Salesforce documents");
    let mut names = Vec::new();
    for bitmap in bitmaps {
        match bitmap.split_once('-') {
            None => {
                for bit in bits(bitmap).ok_or(WRONG)? {
                    names.push((*fields.get(bit).ok_or(WRONG)?).to_owned());
                }
            }
            Some((place, bitmap)) => {
                let field = *place.parse::<usize>().ok().and_then(|place| fields.get(place)).ok_or(WRONG)?;
                let parts = nested(field);
                for bit in bits(bitmap).ok_or(WRONG)? {
                    names.push(format!("{field}.{}", parts.get(bit).ok_or(WRONG)?));
                }
            }
        }
    }
    Ok(names)
}

/// The places of the bits that are set, lowest first.
fn bits(bitmap: &str) -> Option<Vec<usize>> {
    let digits = bitmap.strip_prefix("0x").filter(|digits| !digits.is_empty() && digits.len() * 4 <= BITS)?;
    let mut set = Vec::new();
    for (place, digit) in digits.bytes().rev().enumerate() {
        let nibble = char::from(digit).to_digit(16)?;
        set.extend((0..4).filter(|bit| nibble >> bit & 1 == 1).map(|bit| place * 4 + bit));
    }
    Some(set)
}
