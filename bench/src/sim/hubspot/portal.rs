//! The state of one HubSpot account and every way it changes.
//!
//! Pure: the time is an argument, nothing is sent from here. Each change leaves its events in an outbox and, when it
//! came in over the API, its fields in the write log. The surprising thing: the model of a *user's* edit and of an
//! app's call is the same code; only the author differs, as in the real service.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use headgate_schemas::Timestamp;

use super::event::{Author, Happened, WebhookEvent};
use super::problem::{Detail, Problem};
use super::types::{DEAL_STAGES, TypeSpec};
use crate::sim::log::{Write, WriteLog};

/// Values of one property that are kept as history; HubSpot keeps a bounded number too.
const HISTORY: usize = 20;
/// Records of one portal; beyond it creations are refused.
const RECORDS: usize = 5_000_000;

/// One earlier or present value of a property.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub(super) value: String,
    pub(super) at_ms: i64,
    pub(super) author: Author,
}

/// One record.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) id: u64,
    pub(super) properties: BTreeMap<String, String>,
    pub(super) created_ms: i64,
    pub(super) updated_ms: i64,
    pub(super) archived_ms: Option<i64>,
    merged_into: Option<u64>,
    pub(super) history: BTreeMap<String, VecDeque<Version>>,
}

/// All records of one type.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) spec: TypeSpec,
    pub(super) records: BTreeMap<u64, Record>,
    unique: HashMap<(String, String), u64>,
}

/// Who changes something, when, and through which request.
#[derive(Clone, Debug)]
pub(super) struct By {
    pub(super) author: Author,
    pub(super) now: Timestamp,
    /// Path and number of the API call; `None` for a user's edit, which is not in the write log.
    pub(super) via: Option<(Arc<str>, u64)>,
}

/// What a portal is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Traits {
    pub(super) portal_id: u64,
    pub(super) app_id: u64,
    pub(super) generic_events: bool,
    pub(super) merge_makes_new: bool,
    pub(super) creation_values: bool,
}

/// One HubSpot account.
#[derive(Debug)]
pub(super) struct Portal {
    pub(super) tables: Vec<Table>,
    pub(super) links: BTreeMap<(u64, u64), BTreeSet<u64>>,
    pub(super) outbox: Vec<WebhookEvent>,
    pub(super) log: WriteLog,
    pub(super) traits: Traits,
    pub(super) next_id: u64,
    next_event: u64,
    pub(super) total: usize,
}

impl Portal {
    pub(super) fn new(traits: Traits, specs: Vec<TypeSpec>, log: WriteLog) -> Self {
        let table = |spec| Table { spec, records: BTreeMap::new(), unique: HashMap::new() };
        Self {
            tables: specs.into_iter().map(table).collect(),
            links: BTreeMap::new(),
            outbox: Vec::new(),
            log,
            traits,
            next_id: 1_000,
            next_event: 900_000,
            total: 0,
        }
    }

    /// Index of the type a path segment names.
    pub(super) fn table(&self, name: &str) -> Result<usize, Problem> {
        let found = self.tables.iter().position(|t| t.spec.is_named(name));
        found.ok_or_else(|| Problem::invalid(format!("Unable to infer object type from: {name}")))
    }

    /// The live record that stands for this id, following merges.
    pub(super) fn live(&self, table: usize, id: u64) -> Option<&Record> {
        let mut record = self.tables[table].records.get(&id)?;
        for _ in 0..16 {
            let Some(next) = record.merged_into else { break };
            record = self.tables[table].records.get(&next)?;
        }
        record.archived_ms.is_none().then_some(record)
    }

    /// The id of a live record, by its native id or by a property with unique values.
    pub(super) fn find(&self, table: usize, id: &str, id_property: Option<&str>) -> Result<Option<u64>, Problem> {
        let spec = &self.tables[table].spec;
        match id_property.filter(|p| *p != "hs_object_id") {
            None => Ok(id.parse().ok().and_then(|id| self.live(table, id)).map(|r| r.id)),
            Some(name) if spec.properties.get(name).is_some_and(|p| p.unique) => {
                Ok(self.tables[table].unique.get(&unique_key(name, id)).copied())
            }
            Some(name) => Err(Problem::invalid(format!("{name} is not a property with unique values"))),
        }
    }

    /// Creates a record. `fixed` sets its id, for seeding.
    pub(super) fn create(
        &mut self,
        table: usize,
        values: &BTreeMap<String, String>,
        by: &By,
        fixed: Option<u64>,
    ) -> Result<u64, Problem> {
        let values = self.accepted(table, values, None)?;
        self.demand(table, &values)?;
        if self.total >= RECORDS {
            return Err(Problem::invalid("The record limit of this account is reached."));
        }
        let id = fixed.unwrap_or_else(|| {
            self.next_id += 1;
            self.next_id
        });
        if self.tables[table].records.contains_key(&id) {
            return Err(Problem::conflict(&self.tables[table].spec.singular, "hs_object_id", id));
        }
        self.next_id = self.next_id.max(id);
        self.total += 1;
        let now = by.now.millis();
        let record = Record {
            id,
            properties: BTreeMap::new(),
            created_ms: now,
            updated_ms: now,
            archived_ms: None,
            merged_into: None,
            history: BTreeMap::new(),
        };
        self.tables[table].records.insert(id, record);
        self.happened(table, id, Happened::Created, by);
        self.set(table, id, values, by, true);
        Ok(id)
    }

    /// Takes back a creation that was only tried: no trace of it stays.
    pub(super) fn discard(&mut self, table: usize, id: u64) {
        let Some(record) = self.tables[table].records.remove(&id) else { return };
        self.total -= 1;
        for key in self.unique_values(table, &record.properties) {
            self.tables[table].unique.remove(&key);
        }
    }

    /// Changes properties of a live record.
    pub(super) fn update(
        &mut self,
        table: usize,
        id: u64,
        values: &BTreeMap<String, String>,
        by: &By,
    ) -> Result<(), Problem> {
        let values = self.accepted(table, values, Some(id))?;
        self.set(table, id, values, by, false);
        Ok(())
    }

    /// Moves a record to the bin; a record that is there already is no error, as in the real service.
    pub(super) fn archive(&mut self, table: usize, id: u64, by: &By, erase: bool) {
        let Some(id) = self.live(table, id).map(|r| r.id) else { return };
        self.retire(table, id, by, None);
        if erase {
            if let Some(record) = self.tables[table].records.get_mut(&id) {
                record.properties.clear();
                record.history.clear();
            }
            self.happened(table, id, Happened::Erased, by);
        }
        self.happened(table, id, Happened::Deleted, by);
    }

    /// Brings a record back from the bin.
    pub(super) fn restore(&mut self, table: usize, id: u64, by: &By) -> Result<(), Problem> {
        let missing = || Problem::missing(&self.tables[table].spec.singular, vec![id.to_string()]);
        let record = self.tables[table].records.get(&id).ok_or_else(missing)?;
        if record.archived_ms.is_none() || record.merged_into.is_some() {
            return Err(missing());
        }
        let unique: Vec<_> = self.unique_values(table, &record.properties);
        if let Some((key, other)) = unique.iter().find_map(|k| Some((k, *self.tables[table].unique.get(k)?))) {
            return Err(Problem::conflict(&self.tables[table].spec.singular, &key.0, other));
        }
        self.tables[table].unique.extend(unique.into_iter().map(|k| (k, id)));
        if let Some(record) = self.tables[table].records.get_mut(&id) {
            record.archived_ms = None;
            record.updated_ms = by.now.millis();
        }
        self.happened(table, id, Happened::Restored, by);
        Ok(())
    }

    /// Links two records both ways, or takes the link away.
    pub(super) fn link(&mut self, from: (usize, u64), to: (usize, u64), type_id: u64, remove: bool, by: &By) -> bool {
        let links = self.links.entry((from.1, to.1)).or_default();
        let changed = if remove { !std::mem::take(links).is_empty() } else { links.insert(type_id) };
        let back = self.links.entry((to.1, from.1)).or_default();
        if remove {
            back.clear();
        } else {
            back.insert(type_id);
        }
        if changed {
            self.associated(from, to, remove, by);
            self.associated(to, from, remove, by);
        }
        changed
    }

    fn associated(&mut self, from: (usize, u64), to: (usize, u64), removed: bool, by: &By) {
        let name = |t: usize| self.tables[t].spec.singular.to_uppercase();
        let kind = format!("{}_TO_{}", name(from.0), name(to.0));
        self.happened(from.0, from.1, Happened::Associated { from: from.1, to: to.1, kind, removed }, by);
    }

    /// Checks names, values and uniqueness; answers the values as they will be kept.
    fn accepted(
        &self,
        table: usize,
        values: &BTreeMap<String, String>,
        own: Option<u64>,
    ) -> Result<BTreeMap<String, String>, Problem> {
        let Table { spec, unique, .. } = &self.tables[table];
        let (mut kept, mut faults) = (BTreeMap::new(), Vec::new());
        for (name, value) in values {
            match spec.properties.get(name).map(|p| p.accept(value)) {
                Some(Ok(value)) => drop(kept.insert(name.clone(), value)),
                Some(Err(detail)) => faults.push(detail),
                None => {
                    let text = format!("Property \"{name}\" does not exist");
                    faults.push(Detail::new(name, "PROPERTY_DOESNT_EXIST", &text));
                }
            }
        }
        if !faults.is_empty() {
            return Err(Problem::values(faults));
        }
        for (name, value) in kept.iter().filter(|(n, v)| !v.is_empty() && spec.properties[*n].unique) {
            match unique.get(&unique_key(name, value)) {
                Some(other) if Some(*other) != own => return Err(Problem::conflict(&spec.singular, name, *other)),
                _ => {}
            }
        }
        Ok(kept)
    }

    /// Properties without which HubSpot does not create a record of the type.
    fn demand(&self, table: usize, values: &BTreeMap<String, String>) -> Result<(), Problem> {
        let needed = match self.tables[table].spec.name.as_str() {
            "tickets" => "hs_pipeline_stage",
            "notes" | "meetings" | "calls" | "tasks" | "emails" => "hs_timestamp",
            _ => return Ok(()),
        };
        if values.get(needed).is_some_and(|v| !v.is_empty()) {
            return Ok(());
        }
        let text = format!("Property {needed} is required to create a record of this type");
        Err(Problem::values(vec![Detail::new(needed, "REQUIRED_FIELD", &text)]))
    }

    /// Writes accepted values: state, history, log, events.
    fn set(&mut self, table: usize, id: u64, values: BTreeMap<String, String>, by: &By, created: bool) {
        let before = self.tables[table].records.get(&id).map(|r| r.properties.clone()).unwrap_or_default();
        self.note_writes(table, id, &before, &values, by, created);
        let changed: BTreeMap<_, _> =
            values.into_iter().filter(|(k, v)| before.get(k).map_or("", String::as_str) != v).collect();
        if changed.is_empty() {
            return;
        }
        self.put(table, id, changed.clone(), by);
        if !created || self.traits.creation_values {
            for (name, value) in changed {
                self.happened(table, id, Happened::Property { name, value }, by);
            }
        }
    }

    fn note_writes(
        &mut self,
        table: usize,
        id: u64,
        before: &BTreeMap<String, String>,
        values: &BTreeMap<String, String>,
        by: &By,
        created: bool,
    ) {
        let Some((path, call)) = &by.via else { return };
        let object: Arc<str> = self.tables[table].spec.name.as_str().into();
        let who: Arc<str> = by.author.id.as_str().into();
        let filled = |v: Option<&String>| v.filter(|v| !v.is_empty()).cloned();
        for (name, value) in values {
            self.log.push(Write {
                at: by.now,
                call: *call,
                path: Arc::clone(path),
                object: Arc::clone(&object),
                id: id.to_string(),
                field: name.as_str().into(),
                old: filled(before.get(name)),
                new: filled(Some(value)),
                created,
                who: Arc::clone(&who),
            });
        }
    }

    /// Puts values into a record without asking whether they differ.
    pub(super) fn put(&mut self, table: usize, id: u64, values: BTreeMap<String, String>, by: &By) {
        let Table { spec, records, unique } = &mut self.tables[table];
        let Some(record) = records.get_mut(&id) else { return };
        let at_ms = by.now.millis();
        record.updated_ms = at_ms.max(record.updated_ms);
        for (name, value) in values {
            if spec.properties.get(&name).is_some_and(|p| p.unique) {
                if let Some(old) = record.properties.get(&name) {
                    unique.remove(&unique_key(&name, old));
                }
                if !value.is_empty() {
                    unique.insert(unique_key(&name, &value), id);
                }
            }
            let history = record.history.entry(name.clone()).or_default();
            history.push_front(Version { value: value.clone(), at_ms, author: by.author.clone() });
            history.truncate(HISTORY);
            if name == "dealstage" {
                derive_stage(&value, &mut record.properties);
            }
            record.properties.insert(name, value);
        }
    }

    /// Takes a record out of sight and frees its unique values.
    pub(super) fn retire(&mut self, table: usize, id: u64, by: &By, heir: Option<u64>) {
        let Some(record) = self.tables[table].records.get(&id) else { return };
        for key in self.unique_values(table, &record.properties) {
            self.tables[table].unique.remove(&key);
        }
        if let Some(record) = self.tables[table].records.get_mut(&id) {
            record.archived_ms = Some(by.now.millis());
            record.updated_ms = by.now.millis();
            record.merged_into = heir;
        }
    }

    fn unique_values(&self, table: usize, values: &BTreeMap<String, String>) -> Vec<(String, String)> {
        let spec = &self.tables[table].spec;
        let unique = values.iter().filter(|(n, v)| !v.is_empty() && spec.properties.get(*n).is_some_and(|p| p.unique));
        unique.map(|(n, v)| unique_key(n, v)).collect()
    }

    /// Makes properties that were added later findable by value.
    pub(super) fn add_property(&mut self, table: usize, property: super::schema::Property) -> Result<(), Problem> {
        let spec = &mut self.tables[table].spec;
        if spec.properties.contains_key(&property.name) {
            let text = format!("A property named '{}' already exists.", property.name);
            return Err(Problem::new(409, "OBJECT_ALREADY_EXISTS", text));
        }
        spec.properties.insert(property.name.clone(), property);
        Ok(())
    }

    pub(super) fn happened(&mut self, table: usize, record: u64, what: Happened, by: &By) {
        let spec = &self.tables[table].spec;
        let (suffix, subscription_id) = what.suffix();
        let generic = self.traits.generic_events && !matches!(what, Happened::Erased);
        self.next_event += 1;
        let mut event = WebhookEvent {
            event_id: self.next_event,
            subscription_id,
            portal_id: self.traits.portal_id,
            app_id: self.traits.app_id,
            occurred_at: by.now.millis(),
            subscription_type: format!("{}.{suffix}", if generic { "object" } else { spec.singular.as_str() }),
            attempt_number: 0,
            object_id: None,
            object_type_id: generic.then(|| spec.type_id.clone()),
            property_name: None,
            property_value: None,
            change_source: Some(by.author.source.clone()),
            source_id: Some(by.author.id.clone()),
            change_flag: None,
            primary_object_id: None,
            merged_object_ids: None,
            new_object_id: None,
            number_of_properties_moved: None,
            from_object_id: None,
            to_object_id: None,
            association_type: None,
            association_removed: None,
            is_primary_association: None,
        };
        what.fill(record, &mut event);
        self.outbox.push(event);
    }
}

/// E-mail addresses are compared without case; other values exactly.
fn unique_key(name: &str, value: &str) -> (String, String) {
    let value = value.trim();
    (name.to_owned(), if name == "email" { value.to_lowercase() } else { value.to_owned() })
}

fn derive_stage(stage: &str, properties: &mut BTreeMap<String, String>) {
    let Some((id, _, probability, _)) = DEAL_STAGES.iter().find(|s| s.0 == stage) else { return };
    properties.insert("hs_deal_stage_probability".into(), (*probability).to_owned());
    properties.insert("hs_is_closed_won".into(), (*id == "closedwon").to_string());
    properties.entry("pipeline".into()).or_insert_with(|| "default".into());
}
