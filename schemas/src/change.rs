//! The change: one change of one record in one CRM, in neutral form. Field names and values are the provider's own;
//! mapping them is the relay's work.

use std::fmt;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::id::{ChangeId, ObjectType, RecordKey, System};
use crate::time::{Resolution, Timestamp};
use crate::value::Value;

/// Version of the envelope: the minor number rises with additions only.
pub const SCHEMA_VERSION: &str = "1.0";

/// What happened to the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// It was created.
    Created,
    /// Some of its fields were set.
    Updated,
    /// It was deleted (softly).
    Deleted,
    /// A delete was undone.
    Restored,
    /// Records were merged; see [`Change::merge`].
    Merged,
    /// A link to another record was made; see [`Change::link`].
    Linked,
    /// A link was taken away; see [`Change::link`].
    Unlinked,
    /// It was erased for privacy.
    Purged,
    /// Something changed, what is unknown.
    Touched,
    /// Events were missed (gap, overflow); a whole type may have to be read again.
    Resync,
}

impl ChangeKind {
    /// All kinds.
    pub const ALL: [Self; 10] = [
        Self::Created,
        Self::Updated,
        Self::Deleted,
        Self::Restored,
        Self::Merged,
        Self::Linked,
        Self::Unlinked,
        Self::Purged,
        Self::Touched,
        Self::Resync,
    ];

    /// The kind called `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The name used in the event type.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Deleted => "deleted",
            Self::Restored => "restored",
            Self::Merged => "merged",
            Self::Linked => "linked",
            Self::Unlinked => "unlinked",
            Self::Purged => "purged",
            Self::Touched => "touched",
            Self::Resync => "resync",
        }
    }
}

impl fmt::Display for ChangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One change of one record. Batches, merged record lists and multi-property arrays are split into changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Deterministic id: a redelivery has the same one.
    pub id: ChangeId,
    /// Our customer; from the connection, never from the body.
    pub tenant: String,
    /// Which account of which system, received through which connection.
    pub source: Source,
    /// The record.
    pub object: Object,
    /// What happened.
    pub kind: ChangeKind,
    /// Fields by the provider's names. Absent: unchanged or unknown.
    pub fields: IndexMap<String, FieldChange>,
    /// `fields` is the whole record.
    pub fields_complete: bool,
    /// `fields` is the state at delivery, not what this change set: a field in it may be older than the change.
    pub state: bool,
    /// Values are missing (touched, gap, oversize, redacted): the record must be read.
    pub needs_fetch: bool,
    /// For [`ChangeKind::Merged`].
    pub merge: Option<Merge>,
    /// For [`ChangeKind::Linked`] and [`ChangeKind::Unlinked`].
    pub link: Option<Link>,
    /// When it happened, by the provider's clock.
    pub occurred_at: Option<Timestamp>,
    /// How fine `occurred_at` is; [`Resolution::None`] exactly when it is absent.
    pub occurred_at_resolution: Resolution,
    /// First byte of the request at the gateway, by our clock.
    pub received_at: Timestamp,
    /// Fixed width, compares as text inside one channel of one record.
    pub sequence: Option<String>,
    /// What `sequence` promises.
    pub sequence_kind: SequenceKind,
    /// Who made the change.
    pub origin: Origin,
    /// Transaction or correlation id of the provider.
    pub correlation: Option<String>,
    /// The request it came in.
    pub batch: Option<Batch>,
    /// The provider's attempt, from 1.
    pub attempt: Option<u32>,
    /// The original body.
    pub raw: Raw,
    /// The way it came.
    pub channel: Channel,
    /// A newer change of the same record was published before this one.
    pub late: bool,
    /// W3C trace context of the request, if it had one.
    pub traceparent: Option<String>,
}

impl Change {
    /// The key of the record: `tenant/system/account/object/id`.
    pub fn record(&self) -> RecordKey {
        RecordKey {
            tenant: self.tenant.clone(),
            system: self.source.system,
            account: self.source.account.clone(),
            object: self.object.kind.clone(),
            id: self.object.id.clone().unwrap_or_default(),
        }
    }
}

/// Where a change comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Source {
    /// The system.
    pub system: System,
    /// The provider's account id in canonical form.
    pub account: String,
    /// Name of the connection that received it.
    pub connection: String,
}

/// The record a change is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Object {
    /// Our type name.
    #[serde(rename = "type")]
    pub kind: ObjectType,
    /// The provider's type name.
    pub native_type: String,
    /// The provider's id, always text; absent only for `resync`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// A field's new value, and the old one where the provider sends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FieldChange {
    /// The new value; null: cleared.
    pub value: Value,
    /// The value before, present only if the provider sent it. A null that was sent says that it was empty.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "sent")]
    pub previous: Option<Value>,
}

/// Keeps a null that is there apart from a value that is absent, which JSON can tell and `Option` alone cannot.
fn sent<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Value>, D::Error> {
    if value.is_human_readable() { Value::deserialize(value).map(Some) } else { Option::deserialize(value) }
}

impl FieldChange {
    /// A new value without the old one.
    pub const fn to(value: Value) -> Self {
        Self { value, previous: None }
    }
}

/// Which records became one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Merge {
    /// The surviving id.
    pub into: String,
    /// The ids merged away.
    pub from: Vec<String>,
}

/// A link between two records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Link {
    /// Type of the other record.
    pub to_type: ObjectType,
    /// Id of the other record.
    pub to_id: String,
    /// The provider's label of the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// It is the primary link of its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<bool>,
}

/// What a sequence promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SequenceKind {
    /// Total per record: no two changes share one.
    Strict,
    /// A time: ties are possible.
    Time,
    /// None given.
    None,
}

/// Whether a change is our own write coming back, as far as the event tells. The relay's ledger decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ours {
    /// Marked as ours.
    Yes,
    /// Marked as somebody else's.
    No,
    /// The event does not tell.
    Unknown,
}

/// Who made a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Origin {
    /// The provider's name of the user or integration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// The provider's name of the way it was made (user interface, import, API, …).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Ours or not.
    pub ours: Ours,
}

/// The request a change came in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Batch {
    /// Identifies the request.
    pub id: String,
    /// Place in the request, from 0.
    pub index: u32,
    /// Number of changes in the request.
    pub size: u32,
}

/// The original request body, after stripping secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Raw {
    /// Where it is kept, if it is kept.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// SHA-256 of the body in hexadecimal.
    pub sha256: String,
    /// Media type as sent.
    pub content_type: String,
    /// Length in bytes.
    pub bytes: u64,
}

/// The way a change came to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// A provider's webhook.
    Webhook,
    /// Our poller.
    Poll,
    /// Our backfill.
    Backfill,
    /// A file.
    Import,
    /// Sent again by an operator.
    Replay,
}

impl Channel {
    /// The name used in headers and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Poll => "poll",
            Self::Backfill => "backfill",
            Self::Import => "import",
            Self::Replay => "replay",
        }
    }
}
