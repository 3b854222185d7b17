//! One record as a person reads it: how it stands, what each CRM shows, what is open and when, what is asked, and its
//! history in the order of time. Pure: the server's JSON goes in, text comes out. What it does not know of the JSON it
//! leaves out; `--json` has all of it.

use std::io::{self, Write};

use headgate_schemas::Timestamp;
use serde_json::Value;

use super::when::{told, took};
use crate::output::{Cell, Colour, cells, paint, printable};

/// A page that is being written.
struct Page<'a, W> {
    out: &'a mut W,
    colour: bool,
    now: Option<Timestamp>,
}

/// Writes the record.
pub(super) fn write(out: &mut impl Write, colour: bool, record: &Value) -> io::Result<()> {
    let now = record.get("now").and_then(Value::as_str).and_then(|now| now.parse().ok());
    let mut page = Page { out, colour, now };
    page.head(record)?;
    page.members(record)?;
    page.asides(record)?;
    page.fields(record)?;
    page.work(record)?;
    page.questions(record)?;
    page.letters(record)?;
    page.history(record)
}

/// The list under `name`.
fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A value as text.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => printable(text),
        other => printable(&other.to_string()),
    }
}

/// Texts of a list, with commas.
fn joined(values: &Value) -> String {
    values.as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join(", ")
}

/// Good, doubtful or bad, by the words of the API.
fn judged(word: &str) -> Option<Colour> {
    match word {
        "in_sync" | "live" | "works" | "ok" | "taken" | "delivered" | "unchanged" | "echo" => Some(Colour::Green),
        "working" | "held" | "again" | "unknown" | "waits_for_write" | "waits_for_read" | "missing" | "set aside"
        | "to be made" | "target_kept" | "leaving" => Some(Colour::Yellow),
        "differs" | "rejected" | "refused" | "lost_conflict" | "gone" => Some(Colour::Red),
        _ => None,
    }
}

fn state(word: String) -> Cell {
    let colour = judged(&word);
    Cell { colour, ..Cell::from(word) }
}

fn heads(names: &[&str]) -> Vec<Cell> {
    names.iter().map(|name| Cell { text: name.to_uppercase(), colour: Some(Colour::Bold) }).collect()
}

impl<W: Write> Page<'_, W> {
    fn title(&mut self, title: &str) -> io::Result<()> {
        writeln!(self.out, "\n{}", paint(self.colour, Colour::Bold, title))
    }

    fn table(&mut self, rows: &[Vec<Cell>]) -> io::Result<()> {
        cells(self.out, self.colour, rows)
    }

    fn ago(&self, at: &Value) -> String {
        told(Some(at), self.now)
    }

    fn head(&mut self, record: &Value) -> io::Result<()> {
        let mut rows = Vec::new();
        for name in
            ["entity", "tenant", "object", "link", "state", "life", "open", "external_id", "created_at", "claims"]
        {
            let Some(value) = record.get(name) else { continue };
            let cell = match (name, value) {
                ("created_at", value) => self.ago(value).into(),
                ("claims", Value::Array(claims)) if claims.is_empty() => continue,
                ("life", Value::String(life)) if life == "live" => continue,
                ("claims", value) => joined(value).into(),
                (_, value) => state(text(value)),
            };
            rows.push(vec![Cell::from(name.replace('_', " ")), cell]);
        }
        self.table(&rows)
    }

    fn members(&mut self, record: &Value) -> io::Result<()> {
        self.title("members")?;
        let mut rows = vec![heads(&["connection", "id", "state", "guard", "connection is"])];
        for member in list(record, "members") {
            let name = text(&member["connection"]);
            let about = list(record, "connections").iter().find(|c| c["connection"] == member["connection"]);
            let word = |key: &str| about.and_then(|about| about.get(key)).map_or_else(|| "-".to_owned(), text);
            let (id, stands) = (text(&member["id"]), text(&member["state"]));
            rows.push(vec![name.into(), id.into(), state(stands), word("guard").into(), state(word("state"))]);
        }
        for aside in list(record, "detached") {
            let (name, id) = (text(&aside["connection"]), text(&aside["id"]));
            rows.push(vec![name.into(), id.into(), state("set aside".to_owned()), "-".into(), "-".into()]);
        }
        self.table(&rows)
    }

    /// Records set aside, as they stand in their CRM now.
    fn asides(&mut self, record: &Value) -> io::Result<()> {
        for aside in list(record, "detached") {
            let (name, id) = (text(&aside["connection"]), text(&aside["id"]));
            let asked = if aside["asked"] == true { " (the record asked for)" } else { "" };
            self.title(&format!("set aside: {name} {id}{asked}"))?;
            let because = aside.get("because").map_or_else(String::new, |because| format!(": {}", text(because)));
            let changed = aside.get("changed_at").map_or_else(String::new, |at| format!(", changed {}", self.ago(at)));
            writeln!(self.out, "{}{because}{changed}", text(&aside["stands"]).replace('_', " "))?;
            let fields = aside["fields"].as_object().into_iter().flatten();
            let rows: Vec<Vec<Cell>> =
                fields.map(|(field, value)| vec![field.clone().into(), text(value).into()]).collect();
            self.table(&rows)?;
        }
        Ok(())
    }

    /// Each field in one line: the value in force, and what each connection shows.
    fn fields(&mut self, record: &Value) -> io::Result<()> {
        let fields = list(record, "fields");
        if fields.is_empty() {
            return Ok(());
        }
        let mut connections: Vec<&str> = Vec::new();
        for cell in fields.iter().flat_map(|field| list(field, "members")) {
            let name = cell["connection"].as_str().unwrap_or("-");
            if !connections.contains(&name) {
                connections.push(name);
            }
        }
        self.title("fields")?;
        let mut rows = vec![heads(&[&["name", "value"][..], &connections, &["set", "by"]].concat())];
        for field in fields {
            let held = field["held"] == true;
            let value = Cell { colour: held.then_some(Colour::Yellow), ..Cell::from(text(&field["value"])) };
            let mut row = vec![text(&field["name"]).into(), value];
            for name in &connections {
                let cell = list(field, "members").iter().find(|cell| cell["connection"] == *name);
                row.push(cell.map_or_else(|| "-".into(), sight));
            }
            row.extend([self.ago(&field["set_at"]).into(), text(&field["set_by"]).into()]);
            rows.push(row);
        }
        self.table(&rows)
    }

    fn work(&mut self, record: &Value) -> io::Result<()> {
        let work = list(record, "work");
        if work.is_empty() {
            return Ok(());
        }
        self.title("open")?;
        let mut rows = vec![heads(&["connection", "does", "due", "because"])];
        for item in work {
            let due = match item.get("due") {
                _ if item["under_way"] == true => "under way".to_owned(),
                None => "-".to_owned(),
                due => told(due, self.now),
            };
            let mut because = text(&item["because"]);
            for (key, word) in [
                ("attempts", "failed attempts"),
                ("changes_waiting", "changes wait"),
                ("changes_to_deliver", "changes to deliver"),
            ] {
                if let Some(n) = item[key].as_u64().filter(|n| *n > 0) {
                    because.push_str(&format!("; {word}: {n}"));
                }
            }
            let held_back = item.get("held_back").map(text);
            if let Some(word) = &held_back {
                because.push_str(&format!("; the connection {word}"));
            }
            let because = Cell { colour: held_back.map(|_| Colour::Red), ..Cell::from(because) };
            rows.push(vec![text(&item["connection"]).into(), text(&item["does"]).into(), due.into(), because]);
        }
        self.table(&rows)
    }

    fn questions(&mut self, record: &Value) -> io::Result<()> {
        for question in list(record, "questions") {
            let (id, kind) = (text(&question["id"]), text(&question["kind"]));
            let about = match text(&question["field"]) {
                about if about.is_empty() => kind,
                about => format!("{kind} {about}"),
            };
            self.title(&format!("conflict {id}: {about}"))?;
            let cause = question.get("cause").map_or_else(String::new, |cause| format!(" because of {}", text(cause)));
            writeln!(self.out, "asked {}{cause}", self.ago(&question["since"]))?;
            let mut rows = Vec::new();
            for candidate in list(question, "candidates") {
                let force = if candidate["in_force"] == true { "in force" } else { "" };
                let (member, value) = (text(&candidate["member"]), text(&candidate["value"]));
                rows.push(vec![member.into(), value.into(), self.ago(&candidate["at"]).into(), force.into()]);
            }
            self.table(&rows)?;
            let choice = |choice: &Value| {
                vec![crate::command::conflict::flag(&choice["answer"]).into(), text(&choice["does"]).into()]
            };
            let choices: Vec<Vec<Cell>> = list(question, "choices").iter().map(choice).collect();
            self.table(&choices)?;
        }
        Ok(())
    }

    fn letters(&mut self, record: &Value) -> io::Result<()> {
        let letters = list(record, "deadletters");
        if letters.is_empty() {
            return Ok(());
        }
        self.title("dead letters")?;
        let mut rows = vec![heads(&["id", "when", "target", "fields", "code", "reason", "next step"])];
        for letter in letters {
            let mut row: Vec<Cell> = vec![text(&letter["id"]).into(), self.ago(&letter["at"]).into()];
            row.extend([text(&letter["target"]).into(), joined(&letter["fields"]).into()]);
            row.push(Cell { colour: Some(Colour::Red), ..Cell::from(text(&letter["code"])) });
            row.extend([text(&letter["reason"]).into(), text(&letter["next_step"]).into()]);
            rows.push(row);
        }
        self.table(&rows)
    }

    fn history(&mut self, record: &Value) -> io::Result<()> {
        let entries = list(record, "history");
        if entries.is_empty() {
            return Ok(());
        }
        self.title("history")?;
        if record["earlier"] == true {
            writeln!(self.out, "(more happened before that: --limit)")?;
        }
        let mut rows = vec![heads(&["when", "connection", "event", "about", "result", "took", "change"])];
        for entry in entries {
            let connection = match entry["event"].as_str() {
                Some("decision") => text(&entry["edit"]["member"]),
                _ => text(&entry["connection"]),
            };
            let (event, about, result) = line(entry);
            let (took, change) = (took(entry.get("took_ms")), text(&entry["change"]));
            rows.push(vec![
                self.ago(&entry["at"]).into(),
                connection.into(),
                event.into(),
                about.into(),
                result,
                took.into(),
                change.into(),
            ]);
        }
        self.table(&rows)
    }
}

/// What a connection shows of a field, and a word where that is not simply the value in force.
fn sight(cell: &Value) -> Cell {
    let shown = text(&cell["shown"]);
    match cell.get("why") {
        None => shown.into(),
        Some(why) => Cell { text: format!("{shown} ({})", text(why)), colour: Some(Colour::Yellow) },
    }
}

/// An entry's event, what it is about, and what came of it.
fn line(entry: &Value) -> (String, String, Cell) {
    let word = |name: &str| text(&entry[name]);
    match entry["event"].as_str().unwrap_or("-") {
        "heard" => (format!("heard {}", word("kind")), heard(entry), result(entry)),
        "decided" => ("decided".to_owned(), String::new(), result(entry)),
        "read" => (format!("read by {}", word("by").replace('_', " ")), String::new(), result(entry)),
        "wrote" => (word("deed"), joined(&entry["fields"]), result(entry)),
        "record" => ("record".to_owned(), word("id"), state(word("state"))),
        "turn" => ("turn".to_owned(), String::new(), state(word("life"))),
        "joined" => {
            ("joined".to_owned(), format!("entity {} became part of this one", word("entity")), Cell::default())
        }
        "outcome" => ("outcome".to_owned(), String::new(), state(word("outcome"))),
        "decision" => (
            format!("decision {}", word("field")),
            sides(entry),
            format!("{}: {}", word("rule"), word("ruling")).into(),
        ),
        "asked" => (
            format!("conflict {}", word("conflict")),
            format!("{} {}", word("kind"), word("subject")),
            state("held".to_owned()),
        ),
        "answered" => {
            let by = entry.get("by").map_or_else(String::new, |by| format!(" by {}", text(by)));
            (
                format!("conflict {}", word("conflict")),
                format!("{} {}", word("kind"), word("subject")),
                format!("{}{by}", word("choice")).into(),
            )
        }
        "refused" => {
            let said = Cell { text: format!("{}: {}", word("code"), word("reason")), colour: Some(Colour::Red) };
            (format!("dead letter {}", word("deadletter")), joined(&entry["fields"]), said)
        }
        other => (printable(other), String::new(), Cell::default()),
    }
}

/// What a change told, and what is unusual about it.
fn heard(entry: &Value) -> String {
    let mut about = joined(&entry["fields"]);
    let mut marks = Vec::new();
    if entry["author"] != "unknown" {
        marks.push(format!("by {}", text(&entry["author"])));
    }
    if entry["late"] == true {
        marks.push("late".to_owned());
    }
    if let Some(n) = entry["repeats"].as_u64().filter(|n| *n > 0) {
        marks.push(format!("came {n} times more"));
    }
    if !marks.is_empty() {
        about = format!("{about} ({})", marks.join(", ")).trim_start().to_owned();
    }
    about
}

/// What came of something, with the fields it put in force or the CRM's code.
fn result(entry: &Value) -> Cell {
    let word = text(&entry["result"]);
    let colour = judged(&word);
    let more = match (entry.get("taken"), entry.get("code")) {
        (Some(taken), _) => format!(": {}", joined(taken)),
        (None, Some(code)) => format!(": {}", text(code)),
        (None, None) => String::new(),
    };
    Cell { text: format!("{}{more}", word.replace('_', " ")), colour }
}

/// Both sides of a decision, each with its value and the span in which it can have been set.
fn sides(entry: &Value) -> String {
    let side = |side: &Value| {
        let (from, until) = (text(&side["from"]), text(&side["until"]));
        let span = if from == until { from } else { format!("{from} to {until}") };
        format!("{} {} ({span})", text(&side["member"]), text(&side["value"]))
    };
    format!("{} against {}", side(&entry["edit"]), side(&entry["in_force"]))
}

#[cfg(test)]
#[path = "show_tests.rs"]
mod tests;
