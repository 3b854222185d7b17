//! What happened in a run, as plain lines for the judge. Written by people's edits, by the witness of the webhooks, by
//! the models of the CRMs and by whoever kills the program; read by nothing but the judge.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;

use headgate_bench::sim::log::Write;
use headgate_judge::Report;
use headgate_schemas::time;
use serde_json::{Value, json};

use crate::stage::FIELDS;

/// The lines so far.
#[derive(Debug, Default)]
pub(crate) struct Chronicle {
    lines: Mutex<String>,
}

/// Now, as the lines tell it.
pub(crate) fn now() -> i64 {
    time::now().micros()
}

/// A value as the lines tell it: long ones by their beginning.
pub(crate) fn short(value: &Value) -> Value {
    match value.as_str() {
        Some(text) => text.chars().take(100).collect::<String>().into(),
        None => value.clone(),
    }
}

impl Chronicle {
    /// A chronicle that knows which fields belong together.
    pub(crate) fn new() -> Self {
        let chronicle = Self::default();
        for (hubspot, salesforce) in FIELDS {
            chronicle.line(&json!({"what": "pair", "fields": {"hubspot": hubspot, "salesforce": salesforce}}));
        }
        chronicle
    }

    /// Adds a line.
    pub(crate) fn line(&self, line: &Value) {
        writeln!(self.lines.lock().unwrap(), "{line}").unwrap();
    }

    /// Makes an edit and writes it down in one step, so that the lines stand in the order of the edits.
    pub(crate) fn edit<T>(
        &self,
        system: &str,
        values: &BTreeMap<String, String>,
        make: impl FnOnce() -> (String, bool, T),
    ) -> T {
        let mut lines = self.lines.lock().unwrap();
        let (id, new, made) = make();
        for (field, value) in values {
            let line = json!({
                "what": "edit", "at": now(), "system": system, "id": id, "field": field, "value": value, "new": new,
            });
            writeln!(lines, "{line}").unwrap();
        }
        made
    }

    /// The process died.
    pub(crate) fn crash(&self, place: &str) {
        self.line(&json!({"what": "crash", "at": now(), "where": place}));
    }

    /// Answers of a CRM may have been lost between two times.
    pub(crate) fn cut(&self, from: i64, until: i64) {
        self.line(&json!({"what": "cut", "at": from, "until": until}));
    }

    /// Writes that a model took.
    pub(crate) fn writes(&self, system: &str, writes: &[Write]) {
        for write in writes {
            self.line(&json!({
                "what": "write", "at": write.at.micros(), "system": system, "id": write.id, "field": &*write.field,
                "old": write.old, "new": write.new,
            }));
        }
    }

    /// Records as a CRM answered a read of them: an answer of either, with the mapped fields it has.
    pub(crate) fn looks(&self, system: &str, answer: &[u8]) {
        let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
        for record in [&answer["results"], &answer["records"]].into_iter().filter_map(Value::as_array).flatten() {
            let (id, values) = match &record["id"] {
                Value::Null => (&record["Id"], record),
                id => (id, &record["properties"]),
            };
            let mapped = FIELDS.iter().flat_map(|(hubspot, salesforce)| [*hubspot, *salesforce]);
            let fields: BTreeMap<&str, Value> =
                mapped.filter_map(|name| Some((name, short(values.get(name)?)))).collect();
            self.line(&json!({"what": "look", "at": now(), "system": system, "id": id, "fields": fields}));
        }
    }

    /// A change as the stream's API tells it.
    pub(crate) fn change(&self, event: &Value) {
        let data = &event["data"];
        let fields: BTreeMap<&String, Value> = data["fields"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, field)| (name, short(&field["value"])))
            .collect();
        self.line(&json!({
            "what": "change", "system": event["system"], "id": data["object"]["id"], "fields": fields,
        }));
    }

    /// Judges the lines so far together with what stands in the end, which is not kept.
    pub(crate) fn judge(&self, ends: &[Value]) -> Report {
        let mut lines = self.lines.lock().unwrap().clone();
        ends.iter().for_each(|end| writeln!(lines, "{end}").unwrap());
        if let Ok(path) = std::env::var("HEADGATE_CHRONICLE") {
            std::fs::write(path, &lines).unwrap();
        }
        headgate_judge::judge(&lines).unwrap()
    }
}
