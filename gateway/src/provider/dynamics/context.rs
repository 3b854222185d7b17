//! From an execution context to changes: what happened to which record, and what the step was registered to tell.
//!
//! Names are those of `RemoteExecutionContext` in Microsoft's Dataverse documentation. It must not know credentials. The
//! surprising thing: an update lists what was *submitted*, which may equal what was there, and old values come only with
//! an image that the step was registered with; a context over 256 KB arrives without any of its values.

use headgate_schemas::change::{FieldChange, Link, Merge, SequenceKind};
use headgate_schemas::{Change, ChangeKind, ObjectType, Resolution, Timestamp, Value};
use indexmap::IndexMap;
use sha2::{Digest as _, Sha256};

use super::value::{instant, plain};
use crate::config::{EndpointConfig, Owner};
use crate::provider::json::{self, Lookup as _, Map, NAME_BYTES, as_map};
use crate::provider::{Arrival, Call, Malformed, Reading, Unrouted, bounded, object};
use crate::signature;

/// Where the environment's host name stands.
const ORGANIZATION: &str = "x-ms-dynamics-organization";
/// Present when the values were left out.
const OVERSIZE: &str = "x-ms-dynamics-msg-size-exceeded";
/// Records of one context. Bulk operations post them one by one or a page at a time.
const RECORDS: usize = 1_000;
/// Stage, mode: after the operation, asynchronous.
const ASYNCHRONOUS: &str = "1";

const NO_RECORD: Malformed = Malformed("the context names no record");

/// Reads the whole body.
pub(super) fn read(call: &Call<'_>, endpoint: &EndpointConfig, received_at: Timestamp) -> Result<Reading, Malformed> {
    let body = json::object(call.body)?;
    let context = Context::of(&body, call)?;
    let Some(kind) = context.kind() else { return Ok(Reading { unknown: 1, ..Reading::default() }) };
    let Some(owner) = context.owner(call, endpoint) else {
        let unrouted = vec![Unrouted { account: context.organization.clone(), body: call.body.to_vec() }];
        return Ok(Reading { unrouted, ..Reading::default() });
    };
    let targets = context.targets();
    if targets.len() > RECORDS {
        return Err(Malformed("a context holds too many records"));
    }
    let arrival = Arrival::new(call, endpoint, received_at, targets.len());
    let change = |(index, target)| context.change(&arrival, owner, kind, index, target);
    Ok(Reading {
        changes: targets.into_iter().enumerate().map(change).collect::<Result<_, _>>()?,
        ..Reading::default()
    })
}

/// A context with the parts that every message has.
struct Context<'b> {
    body: &'b Map,
    message: &'b str,
    entity: String,
    organization: String,
    oversize: bool,
}

/// One record of a context.
#[derive(Clone, Copy)]
struct Target<'b> {
    /// The entity as submitted, if it was told.
    entity: Option<&'b Map>,
    /// The record at the other end, for a link.
    related: Option<&'b Map>,
}

impl<'b> Context<'b> {
    fn of(body: &'b Map, call: &Call<'_>) -> Result<Self, Malformed> {
        let message = body.text("MessageName").ok_or(Malformed("the context has no MessageName"))?;
        let entity = body.name("PrimaryEntityName")?.ok_or(NO_RECORD)?.to_owned();
        let organization = body.name("OrganizationId")?.ok_or(Malformed("the context has no OrganizationId"))?;
        // The headers are authenticated by nothing but the body they travel with.
        for (header, told) in [("x-ms-dynamics-entity-name", entity.as_str()), ("x-ms-dynamics-request-name", message)]
        {
            let said = signature::single(call.headers, header).map_err(|_| Malformed("a header is repeated"))?;
            if said.is_some_and(|said| said != told) {
                return Err(Malformed("a header contradicts the body"));
            }
        }
        let organization = organization.to_ascii_lowercase();
        Ok(Self { body, message, entity, organization, oversize: call.headers.contains_key(OVERSIZE) })
    }

    /// The connection of the environment, by its id or by the host that a header names.
    fn owner<'e>(&self, call: &Call<'_>, endpoint: &'e EndpointConfig) -> Option<&'e Owner> {
        let host = signature::single(call.headers, ORGANIZATION).ok().flatten();
        let by_host = || endpoint.owners.of(host?);
        endpoint.owners.of(&self.organization).or_else(by_host)
    }

    fn kind(&self) -> Option<ChangeKind> {
        Some(match self.message {
            "Create" | "CreateMultiple" => ChangeKind::Created,
            "Update" | "UpdateMultiple" | "SetState" | "SetStateDynamicEntity" | "Assign" => ChangeKind::Updated,
            "Delete" | "DeleteMultiple" => ChangeKind::Deleted,
            "Restore" => ChangeKind::Restored,
            "Merge" => ChangeKind::Merged,
            "Associate" => ChangeKind::Linked,
            "Disassociate" => ChangeKind::Unlinked,
            _ => return None,
        })
    }

    fn input(&self, name: &str) -> Option<&'b Value> {
        find(self.body.list("InputParameters"), name)
    }

    /// The records, one unless the message is about several.
    fn targets(&self) -> Vec<Target<'b>> {
        let entity = self.input("Target").and_then(as_map);
        let related = self.input("RelatedEntities").map(members).unwrap_or_default();
        if !related.is_empty() {
            return related.into_iter().map(|related| Target { entity, related: Some(related) }).collect();
        }
        let several = self.input("Targets").map(members).unwrap_or_default();
        if several.is_empty() {
            return vec![Target { entity, related: None }];
        }
        several.into_iter().map(|entity| Target { entity: Some(entity), related: None }).collect()
    }

    fn change(
        &self,
        arrival: &Arrival<'_>,
        owner: &Owner,
        kind: ChangeKind,
        index: usize,
        target: Target<'_>,
    ) -> Result<Change, Malformed> {
        let id = match self.body.name("PrimaryEntityId")? {
            Some(id) if self.input("Targets").is_none() => id,
            _ => target.entity.ok_or(NO_RECORD)?.name("Id")?.ok_or(NO_RECORD)?,
        };
        let id = id.to_ascii_lowercase();
        let subject = object(neutral(&self.entity), &self.entity, &id);
        let key = self.key(&id, target)?;
        let mut change = arrival.change(owner, index, kind, subject, key.iter().map(Vec::as_slice));
        change.fields = self.fields(target);
        // Only an update is told by its values; everything else is a hint, and so is one whose values were left out.
        change.needs_fetch = match kind {
            ChangeKind::Updated => self.oversize || change.fields.is_empty(),
            ChangeKind::Deleted | ChangeKind::Linked | ChangeKind::Unlinked => false,
            _ => true,
        };
        change.origin.actor = self.body.name("InitiatingUserId")?.map(Into::into);
        change.correlation = self.body.name("CorrelationId")?.map(Into::into);
        self.order(&mut change, target);
        self.relations(&mut change, target, id)?;
        Ok(change)
    }

    /// The deduplication recipe: the asynchronous job and its step name an event; otherwise all that tells it apart does.
    fn key(&self, id: &str, target: Target<'_>) -> Result<Vec<Vec<u8>>, Malformed> {
        let name = |key: &str| Ok::<_, Malformed>(self.body.name(key)?.unwrap_or_default().to_owned().into_bytes());
        let related = target.related.map_or(Ok(None), |related| related.name("Id"))?.unwrap_or_default();
        let asynchronous = matches!(self.body.get("Mode"), Some(Value::Number(mode)) if &**mode == ASYNCHRONOUS);
        let job = self
            .body
            .name("OperationId")?
            .filter(|job| asynchronous && job.bytes().any(|b| b.is_ascii_alphanumeric() && b != b'0'));
        let mut key = vec![self.organization.clone().into_bytes(), id.as_bytes().to_vec(), related.as_bytes().to_vec()];
        if let Some(job) = job {
            let step = self.body.map("OwningExtension").map_or(Ok(None), |step| step.name("Id"))?.unwrap_or_default();
            key.extend([b"job".to_vec(), job.as_bytes().to_vec(), step.as_bytes().to_vec()]);
        } else {
            let attributes = target.entity.and_then(|entity| entity.get("Attributes")).cloned().unwrap_or_default();
            let attributes = Sha256::digest(attributes.to_plain().as_bytes()).to_vec();
            let stage = self.body.get("Stage").map(|stage| stage.to_plain().into_owned()).unwrap_or_default();
            let message = self.message.as_bytes().to_vec();
            key.extend([
                name("CorrelationId")?,
                message,
                self.entity.clone().into_bytes(),
                stage.into_bytes(),
                attributes,
            ]);
        }
        Ok(key)
    }

    fn fields(&self, target: Target<'_>) -> IndexMap<String, FieldChange> {
        let before = self.image("PreEntityImages");
        let submitted = target.entity.map(|entity| entity.list("Attributes")).unwrap_or_default();
        submitted
            .iter()
            .filter_map(pair)
            .map(|(name, value)| {
                let previous = before.and_then(|before| find(before, name)).map(plain);
                (bounded(name, NAME_BYTES), FieldChange { value: plain(value), previous })
            })
            .collect()
    }

    /// The attributes of the first image of that kind.
    fn image(&self, kind: &str) -> Option<&'b [Value]> {
        let (_, image) = self.body.list(kind).iter().find_map(pair)?;
        Some(as_map(image)?.list("Attributes"))
    }

    /// When it happened by the record's own time, and the version of the record where an image tells it.
    fn order(&self, change: &mut Change, target: Target<'_>) {
        let after = self.image("PostEntityImages").unwrap_or_default();
        let submitted = target.entity.map(|entity| entity.list("Attributes")).unwrap_or_default();
        let told = [submitted, after].into_iter().find_map(|list| instant(find(list, "modifiedon")));
        let Some(at) = told.or_else(|| instant(self.body.get("OperationCreatedOn"))) else {
            change.needs_fetch |= change.kind == ChangeKind::Updated;
            return;
        };
        let version = match find(after, "versionnumber") {
            Some(Value::Number(digits)) if digits.len() <= 20 && digits.bytes().all(|b| b.is_ascii_digit()) => digits,
            _ => "0",
        };
        change.occurred_at = Some(at);
        change.occurred_at_resolution = Resolution::S;
        change.sequence = u64::try_from(at.millis()).ok().map(|ms| format!("{ms:020}{version:0>20}"));
        change.sequence_kind = SequenceKind::Time;
    }

    fn relations(&self, change: &mut Change, target: Target<'_>, id: String) -> Result<(), Malformed> {
        match change.kind {
            ChangeKind::Merged => {
                let from = self.input("SubordinateId").and_then(Value::as_text);
                let from = from.filter(|from| from.len() <= NAME_BYTES).ok_or(NO_RECORD)?.to_ascii_lowercase();
                change.merge = Some(Merge { into: id, from: vec![from] });
            }
            ChangeKind::Linked | ChangeKind::Unlinked => {
                let Some(other) = target.related else {
                    change.kind = ChangeKind::Touched;
                    change.needs_fetch = true;
                    return Ok(());
                };
                let label = self.input("Relationship").and_then(as_map).and_then(|r| r.text("SchemaName"));
                change.link = Some(Link {
                    to_type: neutral(other.name("LogicalName")?.ok_or(NO_RECORD)?),
                    to_id: other.name("Id")?.ok_or(NO_RECORD)?.to_ascii_lowercase(),
                    label: label.map(|label| bounded(label, NAME_BYTES)),
                    primary: None,
                });
            }
            _ => {}
        }
        Ok(())
    }
}

/// The neutral type behind a logical name; others keep theirs.
fn neutral(entity: &str) -> ObjectType {
    match entity {
        "account" => ObjectType::COMPANY,
        "opportunity" => ObjectType::DEAL,
        other => ObjectType::new(other),
    }
}

/// An entry of the lists of keys and values that contexts are made of.
fn pair(entry: &Value) -> Option<(&str, &Value)> {
    let entry = as_map(entry)?;
    Some((entry.text("key")?, entry.get("value")?))
}

fn find<'b>(list: &'b [Value], name: &str) -> Option<&'b Value> {
    list.iter().filter_map(pair).find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// The entities of a collection, or of a plain list.
fn members(value: &Value) -> Vec<&Map> {
    let list = match value {
        Value::List(list) => list.as_slice(),
        Value::Map(map) => map.list("Entities"),
        _ => &[],
    };
    list.iter().filter_map(as_map).collect()
}
