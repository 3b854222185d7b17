//! CloudEvents over HTTP in their three modes, with a bearer token.
//!
//! Facts come from the CloudEvents specification: "HTTP Protocol Binding" and "HTTP 1.1 Web Hooks for Event Delivery". It
//! must not know any other provider. The surprising things: consent to deliveries is a handshake of its own, given and
//! refused by headers whatever the status says, and it proves nothing about who delivers later; and the address for a
//! later consent that a request may name is never called, since anybody could make us call anything with it.

use std::time::Duration;

use headgate_schemas::change::SequenceKind;
use headgate_schemas::{Change, ChangeKind, ObjectType, Resolution, Timestamp};
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use super::dynamics::parameter;
use super::{
    Answer, Arrival, Call, Consent, Endpoint, Malformed, Provider, Reading, Scheme, Signed, TIMES, bounded, native,
    object,
};
use crate::config::Owner;
use crate::signature::{self, Keys, Refusal};

pub(crate) mod event;

use event::Event;

const REMEMBERED_FOR: Duration = Duration::from_secs(76 * 3_600);
const AUTHORIZATION: &str = "authorization";
const REQUEST_ORIGIN: &str = "webhook-request-origin";
const REQUEST_RATE: &str = "webhook-request-rate";
const ALLOWED_ORIGIN: HeaderName = HeaderName::from_static("webhook-allowed-origin");
const ALLOWED_RATE: HeaderName = HeaderName::from_static("webhook-allowed-rate");
/// Longest type or id taken over.
const NAME_BYTES: usize = 256;

/// CloudEvents as a provider.
pub(crate) struct Cloudevents;

impl Provider for Cloudevents {
    fn schemes(&self) -> &'static [Scheme] {
        const { &[Scheme::timeless("cloudevents-bearer")] }
    }

    fn remembered_for(&self) -> Duration {
        REMEMBERED_FOR
    }

    fn signed(&self, call: &Call<'_>) -> Signed {
        let scheme = if call.headers.contains_key(AUTHORIZATION) { "cloudevents-bearer" } else { "none" };
        Signed { scheme, url: None, timestamp: None }
    }

    fn verify(&self, call: &Call<'_>, endpoint: &Endpoint, _: Timestamp) -> Result<&'static str, Refusal> {
        let Keys::Shared(keys) = &endpoint.keys else { return Err(Refusal::Mismatch) };
        let is_shown = |token: &[u8]| keys.iter().any(|key| key.is_shown(token));
        // The header decides alone where it stands; the query is for senders that cannot set one.
        let shown = match signature::single(call.headers, AUTHORIZATION)? {
            Some(header) => match header.split_once(' ') {
                Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => is_shown(token.trim().as_bytes()),
                _ => return Err(Refusal::Malformed),
            },
            None => is_shown(&parameter(call.url, "access_token")?),
        };
        if shown { Ok("cloudevents-bearer") } else { Err(Refusal::Mismatch) }
    }

    fn changes(&self, call: &Call<'_>, endpoint: &Endpoint, received_at: Timestamp) -> Result<Reading, Malformed> {
        let events = event::read(call)?;
        let owner = endpoint.config.owners.sole().ok_or(Malformed("these events name no account"))?;
        let arrival = Arrival::new(call, &endpoint.config, received_at, events.len());
        let mut reading = Reading::default();
        for (index, event) in events.iter().enumerate() {
            match change(&arrival, owner, index, event)? {
                Some(change) => reading.changes.push(change),
                None => reading.unknown += 1,
            }
        }
        Ok(reading)
    }

    fn accepted(&self) -> Answer {
        Answer::of(StatusCode::ACCEPTED)
    }

    fn consent(&self, headers: &HeaderMap, endpoint: Option<&Endpoint>, per_second: u32) -> Option<Consent> {
        let origins = endpoint.map_or(&[][..], |endpoint| &endpoint.config.allowed_origins);
        Some(consent(headers, origins, u64::from(per_second) * 60))
    }
}

/// The answer to a request for consent: an origin that is not on the list hears nothing of either header.
pub(crate) fn consent(headers: &HeaderMap, origins: &[String], per_minute: u64) -> Consent {
    let mut consent = Consent::default();
    let Ok(Some(origin)) = signature::single(headers, REQUEST_ORIGIN) else { return consent };
    let allowed = origins.iter().any(|known| known == "*" || known.eq_ignore_ascii_case(origin));
    let Some(origin) = HeaderValue::from_str(origin).ok().filter(|_| allowed) else { return consent };
    let wanted = signature::single(headers, REQUEST_RATE).ok().flatten().and_then(|rate| rate.parse::<u64>().ok());
    let rate = wanted.map_or(per_minute, |wanted| wanted.min(per_minute)).max(1);
    consent.headers.extend([(ALLOWED_ORIGIN, origin), (ALLOWED_RATE, HeaderValue::from(rate))]);
    consent
}

/// The change an event tells, if its type names an object and what happened to it.
fn change(arrival: &Arrival<'_>, owner: &Owner, index: usize, event: &Event) -> Result<Option<Change>, Malformed> {
    let Some((native, kind)) = named(&event.kind) else { return Ok(None) };
    let mut fields = event.fields()?;
    let by_subject = event.subject.as_deref().and_then(|subject| subject.rsplit('/').next());
    let by_data = fields.shift_remove("id");
    let id = match (by_subject.filter(|id| !id.is_empty()), &by_data) {
        (Some(id), _) => id.to_owned(),
        (None, Some(id)) => native::plain_id(id)?.into_owned(),
        (None, None) => return Err(Malformed("the event names no record")),
    };
    if id.len() > NAME_BYTES || id.chars().any(char::is_control) {
        return Err(Malformed("an id is too long or holds control characters"));
    }
    let subject = object(ObjectType::new(native), native, &id);
    // Source and id name an event, and senders err: the same two for two records are two events, not a repeat.
    let key = [event.source.as_bytes(), event.id.as_bytes(), native.as_bytes(), id.as_bytes()];
    let mut change = arrival.change(owner, index, kind, subject, key);
    change.fields = fields.into_iter().map(|(name, value)| (name, super::FieldChange::to(value))).collect();
    change.needs_fetch = match kind {
        ChangeKind::Updated => change.fields.is_empty(),
        ChangeKind::Deleted | ChangeKind::Purged => false,
        _ => true,
    };
    change.origin.client = Some(bounded(&event.source, NAME_BYTES));
    if let Some(at) = event.time {
        if !TIMES.contains(&at.millis()) {
            return Err(Malformed("the time of an event is not of our era"));
        }
        change.occurred_at = Some(at);
        change.occurred_at_resolution = if at.micros() % 1_000_000 == 0 { Resolution::S } else { Resolution::Ms };
        change.sequence = u64::try_from(at.micros()).ok().map(|us| format!("{us:020}"));
        change.sequence_kind = SequenceKind::Time;
    }
    if let Some(sequence) = event.sequence.as_deref().filter(|text| native::is_sequence(text)) {
        change.sequence = Some(sequence.to_owned());
        change.sequence_kind = SequenceKind::Strict;
    }
    Ok(Some(change))
}

/// Object and verb at the end of a type like `com.example.contact.updated` or `com.example.contact.updated.v1`. What
/// relates two records is told in no common place, so such verbs are none of ours.
fn named(kind: &str) -> Option<(&str, ChangeKind)> {
    let (rest, last) = kind.rsplit_once('.')?;
    let is_version = last.strip_prefix('v').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    let (rest, verb) = if is_version { rest.rsplit_once('.')? } else { (rest, last) };
    let native = rest.rsplit('.').next()?;
    let kind = ChangeKind::ALL.into_iter().find(|kind| kind.as_str() == verb)?;
    let relates = matches!(kind, ChangeKind::Merged | ChangeKind::Linked | ChangeKind::Unlinked | ChangeKind::Resync);
    let plain = !native.is_empty() && native.len() <= NAME_BYTES && native.bytes().all(|b| b.is_ascii_graphic());
    (plain && !relates).then_some((native, kind))
}
