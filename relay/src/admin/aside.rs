//! Records that were set aside, as they stand in their CRM now. Nothing of them is kept, because nothing is decided by
//! them; a person who is to say what becomes of one must see it, so it is read when it is asked for.
//!
//! The surprising thing: this is the one place where the admin API calls a CRM. It reads a few records, is bounded in
//! calls and in time, and calls nobody whose circuit is open. An answer that does not come is told as such.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use headgate_schemas::{Timestamp, Value};
use serde::Serialize;
use tokio::sync::Semaphore;

use super::Admin;
use crate::entity::{Detached, Entity};
use crate::mapping::Decoded;
use crate::target::{By, Found, ReadCall, ReadItem, Target};

/// Records that are read for one answer; what is beyond is named and not read.
const MOST: usize = 20;
/// Calls under way at once for everybody who asks; who comes later waits.
const CALLS: usize = 2;

/// What is needed to look at a record.
#[derive(Clone)]
pub(crate) struct Looks {
    targets: Arc<HashMap<String, Arc<dyn Target>>>,
    patience: Duration,
    room: Arc<Semaphore>,
}

impl Looks {
    /// Looks by these clients, each no longer than `patience`.
    pub(crate) fn new(targets: HashMap<String, Arc<dyn Target>>, patience: Duration) -> Self {
        Self { targets: Arc::new(targets), patience, room: Arc::new(Semaphore::new(CALLS)) }
    }
}

impl fmt::Debug for Looks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Looks").field("patience", &self.patience).finish_non_exhaustive()
    }
}

/// The record that somebody asked for.
pub(super) struct Asked {
    /// The connections of its system.
    pub(super) connections: Vec<u32>,
    /// Its id there.
    pub(super) id: String,
}

/// A record that was set aside.
#[derive(Debug, Serialize)]
pub(super) struct Aside {
    connection: String,
    id: String,
    /// It is the one that was asked for; the rest of the answer tells of the entity it was set aside from.
    asked: bool,
    /// `live`, `missing`, `merged` or `not_read`.
    stands: &'static str,
    /// Why it was not read, or into which record it was merged.
    #[serde(skip_serializing_if = "Option::is_none")]
    because: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changed_at: Option<Timestamp>,
    /// What it shows, by neutral names, as it would be taken over.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    fields: BTreeMap<String, Value>,
}

/// How a record stands.
struct Sight {
    stands: &'static str,
    because: Option<String>,
    changed_at: Option<Timestamp>,
    fields: BTreeMap<String, Value>,
}

impl Sight {
    fn unread(because: impl Into<String>) -> Self {
        Self { because: Some(because.into()), ..Self::of("not_read") }
    }

    const fn of(stands: &'static str) -> Self {
        Self { stands, because: None, changed_at: None, fields: BTreeMap::new() }
    }
}

impl Admin {
    /// The records of an entity that were set aside, read now.
    pub(super) async fn asides(&self, entity: &Entity, asked: &Asked) -> Vec<Aside> {
        let mut asides = Vec::with_capacity(entity.detached.len());
        for (n, detached) in entity.detached.iter().enumerate() {
            let connection = self.name(detached.connection);
            let sight = if n < MOST {
                self.sight(entity, &connection, detached).await
            } else {
                Sight::unread(format!("only {MOST} records are read for one answer"))
            };
            let Sight { stands, because, changed_at, fields } = sight;
            let id = detached.native.to_string();
            let asked = asked.id == id && asked.connections.contains(&detached.connection);
            asides.push(Aside { connection, id, asked, stands, because, changed_at, fields });
        }
        asides
    }

    async fn sight(&self, entity: &Entity, connection: &str, detached: &Detached) -> Sight {
        let Some(target) = self.relay.looks.targets.get(connection) else {
            return Sight::unread("this connection is not read by this version");
        };
        let plan = self.plan(entity).and_then(|plan| Some((plan, plan.number(connection)?)));
        let Some((plan, number)) = plan else { return Sight::unread("no link has this connection any more") };
        let Some(member) = plan.mapping.member(number) else {
            return Sight::unread("no link has this connection any more");
        };
        let circuit = self.circuit(connection);
        if circuit != "works" {
            return Sight::unread(format!("the connection {circuit}"));
        }
        let call = ReadCall {
            object: entity.object.clone(),
            by: By::NativeId,
            ids: vec![detached.native.to_string()],
            fields: member.read_fields.clone(),
        };
        let _room = self.relay.looks.room.acquire().await;
        match tokio::time::timeout(self.relay.looks.patience, target.read(&call)).await {
            Err(_) => Sight::unread("the CRM did not answer in time"),
            Ok(Err(error)) => Sight::unread(format!("the CRM answered {}", error.code)),
            Ok(Ok(answered)) => match answered.items.into_iter().next() {
                Some(ReadItem::Found(found)) => plan.shown(number, &found),
                Some(ReadItem::Missing { merged_into: None }) => Sight::of("missing"),
                Some(ReadItem::Missing { merged_into: Some(into) }) => {
                    Sight { because: Some(format!("it was merged into {into}")), ..Sight::of("merged") }
                }
                Some(ReadItem::Failed(error)) => Sight::unread(format!("the CRM answered {}", error.code)),
                None => Sight::unread("the CRM did not answer for this record"),
            },
        }
    }
}

impl super::Plan {
    /// What a record shows, by neutral names.
    fn shown(&self, number: u32, found: &Found) -> Sight {
        let wire = |name: &str| found.values.get(name).cloned();
        let told = self.mapping.fields().filter_map(|field| match field.decode(number, &wire) {
            Decoded::Told(value) => Some((field.name().to_owned(), field.inbound(number, &value))),
            Decoded::Partly | Decoded::Untold => None,
        });
        let fields = told.filter(|(_, value)| !value.is_empty()).collect();
        Sight { changed_at: Some(found.version.at), fields, ..Sight::of("live") }
    }
}
