//! HubSpot's workflow actions: the enrolled record as one object, signed with version 2 where version 3 is missing.
//!
//! Facts come from HubSpot's "How to use webhooks with HubSpot workflows". It must not know event subscriptions. The
//! surprising thing: the call names no event, so its body, its record and the minute stand for one; and since the weak
//! signature may be all there is, no value of it is believed. It is a hint to read the record.

use headgate_schemas::{ChangeKind, ObjectType, Timestamp};
use sha2::{Digest as _, Sha256};

use super::kind::neutral;
use crate::config::EndpointConfig;
use crate::provider::json::{self, Lookup as _, Map};
use crate::provider::{Arrival, Call, Malformed, Reading, Unrouted, object};

/// Whether a body may be a workflow action: an event subscription sends a list.
pub(super) fn is_action(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'{')
}

/// Reads the whole body.
pub(super) fn read(call: &Call<'_>, endpoint: &EndpointConfig, received_at: Timestamp) -> Result<Reading, Malformed> {
    let body = json::object(call.body)?;
    let (kind, native, id) = record(&body)?;
    let portal = match body.name("portalId")? {
        Some(portal) => Some(portal),
        None => body.name("portal-id")?,
    };
    let owner = match portal {
        Some(portal) => endpoint.owners.of(portal),
        None => endpoint.owners.sole(),
    };
    let Some(owner) = owner else {
        let account = portal.ok_or(Malformed("the action names no portal"))?.to_owned();
        let unrouted = vec![Unrouted { account, body: call.body.to_vec() }];
        return Ok(Reading { unrouted, ..Reading::default() });
    };
    let arrival = Arrival::new(call, endpoint, received_at, 1);
    let minute = received_at.millis().div_euclid(60_000).to_string();
    let hash = Sha256::digest(call.body);
    let key: [&[u8]; 4] = [b"workflow", &hash, id.as_bytes(), minute.as_bytes()];
    let mut change = arrival.change(owner, 0, ChangeKind::Touched, object(kind, &native, &id), key);
    change.needs_fetch = true;
    Ok(Reading { changes: vec![change], ..Reading::default() })
}

/// The enrolled record, in the form of today or in one of the older forms per type.
fn record(body: &Map) -> Result<(ObjectType, String, String), Malformed> {
    if let Some(id) = body.name("objectId")? {
        let kind = match body.name("objectTypeId")? {
            Some(kind) => kind,
            None => body.name("objectType")?.ok_or(Malformed("the action names no type of record"))?,
        };
        let plain = kind.bytes().all(|b| b.is_ascii_graphic());
        let kind = if plain { kind.to_ascii_lowercase() } else { return Err(Malformed("a type of record is none")) };
        return Ok((neutral(&kind), kind, id.to_owned()));
    }
    for (key, kind) in [("vid", ObjectType::CONTACT), ("companyId", ObjectType::COMPANY), ("dealId", ObjectType::DEAL)]
    {
        if let Some(id) = body.name(key)? {
            let native = kind.as_str().to_owned();
            return Ok((kind, native, id.to_owned()));
        }
    }
    Err(Malformed("the body is neither a list of events nor an enrolled record"))
}
