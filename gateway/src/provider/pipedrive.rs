//! Pipedrive webhooks, versions 2 and 1: one event per call, with the state after it and what it replaced.
//!
//! Facts come from Pipedrive's "Guide for Webhooks v2" and "Guide for Webhooks". It must not know any other provider.
//! The surprising thing: ten first attempts that fail in a row of events ban the webhook for half an hour, and what
//! happens meanwhile is lost; so a sender that is too fast hears 503, which it repeats, and never 429.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headgate_schemas::change::{FieldChange, Merge, SequenceKind};
use headgate_schemas::{Change, ChangeKind, ObjectType, Resolution, System, Timestamp, Value};
use hyper::StatusCode;
use secrecy::ExposeSecret as _;

use super::json::{self, Lookup as _, Map, as_map};
use super::{Answer, Arrival, Call, Endpoint, Malformed, Provider, Reading, Scheme, Signed, TIMES, Unrouted, object};
use crate::config::{Credential, CredentialKind};
use crate::signature::{self, KeyError, Keys, Refusal, SharedKey};

const AUTHORIZATION: &str = "authorization";
/// Three more attempts within about three minutes; the rest is for clocks and queues.
const REMEMBERED_FOR: Duration = Duration::from_secs(600);

/// Pipedrive as a provider.
pub(crate) struct Pipedrive;

impl Provider for Pipedrive {
    fn system(&self) -> System {
        System::Pipedrive
    }

    fn credential(&self) -> CredentialKind {
        CredentialKind::Basic
    }

    fn schemes(&self) -> &'static [Scheme] {
        const { &[Scheme::timeless("http-basic")] }
    }

    fn remembered_for(&self) -> Duration {
        REMEMBERED_FOR
    }

    fn keys(&self, credential: &Credential) -> Result<Keys, KeyError> {
        let Credential::Basic { username, passwords } = credential else { return Err(KeyError::NeedsPassword) };
        match passwords.len() {
            0 => Err(KeyError::NeedsPassword),
            1 | 2 => {
                let key = |p: &secrecy::SecretString| match p.expose_secret() {
                    "" => Err(KeyError::Empty),
                    password => SharedKey::new(format!("{username}:{password}").as_bytes()),
                };
                Ok(Keys::Shared(passwords.iter().map(key).collect::<Result<_, _>>()?))
            }
            _ => Err(KeyError::TooMany),
        }
    }

    fn signed(&self, call: &Call<'_>) -> Signed {
        let scheme = if call.headers.contains_key(AUTHORIZATION) { "http-basic" } else { "none" };
        Signed { scheme, url: None, timestamp: None }
    }

    fn verify(&self, call: &Call<'_>, endpoint: &Endpoint, _: Timestamp) -> Result<&'static str, Refusal> {
        let Keys::Shared(keys) = &endpoint.keys else { return Err(Refusal::Mismatch) };
        let header = signature::required(call.headers, AUTHORIZATION)?;
        let shown = match header.split_once(' ') {
            Some((scheme, encoded)) if scheme.eq_ignore_ascii_case("basic") => STANDARD.decode(encoded.trim()),
            _ => return Err(Refusal::Malformed),
        };
        let shown = shown.map_err(|_| Refusal::Malformed)?;
        if keys.iter().any(|key| key.is_shown(&shown)) { Ok("http-basic") } else { Err(Refusal::Mismatch) }
    }

    fn changes(&self, call: &Call<'_>, endpoint: &Endpoint, received_at: Timestamp) -> Result<Reading, Malformed> {
        let body = json::object(call.body)?;
        let meta = body.map("meta").ok_or(Malformed("the event has no meta"))?;
        let event = if meta.has("entity") { Event::second(&body, meta)? } else { Event::first(&body, meta)? };
        let Some(event) = event else { return Ok(Reading { unknown: 1, ..Reading::default() }) };
        let account = meta.name("company_id")?.ok_or(Malformed("the event has no company_id"))?;
        let Some(owner) = endpoint.config.owners.of(account) else {
            let unrouted = vec![Unrouted { account: account.to_owned(), body: call.body.to_vec() }];
            return Ok(Reading { unrouted, ..Reading::default() });
        };
        let arrival = Arrival::new(call, &endpoint.config, received_at, 1);
        let subject = object(neutral(&event.entity), &event.entity, &event.id);
        let change = arrival.change(owner, 0, event.kind, subject, event.key.iter().map(String::as_bytes));
        Ok(Reading { changes: vec![event.fill(change, meta)?], ..Reading::default() })
    }

    fn accepted(&self) -> Answer {
        Answer::of(StatusCode::OK)
    }

    fn decoy(&self, secret: &str) -> Credential {
        Credential::Basic { username: String::new(), passwords: vec![secret.into()] }
    }

    // Three more attempts within minutes; ten first attempts that failed ban the endpoint for half an hour
    // (Pipedrive, "Guide for webhooks v2").
    fn hardly_retries(&self) -> bool {
        true
    }

    fn slow_down(&self) -> StatusCode {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

/// The neutral type behind Pipedrive's; others keep their name.
fn neutral(entity: &str) -> ObjectType {
    match entity {
        "person" => ObjectType::CONTACT,
        "organization" => ObjectType::COMPANY,
        other => ObjectType::new(other),
    }
}

/// What both versions tell.
struct Event<'b> {
    kind: ChangeKind,
    entity: String,
    id: String,
    at: (Timestamp, Resolution),
    /// The deduplication recipe.
    key: Vec<String>,
    /// The state after the event.
    now: Option<&'b Map>,
    /// What changed, as it was before.
    before: Option<&'b Map>,
    attempt: u32,
}

const NO_ID: Malformed = Malformed("the event names no record");

impl<'b> Event<'b> {
    fn second(body: &'b Map, meta: &'b Map) -> Result<Option<Self>, Malformed> {
        let kind = match (meta.text("action"), meta.has("merged_to_id")) {
            (Some("create"), _) => ChangeKind::Created,
            (Some("change"), _) => ChangeKind::Updated,
            (Some("delete"), false) => ChangeKind::Deleted,
            (Some("delete"), true) => ChangeKind::Merged,
            _ => return Ok(None),
        };
        let entity = meta.name("entity")?.ok_or(NO_ID)?.to_owned();
        let id = meta.name("entity_id")?.ok_or(NO_ID)?.to_owned();
        let at = match meta.get("timestamp") {
            Some(Value::Text(text)) => time_of(text),
            Some(Value::Number(seconds)) => seconds_of(seconds),
            _ => None,
        };
        let event = meta.name("id")?.ok_or(Malformed("the event has no id"))?.to_owned();
        Ok(Some(Self {
            kind,
            entity,
            id,
            at: at.ok_or(NO_TIME)?,
            key: vec!["v2".to_owned(), event],
            now: body.get("data").and_then(as_map),
            before: body.get("previous").and_then(as_map),
            attempt: count(meta, "attempt"),
        }))
    }

    fn first(body: &'b Map, meta: &'b Map) -> Result<Option<Self>, Malformed> {
        let kind = match meta.text("action") {
            Some("added") => ChangeKind::Created,
            Some("updated") => ChangeKind::Updated,
            Some("deleted") => ChangeKind::Deleted,
            // Which records became one is told in no documented place: a look at this one has to do.
            Some("merged") => ChangeKind::Touched,
            _ => return Ok(None),
        };
        let entity = meta.name("object")?.ok_or(NO_ID)?.to_owned();
        let id = meta.name("id")?.ok_or(NO_ID)?.to_owned();
        let micro = meta.name("timestamp_micro")?;
        let fine = micro.and_then(|text| text.parse().ok()).map(Timestamp::from_micros);
        let at = match (fine, meta.get("timestamp")) {
            (Some(at), _) => in_our_era(at, Resolution::Us),
            (None, Some(Value::Number(seconds))) => seconds_of(seconds),
            (None, _) => None,
        };
        let hook = meta.name("webhook_id")?.unwrap_or_default();
        let action = meta.text("action").unwrap_or_default();
        let time = micro.unwrap_or_default();
        let key = ["v1", hook, &entity, &id, action, time].map(str::to_owned).into();
        Ok(Some(Self {
            kind,
            entity,
            id,
            at: at.ok_or(NO_TIME)?,
            key,
            now: body.get("current").and_then(first_map),
            before: body.get("previous").and_then(first_map),
            attempt: count(body, "retry").saturating_add(1),
        }))
    }

    fn fill(self, mut change: Change, meta: &Map) -> Result<Change, Malformed> {
        let (at, resolution) = self.at;
        change.occurred_at = Some(at);
        change.occurred_at_resolution = resolution;
        // One unit for both versions, so that their events of one record can be compared.
        change.sequence = u64::try_from(at.micros()).ok().map(|us| format!("{us:020}"));
        change.sequence_kind = SequenceKind::Time;
        change.origin.actor = meta.name("user_id")?.map(Into::into);
        change.origin.client = meta.text("change_source").map(|text| super::bounded(text, json::NAME_BYTES));
        change.correlation = meta.text("correlation_id").map(|text| super::bounded(text, json::NAME_BYTES));
        change.attempt = (self.attempt > 0).then_some(self.attempt);
        match self.kind {
            ChangeKind::Merged => {
                let into = meta.name("merged_to_id")?.ok_or(NO_ID)?.to_owned();
                change.merge = Some(Merge { into, from: vec![self.id] });
                change.needs_fetch = true;
            }
            ChangeKind::Created | ChangeKind::Updated => {
                let before = self.before.map(flat).unwrap_or_default();
                let with_before = |(name, value): (&str, &Value)| {
                    let previous = before.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).clone());
                    (name.to_owned(), FieldChange { value: value.clone(), previous })
                };
                change.fields = self.now.map(flat).unwrap_or_default().into_iter().map(with_before).collect();
                change.fields_complete = !change.fields.is_empty();
                change.needs_fetch = change.fields.is_empty();
            }
            _ => change.needs_fetch = self.kind == ChangeKind::Touched,
        }
        Ok(change)
    }
}

const NO_TIME: Malformed = Malformed("the event has no time");

/// The fields of a record without its id; custom ones stand one level deeper in version 2 and beside the others in version 1.
fn flat(map: &Map) -> Vec<(&str, &Value)> {
    let custom = map.map("custom_fields").into_iter().flatten();
    let own = map.iter().filter(|(name, _)| !matches!(&***name, "id" | "custom_fields"));
    own.chain(custom).map(|(n, v)| (&**n, v)).collect()
}

/// Version 1 puts users into a list.
fn first_map(value: &Value) -> Option<&Map> {
    match value {
        Value::List(list) => list.first().and_then(as_map),
        other => as_map(other),
    }
}

/// The samples show a date and time with milliseconds, the table ten characters: seconds since 1970.
fn time_of(text: &str) -> Option<(Timestamp, Resolution)> {
    match text.parse::<Timestamp>() {
        Ok(at) => in_our_era(at, if text.contains('.') { Resolution::Ms } else { Resolution::S }),
        Err(_) => seconds_of(text),
    }
}

fn seconds_of(digits: &str) -> Option<(Timestamp, Resolution)> {
    in_our_era(Timestamp::from_secs(digits.parse().ok()?), Resolution::S)
}

fn in_our_era(at: Timestamp, resolution: Resolution) -> Option<(Timestamp, Resolution)> {
    TIMES.contains(&at.millis()).then_some((at, resolution))
}

fn count(map: &Map, key: &str) -> u32 {
    match map.get(key) {
        Some(Value::Number(digits)) => digits.parse().unwrap_or(0),
        _ => 0,
    }
}
