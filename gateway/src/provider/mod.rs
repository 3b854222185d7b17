//! What the gateway asks of a provider, and the table of the providers it knows.
//!
//! A provider is pure: bytes and a clock reading in, a verdict or changes out. It must not know sockets, the stream or
//! deduplication. Adding one is a file or folder beside this, one line in [`registry`], and a file of vectors; the README
//! has an example, which is `acme.rs`. The surprising thing: what a provider takes as success, and as a wish to slow down, differs enough that a wrong answer loses events;
//! so each of them says both.

use std::time::Duration;

use headgate_schemas::change::{Batch, Channel, FieldChange, Object, Origin, Ours, Raw, SequenceKind, Source};
use headgate_schemas::{Change, ChangeId, ChangeKind, ObjectType, Resolution, System, Timestamp};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use indexmap::IndexMap;
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};

use crate::config::{Credential, CredentialKind, EndpointConfig, Owner};
use crate::limit::Rates;
use crate::signature::{self, KeyError, Keys, Refusal, SharedKey};
use crate::tls::ClientAuthority;

pub(crate) mod cloudevents;
pub(crate) mod dynamics;
pub(crate) mod hubspot;
mod json;
pub(crate) mod native;
mod pipedrive;
mod registry;
pub(crate) mod salesforce;
mod signed;

#[cfg(test)]
mod acme;
#[cfg(test)]
mod example;

pub use self::registry::ProviderName;
pub(crate) use self::registry::{find, scheme_of};

/// Deepest nesting of a body. Real events nest three levels.
const JSON_DEPTH: usize = 64;
/// Milliseconds that the stream can write as a date: 1970 to 9999.
const TIMES: std::ops::Range<i64> = 0..253_402_300_800_000;

/// A verified sender of webhooks.
pub(crate) trait Provider: Send + Sync {
    /// The system its webhooks are about. What signs like everybody may be about any.
    fn system(&self) -> System {
        System::Native
    }

    /// What its endpoints are configured to check calls with.
    fn credential(&self) -> CredentialKind {
        CredentialKind::Secrets
    }

    /// What recorded calls name its ways to sign by.
    fn schemes(&self) -> &'static [Scheme];

    /// Largest body, where the provider needs more than the configured default.
    fn body_bytes(&self) -> Option<usize> {
        None
    }

    /// How long its retries go on, and so how long a published change is remembered.
    fn remembered_for(&self) -> Duration;

    /// Turns the endpoint's credential into keys.
    fn keys(&self, credential: &Credential) -> Result<Keys, KeyError> {
        text_keys(credential)
    }

    /// What a signature of this call would cover. For explanations; [`Provider::verify`] uses the same.
    fn signed(&self, call: &Call<'_>) -> Signed;

    /// Whether the call comes from the provider. Looks at raw bytes only. Answers the scheme that matched.
    fn verify(&self, call: &Call<'_>, endpoint: &Endpoint, now: Timestamp) -> Result<&'static str, Refusal>;

    /// The changes of a verified call.
    fn changes(&self, call: &Call<'_>, endpoint: &Endpoint, received_at: Timestamp) -> Result<Reading, Malformed>;

    /// What the provider takes as success.
    fn accepted(&self) -> Answer;

    /// The body of an answer that is no success, where the provider reads one.
    fn refused(&self) -> Option<Body> {
        None
    }

    /// A credential of `secret` for an endpoint that does not exist, so that its refusal takes as long as any other.
    fn decoy(&self, secret: &str) -> Credential {
        Credential::Secrets(vec![secret.into()])
    }

    /// The answer to a request for consent to deliveries, where the provider has such a handshake. `endpoint` is none
    /// behind an unknown key; `per_second` is how many calls an endpoint takes.
    fn consent(&self, _: &HeaderMap, _endpoint: Option<&Endpoint>, _per_second: u32) -> Option<Consent> {
        None
    }

    /// Whether a refused call is as good as lost, since the provider hardly tries again. Such calls get a place when
    /// others no longer do.
    fn hardly_retries(&self) -> bool {
        false
    }

    /// The status the provider takes as a wish to slow down.
    fn slow_down(&self) -> StatusCode {
        StatusCode::TOO_MANY_REQUESTS
    }
}

/// A way to sign, as files of recorded calls name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scheme {
    /// Its name.
    pub name: &'static str,
    /// Calls carry a time, so that there is a window.
    pub windowed: bool,
    /// A recorded verdict is about the whole body, not about its sender alone.
    pub reads: bool,
}

impl Scheme {
    /// A signature over a time.
    pub(crate) const fn windowed(name: &'static str) -> Self {
        Self { name, windowed: true, reads: false }
    }

    /// A check that knows no time.
    pub(crate) const fn timeless(name: &'static str) -> Self {
        Self { name, windowed: false, reads: false }
    }
}

/// An answer as a provider reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its body, if the provider reads one.
    pub body: Option<Body>,
}

impl Answer {
    /// A status that says everything.
    pub(crate) const fn of(status: StatusCode) -> Self {
        Self { status, body: None }
    }
}

/// The answer to a request for consent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Consent {
    /// Headers that give it; none of them refuses it.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// The body of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Body {
    /// Its media type.
    pub content_type: &'static str,
    /// Its text.
    pub text: &'static str,
}

/// One call as a provider sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    /// Method, upper case.
    pub method: &'a str,
    /// The public URL followed by path and query as they were requested.
    pub url: &'a str,
    /// All headers.
    pub headers: &'a HeaderMap,
    /// The raw body.
    pub body: &'a [u8],
}

/// What a signature covers, for a person who wonders why it does not match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signed {
    /// The scheme the headers ask for, or `none`.
    pub scheme: &'static str,
    /// The URL as it enters the signature, if it does.
    pub url: Option<String>,
    /// The timestamp header as sent, if the scheme has one.
    pub timestamp: Option<String>,
}

/// One door with its keys.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// As configured.
    pub config: EndpointConfig,
    /// Its place among the endpoints.
    pub number: usize,
    /// What calls are checked with.
    pub keys: Keys,
    /// Verified requests per second of each account.
    pub rates: Rates,
    /// Whose client certificates a call needs, if any.
    pub clients: Option<ClientAuthority>,
}

impl Endpoint {
    /// Ends a second secret whose time is over. Called before each verification.
    pub(crate) fn expire(&self, now: Timestamp) {
        if let (Some(at), Keys::Shared(keys)) = (self.config.second_secret_expires, &self.keys)
            && let Some(second) = keys.get(1)
        {
            second.end(at <= now);
        }
    }

    /// Notes which secret verified a call.
    pub(crate) fn verified(&self, now: Timestamp) {
        if let Keys::Shared(keys) = &self.keys {
            keys.iter().for_each(|key| key.note(now));
        }
    }

    /// A door that takes `rate` requests per second of each account.
    pub(crate) fn new(config: EndpointConfig, keys: Keys, rate: u32) -> Self {
        Self { rates: Rates::new(&config.owners, rate), keys, config, number: 0, clients: None }
    }
}

/// What a call held.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// Changes to publish, in the order of the call.
    pub changes: Vec<Change>,
    /// Events of kinds we do not know.
    pub unknown: u64,
    /// Events of accounts that no connection of the endpoint has.
    pub unrouted: Vec<Unrouted>,
}

/// An event of an account that no connection of the endpoint has.
#[derive(Debug)]
pub(crate) struct Unrouted {
    /// The account it names.
    pub account: String,
    /// The event as it stands in the body.
    pub body: Vec<u8>,
}

/// A verified body that is not what the provider documents. Carries a fixed text, never a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub &'static str);

/// What is answered with another status than the rest: the sender could send the same in a form that is read.
pub(crate) const UNKNOWN_FORMAT: Malformed = Malformed("events are read in JSON only");

/// Keys of up to two secrets that are used as text, whatever they look like.
fn text_keys(credential: &Credential) -> Result<Keys, KeyError> {
    let Credential::Secrets(secrets) = credential else { return Err(KeyError::NeedsSecret) };
    match secrets.len() {
        0 => Err(KeyError::NeedsSecret),
        1 | 2 => {
            let keys = secrets.iter().map(|s| SharedKey::new(s.expose_secret().as_bytes()));
            Ok(Keys::Shared(keys.collect::<Result<_, _>>()?))
        }
        _ => Err(KeyError::TooMany),
    }
}

/// What all changes of one call share.
pub(crate) struct Arrival<'a> {
    endpoint: &'a EndpointConfig,
    received_at: Timestamp,
    raw: Raw,
    batch: String,
    size: u32,
    traceparent: Option<String>,
}

impl<'a> Arrival<'a> {
    /// Hashes the body once. `size` is the number of events in it.
    pub(crate) fn new(call: &Call<'_>, endpoint: &'a EndpointConfig, received_at: Timestamp, size: usize) -> Self {
        let sha256 = signature::hex(&Sha256::digest(call.body));
        let text = |name| call.headers.get(name).and_then(|v| v.to_str().ok());
        Self {
            endpoint,
            received_at,
            batch: sha256[..32].to_owned(),
            size: u32::try_from(size).unwrap_or(u32::MAX),
            traceparent: text("traceparent").filter(|t| is_traceparent(t)).map(str::to_owned),
            raw: Raw {
                reference: None,
                sha256,
                content_type: text("content-type").map(|t| bounded(t, 128)).unwrap_or_default(),
                bytes: call.body.len() as u64,
            },
        }
    }

    /// Names the call: two calls with one body share it.
    pub(crate) fn batch(&self) -> &str {
        &self.batch
    }

    /// A change of `object` of `owner` that sets nothing yet; `key` is the provider's deduplication recipe.
    pub(crate) fn change<'k>(
        &self,
        owner: &Owner,
        index: usize,
        kind: ChangeKind,
        object: Object,
        key: impl IntoIterator<Item = &'k [u8]>,
    ) -> Change {
        Change {
            id: ChangeId::derive(self.endpoint.system, &owner.account, key),
            tenant: owner.tenant.clone(),
            source: Source {
                system: self.endpoint.system,
                account: owner.account.clone(),
                connection: owner.connection.clone(),
            },
            object,
            kind,
            fields: IndexMap::new(),
            fields_complete: false,
            state: false,
            needs_fetch: false,
            merge: None,
            link: None,
            occurred_at: None,
            occurred_at_resolution: Resolution::None,
            received_at: self.received_at,
            sequence: None,
            sequence_kind: SequenceKind::None,
            origin: Origin { actor: None, client: None, ours: Ours::Unknown },
            correlation: None,
            batch: Some(Batch {
                id: self.batch.clone(),
                index: u32::try_from(index).unwrap_or(u32::MAX),
                size: self.size,
            }),
            attempt: None,
            raw: self.raw.clone(),
            channel: Channel::Webhook,
            late: false,
            traceparent: self.traceparent.clone(),
        }
    }
}

/// A record by its neutral type, native type and id.
pub(crate) fn object(kind: ObjectType, native_type: &str, id: &str) -> Object {
    Object { kind, native_type: native_type.to_owned(), id: Some(id.to_owned()) }
}

/// At most `bytes` bytes of `text`, cut at a character.
pub(crate) fn bounded(text: &str, bytes: usize) -> String {
    text[..text.floor_char_boundary(bytes)].to_owned()
}

/// Whether brackets nest no deeper than the limit. Linear, without recursion, and blind to everything else: what it
/// lets through may still be no JSON.
pub(crate) fn nests_within_limit(body: &[u8]) -> bool {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in body {
        if in_text {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_text = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_text = true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > JSON_DEPTH {
            return false;
        }
    }
    true
}

/// `00-<32 hex>-<16 hex>-<2 hex>` of W3C Trace Context, version 00.
fn is_traceparent(text: &str) -> bool {
    let lengths = [2, 32, 16, 2];
    let mut parts = text.split('-');
    text.starts_with("00-")
        && lengths.into_iter().all(|n| parts.next().is_some_and(|p| p.len() == n && p.bytes().all(is_lower_hex)))
        && parts.next().is_none()
}

const fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Owners;

    #[test]
    fn nesting_is_counted_outside_of_text() {
        for (body, expected) in [
            (format!("{}{}", "[".repeat(64), "]".repeat(64)), true),
            ("[".repeat(65), false),
            (format!(r#""{}""#, "[".repeat(1_000)), true),
            (format!(r#""\"{}""#, "[".repeat(1_000)), true),
            (format!(r#""\\"{}"#, "[".repeat(65)), false),
            ("[]".repeat(1_000), true),
            ("]]]]".to_owned(), true),
        ] {
            assert_eq!(nests_within_limit(body.as_bytes()), expected, "{body:.40}");
        }
    }

    const HUBSPOT: &str = r#"[{"eventId":1,"portalId":5550123,"appId":7,"occurredAt":1767268798500,"subscriptionType":"contact.propertyChange","attemptNumber":0,"objectId":7001,"propertyName":"jobtitle","propertyValue":"CTO é \n","changeSource":"CRM_UI"},{"eventId":2,"portalId":5550123,"occurredAt":2,"subscriptionType":"deal.merge","objectId":1,"primaryObjectId":1,"mergedObjectIds":[2,3],"newObjectId":4},{"eventId":3,"portalId":5550123,"occurredAt":3,"subscriptionType":"object.associationChange","objectTypeId":"2-1","fromObjectId":1,"toObjectId":2,"associationType":"A_TO_B","isPrimaryAssociation":true}]"#;
    const NATIVE: &str = r#"{"type":"contact.updated","timestamp":"2026-01-01T11:59:57.120Z","data":{"id":"c_19","name":"R","n":[1,{"a":null}]},"previous":{"name":"Q"},"sequence":17,"complete":false,"actor":"u"}"#;

    fn endpoint(name: ProviderName) -> Endpoint {
        let owner = Owner {
            tenant: "acme".to_owned(),
            connection: "c".to_owned(),
            account: "5550123".to_owned(),
            app_id: None,
        };
        let system = System::Hubspot;
        let config = EndpointConfig::new("e", "k", (name, system), Owners::One(owner), Credential::None);
        Endpoint::new(config, Keys::Shared(Vec::new()), 1)
    }

    /// Reads `body` as a verified call; answers the changes, each of which must have a bounded form on the stream.
    fn read(name: ProviderName, body: &[u8]) -> Option<usize> {
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", HeaderValue::from_static("m"));
        let call = Call { method: "POST", url: "https://h/in", headers: &headers, body };
        let reading = find(name).changes(&call, &endpoint(name), Timestamp::from_micros(1)).ok()?;
        for change in &reading.changes {
            let mut change = change.clone();
            assert!(headgate_schemas::contract::encode(&change).is_ok());
            change.fields.clear();
            assert!(headgate_schemas::contract::encode(&change).unwrap().len() < 64 << 10);
        }
        Some(reading.changes.len())
    }

    #[test]
    fn the_bodies_the_random_tests_start_from_are_read() {
        assert_eq!(read(ProviderName::Hubspot, HUBSPOT.as_bytes()), Some(3));
        assert_eq!(read(ProviderName::Native, NATIVE.as_bytes()), Some(1));
    }

    #[test]
    fn only_what_our_own_app_wrote_is_marked_as_ours() {
        let owner = |app_id: Option<&str>| Owner {
            account: "5550123".to_owned(),
            app_id: app_id.map(str::to_owned),
            ..Owner::default()
        };
        let cases = [
            (Some("70077"), "INTEGRATION", "70077", Ours::Yes),
            (Some("70077"), "INTEGRATION", "70078", Ours::Unknown),
            (Some("70077"), "CRM_UI", "70077", Ours::Unknown),
            (None, "INTEGRATION", "70077", Ours::Unknown),
            (None, "INTEGRATION", "", Ours::Unknown),
        ];
        for (app, source, id, expected) in cases {
            let body = HUBSPOT.replace("CRM_UI\"", &format!("{source}\",\"sourceId\":\"{id}\""));
            let kind = (ProviderName::Hubspot, System::Hubspot);
            let config = EndpointConfig::new("e", "k", kind, Owners::One(owner(app)), Credential::None);
            let endpoint = Endpoint::new(config, Keys::Shared(Vec::new()), 1);
            let headers = HeaderMap::new();
            let call = Call { method: "POST", url: "https://h/in", headers: &headers, body: body.as_bytes() };
            let hubspot = find(ProviderName::Hubspot);
            let reading = hubspot.changes(&call, &endpoint, Timestamp::from_micros(1)).ok().unwrap();
            assert_eq!(reading.changes[0].origin.ours, expected, "{app:?} {source} {id}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn damaged_bodies_are_read_or_refused(
            native in any::<bool>(),
            edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..4, any::<u8>()), 0..12),
            tokens in prop::collection::vec(prop::sample::select(vec![
                "{", "}", "[", "]", ",", ":", "\"", "null", "true", "-1", "1e9", "99999999999999999999999999",
                "\"\\ud800\"", "\"REDACTED\"", "\"objectId\":", "\"data\":", "\u{0}",
            ]), 0..4),
        ) {
            let (name, body) = if native { (ProviderName::Native, NATIVE) } else { (ProviderName::Hubspot, HUBSPOT) };
            let mut body = body.as_bytes().to_vec();
            for (place, kind, byte) in edits {
                let at = place.index(body.len());
                match kind {
                    0 => body[at] = byte,
                    1 => body.truncate(at.max(1)),
                    2 => drop(body.remove(at.min(body.len() - 1))),
                    _ => body.insert(at, byte),
                }
                if body.is_empty() {
                    body.push(byte);
                }
            }
            for (n, token) in tokens.iter().enumerate() {
                let at = (n * 37) % (body.len() + 1);
                body.splice(at..at, token.bytes());
            }
            read(name, &body);
        }

        #[test]
        fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..300)) {
            read(ProviderName::Hubspot, &body);
            read(ProviderName::Native, &body);
        }
    }

    #[test]
    fn a_trace_context_is_passed_only_in_its_form() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(is_traceparent(good));
        for bad in ["", "00", &good[..54], &good.to_uppercase(), &format!("{good}-x"), &good.replace("00-4", "01-4")] {
            assert!(!is_traceparent(bad), "{bad}");
        }
    }

    #[test]
    fn text_is_cut_at_a_character() {
        assert_eq!(bounded("Renée", 4), "Ren");
        assert_eq!(bounded("Renée", 5), "René");
        assert_eq!(bounded("Renée", 99), "Renée");
    }
}
