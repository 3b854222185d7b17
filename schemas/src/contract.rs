//! The wire form of a change: CloudEvents 1.0, binary mode. Attributes are `ce_` headers, the data is JSON without the
//! attributes lifted into headers. The key is `tenant/system/account/object/id`, so one record stays in one partition.

use std::borrow::Cow;

use bytes::Bytes;
use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, schema_for};
use serde::{Deserialize, Serialize};

use crate::change::{
    Batch, Change, ChangeKind, Channel, FieldChange, Link, Merge, Object, Origin, Ours, Raw, SCHEMA_VERSION,
    SequenceKind, Source,
};
use crate::id::{ChangeId, ObjectType, System};
use crate::time::{Resolution, Timestamp};

/// Topic of the changes.
pub const CHANGES_TOPIC: &str = "headgate.changes";
/// Topic of the endpoints and connections that gateways need (compacted).
pub const CONTROL_TOPIC: &str = "headgate.control";
/// Partitions a topic gets when it is created.
pub const DEFAULT_PARTITIONS: u32 = 24;
/// `ce_dataschema` of the data.
pub const DATA_SCHEMA: &str = "urn:headgate:schema:change:v1";

/// Names of the headers that [`encode`] writes. Their places are part of the embedded log's format: names are added at the
/// end, never moved and never removed.
pub(crate) const HEADER_NAMES: [&str; 18] = [
    "ce_specversion",
    "ce_id",
    "ce_source",
    "ce_type",
    "ce_subject",
    "ce_time",
    "ce_receivedtime",
    "ce_partitionkey",
    "ce_tenant",
    "ce_system",
    "ce_account",
    "ce_channel",
    "ce_dataschema",
    "content-type",
    "ce_sequence",
    "ce_attempt",
    "ce_traceparent",
    "ce_late",
];

/// The name of a header that was read: nothing is copied for those that every change has.
pub fn header_name(name: &str) -> Cow<'static, str> {
    HEADER_NAMES.into_iter().find(|known| *known == name).map_or_else(|| Cow::Owned(name.to_owned()), Cow::Borrowed)
}

/// Headers in the order they were written. Names are `ce_…` or `content-type`.
pub type Headers = Vec<(Cow<'static, str>, String)>;

/// A change as it is written: key, headers, data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Partition key.
    pub key: String,
    /// The record's timestamp: when the gateway received the change.
    pub at: Timestamp,
    /// CloudEvents attributes.
    pub headers: Headers,
    /// JSON data.
    pub body: Bytes,
}

impl Record {
    /// The value of the first header called `name`.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Bytes that count towards limits: key, headers and body.
    pub fn len(&self) -> usize {
        self.key.len() + self.headers.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>() + self.body.len()
    }

    /// Whether it carries nothing at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Marks it as published after a newer change of its record.
    pub fn mark_late(&mut self) {
        self.headers.push((Cow::Borrowed("ce_late"), "true".to_owned()));
    }
}

/// The partition of a key: 32-bit murmur2 as Kafka's Java clients compute it, so that every engine agrees.
pub fn partition(key: &str, partitions: u32) -> u32 {
    (murmur2(key.as_bytes()) & 0x7fff_ffff) % partitions.max(1)
}

/// 32-bit murmur2 with the seed of Kafka's clients (`org.apache.kafka.common.utils.Utils.murmur2`).
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut h: u32 = 0x9747_b28c ^ length;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    for (i, byte) in tail.iter().enumerate() {
        h ^= u32::from(*byte) << (8 * i);
    }
    if !tail.is_empty() {
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

/// The JSON data of a change, version 1: the envelope without what stands in the headers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Data {
    /// Envelope version, `1.0`.
    pub schema: Cow<'static, str>,
    /// Which account, through which connection.
    pub source: Source,
    /// The record.
    pub object: Object,
    /// What happened.
    pub change: ChangeKind,
    /// Fields by the provider's names.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub fields: IndexMap<String, FieldChange>,
    /// `fields` is the whole record.
    pub fields_complete: bool,
    /// `fields` is the state at delivery, not what this change set.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub state: bool,
    /// Values are missing: read the record.
    pub needs_fetch: bool,
    /// For merges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge: Option<Merge>,
    /// For links.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<Link>,
    /// The provider's time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occurred_at: Option<Timestamp>,
    /// How fine it is.
    pub occurred_at_resolution: Resolution,
    /// What the sequence promises.
    pub sequence_kind: SequenceKind,
    /// Who made it.
    pub origin: Origin,
    /// Transaction or correlation id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<String>,
    /// The request it came in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Batch>,
    /// The original body.
    pub raw: Raw,
}

/// The JSON Schema of [`Data`], named [`DATA_SCHEMA`]. `json/change.v1.json` is this, checked in.
pub fn data_schema() -> Schema {
    let mut schema = schema_for!(Data);
    schema.insert("$id".to_owned(), DATA_SCHEMA.into());
    schema
}

/// Why a record of the stream is no change.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// A required attribute is missing.
    #[error("header {0} is missing")]
    Missing(&'static str),
    /// An attribute is not what it should be.
    #[error("header {0} is malformed")]
    Malformed(&'static str),
    /// The data is not the JSON of a change.
    #[error("the data is not a change of version 1: {0}")]
    Data(#[from] serde_json::Error),
}

/// Writes a change.
///
/// # Errors
/// Only when a value cannot be written as JSON, which no constructor of [`Change`] allows.
pub fn encode(change: &Change) -> Result<Record, serde_json::Error> {
    let record = change.record();
    let key = record.to_string();
    let text = |name: &'static str, value: &str| (Cow::Borrowed(name), value.to_owned());
    let mut headers: Headers = Vec::with_capacity(18);
    headers.push(text("ce_specversion", "1.0"));
    headers.push(text("ce_id", &change.id.to_string()));
    headers.push(text("ce_source", &format!("/in/{}/{}", change.source.system, change.source.account)));
    headers.push(text("ce_type", &event_type(&change.object.kind, change.kind)));
    headers.push(text("ce_subject", &format!("{}/{}", record.object, record.id)));
    headers.push(text("ce_time", &change.occurred_at.unwrap_or(change.received_at).to_string()));
    headers.push(text("ce_receivedtime", &change.received_at.to_string()));
    headers.push(text("ce_partitionkey", &key));
    headers.push(text("ce_tenant", &change.tenant));
    headers.push(text("ce_system", change.source.system.as_str()));
    headers.push(text("ce_account", &change.source.account));
    headers.push(text("ce_channel", change.channel.as_str()));
    headers.push(text("ce_dataschema", DATA_SCHEMA));
    headers.push(text("content-type", "application/json"));
    if let Some(sequence) = &change.sequence {
        headers.push(text("ce_sequence", sequence));
    }
    if let Some(attempt) = change.attempt {
        headers.push(text("ce_attempt", &attempt.to_string()));
    }
    if let Some(trace) = &change.traceparent {
        headers.push(text("ce_traceparent", trace));
    }
    let mut out = Record { key, at: change.received_at, headers, body: Bytes::from(data(change)?) };
    if change.late {
        out.mark_late();
    }
    Ok(out)
}

/// `headgate.crm.<object>.<kind>.v1`
pub fn event_type(object: &ObjectType, kind: ChangeKind) -> String {
    format!("headgate.crm.{object}.{kind}.v1")
}

fn data(change: &Change) -> Result<Vec<u8>, serde_json::Error> {
    /// [`Data`] by reference: encoding copies nothing.
    #[derive(Serialize)]
    struct DataRef<'a> {
        schema: &'static str,
        source: &'a Source,
        object: &'a Object,
        change: ChangeKind,
        #[serde(skip_serializing_if = "IndexMap::is_empty")]
        fields: &'a IndexMap<String, FieldChange>,
        fields_complete: bool,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        state: bool,
        needs_fetch: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        merge: Option<&'a Merge>,
        #[serde(skip_serializing_if = "Option::is_none")]
        link: Option<&'a Link>,
        #[serde(skip_serializing_if = "Option::is_none")]
        occurred_at: Option<Timestamp>,
        occurred_at_resolution: Resolution,
        sequence_kind: SequenceKind,
        origin: &'a Origin,
        #[serde(skip_serializing_if = "Option::is_none")]
        correlation: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        batch: Option<&'a Batch>,
        raw: &'a Raw,
    }
    serde_json::to_vec(&DataRef {
        schema: SCHEMA_VERSION,
        source: &change.source,
        object: &change.object,
        change: change.kind,
        fields: &change.fields,
        fields_complete: change.fields_complete,
        state: change.state,
        needs_fetch: change.needs_fetch,
        merge: change.merge.as_ref(),
        link: change.link.as_ref(),
        occurred_at: change.occurred_at,
        occurred_at_resolution: change.occurred_at_resolution,
        sequence_kind: change.sequence_kind,
        origin: &change.origin,
        correlation: change.correlation.as_deref(),
        batch: change.batch.as_ref(),
        raw: &change.raw,
    })
}

/// Reads a change back.
///
/// # Errors
/// [`DecodeError`] when the record was not written by [`encode`] of this or an earlier version.
pub fn decode(record: &Record) -> Result<Change, DecodeError> {
    let found = Attributes::of(record);
    let required = |name, found: Option<_>| found.ok_or(DecodeError::Missing(name));
    let data: Data = serde_json::from_slice(&record.body)?;
    let channel = match required("ce_channel", found.channel)? {
        "webhook" => Channel::Webhook,
        "poll" => Channel::Poll,
        "backfill" => Channel::Backfill,
        "import" => Channel::Import,
        "replay" => Channel::Replay,
        _ => return Err(DecodeError::Malformed("ce_channel")),
    };
    let system: System =
        required("ce_system", found.system)?.parse().map_err(|_| DecodeError::Malformed("ce_system"))?;
    if system != data.source.system {
        return Err(DecodeError::Malformed("ce_system"));
    }
    Ok(Change {
        id: required("ce_id", found.id)?.parse::<ChangeId>().map_err(|_| DecodeError::Malformed("ce_id"))?,
        tenant: required("ce_tenant", found.tenant)?.to_owned(),
        source: data.source,
        object: data.object,
        kind: data.change,
        fields: data.fields,
        fields_complete: data.fields_complete,
        state: data.state,
        needs_fetch: data.needs_fetch,
        merge: data.merge,
        link: data.link,
        occurred_at: data.occurred_at,
        occurred_at_resolution: data.occurred_at_resolution,
        received_at: required("ce_receivedtime", found.received)?
            .parse()
            .map_err(|_| DecodeError::Malformed("ce_receivedtime"))?,
        sequence: found.sequence.map(str::to_owned),
        sequence_kind: data.sequence_kind,
        origin: data.origin,
        correlation: data.correlation,
        batch: data.batch,
        attempt: match found.attempt {
            Some(text) => Some(text.parse().map_err(|_| DecodeError::Malformed("ce_attempt"))?),
            None => None,
        },
        raw: data.raw,
        channel,
        late: found.late == Some("true"),
        traceparent: found.trace.map(str::to_owned),
    })
}

/// The headers that a change is read from, found in one go.
#[derive(Default)]
struct Attributes<'a> {
    id: Option<&'a str>,
    tenant: Option<&'a str>,
    system: Option<&'a str>,
    channel: Option<&'a str>,
    received: Option<&'a str>,
    sequence: Option<&'a str>,
    attempt: Option<&'a str>,
    late: Option<&'a str>,
    trace: Option<&'a str>,
}

impl<'a> Attributes<'a> {
    fn of(record: &'a Record) -> Self {
        let mut found = Self::default();
        for (name, value) in &record.headers {
            let place = match &**name {
                "ce_id" => &mut found.id,
                "ce_tenant" => &mut found.tenant,
                "ce_system" => &mut found.system,
                "ce_channel" => &mut found.channel,
                "ce_receivedtime" => &mut found.received,
                "ce_sequence" => &mut found.sequence,
                "ce_attempt" => &mut found.attempt,
                "ce_late" => &mut found.late,
                "ce_traceparent" => &mut found.trace,
                _ => continue,
            };
            // The first of a name counts.
            place.get_or_insert(value);
        }
        found
    }
}

/// A small valid change for tests and examples of this workspace: HubSpot contact 7001, job title set to CTO.
pub fn example() -> Change {
    Change {
        id: ChangeId::derive(System::Hubspot, "5550123", [b"example".as_slice()]),
        tenant: "acme".to_owned(),
        source: Source {
            system: System::Hubspot,
            account: "5550123".to_owned(),
            connection: "hubspot-main".to_owned(),
        },
        object: Object { kind: ObjectType::CONTACT, native_type: "contact".to_owned(), id: Some("7001".to_owned()) },
        kind: ChangeKind::Updated,
        fields: IndexMap::from([("jobtitle".to_owned(), FieldChange::to("CTO".into()))]),
        fields_complete: false,
        state: false,
        needs_fetch: false,
        merge: None,
        link: None,
        occurred_at: Some(Timestamp::from_millis(1_767_268_798_500)),
        occurred_at_resolution: Resolution::Ms,
        received_at: Timestamp::from_micros(1_767_268_798_700_001),
        sequence: Some("00000001767268798500".to_owned()),
        sequence_kind: SequenceKind::Time,
        origin: Origin { actor: Some("userId:31".to_owned()), client: Some("CRM_UI".to_owned()), ours: Ours::Unknown },
        correlation: None,
        batch: Some(Batch { id: "r1".to_owned(), index: 0, size: 1 }),
        attempt: Some(1),
        raw: Raw { reference: None, sha256: "00".repeat(32), content_type: "application/json".to_owned(), bytes: 212 },
        channel: Channel::Webhook,
        late: false,
        traceparent: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_survives_the_wire() {
        let mut change = example();
        assert_eq!(decode(&encode(&change).unwrap()).unwrap(), change);
        change.late = true;
        change.merge = Some(Merge { into: "1".into(), from: vec!["2".into()] });
        change.occurred_at = None;
        change.occurred_at_resolution = Resolution::None;
        assert_eq!(decode(&encode(&change).unwrap()).unwrap(), change);
    }

    #[test]
    fn partitions_are_those_of_javas_kafka_client() {
        // Known values of org.apache.kafka.common.utils.Utils.murmur2 (its own unit test).
        assert_eq!(murmur2(b"21"), 0u32.wrapping_sub(973_932_308));
        assert_eq!(murmur2(b"foobar"), 0u32.wrapping_sub(790_332_482));
        assert_eq!(murmur2(b"a-little-bit-long-string"), 0u32.wrapping_sub(985_981_536));
    }
}
