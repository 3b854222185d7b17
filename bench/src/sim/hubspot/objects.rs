//! Calls on records: one at a time and in batches, in both path styles.
//!
//! It turns requests into changes of the portal and results into HubSpot's answers. The surprising thing: a batch
//! create is all or nothing unless its inputs carry `objectWriteTraceId`; then it answers 207 with one error per item.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::portal::{By, Portal};
use super::problem::Problem;
use super::schema::iso_ms;
use crate::sim::fault::Faults;
use crate::sim::http::{Answer, Call};

type Values = BTreeMap<String, String>;

/// Largest batch.
const BATCH: usize = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Batch<T> {
    inputs: Vec<T>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct UpdateInput {
    id: String,
    id_property: Option<String>,
    object_write_trace_id: Option<String>,
    properties: Values,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct CreateInput {
    properties: Values,
    #[serde(default)]
    associations: Vec<NewLink>,
    object_write_trace_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct NewLink {
    to: IdInput,
    types: Vec<super::links::LinkType>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IdInput {
    pub(super) id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ReadInput {
    id_property: Option<String>,
    inputs: Vec<IdInput>,
    properties: Vec<String>,
    #[serde(default)]
    properties_with_history: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PatchInput {
    properties: Values,
    object_write_trace_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct MergeInput {
    primary_object_id: String,
    object_id_to_merge: String,
}

/// One call on one type, with everything its answer needs.
pub(super) struct Objects<'a> {
    pub(super) portal: &'a mut Portal,
    pub(super) faults: &'a Faults,
    pub(super) call: &'a Call,
    pub(super) by: &'a By,
    pub(super) table: usize,
    /// Order of batch results; results come in input order without it.
    pub(super) shuffle: Option<&'a mut fastrand::Rng>,
}

/// Reads a JSON body strictly.
pub(super) fn body<'de, T: Deserialize<'de>>(call: &'de Call) -> Result<T, Problem> {
    serde_json::from_slice(&call.body)
        .map_err(|e| Problem::invalid(format!("Invalid input JSON on line {}, column {}: {e}", e.line(), e.column())))
}

fn sized<T>(inputs: Vec<T>, most: usize) -> Result<Vec<T>, Problem> {
    match inputs.len() {
        0 => Err(Problem::invalid("The inputs list may not be empty")),
        n if n > most => Err(Problem::invalid(format!("The inputs list may hold at most {most} items"))),
        _ => Ok(inputs),
    }
}

/// Results and errors of a batch, on their way to an answer.
#[derive(Default)]
struct Outcome {
    results: Vec<Value>,
    problems: Vec<Problem>,
}

impl Objects<'_> {
    /// Answers `rest`, the path behind the object type.
    pub(super) fn answer(&mut self, rest: &[&str]) -> Result<Answer, Problem> {
        match (self.call.method.as_str(), rest) {
            ("POST", ["batch", "read"]) => self.batch_read(),
            ("POST", ["batch", "create"]) => self.batch_create(),
            ("POST", ["batch", "update"]) => self.batch_update(false),
            ("POST", ["batch", "upsert"]) => self.batch_update(true),
            ("POST", ["batch", "archive"]) => self.batch_archive(),
            ("POST", ["search"]) => super::search::answer(self.portal, self.table, self.call),
            ("POST", ["merge"]) => self.merge(),
            ("POST", ["gdpr-delete"]) => self.erase(),
            ("GET", []) => self.list(),
            ("POST", []) => self.create_one(),
            ("GET", [id]) => self.read_one(id),
            ("PATCH", [id]) => self.patch_one(id),
            ("DELETE", [id]) => {
                if let Ok(id) = id.parse() {
                    self.portal.archive(self.table, id, self.by, false);
                }
                Ok(Answer::empty(204))
            }
            (_, [] | [_] | ["batch", _]) => Err(Problem::new(405, "VALIDATION_ERROR", "Method not allowed")),
            _ => Err(Problem::new(404, "OBJECT_NOT_FOUND", "No such path")),
        }
    }

    fn singular(&self) -> String {
        self.portal.tables[self.table].spec.singular.clone()
    }

    fn rejected(&self, values: &Values) -> Result<(), Problem> {
        if self.faults.rejects(&self.call.path, |name| values.get(name).cloned()) {
            return Err(Problem::invalid("The record is refused by a rule of this account."));
        }
        Ok(())
    }

    fn view(&self, id: u64, values: &Values, trace: Option<&str>) -> Value {
        let shown = self.portal.tables[self.table].spec.shown.iter().chain(values.keys()).cloned().collect::<Vec<_>>();
        let mut body =
            self.portal.live(self.table, id).map_or(Value::Null, |r| self.portal.show(self.table, r, &shown, &[]));
        if let Some(trace) = trace {
            body["objectWriteTraceId"] = trace.into();
        }
        body
    }

    fn batch_read(&mut self) -> Result<Answer, Problem> {
        let read: ReadInput = body(self.call)?;
        let (mut outcome, mut missing) = (Outcome::default(), Vec::new());
        let archived = self.call.param("archived") == Some("true");
        for IdInput { id } in sized(read.inputs, BATCH)? {
            let found = self.portal.find(self.table, &id, read.id_property.as_deref())?;
            let table = &self.portal.tables[self.table];
            let record = if archived {
                id.parse().ok().and_then(|id: u64| table.records.get(&id)).filter(|r| r.archived_ms.is_some())
            } else {
                found.and_then(|id| self.portal.live(self.table, id))
            };
            match record {
                Some(r) => outcome.results.push(self.portal.show(
                    self.table,
                    r,
                    &read.properties,
                    &read.properties_with_history,
                )),
                None => missing.push(id),
            }
        }
        if !missing.is_empty() {
            outcome.problems.push(Problem::missing(&self.singular(), missing));
        }
        Ok(self.finish(outcome, 200))
    }

    fn batch_create(&mut self) -> Result<Answer, Problem> {
        let inputs = sized(body::<Batch<CreateInput>>(self.call)?.inputs, BATCH)?;
        let multi = inputs.iter().any(|i| i.object_write_trace_id.is_some());
        let mut outcome = Outcome::default();
        if !multi {
            self.all_creatable(&inputs)?;
        }
        for input in inputs {
            let trace = input.object_write_trace_id.clone();
            match self.create(input) {
                Ok(result) => outcome.results.push(result),
                Err(problem) => outcome.problems.push(problem.about("objectWriteTraceId", trace.as_deref())),
            }
        }
        Ok(self.finish(outcome, 201))
    }

    /// Tries the batch on the side of uniqueness and values, so that a refusal leaves nothing behind.
    fn all_creatable(&mut self, inputs: &[CreateInput]) -> Result<(), Problem> {
        let mut made: Vec<u64> = Vec::new();
        let (events, silent) = (self.portal.outbox.len(), By { via: None, ..self.by.clone() });
        let tried = inputs.iter().try_for_each(|input| {
            self.rejected(&input.properties)?;
            made.push(self.portal.create(self.table, &input.properties, &silent, None)?);
            Ok(())
        });
        for id in made {
            self.portal.discard(self.table, id);
        }
        self.portal.outbox.truncate(events);
        tried
    }

    fn create(&mut self, input: CreateInput) -> Result<Value, Problem> {
        self.rejected(&input.properties)?;
        let id = self.portal.create(self.table, &input.properties, self.by, None)?;
        for NewLink { to, types } in input.associations {
            super::links::connect(self.portal, (self.table, id), &to.id, &types, self.by)?;
        }
        Ok(self.view(id, &input.properties, input.object_write_trace_id.as_deref()))
    }

    fn batch_update(&mut self, upsert: bool) -> Result<Answer, Problem> {
        let inputs = sized(body::<Batch<UpdateInput>>(self.call)?.inputs, BATCH)?;
        for input in &inputs {
            // A property without unique values spoils the whole call, before anything is written.
            self.portal.find(self.table, &input.id, input.id_property.as_deref())?;
        }
        let mut outcome = Outcome::default();
        for input in inputs {
            match self.update(&input, upsert) {
                Ok(result) => outcome.results.push(result),
                Err(problem) => {
                    let problem = if problem.context.contains_key("ids") {
                        problem
                    } else {
                        problem.about("ids", Some(&input.id))
                    };
                    outcome.problems.push(problem.about("objectWriteTraceId", input.object_write_trace_id.as_deref()));
                }
            }
        }
        Ok(self.finish(outcome, 200))
    }

    fn update(&mut self, input: &UpdateInput, upsert: bool) -> Result<Value, Problem> {
        self.rejected(&input.properties)?;
        let found = self.portal.find(self.table, &input.id, input.id_property.as_deref())?;
        let id_property = input.id_property.as_deref().filter(|p| *p != "hs_object_id");
        let (id, new) = match (found, id_property) {
            (Some(id), _) => {
                self.portal.update(self.table, id, &input.properties, self.by)?;
                (id, false)
            }
            (None, Some(name)) if upsert => {
                let mut values = input.properties.clone();
                values.insert(name.to_owned(), input.id.clone());
                (self.portal.create(self.table, &values, self.by, None)?, true)
            }
            (None, _) => return Err(Problem::missing(&self.singular(), vec![input.id.clone()])),
        };
        let mut values = input.properties.clone();
        if let Some(name) = id_property {
            values.entry(name.to_owned()).or_default();
        }
        let mut body = self.view(id, &values, input.object_write_trace_id.as_deref());
        if upsert {
            body["new"] = new.into();
        }
        Ok(body)
    }

    fn batch_archive(&mut self) -> Result<Answer, Problem> {
        for IdInput { id } in sized(body::<Batch<IdInput>>(self.call)?.inputs, BATCH)? {
            if let Ok(id) = id.parse() {
                self.portal.archive(self.table, id, self.by, false);
            }
        }
        Ok(Answer::empty(204))
    }

    fn finish(&mut self, mut outcome: Outcome, status: u16) -> Answer {
        if let Some(order) = self.shuffle.as_deref_mut() {
            order.shuffle(&mut outcome.results);
        }
        let at = iso_ms(self.by.now.millis());
        let mut body = json!({"status": "COMPLETE", "results": outcome.results, "startedAt": at, "completedAt": at});
        if outcome.problems.is_empty() {
            return Answer::json(status, &body);
        }
        body["numErrors"] = outcome.problems.len().into();
        body["errors"] = outcome.problems.iter().map(Problem::body).collect();
        Answer::json(207, &body)
    }

    fn merge(&mut self) -> Result<Answer, Problem> {
        let input: MergeInput = body(self.call)?;
        let singular = self.singular();
        let id = |text: &str| text.parse::<u64>().map_err(|_| Problem::missing(&singular, vec![text.into()]));
        let (primary, merged) = (id(&input.primary_object_id)?, id(&input.object_id_to_merge)?);
        let new = self.portal.merge(self.table, primary, merged, self.by)?;
        Ok(Answer::json(200, &self.view(new, &Values::new(), None)))
    }

    fn erase(&mut self) -> Result<Answer, Problem> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "camelCase")]
        struct Erase {
            object_id: String,
            id_property: Option<String>,
        }
        let input: Erase = body(self.call)?;
        if let Some(id) = self.portal.find(self.table, &input.object_id, input.id_property.as_deref())? {
            self.portal.archive(self.table, id, self.by, true);
        }
        Ok(Answer::empty(204))
    }

    fn create_one(&mut self) -> Result<Answer, Problem> {
        let input: CreateInput = body(self.call)?;
        Ok(Answer::json(201, &self.create(input)?))
    }

    fn wanted(&self) -> Vec<String> {
        let asked = self.call.list("properties");
        if asked.is_empty() { self.portal.tables[self.table].spec.shown.clone() } else { asked }
    }

    fn read_one(&self, id: &str) -> Result<Answer, Problem> {
        let missing = || Problem::missing(&self.singular(), vec![id.to_owned()]);
        let archived = self.call.param("archived") == Some("true");
        let record = if archived {
            id.parse().ok().and_then(|id: u64| self.portal.tables[self.table].records.get(&id))
        } else {
            let found = self.portal.find(self.table, id, self.call.param("idProperty"))?;
            found.and_then(|id| self.portal.live(self.table, id))
        };
        let record = record.ok_or_else(missing)?;
        let history = self.call.list("propertiesWithHistory");
        Ok(Answer::json(200, &self.portal.show(self.table, record, &self.wanted(), &history)))
    }

    fn patch_one(&mut self, id: &str) -> Result<Answer, Problem> {
        let input: PatchInput = body(self.call)?;
        self.rejected(&input.properties)?;
        let found = self.portal.find(self.table, id, self.call.param("idProperty"))?;
        let id = found.ok_or_else(|| Problem::missing(&self.singular(), vec![id.to_owned()]))?;
        self.portal.update(self.table, id, &input.properties, self.by)?;
        Ok(Answer::json(200, &self.view(id, &input.properties, input.object_write_trace_id.as_deref())))
    }

    fn list(&self) -> Result<Answer, Problem> {
        let number = |name, default: usize| match self.call.param(name) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| Problem::invalid(format!("{name} is not a number"))),
        };
        let (limit, after) = (number("limit", 10)?, number("after", 0)? as u64);
        if limit == 0 || limit > 100 {
            return Err(Problem::invalid("limit must be between 1 and 100"));
        }
        let archived = self.call.param("archived") == Some("true");
        let records = &self.portal.tables[self.table].records;
        let matching = records.values().filter(|r| r.archived_ms.is_some() == archived);
        let mut page: Vec<_> = matching.clone().filter(|r| r.id >= after).take(limit + 1).collect();
        let next = if page.len() > limit { page.pop().map(|r| r.id) } else { None };
        let wanted = self.wanted();
        let results: Vec<_> = page.iter().map(|r| self.portal.show(self.table, r, &wanted, &[])).collect();
        let mut body = json!({"total": matching.count(), "results": results});
        if let Some(after) = next {
            body["paging"] = json!({"next": {"after": after.to_string()}});
        }
        Ok(Answer::json(200, &body))
    }
}
