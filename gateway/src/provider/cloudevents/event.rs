//! From a request to events: binary mode by headers, structured and batched mode by media type.
//!
//! It must not know changes. The surprising thing: a header's value may be quoted and is then percent-decoded, once; what
//! comes out must be UTF-8, and the longest way to write a character is as wrong as any other false byte.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headgate_schemas::{Timestamp, Value};
use hyper::header::{CONTENT_TYPE, HeaderMap};
use indexmap::IndexMap;
use percent_encoding::percent_decode;

use crate::provider::json::{self, Lookup as _, Map, as_map};
use crate::provider::{Call, Malformed, UNKNOWN_FORMAT, nests_within_limit};

/// Events of one batch.
const EVENTS: usize = 1_000;
/// Longest attribute. Senders are asked to stay under 64 KB for an event as a whole.
const ATTRIBUTE_BYTES: usize = 4_096;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// Unique inside its source.
    pub(crate) id: String,
    /// Who tells it.
    pub(crate) source: String,
    /// What happened.
    pub(crate) kind: String,
    /// What it is about.
    pub(crate) subject: Option<String>,
    /// When it happened.
    pub(crate) time: Option<Timestamp>,
    /// The place among the events of its record.
    pub(crate) sequence: Option<String>,
    /// All attributes as they were told, those above included.
    pub(crate) attributes: IndexMap<String, String>,
    /// Its content.
    pub(crate) data: Data,
}

/// The content of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    /// None.
    Absent,
    /// JSON, or text.
    Value(Value),
    /// Bytes that are neither.
    Bytes(Vec<u8>),
}

impl Event {
    /// The content as fields.
    pub(super) fn fields(&self) -> Result<IndexMap<String, Value>, Malformed> {
        match &self.data {
            Data::Absent => Ok(IndexMap::new()),
            Data::Value(Value::Map(map)) => Ok(map.iter().map(|(name, v)| (name.to_string(), v.clone())).collect()),
            Data::Value(_) | Data::Bytes(_) => Err(Malformed("the data of an event is not a JSON object")),
        }
    }

    fn of(attributes: IndexMap<String, String>, data: Data) -> Result<Self, Malformed> {
        let required = |name: &str| match attributes.get(name) {
            Some(value) if !value.is_empty() => Ok(value.clone()),
            _ => Err(Malformed("an event has no specversion, id, source or type")),
        };
        if required("specversion")? != "1.0" {
            return Err(Malformed("an event is of another version of CloudEvents than 1.0"));
        }
        let time = attributes.get("time").map(|text| text.parse::<Timestamp>());
        Ok(Self {
            id: required("id")?,
            source: required("source")?,
            kind: required("type")?,
            subject: attributes.get("subject").cloned(),
            time: time.transpose().map_err(|_| Malformed("the time of an event is no date and time"))?,
            sequence: attributes.get("sequence").cloned(),
            attributes,
            data,
        })
    }
}

/// Reads the events of a call, in whichever mode it is.
pub(crate) fn read(call: &Call<'_>) -> Result<Vec<Event>, Malformed> {
    let told = call.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = told.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if let Some(format) = media.strip_prefix("application/cloudevents-batch") {
        json_only(format)?;
        return batch(call.body);
    }
    if let Some(format) = media.strip_prefix("application/cloudevents") {
        json_only(format)?;
        return Ok(vec![structured(&json::object(call.body)?)?]);
    }
    Ok(vec![binary(call, told, &media)?])
}

fn json_only(format: &str) -> Result<(), Malformed> {
    if format == "+json" { Ok(()) } else { Err(UNKNOWN_FORMAT) }
}

fn batch(body: &[u8]) -> Result<Vec<Event>, Malformed> {
    if !nests_within_limit(body) {
        return Err(Malformed("the body nests too deeply"));
    }
    let Ok(Value::List(list)) = serde_json::from_slice(body) else {
        return Err(Malformed("a batch is not a list of events"));
    };
    if list.len() > EVENTS {
        return Err(Malformed("a batch holds too many events"));
    }
    list.iter().map(|event| structured(as_map(event).ok_or(Malformed("an event is no object"))?)).collect()
}

fn structured(map: &Map) -> Result<Event, Malformed> {
    let data = match (map.get("data"), map.get("data_base64")) {
        (Some(_), Some(_)) => return Err(Malformed("an event has data twice")),
        (Some(data), None) => Data::Value(data.clone()),
        (None, Some(Value::Text(text))) => {
            Data::Bytes(STANDARD.decode(&**text).map_err(|_| Malformed("data_base64 is not base64"))?)
        }
        (None, Some(_)) => return Err(Malformed("data_base64 is not text")),
        (None, None) => Data::Absent,
    };
    let mut attributes = IndexMap::new();
    for (name, value) in map.iter().filter(|(name, _)| !matches!(&***name, "data" | "data_base64")) {
        let text = match value {
            Value::Null => continue,
            Value::Text(_) | Value::Number(_) | Value::Bool(_) => value.to_plain().into_owned(),
            Value::List(_) | Value::Map(_) => return Err(Malformed("an attribute is neither text, number nor flag")),
        };
        attributes.insert(attribute_name(name)?.to_owned(), bounded(text)?);
    }
    if map.text("specversion").is_none() {
        return Err(Malformed("an event has no specversion, id, source or type"));
    }
    Event::of(attributes, data)
}

fn binary(call: &Call<'_>, told: &str, media: &str) -> Result<Event, Malformed> {
    let mut attributes = headers(call.headers)?;
    if !told.is_empty() {
        attributes.insert("datacontenttype".to_owned(), told.to_owned());
    }
    let is_json = media == "application/json" || media == "text/json" || media.ends_with("+json");
    let data = if call.body.is_empty() {
        Data::Absent
    } else if is_json || media.is_empty() {
        if !nests_within_limit(call.body) {
            return Err(Malformed("the body nests too deeply"));
        }
        Data::Value(serde_json::from_slice(call.body).map_err(|_| Malformed("the data of an event is not JSON"))?)
    } else {
        Data::Bytes(call.body.to_vec())
    };
    Event::of(attributes, data)
}

fn headers(headers: &HeaderMap) -> Result<IndexMap<String, String>, Malformed> {
    let mut attributes = IndexMap::new();
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix("ce-") else { continue };
        let text = unquoted(value.as_bytes());
        let text = percent_decode(&text).decode_utf8().map_err(|_| Malformed("an attribute is not UTF-8"))?;
        if attributes.insert(attribute_name(name)?.to_owned(), bounded(text.into_owned())?).is_some() {
            return Err(Malformed("an attribute stands twice"));
        }
    }
    Ok(attributes)
}

/// The inside of a quoted string, with its escapes taken off; anything else as it is.
fn unquoted(value: &[u8]) -> Vec<u8> {
    let inner = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    let Some(inner) = inner else { return value.to_vec() };
    let mut out = Vec::with_capacity(inner.len());
    let mut escaped = false;
    for byte in inner {
        if *byte == b'\\' && !escaped {
            escaped = true;
        } else {
            escaped = false;
            out.push(*byte);
        }
    }
    out
}

fn attribute_name(name: &str) -> Result<&str, Malformed> {
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if plain && !name.is_empty() { Ok(name) } else { Err(Malformed("the name of an attribute is none")) }
}

fn bounded(text: String) -> Result<String, Malformed> {
    let sound = text.len() <= ATTRIBUTE_BYTES && !text.chars().any(char::is_control);
    if sound { Ok(text) } else { Err(Malformed("an attribute is too long or holds control characters")) }
}
