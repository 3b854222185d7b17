//! The lines of a run. One object per line; `what` says which kind.
//!
//! ```text
//! {"what":"pair","fields":{"hubspot":"firstname","salesforce":"FirstName"}}          once per mapped field
//! {"what":"edit","at":1,"system":"hubspot","id":"7","field":"firstname","value":"Ada1","new":true}
//! {"what":"post","at":2,"system":"hubspot","status":200,"events":[{"id":"7","fields":{"firstname":"Ada1"},"state":false}]}
//! {"what":"change","offset":5,"system":"hubspot","id":"7","key":"…","fields":{"firstname":"Ada1"}}
//! {"what":"write","at":3,"system":"salesforce","id":"003…","field":"FirstName","old":null,"new":"Ada1"}
//! {"what":"look","at":3,"system":"salesforce","id":"003…","fields":{"FirstName":"Ada1"}}  the program read it so
//! {"what":"crash","at":4,"where":"relay.before_write"}   {"what":"cut","at":4,"until":5} excuse for repeats
//! {"what":"stands","system":"salesforce","id":"003…","fields":{"FirstName":"Ada1"}}  at the end
//! {"what":"open","system":"hubspot","id":"7","field":"firstname"}                    a question about it is open
//! {"what":"decision","ids":["7","003…"],"field":"firstname","values":["Ada1","Ada2"]} a logged decision
//! {"what":"quiet","at":9}                                                            no edit and no write after this
//! {"what":"apart","us":5000000}                                                    edits this far apart have an order
//! {"what":"accounting","open":0,"held":0,"difference":0}
//! ```
//!
//! Times are microseconds of one clock. Lines of one system stand in the order of what they tell.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::Unreadable;

/// A cell: a field of a record of a system.
pub(crate) type Cell = (String, String, String);

/// What a person did to one field.
#[derive(Clone, Debug)]
pub(crate) struct Edit {
    pub(crate) at: i64,
    pub(crate) system: String,
    pub(crate) id: String,
    pub(crate) field: String,
    pub(crate) value: String,
    /// It made the record.
    pub(crate) new: bool,
}

/// A record as an event or a change of the stream shows it.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) system: String,
    pub(crate) id: String,
    pub(crate) fields: BTreeMap<String, String>,
    /// It tells how the record stands, not what an edit did.
    pub(crate) state: bool,
}

/// A write over the API of a system.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) at: i64,
    pub(crate) cell: Cell,
    pub(crate) old: Option<String>,
    pub(crate) new: Option<String>,
}

/// A conflict that was decided and written down.
#[derive(Clone, Debug)]
pub(crate) struct Decision {
    /// The records it is about.
    pub(crate) ids: Vec<String>,
    pub(crate) field: String,
    /// Both sides.
    pub(crate) values: Vec<String>,
}

/// Everything a run logged.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    pub(crate) pairs: Vec<BTreeMap<String, String>>,
    pub(crate) edits: Vec<Edit>,
    pub(crate) posts: u64,
    /// Events with whether their post was answered with 2xx.
    pub(crate) events: Vec<(Shown, bool)>,
    pub(crate) changes: Vec<Shown>,
    pub(crate) writes: Vec<Write>,
    /// What the program was answered when it read a record, with the time of the answer.
    pub(crate) looks: Vec<(i64, Shown)>,
    /// Crashes and cut connections.
    pub(crate) excuses: Vec<(i64, i64)>,
    pub(crate) crashes: BTreeMap<String, u64>,
    pub(crate) stands: Vec<Shown>,
    pub(crate) open: Vec<Cell>,
    pub(crate) decisions: Vec<Decision>,
    pub(crate) quiet: Option<i64>,
    pub(crate) apart: Option<i64>,
    pub(crate) accounting: Option<(i64, i64, i64)>,
}

impl Log {
    pub(crate) fn read(lines: &str) -> Result<Self, Unreadable> {
        let mut log = Self::default();
        for (i, line) in lines.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let unreadable = |why: String| Unreadable { line: i + 1, why };
            let parsed: Value = serde_json::from_str(line).map_err(|e| unreadable(e.to_string()))?;
            let object = parsed.as_object().ok_or_else(|| unreadable("it is no object".to_owned()))?;
            log.take(&Line(object)).map_err(unreadable)?;
        }
        log.writes.sort_by_key(|write| write.at);
        log.looks.sort_by_key(|(at, _)| *at);
        Ok(log)
    }

    fn take(&mut self, line: &Line<'_>) -> Result<(), String> {
        match line.text("what")?.as_str() {
            "pair" => self.pairs.push(line.texts("fields")?),
            "edit" => self.edits.push(Edit {
                at: line.number("at")?,
                system: line.text("system")?,
                id: line.text("id")?,
                field: line.text("field")?,
                value: canonical(&line.text("value")?),
                new: line.is("new"),
            }),
            "post" => self.post(line)?,
            "change" => self.changes.push(line.shown(&line.text("system")?)?),
            "write" => self.writes.push(Write {
                at: line.number("at")?,
                cell: line.cell()?,
                old: line.maybe("old").map(|text| canonical(&text)),
                new: line.maybe("new").map(|text| canonical(&text)),
            }),
            "look" => self.looks.push((line.number("at")?, line.shown(&line.text("system")?)?)),
            "crash" => {
                self.excuses.push((line.number("at")?, line.number("at")?));
                *self.crashes.entry(line.text("where")?).or_default() += 1;
            }
            "cut" => self.excuses.push((line.number("at")?, line.number("until")?)),
            "stands" => self.stands.push(line.shown(&line.text("system")?)?),
            "open" => self.open.push(line.cell()?),
            "decision" => self.decisions.push(Decision {
                ids: line.list("ids")?,
                field: line.text("field")?,
                values: line.list("values")?.iter().map(|value| canonical(value)).collect(),
            }),
            "apart" => self.apart = Some(line.number("us")?),
            "quiet" => self.quiet = Some(line.number("at")?),
            "accounting" => {
                self.accounting = Some((line.number("open")?, line.number("held")?, line.number("difference")?));
            }
            other => return Err(format!("\"{other}\" is no kind of line")),
        }
        Ok(())
    }

    fn post(&mut self, line: &Line<'_>) -> Result<(), String> {
        self.posts += 1;
        let taken = line.0.get("status").and_then(Value::as_i64).is_some_and(|status| (200..300).contains(&status));
        let system = line.text("system")?;
        let events = line.0.get("events").and_then(Value::as_array).ok_or("events is no list")?;
        for event in events {
            let event = event.as_object().ok_or("an event is no object")?;
            self.events.push((Line(event).shown(&system)?, taken));
        }
        Ok(())
    }

    /// The names of a field in the systems, by its name in one of them.
    pub(crate) fn pair(&self, system: &str, field: &str) -> Option<usize> {
        self.pairs.iter().position(|pair| pair.get(system).is_some_and(|name| name == field))
    }

    /// Whether a crash or a cut connection lies between two times.
    pub(crate) fn excused(&self, from: i64, to: i64) -> bool {
        self.excuses.iter().any(|(first, last)| *first <= to && from <= *last)
    }
}

/// One line.
struct Line<'a>(&'a Map<String, Value>);

impl Line<'_> {
    fn text(&self, name: &str) -> Result<String, String> {
        self.maybe(name).ok_or_else(|| format!("\"{name}\" is missing"))
    }

    /// Text, or a number as its text; nothing for null.
    fn maybe(&self, name: &str) -> Option<String> {
        self.0.get(name).and_then(plain)
    }

    fn is(&self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    fn number(&self, name: &str) -> Result<i64, String> {
        self.0.get(name).and_then(Value::as_i64).ok_or_else(|| format!("\"{name}\" is no number"))
    }

    fn texts(&self, name: &str) -> Result<BTreeMap<String, String>, String> {
        let object = self.0.get(name).and_then(Value::as_object).ok_or_else(|| format!("\"{name}\" is no object"))?;
        Ok(object.iter().filter_map(|(k, v)| Some((k.clone(), plain(v)?))).collect())
    }

    fn list(&self, name: &str) -> Result<Vec<String>, String> {
        let list = self.0.get(name).and_then(Value::as_array).ok_or_else(|| format!("\"{name}\" is no list"))?;
        Ok(list.iter().filter_map(plain).collect())
    }

    fn cell(&self) -> Result<Cell, String> {
        Ok((self.text("system")?, self.text("id")?, self.text("field")?))
    }

    fn shown(&self, system: &str) -> Result<Shown, String> {
        let mut fields = self.texts("fields")?;
        fields.values_mut().for_each(|value| *value = canonical(value));
        Ok(Shown { system: system.to_owned(), id: self.text("id")?, fields, state: self.is("state") })
    }
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// One spelling for values that are equal: text trimmed and without case.
fn canonical(value: &str) -> String {
    value.trim().to_lowercase()
}
