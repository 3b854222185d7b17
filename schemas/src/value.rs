//! Field values: JSON's shapes, with numbers kept as text so that no digit is lost.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The value of one field. Equality is exact; equality *under a type's normal form* is the relay's business.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Value {
    /// Set to nothing. (A field that is absent is unchanged or unknown; that is never a `Null`.)
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// A number, as its JSON text.
    Number(Box<str>),
    /// Text.
    Text(Box<str>),
    /// A list: multi-choice values, or the parts of a field group.
    List(Vec<Self>),
    /// A nested object.
    Map(BTreeMap<Box<str>, Self>),
}

impl Value {
    /// Text.
    pub fn text(s: impl Into<Box<str>>) -> Self {
        Self::Text(s.into())
    }

    /// A whole number.
    pub fn int(n: i64) -> Self {
        Self::Number(n.to_string().into())
    }

    /// The text inside, if it is text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(s) => Some(s),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::List(_) | Self::Map(_) => None,
        }
    }

    /// Null.
    pub const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Null, empty text, or an empty list: what a person calls an empty field.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Text(s) => s.is_empty(),
            Self::List(l) => l.iter().all(Self::is_empty),
            Self::Bool(_) | Self::Number(_) | Self::Map(_) => false,
        }
    }

    /// Text as a person would read it: plain for scalars, JSON for the rest, empty for null.
    pub fn to_plain(&self) -> Cow<'_, str> {
        match self {
            Self::Null => Cow::Borrowed(""),
            Self::Bool(true) => Cow::Borrowed("true"),
            Self::Bool(false) => Cow::Borrowed("false"),
            Self::Number(s) | Self::Text(s) => Cow::Borrowed(s),
            Self::List(_) | Self::Map(_) => Cow::Owned(serde_json::Value::from(self.clone()).to_string()),
        }
    }
}

impl From<&str> for Value {
    fn from(s: &str) -> Self {
        Self::Text(s.into())
    }
}

impl From<serde_json::Value> for Value {
    fn from(v: serde_json::Value) -> Self {
        match v {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(b) => Self::Bool(b),
            serde_json::Value::Number(n) => Self::Number(n.to_string().into()),
            serde_json::Value::String(s) => Self::Text(s.into()),
            serde_json::Value::Array(a) => Self::List(a.into_iter().map(Self::from).collect()),
            serde_json::Value::Object(o) => Self::Map(o.into_iter().map(|(k, v)| (k.into(), Self::from(v))).collect()),
        }
    }
}

impl From<Value> for serde_json::Value {
    fn from(v: Value) -> Self {
        match v {
            Value::Null => Self::Null,
            Value::Bool(b) => Self::Bool(b),
            Value::Number(n) => {
                serde_json::from_str::<serde_json::Number>(&n).map_or_else(|_| Self::String(n.into()), Self::Number)
            }
            Value::Text(s) => Self::String(s.into()),
            Value::List(l) => Self::Array(l.into_iter().map(Self::from).collect()),
            Value::Map(m) => Self::Object(m.into_iter().map(|(k, v)| (k.into(), Self::from(v))).collect()),
        }
    }
}

/// The shape used by binary encodings, which do not describe themselves.
#[derive(Serialize, Deserialize)]
enum Compact {
    Null,
    Bool(bool),
    Number(Box<str>),
    Text(Box<str>),
    List(Vec<Value>),
    Map(BTreeMap<Box<str>, Value>),
}

#[derive(Serialize)]
enum CompactRef<'a> {
    Null,
    Bool(bool),
    Number(&'a str),
    Text(&'a str),
    List(&'a [Value]),
    Map(&'a BTreeMap<Box<str>, Value>),
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if !s.is_human_readable() {
            return match self {
                Self::Null => CompactRef::Null,
                Self::Bool(b) => CompactRef::Bool(*b),
                Self::Number(n) => CompactRef::Number(n),
                Self::Text(t) => CompactRef::Text(t),
                Self::List(l) => CompactRef::List(l),
                Self::Map(m) => CompactRef::Map(m),
            }
            .serialize(s);
        }
        match self {
            Self::Null => s.serialize_unit(),
            Self::Bool(b) => s.serialize_bool(*b),
            Self::Number(n) => match serde_json::from_str::<serde_json::Number>(n) {
                Ok(n) => n.serialize(s),
                Err(_) => s.serialize_str(n),
            },
            Self::Text(t) => s.serialize_str(t),
            Self::List(l) => l.serialize(s),
            Self::Map(m) => m.serialize(s),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            return serde_json::Value::deserialize(d).map(Self::from);
        }
        Ok(match Compact::deserialize(d)? {
            Compact::Null => Self::Null,
            Compact::Bool(b) => Self::Bool(b),
            Compact::Number(n) => Self::Number(n),
            Compact::Text(t) => Self::Text(t),
            Compact::List(l) => Self::List(l),
            Compact::Map(m) => Self::Map(m),
        })
    }
}

impl JsonSchema for Value {
    fn schema_name() -> Cow<'static, str> {
        "Value".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "Any JSON value; null means the field was cleared." })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_every_digit() {
        let text = r#"{"a":123456789012345678901234567890.125,"b":[1,null,true,"x"],"c":{"d":-0.10}}"#;
        let value: Value = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&value).unwrap(), text);
    }
}
