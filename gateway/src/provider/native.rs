//! An in-house CRM: Standard Webhooks (signatures v1 and v1a) around one event in our own format.
//!
//! Signatures follow the Standard Webhooks specification. The body is ours:
//!
//! ```json
//! { "type": "contact.updated", "timestamp": "2026-01-01T11:59:57.120Z",
//!   "data": { "id": "c_19", "name": "Renée" },
//!   "previous": { "name": "Rene" },
//!   "sequence": "00000000000000000042", "complete": false, "actor": "user-7", "client": "web" }
//! ```
//!
//! | key | meaning |
//! |---|---|
//! | `type` | `<object>.<verb>`; verbs are the kinds of a change: created, updated, deleted, restored, merged, linked, unlinked, purged, touched, resync |
//! | `timestamp` | when it happened, RFC 3339; a header's timestamp is that of the attempt |
//! | `data` | `id` as text or whole number, and the fields the change set |
//! | `previous` | old values of some of those fields |
//! | `sequence` | text of fixed width that rises per record, or a whole number; without it the timestamp orders |
//! | `complete` | `data` is the whole record |
//! | `merge` | for merged: `{"into": id, "from": [ids]}` |
//! | `link` | for linked and unlinked: `{"type", "id", "label"?, "primary"?}` |
//!
//! `webhook-id` names the event and stays the same through retries, so it is the deduplication key. The surprising
//! thing: a verified JSON object that is no such event (a test ping) is a success without effect.

use std::borrow::Cow;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headgate_schemas::change::{FieldChange, Link, Merge, SequenceKind};
use headgate_schemas::{Change, ChangeKind, ObjectType, Resolution, System, Timestamp, Value};
use hyper::StatusCode;
use indexmap::IndexMap;
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::salesforce::cdc;
use super::{
    Answer, Arrival, Call, Endpoint, Malformed, Provider, Reading, Scheme, Signed, bounded, nests_within_limit, object,
};
use crate::config::{Credential, CredentialKind, EndpointConfig};
use crate::signature::{self, KeyError, Keys, PublicKey, Refusal, SharedKey};

const ID: &str = "webhook-id";
const TIMESTAMP: &str = "webhook-timestamp";
const SIGNATURE: &str = "webhook-signature";

/// The specification's suggested delays add up to just over three days.
const REMEMBERED_FOR: Duration = Duration::from_secs(76 * 3_600);
/// Signatures looked at in one header: two rotated keys in two versions, with room.
const SIGNATURES: usize = 8;
/// Longest id, type, label or sequence.
const NAME_BYTES: usize = 256;
/// Fields of one event.
const FIELDS: usize = 1_000;
/// Records merged by one event.
const MERGED: usize = 1_000;

/// The native CRM as a provider.
pub(crate) struct Native;

impl Provider for Native {
    fn credential(&self) -> CredentialKind {
        CredentialKind::SecretsOrPublicKey
    }

    fn schemes(&self) -> &'static [Scheme] {
        const { &[Scheme::windowed("standard-webhooks")] }
    }

    fn remembered_for(&self) -> Duration {
        REMEMBERED_FOR
    }

    fn keys(&self, credential: &Credential) -> Result<Keys, KeyError> {
        match credential {
            Credential::PublicKey(text) => PublicKey::parse(text).map(Keys::Public),
            Credential::Secrets(secrets) if secrets.len() > 2 => Err(KeyError::TooMany),
            Credential::Secrets(secrets) if !secrets.is_empty() => {
                let keys = secrets.iter().map(|s| shared(s.expose_secret()));
                Ok(Keys::Shared(keys.collect::<Result<_, _>>()?))
            }
            Credential::Secrets(_) | Credential::Basic { .. } | Credential::Shown { .. } | Credential::None => {
                Err(KeyError::NeedsSecret)
            }
        }
    }

    fn signed(&self, call: &Call<'_>) -> Signed {
        let timestamp = signature::single(call.headers, TIMESTAMP).ok().flatten();
        let scheme = if call.headers.contains_key(SIGNATURE) { "standard-webhooks" } else { "none" };
        Signed { scheme, url: None, timestamp: timestamp.map(str::to_owned) }
    }

    fn verify(&self, call: &Call<'_>, endpoint: &Endpoint, now: Timestamp) -> Result<&'static str, Refusal> {
        let id = webhook_id(call)?;
        let timestamp = signature::required(call.headers, TIMESTAMP)?;
        let at_s = signature::digits(timestamp)?;
        let list = signature::required(call.headers, SIGNATURE)?;
        let scheme = match &endpoint.keys {
            Keys::Shared(keys) => {
                let parts: [&[u8]; 5] = [id.as_bytes(), b".", timestamp.as_bytes(), b".", call.body];
                let matches = |tag: [u8; 32]| keys.iter().any(|key| key.verify(&parts, &tag));
                any_of(list, "v1", matches).then_some("standard-webhooks-v1")
            }
            // A public key is known to everyone: used as an HMAC secret it would let anyone sign.
            Keys::Public(key) => {
                let message = [id.as_bytes(), b".", timestamp.as_bytes(), b".", call.body].concat();
                let matches = |tag: [u8; 64]| key.verify(&message, &tag);
                any_of(list, "v1a", matches).then_some("standard-webhooks-v1a")
            }
            Keys::None => None,
        };
        let scheme = scheme.ok_or(Refusal::Mismatch)?;
        signature::within_window(at_s.saturating_mul(1_000), now)?;
        Ok(scheme)
    }

    fn changes(&self, call: &Call<'_>, endpoint: &Endpoint, received_at: Timestamp) -> Result<Reading, Malformed> {
        let id = webhook_id(call).map_err(|_| Malformed("webhook-id is missing"))?;
        read(call, endpoint, received_at, id.as_bytes())
    }

    fn accepted(&self) -> Answer {
        Answer::of(StatusCode::NO_CONTENT)
    }
}

/// Reads a body in the native form; `id` names the event through all its deliveries. A connection to Salesforce may send
/// its change events this way, too.
pub(super) fn read(
    call: &Call<'_>,
    endpoint: &Endpoint,
    received_at: Timestamp,
    id: &[u8],
) -> Result<Reading, Malformed> {
    if endpoint.config.system == System::Salesforce
        && let Some(reading) = cdc::read(call, &endpoint.config, received_at)?
    {
        return Ok(reading);
    }
    if !nests_within_limit(call.body) {
        return Err(Malformed("the body nests too deeply"));
    }
    // The derived reader would also take an array of values in the order of the keys.
    if call.body.trim_ascii_start().first() != Some(&b'{') {
        return Err(Malformed("the body is not a JSON object"));
    }
    let event: Event<'_> =
        serde_json::from_slice(call.body).map_err(|_| Malformed("the body is not the JSON of an event"))?;
    match event.name() {
        Some((kind, verb)) => {
            let change = event.change(call, &endpoint.config, received_at, id, kind, verb)?;
            Ok(Reading { changes: vec![change], ..Reading::default() })
        }
        None => Ok(Reading { unknown: 1, ..Reading::default() }),
    }
}

/// The specification separates id and timestamp by a dot, so an id with one would be ambiguous.
fn webhook_id<'h>(call: &Call<'h>) -> Result<&'h str, Refusal> {
    let id = signature::required(call.headers, ID)?;
    let sound = !id.is_empty() && id.len() <= NAME_BYTES && !id.contains('.');
    if sound { Ok(id) } else { Err(Refusal::Malformed) }
}

/// `whsec_` and base64; the prefix may be missing.
fn shared(secret: &str) -> Result<SharedKey, KeyError> {
    let encoded = secret.strip_prefix("whsec_").unwrap_or(secret);
    SharedKey::new(&STANDARD.decode(encoded).map_err(|_| KeyError::NotBase64)?)
}

/// Whether one signature of `version` in the space-separated list matches. Other versions and other lengths are
/// skipped, as the specification asks for.
fn any_of<const N: usize>(list: &str, version: &str, matches: impl Fn([u8; N]) -> bool) -> bool {
    list.split(' ').take(SIGNATURES).any(|entry| {
        let Some((found, encoded)) = entry.split_once(',') else { return false };
        found == version && signature::base64::<N>(encoded).is_ok_and(&matches)
    })
}

/// The body. Everything is optional: what has no known `type` is acknowledged, whatever else it holds.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type", borrow, default)]
    name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    previous: Option<&'a RawValue>,
    #[serde(borrow, default)]
    sequence: Option<&'a RawValue>,
    #[serde(borrow, default)]
    complete: Option<&'a RawValue>,
    #[serde(borrow, default)]
    actor: Option<&'a RawValue>,
    #[serde(borrow, default)]
    client: Option<&'a RawValue>,
    #[serde(borrow, default)]
    merge: Option<&'a RawValue>,
    #[serde(borrow, default)]
    link: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct MergeBody<'a> {
    #[serde(borrow)]
    into: &'a RawValue,
    #[serde(borrow)]
    from: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct LinkBody<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow)]
    id: &'a RawValue,
    #[serde(default)]
    label: Option<String>,
    #[serde(default)]
    primary: Option<bool>,
}

impl Event<'_> {
    /// Object and verb, if this is an event at all.
    fn name(&self) -> Option<(String, ChangeKind)> {
        let name: String = serde_json::from_str(self.name?.get()).ok()?;
        let (object, verb) = name.rsplit_once('.')?;
        let kind = ChangeKind::ALL.into_iter().find(|kind| kind.as_str() == verb)?;
        // The object becomes part of an event type; what cannot stand there is none of ours.
        let plain = !object.is_empty() && object.bytes().all(|b| b.is_ascii_graphic());
        plain.then(|| (object.to_owned(), kind))
    }

    fn change(
        &self,
        call: &Call<'_>,
        endpoint: &EndpointConfig,
        received_at: Timestamp,
        id: &[u8],
        native: String,
        kind: ChangeKind,
    ) -> Result<Change, Malformed> {
        if native.len() > NAME_BYTES {
            return Err(Malformed("the type is too long"));
        }
        let mut fields = map(self.data)?.ok_or(Malformed("the event has no data"))?;
        let subject = match fields.shift_remove("id") {
            Some(id) => object(ObjectType::new(&native), &native, &plain_id(&id)?),
            None if kind == ChangeKind::Resync => {
                headgate_schemas::change::Object { kind: ObjectType::new(&native), native_type: native, id: None }
            }
            None => return Err(Malformed("data has no id")),
        };
        let owner = endpoint.owners.sole().ok_or(Malformed("these events name no account"))?;
        let arrival = Arrival::new(call, endpoint, received_at, 1);
        let mut change = arrival.change(owner, 0, kind, subject, [id]);
        let mut previous = map(self.previous)?.unwrap_or_default();
        let with_previous = |(name, value): (String, Value)| {
            let previous = previous.swap_remove(&name);
            (name, FieldChange { value, previous })
        };
        change.fields = fields.into_iter().map(with_previous).collect();
        change.fields_complete = parse::<bool>(self.complete)?.unwrap_or(false);
        change.needs_fetch = match kind {
            ChangeKind::Created | ChangeKind::Restored | ChangeKind::Merged => !change.fields_complete,
            ChangeKind::Updated => change.fields.is_empty(),
            ChangeKind::Touched | ChangeKind::Resync => true,
            ChangeKind::Deleted | ChangeKind::Linked | ChangeKind::Unlinked | ChangeKind::Purged => false,
        };
        change.origin.actor = parse::<String>(self.actor)?.map(|t| bounded(&t, NAME_BYTES));
        change.origin.client = parse::<String>(self.client)?.map(|t| bounded(&t, NAME_BYTES));
        self.order(&mut change)?;
        self.relations(&mut change)?;
        Ok(change)
    }

    fn order(&self, change: &mut Change) -> Result<(), Malformed> {
        let text = parse::<String>(self.timestamp)?.ok_or(Malformed("the event has no timestamp"))?;
        let at: Timestamp = text.parse().map_err(|_| Malformed("timestamp is not RFC 3339 with an offset"))?;
        change.occurred_at = Some(at);
        change.occurred_at_resolution = resolution(&text);
        if let Some(value) = parse::<Value>(self.sequence)?.filter(|v| !v.is_null()) {
            change.sequence = Some(match value {
                Value::Text(t) if is_sequence(&t) => t.into_string(),
                Value::Number(n) if n.len() <= 20 && n.bytes().all(|b| b.is_ascii_digit()) => format!("{n:0>20}"),
                _ => return Err(Malformed("sequence is neither text nor a whole number")),
            });
            change.sequence_kind = SequenceKind::Strict;
        } else if let Ok(us) = u64::try_from(at.micros()) {
            change.sequence = Some(format!("{us:020}"));
            change.sequence_kind = SequenceKind::Time;
        }
        Ok(())
    }

    fn relations(&self, change: &mut Change) -> Result<(), Malformed> {
        match change.kind {
            ChangeKind::Merged => {
                let body: MergeBody<'_> = parse(self.merge)?.ok_or(Malformed("a merged event has no merge"))?;
                if body.from.len() > MERGED {
                    return Err(Malformed("a merge names too many records"));
                }
                let from = body.from.into_iter().map(raw_id).collect::<Result<_, _>>()?;
                change.merge = Some(Merge { into: raw_id(body.into)?, from });
            }
            ChangeKind::Linked | ChangeKind::Unlinked => {
                let body: LinkBody<'_> = parse(self.link)?.ok_or(Malformed("a link event has no link"))?;
                change.link = Some(Link {
                    to_type: ObjectType::new(&bounded(&body.kind, NAME_BYTES)),
                    to_id: raw_id(body.id)?,
                    label: body.label.map(|l| bounded(&l, NAME_BYTES)),
                    primary: body.primary,
                });
            }
            ChangeKind::Created
            | ChangeKind::Updated
            | ChangeKind::Deleted
            | ChangeKind::Restored
            | ChangeKind::Purged
            | ChangeKind::Touched
            | ChangeKind::Resync => {}
        }
        Ok(())
    }
}

fn parse<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Result<Option<T>, Malformed> {
    match raw.map(RawValue::get) {
        None | Some("null") => Ok(None),
        Some(json) => serde_json::from_str(json).map(Some).map_err(|_| Malformed("a key has the wrong type")),
    }
}

fn map(raw: Option<&RawValue>) -> Result<Option<IndexMap<String, Value>>, Malformed> {
    let fields = parse::<IndexMap<String, Value>>(raw)?;
    if fields.as_ref().is_some_and(|f| f.len() > FIELDS) {
        return Err(Malformed("the event has too many fields"));
    }
    Ok(fields)
}

fn raw_id(raw: &RawValue) -> Result<String, Malformed> {
    plain_id(&parse::<Value>(Some(raw))?.unwrap_or_default()).map(Cow::into_owned)
}

pub(super) fn plain_id(value: &Value) -> Result<Cow<'_, str>, Malformed> {
    let id = match value {
        Value::Text(t) => t,
        Value::Number(n) if n.bytes().all(|b| b.is_ascii_digit()) => n,
        _ => return Err(Malformed("an id is neither text nor a whole number")),
    };
    if id.is_empty() || id.len() > NAME_BYTES || id.chars().any(char::is_control) {
        return Err(Malformed("an id is empty, too long or holds control characters"));
    }
    Ok(Cow::Borrowed(id))
}

pub(super) fn is_sequence(text: &str) -> bool {
    !text.is_empty() && text.len() <= NAME_BYTES && text.bytes().all(|b| b.is_ascii_graphic())
}

/// How fine the sender's clock is, by the digits it wrote.
fn resolution(text: &str) -> Resolution {
    let fraction = text.split_once('.').map_or("", |(_, rest)| rest);
    match fraction.bytes().take_while(u8::is_ascii_digit).count() {
        0 => Resolution::S,
        1..=3 => Resolution::Ms,
        _ => Resolution::Us,
    }
}
