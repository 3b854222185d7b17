//! Names: who a change belongs to, which record it is about, and what identifies it.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};

use crate::time::Timestamp;

/// A CRM system as the configuration names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum System {
    /// Salesforce.
    Salesforce,
    /// HubSpot.
    Hubspot,
    /// Microsoft Dynamics 365 (Dataverse).
    Dynamics,
    /// Pipedrive.
    Pipedrive,
    /// An in-house CRM that speaks the native API and Standard Webhooks.
    Native,
}

impl System {
    /// All systems, in the order of the documentation.
    pub const ALL: [Self; 5] = [Self::Salesforce, Self::Hubspot, Self::Dynamics, Self::Pipedrive, Self::Native];

    /// The name used in configuration, keys, metrics and paths.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Salesforce => "salesforce",
            Self::Hubspot => "hubspot",
            Self::Dynamics => "dynamics",
            Self::Pipedrive => "pipedrive",
            Self::Native => "native",
        }
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is no [`System`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown system; expected salesforce, hubspot, dynamics, pipedrive or native")]
pub struct UnknownSystem;

impl FromStr for System {
    type Err = UnknownSystem;
    fn from_str(s: &str) -> Result<Self, UnknownSystem> {
        Self::ALL.into_iter().find(|x| x.as_str() == s).ok_or(UnknownSystem)
    }
}

/// The neutral type of a record: `contact`, `company`, `deal`, `activity`, `ticket`, …; a custom object keeps the
/// provider's name. Lower case, without `/`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct ObjectType(Cow<'static, str>);

impl<'de> Deserialize<'de> for ObjectType {
    /// Whoever wrote it: keys of the stream hold no other names than [`ObjectType::new`] makes.
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Cow::<'_, str>::deserialize(d).map(|name| Self::new(&name))
    }
}

impl ObjectType {
    /// A person.
    pub const CONTACT: Self = Self(Cow::Borrowed("contact"));
    /// An organisation.
    pub const COMPANY: Self = Self(Cow::Borrowed("company"));
    /// An opportunity.
    pub const DEAL: Self = Self(Cow::Borrowed("deal"));

    /// Lower-cases `name` and replaces `/` by `_`.
    pub fn new(name: &str) -> Self {
        match name {
            "contact" => Self::CONTACT,
            "company" => Self::COMPANY,
            "deal" => Self::DEAL,
            other => Self(Cow::Owned(other.to_ascii_lowercase().replace('/', "_"))),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How the ids of replayed changes begin.
const REPLAYED: [u8; 4] = *b"repl";

/// What identifies a change: the first 128 bits of SHA-256 over system, account and the provider's deduplication key,
/// each prefixed with its length. The same change delivered again has the same id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChangeId([u8; 16]);

impl ChangeId {
    /// Derives the id. `parts` is the provider's recipe, in order.
    pub fn derive<'a>(system: System, account: &str, parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        part(system.as_str().as_bytes());
        part(account.as_bytes());
        for p in parts {
            part(p);
        }
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finalize()[..16]);
        Self(id)
    }

    /// The id under which the run `run` of a replay sends this change again: it says of itself that it is one, because
    /// whoever is told only the id must know.
    #[must_use]
    pub fn replayed(self, run: Timestamp) -> Self {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update(run.micros().to_be_bytes());
        let mut id = [0; 16];
        id[..4].copy_from_slice(&REPLAYED);
        id[4..].copy_from_slice(&hash.finalize()[..12]);
        Self(id)
    }

    /// Whether a replay made it. One in four thousand million other ids looks the same.
    pub fn is_replayed(self) -> bool {
        self.0.starts_with(&REPLAYED)
    }

    /// From its 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// As an integer, for caches keyed by one.
    pub const fn as_u128(self) -> u128 {
        u128::from_be_bytes(self.0)
    }
}

impl fmt::Display for ChangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.as_u128())
    }
}

impl fmt::Debug for ChangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is not 32 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a change id is 32 hexadecimal digits")]
pub struct InvalidChangeId;

impl FromStr for ChangeId {
    type Err = InvalidChangeId;
    fn from_str(s: &str) -> Result<Self, InvalidChangeId> {
        if s.len() != 32 || !s.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(InvalidChangeId);
        }
        u128::from_str_radix(s, 16).map(|n| Self(n.to_be_bytes())).map_err(|_| InvalidChangeId)
    }
}

impl Serialize for ChangeId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { s.collect_str(self) } else { self.0.serialize(s) }
    }
}

impl<'de> Deserialize<'de> for ChangeId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            let text = Cow::<'_, str>::deserialize(d)?;
            text.parse().map_err(de::Error::custom)
        } else {
            <[u8; 16]>::deserialize(d).map(Self)
        }
    }
}

impl JsonSchema for ChangeId {
    fn schema_name() -> Cow<'static, str> {
        "ChangeId".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9a-f]{32}$" })
    }
}

/// The record a change is about, as the stream's key names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    /// Our customer.
    pub tenant: String,
    /// The system that holds the record.
    pub system: System,
    /// The provider's account.
    pub account: String,
    /// The neutral type.
    pub object: ObjectType,
    /// The provider's id of the record; empty for a `resync` of a whole type.
    pub id: String,
}

impl fmt::Display for RecordKey {
    /// `tenant/system/account/object/id`: the key of the stream.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}/{}", self.tenant, self.system, self.account, self.object, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_that_was_read_is_named_as_keys_name_it() {
        let read: ObjectType = serde_json::from_str(r#""My/Object""#).unwrap();
        assert_eq!((&read, read.as_str()), (&ObjectType::new("My/Object"), "my_object"));
    }

    #[test]
    fn lengths_keep_parts_apart() {
        let id = |parts: &[&str]| ChangeId::derive(System::Hubspot, "1", parts.iter().map(|p| p.as_bytes()));
        assert_ne!(id(&["ab", "c"]), id(&["a", "bc"]));
        assert_eq!(id(&["ab", "c"]), id(&["ab", "c"]));
        assert_eq!(id(&["x"]).to_string().parse(), Ok(id(&["x"])));
    }

    #[test]
    fn a_replayed_change_has_an_id_of_its_run() {
        let original = ChangeId::derive(System::Hubspot, "1", [b"x".as_slice()]);
        let (first, second) = (original.replayed(Timestamp::from_secs(1)), original.replayed(Timestamp::from_secs(2)));
        assert!(first.is_replayed() && second.is_replayed() && !original.is_replayed());
        assert!(first != second && first == original.replayed(Timestamp::from_secs(1)));
        assert!(first.to_string().starts_with("7265706c"));
    }
}
