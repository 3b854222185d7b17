//! Records as the API shows them.
//!
//! The surprising thing: a property that was asked for and is empty shows as null, one that does not exist is left out.

use serde_json::{Value, json};

use super::portal::{Portal, Record};
use super::schema::iso_ms;

impl Portal {
    /// A record as the API shows it. Properties that were asked for and are empty show as null.
    pub(super) fn show(&self, table: usize, record: &Record, wanted: &[String], history: &[String]) -> Value {
        let spec = &self.tables[table].spec;
        let always = ["hs_object_id", "createdate", spec.modified()].map(str::to_owned);
        let names = always.iter().chain(wanted).chain(history).filter(|n| spec.properties.contains_key(*n));
        let properties: serde_json::Map<_, _> = names.map(|n| (n.clone(), self.value(table, record, n))).collect();
        let mut body = json!({
            "id": record.id.to_string(), "properties": properties, "archived": record.archived_ms.is_some(),
            "createdAt": iso_ms(record.created_ms), "updatedAt": iso_ms(record.updated_ms),
        });
        if let Some(at) = record.archived_ms {
            body["archivedAt"] = iso_ms(at).into();
        }
        if !history.is_empty() {
            body["propertiesWithHistory"] = history.iter().map(|n| (n.clone(), record.past(n))).collect();
        }
        body
    }

    /// A property's value as the API shows it.
    pub(super) fn value(&self, table: usize, record: &Record, name: &str) -> Value {
        match name {
            "hs_object_id" => record.id.to_string().into(),
            "createdate" => iso_ms(record.created_ms).into(),
            n if n == self.tables[table].spec.modified() => iso_ms(record.updated_ms).into(),
            n => record.properties.get(n).filter(|v| !v.is_empty()).map_or(Value::Null, |v| v.as_str().into()),
        }
    }
}

impl Record {
    fn past(&self, name: &str) -> Value {
        let versions = self.history.get(name).into_iter().flatten();
        versions
            .map(|v| {
                json!({
                    "value": v.value, "timestamp": iso_ms(v.at_ms), "sourceType": v.author.source, "sourceId": v.author.id,
                })
            })
            .collect()
    }
}
