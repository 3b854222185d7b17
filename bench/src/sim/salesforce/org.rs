//! The state of one Salesforce organisation and every way it changes.
//!
//! Pure: the time is an argument, nothing is sent from here. Changes stand in a journal until they are committed, so
//! that a call that must be all or nothing can be taken back. The surprising thing: unique external ids are compared
//! without case, and a deleted row gives its value free.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use headgate_schemas::Timestamp;
use serde_json::{Map, Value};

use super::id::{id18, make};
use super::objects::{ObjectSpec, STAGES};
use super::problem::{Problem, Refused};
use super::schema::{Field, FieldKind, instant, missing};
use crate::sim::log::{Write, WriteLog};

/// Rows of one organisation; beyond it creations are refused.
const ROWS: usize = 5_000_000;

/// One row.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) fields: BTreeMap<String, Value>,
    pub(super) created: Timestamp,
    pub(super) modified: Timestamp,
    created_by: String,
    modified_by: String,
    pub(super) deleted: Option<Timestamp>,
    master: Option<String>,
}

/// All rows of one object.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) spec: ObjectSpec,
    pub(super) rows: BTreeMap<String, Row>,
    keys: HashMap<(String, String), Vec<String>>,
    serial: u64,
}

/// Who changes something, when, and through which request.
#[derive(Clone, Debug)]
pub(super) struct By {
    pub(super) now: Timestamp,
    /// Id of the user.
    pub(super) user: String,
    /// The client tag of the call.
    pub(super) client: Arc<str>,
    /// Path and number of the API call; `None` for a user's edit, which is not in the write log.
    pub(super) via: Option<(Arc<str>, u64)>,
}

/// A place in the journal to go back to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark(usize, usize);

/// A row that changed, for outbound messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) table: usize,
    pub(super) id: String,
}

/// One organisation.
#[derive(Debug)]
pub(super) struct Org {
    pub(super) tables: Vec<Table>,
    pub(super) log: WriteLog,
    journal: Vec<(usize, String, Option<Row>)>,
    pending: Vec<Write>,
}

impl Org {
    pub(super) fn new(specs: Vec<ObjectSpec>, log: WriteLog) -> Self {
        let table = |spec| Table { spec, rows: BTreeMap::new(), keys: HashMap::new(), serial: 0 };
        Self { tables: specs.into_iter().map(table).collect(), log, journal: Vec::new(), pending: Vec::new() }
    }

    /// Index of the object with this name, compared without case.
    pub(super) fn table(&self, name: &str) -> Result<usize, Refused> {
        self.tables.iter().position(|t| t.spec.name.eq_ignore_ascii_case(name)).ok_or_else(Refused::not_found)
    }

    /// Keeps everything since the last commit; answers the live rows that changed, because a deletion triggers no
    /// message.
    pub(super) fn commit(&mut self) -> Vec<Changed> {
        for write in self.pending.drain(..) {
            self.log.push(write);
        }
        let tables = &self.tables;
        let live = |table: usize, id: &str| tables[table].rows.get(id).is_some_and(|r| r.deleted.is_none());
        let changed = self.journal.drain(..).filter(|(table, id, _)| live(*table, id));
        changed.map(|(table, id, _)| Changed { table, id }).collect()
    }

    /// The present place in the journal.
    pub(super) const fn mark(&self) -> Mark {
        Mark(self.journal.len(), self.pending.len())
    }

    /// Takes everything since the mark back.
    pub(super) fn roll_back(&mut self, mark: Mark) {
        self.pending.truncate(mark.1);
        while self.journal.len() > mark.0 {
            let Some((table, id, before)) = self.journal.pop() else { return };
            self.unkey(table, &id);
            match before {
                Some(row) => drop(self.tables[table].rows.insert(id.clone(), row)),
                None => drop(self.tables[table].rows.remove(&id)),
            }
            self.key(table, &id);
        }
    }

    /// Reads a JSON record: names as the object spells them, values in stored types.
    ///
    /// An unknown name or a wrong JSON type refuses the whole request, as Salesforce reads records before it saves any.
    pub(super) fn shape(&self, table: usize, record: &Map<String, Value>) -> Result<BTreeMap<String, Value>, Refused> {
        let spec = &self.tables[table].spec;
        let mut shaped = BTreeMap::new();
        for (name, value) in record {
            if name == "attributes" || name.eq_ignore_ascii_case("id") {
                continue;
            }
            if let (Value::Object(key), Some(field)) = (value, spec.field(&format!("{name}Id"))) {
                shaped.insert(field.name.clone(), self.by_relation(field, key)?);
                continue;
            }
            let unknown = || {
                let text = format!("No such column '{name}' on sobject of type {}", spec.name);
                Refused::new(400, Problem::new("INVALID_FIELD", text))
            };
            let field = spec.field(name).ok_or_else(unknown)?;
            shaped.insert(field.name.clone(), field.typed(value)?);
        }
        Ok(shaped)
    }

    /// The id behind a relationship given by the other row's external id.
    fn by_relation(&self, field: &Field, key: &Map<String, Value>) -> Result<Value, Refused> {
        for target in &field.refers {
            let table = self.table(target)?;
            for (name, value) in key.iter().filter(|(n, _)| n.as_str() != "attributes") {
                let found = value.as_str().and_then(|v| self.by_key(table, name, v).first().cloned());
                if let Some(id) = found {
                    return Ok(Value::String(id));
                }
            }
        }
        let text = format!("Foreign key external ID not found for field {}", field.name);
        Err(Refused::new(400, Problem::new("INVALID_FIELD", text)))
    }

    /// Ids of the live rows with this external id.
    pub(super) fn by_key(&self, table: usize, field: &str, value: &str) -> Vec<String> {
        let Some(field) = self.tables[table].spec.field(field) else { return Vec::new() };
        self.tables[table].keys.get(&(field.name.clone(), value.trim().to_lowercase())).cloned().unwrap_or_default()
    }

    /// The row with this id, or why there is none that can be changed.
    pub(super) fn row(&self, table: usize, id: &str) -> Result<&Row, Problem> {
        let long = id18(id).ok_or_else(|| Problem::new("MALFORMED_ID", format!("malformed id {id}")))?;
        let row = self.tables[table].rows.get(&long);
        let row = row.ok_or_else(|| Problem::new("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id"))?;
        match row.deleted {
            Some(_) => Err(Problem::new("ENTITY_IS_DELETED", "entity is deleted")),
            None => Ok(row),
        }
    }

    /// Creates a row from shaped values.
    pub(super) fn create(
        &mut self,
        table: usize,
        mut values: BTreeMap<String, Value>,
        by: &By,
    ) -> Result<String, Problem> {
        let needed = self.tables[table].spec.fields.iter().filter(|f| f.required);
        let empty: Vec<String> =
            needed.filter(|f| values.get(&f.name).is_none_or(Value::is_null)).map(|f| f.name.clone()).collect();
        if !empty.is_empty() {
            return Err(missing(&empty));
        }
        self.accept(table, &values, None)?;
        if self.tables.iter().map(|t| t.rows.len()).sum::<usize>() >= ROWS {
            return Err(Problem::new("STORAGE_LIMIT_EXCEEDED", "storage limit exceeded"));
        }
        let Table { spec, serial, .. } = &mut self.tables[table];
        *serial += 1;
        let id = make(spec.prefix, *serial);
        self.note(table, &id, &values, by, true);
        // Defaults come after the note: the log holds what the caller sent, not what the organisation added.
        if self.tables[table].spec.field("OwnerId").is_some() {
            values.entry("OwnerId".into()).or_insert_with(|| Value::String(by.user.clone()));
        }
        self.journal.push((table, id.clone(), None));
        let mut fields = values;
        derive(spec_of(&self.tables, table), &mut fields);
        let row = Row {
            id: id.clone(),
            fields,
            created: by.now,
            modified: by.now,
            created_by: by.user.clone(),
            modified_by: by.user.clone(),
            deleted: None,
            master: None,
        };
        self.tables[table].rows.insert(id.clone(), row);
        self.key(table, &id);
        Ok(id)
    }

    /// Changes a live row with shaped values.
    pub(super) fn update(
        &mut self,
        table: usize,
        id: &str,
        values: BTreeMap<String, Value>,
        by: &By,
    ) -> Result<String, Problem> {
        let before = self.row(table, id)?.clone();
        self.accept(table, &values, Some(&before.id))?;
        self.note(table, &before.id, &values, by, false);
        let id = before.id.clone();
        self.journal.push((table, id.clone(), Some(before)));
        self.unkey(table, &id);
        let Table { spec, rows, .. } = &mut self.tables[table];
        if let Some(row) = rows.get_mut(&id) {
            let stage = values.contains_key("StageName") && !values.contains_key("Probability");
            row.fields.extend(values);
            if stage {
                row.fields.remove("Probability");
            }
            derive(spec, &mut row.fields);
            row.modified = by.now.max(row.modified);
            row.modified_by.clone_from(&by.user);
        }
        self.key(table, &id);
        Ok(id)
    }

    /// Moves a live row to the bin; `master` is the row it was merged into.
    pub(super) fn delete(
        &mut self,
        table: usize,
        id: &str,
        by: &By,
        master: Option<String>,
    ) -> Result<String, Problem> {
        let before = self.row(table, id)?.clone();
        let id = before.id.clone();
        self.unkey(table, &id);
        self.journal.push((table, id.clone(), Some(before)));
        if let Some(row) = self.tables[table].rows.get_mut(&id) {
            row.deleted = Some(by.now);
            row.modified = by.now.max(row.modified);
            row.modified_by.clone_from(&by.user);
            row.master = master;
        }
        Ok(id)
    }

    /// Brings a row back from the bin.
    pub(super) fn undelete(&mut self, table: usize, id: &str, by: &By) -> Result<(), Problem> {
        let unknown = || Problem::new("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id");
        let id = id18(id).ok_or_else(unknown)?;
        let before = self.tables[table].rows.get(&id).cloned().ok_or_else(unknown)?;
        if before.deleted.is_none() || before.master.is_some() {
            return Err(Problem::new("UNDELETE_FAILED", "Entity is not in the recycle bin"));
        }
        // A row that comes back carries fields that only the organisation writes; they need no second check.
        let spec = &self.tables[table].spec;
        let written = before.fields.iter().filter(|(n, _)| spec.field(n).is_some_and(|f| f.writable));
        let written = written.map(|(n, v)| (n.clone(), v.clone())).collect();
        self.accept(table, &written, Some(&id))?;
        self.journal.push((table, id.clone(), Some(before)));
        if let Some(row) = self.tables[table].rows.get_mut(&id) {
            row.deleted = None;
            row.modified = by.now.max(row.modified);
        }
        self.key(table, &id);
        Ok(())
    }

    /// Rules on the values of one record.
    fn accept(&self, table: usize, values: &BTreeMap<String, Value>, own: Option<&str>) -> Result<(), Problem> {
        let spec = &self.tables[table].spec;
        for (name, value) in values {
            let Some(field) = spec.field(name) else { continue };
            if !field.writable {
                let text = format!(
                    "Unable to create/update fields: {name}. Please check the security settings of this field and verify that it is read/write for your profile or permission set."
                );
                return Err(Problem::new("INVALID_FIELD_FOR_INSERT_UPDATE", text).field(name));
            }
            field.check(value)?;
            if field.kind == FieldKind::Reference {
                self.refer(field, value)?;
            }
            if let (true, Some(text)) = (field.unique, value.as_str()) {
                let others = self.by_key(table, name, text);
                if let Some(other) = others.iter().find(|o| Some(o.as_str()) != own) {
                    let text = format!("duplicate value found: {name} duplicates value on record with id: {other}");
                    return Err(Problem::new("DUPLICATE_VALUE", text).field(name));
                }
            }
        }
        Ok(())
    }

    fn refer(&self, field: &Field, value: &Value) -> Result<(), Problem> {
        let Some(text) = value.as_str() else { return Ok(()) };
        let long = id18(text);
        let Some(long) = long else {
            let text = format!("{}: id value of incorrect type: {text}", field.name);
            return Err(Problem::new("MALFORMED_ID", text).field(&field.name));
        };
        let holder = self.tables.iter().find(|t| long.starts_with(t.spec.prefix));
        let allowed = holder.filter(|t| field.refers.is_empty() || field.refers.iter().any(|r| r == t.spec.name));
        match allowed.map(|t| t.rows.get(&long)) {
            Some(Some(row)) if row.deleted.is_none() => Ok(()),
            Some(_) => {
                let text = format!("invalid cross reference id: {long}");
                Err(Problem::new("INVALID_CROSS_REFERENCE_KEY", text).field(&field.name))
            }
            None => {
                let text = format!("{}: id value of incorrect type: {text}", field.name);
                Err(Problem::new("FIELD_INTEGRITY_EXCEPTION", text).field(&field.name))
            }
        }
    }

    fn note(&mut self, table: usize, id: &str, values: &BTreeMap<String, Value>, by: &By, created: bool) {
        let Some((path, call)) = &by.via else { return };
        let row = self.tables[table].rows.get(id);
        let object: Arc<str> = self.tables[table].spec.name.into();
        let own = created.then(|| ("Id".to_owned(), None, Some(id.to_owned())));
        let fields = values.iter().map(|(n, v)| (n.clone(), row.and_then(|r| text(r.fields.get(n))), text(Some(v))));
        let noted: Vec<_> = own.into_iter().chain(fields).collect();
        for (field, old, new) in noted {
            self.pending.push(Write {
                at: by.now,
                call: *call,
                path: Arc::clone(path),
                object: Arc::clone(&object),
                id: id.to_owned(),
                field: field.into(),
                old,
                new,
                created,
                who: Arc::clone(&by.client),
            });
        }
    }

    fn key(&mut self, table: usize, id: &str) {
        for key in self.keys_of(table, id) {
            self.tables[table].keys.entry(key).or_default().push(id.to_owned());
        }
    }

    fn unkey(&mut self, table: usize, id: &str) {
        for key in self.keys_of(table, id) {
            let Some(holders) = self.tables[table].keys.get_mut(&key) else { continue };
            holders.retain(|h| h != id);
            if holders.is_empty() {
                self.tables[table].keys.remove(&key);
            }
        }
    }

    fn keys_of(&self, table: usize, id: &str) -> Vec<(String, String)> {
        let Table { spec, rows, .. } = &self.tables[table];
        let Some(row) = rows.get(id).filter(|r| r.deleted.is_none()) else { return Vec::new() };
        let keyed = spec.fields.iter().filter(|f| f.external_id || f.unique);
        keyed.filter_map(|f| Some((f.name.clone(), row.fields.get(&f.name)?.as_str()?.to_lowercase()))).collect()
    }
}

fn spec_of(tables: &[Table], table: usize) -> &ObjectSpec {
    &tables[table].spec
}

/// A value as text, for the write log; `None` when empty.
pub(super) fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::Null => None,
        Value::String(s) => Some(s.clone()),
        other => Some(other.to_string()),
    }
}

/// Fields that the organisation computes.
fn derive(spec: &ObjectSpec, fields: &mut BTreeMap<String, Value>) {
    let part = |name: &str, fields: &BTreeMap<String, Value>| text(fields.get(name)).unwrap_or_default();
    match spec.name {
        "Contact" | "Lead" => {
            let name = format!("{} {}", part("FirstName", fields), part("LastName", fields));
            fields.insert("Name".into(), name.trim().into());
        }
        "Opportunity" => {
            let stage = part("StageName", fields);
            if let Some((_, probability, closed, won)) = STAGES.iter().find(|s| s.0 == stage) {
                fields.insert("IsClosed".into(), (*closed).into());
                fields.insert("IsWon".into(), (*won).into());
                fields.entry("Probability".into()).or_insert_with(|| f64::from(*probability).into());
            }
        }
        _ => {}
    }
    for field in spec.fields.iter().filter(|f| f.kind == FieldKind::Bool && f.writable) {
        fields.entry(field.name.clone()).or_insert(Value::Bool(false));
    }
}

impl Row {
    /// A field's value as the API shows it.
    pub(super) fn value(&self, name: &str) -> Value {
        let at =
            |t: Timestamp| jiff::Timestamp::from_microsecond(t.micros()).map_or(Value::Null, |t| instant(t).into());
        match name {
            "Id" => self.id.as_str().into(),
            "CreatedDate" => at(self.created),
            "LastModifiedDate" | "SystemModstamp" => at(self.modified),
            "CreatedById" => self.created_by.as_str().into(),
            "LastModifiedById" => self.modified_by.as_str().into(),
            "IsDeleted" => self.deleted.is_some().into(),
            "MasterRecordId" => self.master.as_deref().map_or(Value::Null, Into::into),
            name => self.fields.get(name).cloned().unwrap_or(Value::Null),
        }
    }
}
