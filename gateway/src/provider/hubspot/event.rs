//! From a HubSpot body to changes: the event kinds, their fields, and what identifies each.
//!
//! It must not know signatures. The surprising thing: fields that only some kinds carry stay raw until their kind is
//! known, so that an event we do not know, whatever its shape, never spoils the 99 others of its request.

use std::borrow::Cow;

use headgate_schemas::change::{FieldChange, Link, Merge, Object, Ours, SequenceKind};
use headgate_schemas::{Change, ChangeKind, ObjectType, Resolution, Timestamp, Value};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::kind::{Happening, known, neutral};
use super::raw::{NAME_BYTES, Text, flag, label, number, text};
use crate::config::{EndpointConfig, Owner};
use crate::provider::json::AtMost;
use crate::provider::{Arrival, Call, Malformed, Reading, TIMES, Unrouted, bounded, nests_within_limit, object};

/// "Webhooks API": up to 100 events per request.
const EVENTS: usize = 100;
/// Records merged into one by one event. A person merges two; imports of merges stay far below.
const MERGED: usize = 1_000;
/// What HubSpot sends instead of a sensitive value.
const REDACTED: &str = "REDACTED";

/// One event as it stands in the body.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    #[serde(borrow, default)]
    subscription_type: Option<Text<'a>>,
    // The documentation's table has this name for the same thing.
    #[serde(borrow, default)]
    event_type: Option<Text<'a>>,
    #[serde(borrow, default)]
    event_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    portal_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    app_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    occurred_at: Option<&'a RawValue>,
    #[serde(borrow, default)]
    attempt_number: Option<&'a RawValue>,
    #[serde(borrow, default)]
    object_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    object_type_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    property_name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    property_value: Option<&'a RawValue>,
    #[serde(borrow, default)]
    is_sensitive: Option<&'a RawValue>,
    #[serde(borrow, default)]
    change_source: Option<&'a RawValue>,
    #[serde(borrow, default)]
    source_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    primary_object_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    merged_object_ids: Option<&'a RawValue>,
    #[serde(borrow, default)]
    new_object_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    from_object_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    to_object_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    from_object_type_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    to_object_type_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    association_type: Option<&'a RawValue>,
    #[serde(borrow, default)]
    association_removed: Option<&'a RawValue>,
    #[serde(borrow, default)]
    is_primary_association: Option<&'a RawValue>,
}

/// Reads the whole body.
pub(super) fn read(call: &Call<'_>, endpoint: &EndpointConfig, received_at: Timestamp) -> Result<Reading, Malformed> {
    if !nests_within_limit(call.body) {
        return Err(Malformed("the body nests too deeply"));
    }
    let AtMost { list: events, len } = serde_json::from_slice::<AtMost<Event<'_>, EVENTS>>(call.body)
        .map_err(|_| Malformed("the body is not an array of events"))?;
    if len == 0 || len > EVENTS {
        return Err(Malformed("a request holds 1 to 100 events"));
    }
    let arrival = Arrival::new(call, endpoint, received_at, events.len());
    let mut reading = Reading::default();
    let mut unrouted = Vec::new();
    for (index, event) in events.iter().enumerate() {
        let name = event.subscription_type.as_ref().or(event.event_type.as_ref());
        let Some(name) = name.map(|t| t.0.as_ref()) else { return Err(Malformed("an event has no subscriptionType")) };
        let Some((family, happening)) = known(name) else {
            reading.unknown += 1;
            continue;
        };
        let portal = number(event.portal_id)?.ok_or(Malformed("an event has no portalId"))?;
        let Some(owner) = endpoint.owners.of(portal) else {
            unrouted.push((index, portal));
            continue;
        };
        reading.changes.push(event.change(&arrival, owner, index, name, family, happening)?);
    }
    reading.unrouted = apart(call.body, &unrouted)?;
    Ok(reading)
}

/// The unrouted events as they stand in the body. Read a second time, since this is rare and the events that matter
/// must not pay for it.
fn apart(body: &[u8], unrouted: &[(usize, &str)]) -> Result<Vec<Unrouted>, Malformed> {
    if unrouted.is_empty() {
        return Ok(Vec::new());
    }
    let events: Vec<&RawValue> =
        serde_json::from_slice(body).map_err(|_| Malformed("the body is not an array of events"))?;
    let event = |(index, portal): &(usize, &str)| {
        let body = events.get(*index)?.get().as_bytes().to_vec();
        Some(Unrouted { account: (*portal).to_owned(), body })
    };
    Ok(unrouted.iter().filter_map(event).collect())
}

impl<'a> Event<'a> {
    fn change(
        &self,
        arrival: &Arrival<'_>,
        owner: &Owner,
        index: usize,
        name: &str,
        family: &str,
        happening: Happening,
    ) -> Result<Change, Malformed> {
        let event_id = number(self.event_id)?.ok_or(Malformed("an event has no eventId"))?;
        let occurred = number(self.occurred_at)?.ok_or(Malformed("an event has no occurredAt"))?;
        let occurred_ms: i64 = occurred.parse().map_err(|_| Malformed("occurredAt is not a time in milliseconds"))?;
        if !TIMES.contains(&occurred_ms) {
            return Err(Malformed("occurredAt is not a time of our era"));
        }
        let type_id = text(self.object_type_id)?;
        let plain = |id: &str| !id.is_empty() && id.bytes().all(|b| b.is_ascii_graphic());
        if family == "object" && !type_id.as_deref().is_some_and(plain) {
            return Err(Malformed("a generic event has no objectTypeId"));
        }
        let (subject, record, detail) = self.subject(family, type_id.as_deref(), happening)?;
        // `attemptNumber` differs between repeats and `subscriptionId` between two subscriptions to one change, so
        // neither is part of the key. The generic form's type and an association's label tell apart what would
        // otherwise look the same: record ids are unique per type only.
        let app = number(self.app_id)?.unwrap_or_default();
        let generic = if family == "object" { type_id.as_deref().unwrap_or_default() } else { "" };
        let key = [&owner.account, app, name, generic, &record, event_id, occurred, &detail];
        let mut change = arrival.change(owner, index, ChangeKind::Touched, subject, key.map(str::as_bytes));
        change.occurred_at = Some(Timestamp::from_millis(occurred_ms));
        change.occurred_at_resolution = Resolution::Ms;
        if let Ok(ms) = u64::try_from(occurred_ms) {
            change.sequence = Some(format!("{ms:020}"));
            change.sequence_kind = SequenceKind::Time;
        }
        change.origin.client = label(self.change_source)?;
        change.origin.actor = label(self.source_id)?;
        // An integration's write names the app as its source. This only helps: the relay knows its own writes anyway.
        let app = owner.app_id.as_deref().filter(|_| change.origin.client.as_deref() == Some("INTEGRATION"));
        if app.is_some() && change.origin.actor.as_deref() == app {
            change.origin.ours = Ours::Yes;
        }
        // HubSpot counts attempts from 0, the envelope from 1.
        let attempt = number(self.attempt_number)?.unwrap_or("0").parse::<u32>().unwrap_or(u32::MAX);
        change.attempt = Some(attempt.saturating_add(1));
        self.fill(&mut change, happening)?;
        Ok(change)
    }

    /// The record, its part of the key, and the rest of the key.
    fn subject(
        &self,
        family: &str,
        type_id: Option<&str>,
        happening: Happening,
    ) -> Result<(Object, String, String), Malformed> {
        let (kind, native) = match type_id {
            Some(type_id) if family == "object" => (neutral(type_id), type_id),
            _ => (ObjectType::new(family), family),
        };
        if happening != Happening::AssociationChange {
            let id = number(self.object_id)?.ok_or(Malformed("an event has no objectId"))?;
            let property = if happening == Happening::PropertyChange {
                text(self.property_name)?.ok_or(Malformed("a property change has no propertyName"))?
            } else {
                Cow::Borrowed("")
            };
            return Ok((object(kind, native, id), id.to_owned(), property.into_owned()));
        }
        let from = number(self.from_object_id)?.ok_or(Malformed("an association has no fromObjectId"))?;
        let to = number(self.to_object_id)?.ok_or(Malformed("an association has no toObjectId"))?;
        let label = text(self.association_type)?.unwrap_or_default();
        // An association is told once per direction; its label says which type stands at which end.
        let kind = match (text(self.from_object_type_id)?, label.split_once("_TO_")) {
            (Some(id), _) => neutral(&id),
            (None, Some((from, _))) if family != "object" => ObjectType::new(from),
            _ => kind,
        };
        let detail = format!(
            "{label}|{}|{}",
            flag(self.association_removed)?.unwrap_or(false),
            flag(self.is_primary_association)?.unwrap_or(false)
        );
        Ok((object(kind, native, from), format!("{from}>{to}"), detail))
    }

    /// Sets kind and content.
    fn fill(&self, change: &mut Change, happening: Happening) -> Result<(), Malformed> {
        (change.kind, change.needs_fetch) = match happening {
            Happening::Creation => (ChangeKind::Created, true),
            Happening::Deletion => (ChangeKind::Deleted, false),
            Happening::Restore => (ChangeKind::Restored, true),
            Happening::PrivacyDeletion => (ChangeKind::Purged, false),
            Happening::NewMessage => (ChangeKind::Touched, true),
            Happening::Merge => {
                change.merge = Some(self.merge()?);
                (ChangeKind::Merged, true)
            }
            Happening::AssociationChange => {
                change.link = Some(self.link()?);
                let removed = flag(self.association_removed)?.unwrap_or(false);
                (if removed { ChangeKind::Unlinked } else { ChangeKind::Linked }, false)
            }
            Happening::PropertyChange => {
                let name = text(self.property_name)?.unwrap_or_default();
                let value = self.value()?;
                let withheld = value.is_none();
                if let Some(value) = value {
                    change.fields.insert(bounded(&name, NAME_BYTES), FieldChange::to(value));
                }
                (ChangeKind::Updated, withheld)
            }
        };
        Ok(())
    }

    /// The new value; none where HubSpot withholds it and the record must be read.
    fn value(&self) -> Result<Option<Value>, Malformed> {
        if flag(self.is_sensitive)?.unwrap_or(false) {
            return Ok(None);
        }
        let Some(raw) = self.property_value else { return Ok(None) };
        let value = serde_json::from_str(raw.get()).map_err(|_| Malformed("propertyValue is not JSON"))?;
        Ok(match value {
            Value::Text(t) if &*t == REDACTED => None,
            Value::Text(t) if t.is_empty() => Some(Value::Null),
            value => Some(value),
        })
    }

    fn merge(&self) -> Result<Merge, Malformed> {
        let primary = number(self.primary_object_id)?.ok_or(Malformed("a merge has no primaryObjectId"))?;
        let into = number(self.new_object_id)?.unwrap_or(primary);
        let merged: Vec<&'a RawValue> = match self.merged_object_ids {
            Some(raw) => serde_json::from_str(raw.get()).map_err(|_| Malformed("mergedObjectIds is not a list"))?,
            None => Vec::new(),
        };
        if merged.len() > MERGED {
            return Err(Malformed("a merge names too many records"));
        }
        let mut from: Vec<String> = Vec::with_capacity(merged.len() + 1);
        // A merge may create a record: then the primary is merged away as well.
        for id in merged.into_iter().map(Some).chain([self.primary_object_id]) {
            let Some(id) = number(id)? else { continue };
            if id != into && !from.iter().any(|known| known == id) {
                from.push(id.to_owned());
            }
        }
        Ok(Merge { into: into.to_owned(), from })
    }

    fn link(&self) -> Result<Link, Malformed> {
        let to_id = number(self.to_object_id)?.ok_or(Malformed("an association has no toObjectId"))?;
        let label = text(self.association_type)?;
        let to_type = match (text(self.to_object_type_id)?, label.as_deref().and_then(|l| l.split_once("_TO_"))) {
            (Some(id), _) => neutral(&id),
            (None, Some((_, to))) => ObjectType::new(&bounded(to, NAME_BYTES)),
            // A custom label names no type; the reader resolves the record by its id.
            (None, None) => ObjectType::new("object"),
        };
        Ok(Link {
            to_type,
            to_id: to_id.to_owned(),
            label: label.map(|l| bounded(&l, NAME_BYTES)),
            primary: flag(self.is_primary_association)?,
        })
    }
}
