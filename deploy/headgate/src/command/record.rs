//! `headgate record`: what the relay knows about records, asked from a running server. Knows the server's JSON only as
//! far as a table needs it: what it does not know is shown as it comes.

use std::io::{Write as _, stderr, stdout};

use serde_json::{Map, Value};

use crate::admin_client::{AdminClient, segment};
use crate::cli::{RecordArgs, RecordCommand, Server};
use crate::config::Env;
use crate::exit::{Exit, Failure};
use crate::output;

/// The columns of a list, in reading order; those of the members come before the last.
const LIST: [&str; 5] = ["entity", "tenant", "object", "state", "open"];
/// What matters of one record and of the lists in it, in reading order; then what each connection shows of a field.
const SHOW: [&str; 20] = [
    "entity",
    "tenant",
    "object",
    "connection",
    "id",
    "name",
    "value",
    "state",
    "open",
    "external_id",
    "created_at",
    "change",
    "target",
    "outcome",
    "at",
    "took_ms",
    "conflict",
    "kind",
    "subject",
    "since",
];
/// The columns of refused calls, in reading order.
const REJECTED: [&str; 10] =
    ["at", "endpoint", "provider", "peer", "status", "reason", "detail", "scheme", "url", "timestamp"];
/// How a field came to its value.
const ORIGIN: [&str; 4] = ["set_by", "set_at", "revision", "held"];

/// Shows or lists.
pub(super) async fn run(args: RecordArgs, env: &Env) -> Result<Exit, Failure> {
    let (path, server) = match args.command {
        RecordCommand::Show { system, object, id, server } => {
            (format!("/v1/records/{system}/{}/{}", segment(&object), segment(&id)), server)
        }
        RecordCommand::Rejected { server } => return rejected(&server, env).await,
        RecordCommand::List { limit, server } => (format!("/v1/records?limit={limit}"), server),
    };
    let answer = AdminClient::of(&server, env)?.get(&path).await?;
    let mut out = stdout().lock();
    match list(&answer, "records") {
        _ if server.json => super::print_json(&mut out, &answer)?,
        Some(records) if records.is_empty() => writeln!(stderr(), "there are no records yet")?,
        Some(records) => {
            let (columns, rows) = table(records);
            output::objects(&mut out, &texts(&columns), &rows)?;
        }
        None => {
            let (connections, record) = readable(answer);
            output::object(&mut out, &[&SHOW[..], &texts(&connections), &ORIGIN].concat(), &record)?;
        }
    }
    Ok(Exit::Ok)
}

/// Lists the calls that the gateway refused.
async fn rejected(server: &Server, env: &Env) -> Result<Exit, Failure> {
    let answer = AdminClient::of(server, env)?.get("/v1/rejected").await?;
    let mut out = stdout().lock();
    match list(&answer, "rejected") {
        Some(calls) if !server.json && calls.is_empty() => writeln!(stderr(), "no webhook was refused")?,
        Some(calls) if !server.json => {
            let rows: Vec<Value> = calls.iter().map(one_line).collect();
            output::objects(&mut out, &REJECTED, &rows)?;
        }
        _ => super::print_json(&mut out, &answer)?,
    }
    Ok(Exit::Ok)
}

/// A refused call with what was expected in cells of its own line.
fn one_line(call: &Value) -> Value {
    let mut row = call.as_object().cloned().unwrap_or_default();
    if let Some(Value::Object(expected)) = row.remove("expected") {
        row.extend(expected.into_iter().filter(|(_, value)| !value.is_null()));
    }
    row.retain(|_, value| !value.is_null());
    Value::Object(row)
}

/// The list under `name`, or the answer itself if it is one.
pub(super) fn list<'v>(answer: &'v Value, name: &str) -> Option<&'v Vec<Value>> {
    answer.as_array().or_else(|| answer.get(name).and_then(Value::as_array))
}

fn texts(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

/// A list of records with one column for each connection that holds the record's id there.
fn table(records: &[Value]) -> (Vec<String>, Vec<Value>) {
    let mut columns = LIST.map(str::to_owned).to_vec();
    let rows = records.iter().map(|record| {
        let mut row = record.as_object().cloned().unwrap_or_default();
        let members = row.remove("members");
        for member in members.iter().filter_map(Value::as_array).flatten() {
            let Some(connection) = member.get("connection").and_then(Value::as_str) else { continue };
            note(&mut columns, connection);
            row.insert(connection.to_owned(), place(member).into());
        }
        Value::Object(row)
    });
    let rows = rows.collect();
    (columns, rows)
}

/// Adds a name that is not there yet.
fn note(names: &mut Vec<String>, name: &str) {
    if !names.iter().any(|known| known == name) {
        names.push(name.to_owned());
    }
}

/// Where a member stands: its id, and its state where that is not what one expects.
fn place(member: &Value) -> String {
    let text = |name: &str| member.get(name).and_then(Value::as_str);
    match (text("id"), text("state")) {
        (Some(id), Some("live") | None) => id.to_owned(),
        (Some(id), Some(state)) => format!("{id} ({state})"),
        (None, state) => format!("({})", state.unwrap_or("unknown")),
    }
}

/// One record with each field in one line: its value, and what each connection shows. Names the connections.
fn readable(mut record: Value) -> (Vec<String>, Value) {
    let mut connections = Vec::new();
    let fields = record.get_mut("fields").and_then(Value::as_array_mut);
    for field in fields.into_iter().flatten().filter_map(Value::as_object_mut) {
        let cells = field.remove("members");
        for cell in cells.iter().filter_map(Value::as_array).flatten().filter_map(Value::as_object) {
            if let Some(connection) = cell.get("connection").and_then(Value::as_str) {
                note(&mut connections, connection);
                field.insert(connection.to_owned(), sight(cell));
            }
        }
    }
    (connections, record)
}

/// What a connection shows of a field, and a word where that is not simply the value in force.
fn sight(cell: &Map<String, Value>) -> Value {
    let shown = cell.get("shown").cloned().unwrap_or_default();
    let Some(word) = cell.get("why").and_then(Value::as_str) else { return shown };
    match shown {
        Value::Null => format!("({word})").into(),
        Value::String(text) => format!("{text} ({word})").into(),
        other => format!("{other} ({word})").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn members_become_columns() {
        let members = json!([{"connection": "a", "id": "1", "state": "live"}, {"connection": "b", "id": null, "state": "to be made"}]);
        let gone = json!([{"connection": "b", "id": "2", "state": "gone"}]);
        let (columns, rows) = table(&[json!({"entity": 1, "members": members}), json!({"entity": 2, "members": gone})]);
        assert_eq!(columns, ["entity", "tenant", "object", "state", "open", "a", "b"]);
        assert_eq!(rows, [json!({"entity": 1, "a": "1", "b": "(to be made)"}), json!({"entity": 2, "b": "2 (gone)"})]);
    }

    #[test]
    fn a_field_shows_what_each_connection_shows() {
        let cells = json!([
            {"connection": "a", "shown": "x", "current": true, "kept": false, "refused": false},
            {"connection": "b", "shown": "y", "current": false, "why": "behind"},
            {"connection": "c", "shown": null, "current": false, "why": "refused, see the dead letters"},
        ]);
        let (connections, record) = readable(json!({"fields": [{"name": "city", "value": "x", "members": cells}]}));
        let field =
            json!({"name": "city", "value": "x", "a": "x", "b": "y (behind)", "c": "(refused, see the dead letters)"});
        assert_eq!((connections, record), (["a", "b", "c"].map(str::to_owned).to_vec(), json!({"fields": [field]})));
    }
}
