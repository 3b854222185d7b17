//! Collections: up to 200 records in one call, each with its own result, in the order of the request.
//!
//! The surprising thing: the HTTP status is 200 however many records fail; but a record that cannot be read at all (an
//! unknown field, a wrong JSON type) refuses the whole call with 400 before anything is saved.

use std::collections::{BTreeMap, HashSet};

use hyper::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::problem::{Problem, Refused};
use super::session::Session;
use crate::sim::http::{Answer, Call};

/// Records of one call.
const RECORDS: usize = 200;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Collection {
    #[serde(rename = "allOrNone")]
    all_or_none: Option<bool>,
    records: Vec<Map<String, Value>>,
}

/// One record, read but not saved.
struct Entry {
    table: usize,
    id: Option<String>,
    values: BTreeMap<String, Value>,
}

/// Id of the saved row and, for upserts, whether it was created.
type Saved = Result<(String, Option<bool>), Problem>;

impl Session<'_> {
    /// Answers `composite/sobjects`.
    pub(super) fn collection(&mut self, call: &Call) -> Result<Answer, Refused> {
        match call.method {
            Method::POST | Method::PATCH => self.collection_save(call),
            Method::DELETE => self.collection_delete(call),
            _ => Err(Refused::method(call.method.as_str())),
        }
    }

    fn read_collection(&self, call: &Call) -> Result<(bool, Vec<Entry>), Refused> {
        self.writing(call)?;
        let body: Collection = serde_json::from_slice(&call.body).map_err(|e| Refused::json(e.to_string()))?;
        if self.options.contract && body.all_or_none != Some(false) {
            let text = "allOrNone must be given as false by the interface description";
            return Err(Refused::new(400, Problem::new("MISSING_ARGUMENT", text)));
        }
        count(body.records.len())?;
        let entries = body.records.iter().map(|r| self.read_entry(r)).collect::<Result<Vec<_>, _>>()?;
        Ok((body.all_or_none.unwrap_or(false), entries))
    }

    fn read_entry(&self, record: &Map<String, Value>) -> Result<Entry, Refused> {
        let kind = record.get("attributes").and_then(|a| a.get("type")).and_then(Value::as_str);
        let untyped = || {
            let text = "The records must carry attributes with a type";
            Refused::new(400, Problem::new("INVALID_TYPE", text))
        };
        let table = self.org.table(kind.ok_or_else(untyped)?).map_err(|_| untyped())?;
        let id = record.iter().find(|(k, _)| k.eq_ignore_ascii_case("id")).map(|(_, v)| v.as_str().map(str::to_owned));
        let id = match id {
            Some(None) => return Err(Refused::json("Cannot deserialize instance of id")),
            Some(id) => id,
            None => None,
        };
        Ok(Entry { table, id, values: self.org.shape(table, record)? })
    }

    fn collection_save(&mut self, call: &Call) -> Result<Answer, Refused> {
        let (all_or_none, entries) = self.read_collection(call)?;
        let update = call.method == Method::PATCH;
        if update && self.options.contract && entries.iter().any(|e| e.id.is_none()) {
            let text = "Id not specified in an update call";
            return Err(Refused::new(400, Problem::new("MISSING_ARGUMENT", text)));
        }
        let mut seen = HashSet::new();
        let results = self.each(all_or_none, entries, |session, entry| {
            session.rejected(&call.path, &entry.values)?;
            let own = entry.id.as_deref().and_then(super::id::id18);
            session.unlike_others(call, entry.table, &entry.values, own.as_deref())?;
            if !update {
                return match entry.id {
                    Some(_) => {
                        Err(Problem::new("INVALID_FIELD_FOR_INSERT_UPDATE", "cannot specify Id in an insert call")
                            .field("Id"))
                    }
                    None => Ok((session.org.create(entry.table, entry.values, &session.by)?, None)),
                };
            }
            let missing = || Problem::new("MISSING_ARGUMENT", "Id not specified in an update call");
            let id = entry.id.ok_or_else(missing)?;
            if !seen.insert(super::id::id18(&id)) {
                return Err(Problem::new("DUPLICATE_VALUE", format!("duplicate id specified: {id}")));
            }
            Ok((session.org.update(entry.table, &id, entry.values, &session.by)?, None))
        });
        Ok(results)
    }

    /// Answers `PATCH composite/sobjects/{object}/{field}`.
    pub(super) fn collection_upsert(&mut self, call: &Call, name: &str, field: &str) -> Result<Answer, Refused> {
        let (all_or_none, entries) = self.read_collection(call)?;
        let table = self.org.table(name)?;
        let key = self.org.tables[table].spec.field(field).filter(|f| f.external_id).map(|f| f.name.clone());
        let unusable = || {
            let text = format!("Provided external ID field does not exist or is not accessible: {field}");
            Refused::new(404, Problem::new("NOT_FOUND", text))
        };
        let key = key.ok_or_else(unusable)?;
        if entries.iter().any(|e| e.table != table) {
            let text = "All records of an upsert must be of the type in the path";
            return Err(Refused::new(400, Problem::new("INVALID_TYPE", text)));
        }
        let mut seen = HashSet::new();
        let results = self.each(all_or_none, entries, |session, entry| {
            session.rejected(&call.path, &entry.values)?;
            let missing = || Problem::new("MISSING_ARGUMENT", format!("{key} not specified")).field(&key);
            let value = entry.values.get(&key).and_then(Value::as_str).ok_or_else(missing)?.to_owned();
            if !seen.insert(value.to_lowercase()) {
                return Err(
                    Problem::new("DUPLICATE_VALUE", format!("Duplicate external id specified: {value}")).field(&key)
                );
            }
            let found = session.org.by_key(table, &key, &value);
            session.unlike_others(call, table, &entry.values, found.first().map(String::as_str))?;
            match found.as_slice() {
                [] => Ok((session.org.create(table, entry.values, &session.by)?, Some(true))),
                [id] => Ok((session.org.update(table, id, entry.values, &session.by)?, Some(false))),
                _ => Err(Problem::new(
                    "DUPLICATE_EXTERNAL_ID",
                    format!("{key}: more than one record found for external id field"),
                )
                .field(&key)),
            }
        });
        Ok(results)
    }

    fn collection_delete(&mut self, call: &Call) -> Result<Answer, Refused> {
        self.writing(call)?;
        let ids = call.list("ids");
        count(ids.len())?;
        let entries = ids
            .into_iter()
            .map(|id| {
                let table = self.org.tables.iter().position(|t| id.starts_with(t.spec.prefix)).unwrap_or(0);
                Entry { table, id: Some(id), values: BTreeMap::new() }
            })
            .collect();
        let all_or_none = call.param("allOrNone") == Some("true");
        let results = self.each(all_or_none, entries, |session, entry| {
            Ok((session.org.delete(entry.table, &entry.id.unwrap_or_default(), &session.by, None)?, None))
        });
        Ok(results)
    }

    /// Saves each entry; with `all_or_none` one failure takes all others back.
    fn each(
        &mut self,
        all_or_none: bool,
        entries: Vec<Entry>,
        mut save: impl FnMut(&mut Self, Entry) -> Saved,
    ) -> Answer {
        let mark = self.org.mark();
        let mut results: Vec<Saved> = entries.into_iter().map(|e| save(self, e)).collect();
        if all_or_none && results.iter().any(Result::is_err) {
            self.org.roll_back(mark);
            let text =
                "Record rolled back because not all records were valid and the request was using AllOrNone header";
            for result in results.iter_mut().filter(|r| r.is_ok()) {
                *result = Err(Problem::new("ALL_OR_NONE_OPERATION_ROLLED_BACK", text));
            }
        }
        let shown: Vec<Value> = results.iter().map(show).collect();
        Answer::json(200, &shown)
    }
}

fn count(records: usize) -> Result<(), Refused> {
    if records == 0 {
        return Err(Refused::new(400, Problem::new("MISSING_ARGUMENT", "The request holds no records")));
    }
    if records > RECORDS {
        let text = format!("record limit reached. cannot submit more than {RECORDS} records in this call");
        return Err(Refused::new(400, Problem::new("EXCEEDED_ID_LIMIT", text)));
    }
    Ok(())
}

fn show(result: &Saved) -> Value {
    match result {
        Ok((id, None)) => json!({"id": id, "success": true, "errors": []}),
        Ok((id, Some(created))) => json!({"id": id, "success": true, "errors": [], "created": created}),
        Err(problem) => json!({"success": false, "errors": [problem.result()]}),
    }
}
