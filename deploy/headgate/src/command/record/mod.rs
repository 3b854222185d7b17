//! `headgate record`: what the relay knows about records, asked from a running server. Knows the server's JSON only as
//! far as a table needs it: what it does not know is shown as it comes.

mod show;
mod when;

use std::io::{IsTerminal as _, Write as _, stderr, stdout};

use headgate_schemas::{Timestamp, time};
use serde_json::Value;

use crate::admin_client::{AdminClient, segment};
use crate::cli::{ListRecords, RecordArgs, RecordCommand, Server, ShowRecord};
use crate::config::{Env, durations};
use crate::exit::{Exit, Failure};
use crate::output;

/// The columns of a list, in reading order; those of the members come before the last.
const LIST: [&str; 5] = ["entity", "tenant", "object", "state", "open"];
/// The columns of refused calls, in reading order.
const REJECTED: [&str; 10] =
    ["at", "endpoint", "provider", "peer", "status", "reason", "detail", "scheme", "url", "timestamp"];
/// Shows or lists.
pub(in crate::command) async fn run(args: RecordArgs, env: &Env) -> Result<Exit, Failure> {
    match args.command {
        RecordCommand::Show(args) => one(&args, env).await,
        RecordCommand::Rejected { server } => rejected(&server, env).await,
        RecordCommand::List(args) => all(&args, env).await,
    }
}

/// Shows one record.
async fn one(args: &ShowRecord, env: &Env) -> Result<Exit, Failure> {
    let path = path(args, time::now())?;
    let record = AdminClient::of(&args.server, env)?.get(&path).await?;
    let mut out = stdout().lock();
    if args.server.json {
        super::print_json(&mut out, &record)?;
    } else {
        let colour = output::colour(out.is_terminal());
        show::write(&mut out, colour, &record)?;
    }
    Ok(Exit::Ok)
}

/// What is asked for.
fn path(args: &ShowRecord, now: Timestamp) -> Result<String, Failure> {
    let ShowRecord { system, object, id, since, field, target, limit, .. } = args;
    let mut query = Vec::new();
    if let Some(since) = since {
        let ago = durations::parse(since).map(|ago| now - ago);
        let at = ago.or_else(|| since.parse().ok()).ok_or_else(|| {
            let what = format!("--since: {since} is neither a time like 2026-11-21T10:00:00Z nor {}", durations::FORM);
            Failure::new(Exit::Usage, what)
        })?;
        query.push(format!("since={}", segment(&at.to_string())));
    }
    for (name, value) in [("field", field), ("target", target)] {
        query.extend(value.as_ref().map(|value| format!("{name}={}", segment(value))));
    }
    query.extend(limit.map(|limit| format!("limit={limit}")));
    let mark = if query.is_empty() { "" } else { "?" };
    Ok(format!("/v1/records/{system}/{}/{}{mark}{}", segment(object), segment(id), query.join("&")))
}

/// Lists records.
async fn all(args: &ListRecords, env: &Env) -> Result<Exit, Failure> {
    let mut path = format!("/v1/records?limit={}", args.limit);
    if args.after > 0 {
        path.push_str(&format!("&after={}", args.after));
    }
    if let Some(state) = &args.state {
        path.push_str(&format!("&state={}", segment(state)));
    }
    let answer = AdminClient::of(&args.server, env)?.get(&path).await?;
    let mut out = stdout().lock();
    match list(&answer, "records") {
        Some(records) if !args.server.json => {
            if records.is_empty() {
                writeln!(stderr(), "there are no such records")?;
            } else {
                let (columns, rows) = table(records);
                output::objects(&mut out, &texts(&columns), &rows)?;
            }
            if let Some(next) = answer.get("next") {
                writeln!(stderr(), "there are more: --after {next}")?;
            }
        }
        _ => super::print_json(&mut out, &answer)?,
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
pub(in crate::command) fn list<'v>(answer: &'v Value, name: &str) -> Option<&'v Vec<Value>> {
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
    fn filters_become_the_query() {
        let args = ShowRecord {
            system: headgate_schemas::System::Hubspot,
            object: "contact".to_owned(),
            id: "5/1".to_owned(),
            since: None,
            field: None,
            target: None,
            limit: None,
            server: Server { config: None, admin: None, json: false },
        };
        let now = Timestamp::from_micros(1_800_000_000_000_000);
        assert_eq!(path(&args, now).unwrap(), "/v1/records/hubspot/contact/5%2F1");
        let some = |text: &str| Some(text.to_owned());
        let args = ShowRecord { since: some("10m"), field: some("city"), target: some("hub"), limit: Some(5), ..args };
        assert_eq!(
            path(&args, now).unwrap(),
            "/v1/records/hubspot/contact/5%2F1?since=2027-01-15T07%3A50%3A00.000000Z&field=city&target=hub&limit=5"
        );
        let wrong = path(&ShowRecord { since: some("yesterday"), ..args }, now).unwrap_err();
        assert!(wrong.to_string().starts_with("--since: yesterday is neither a time like"), "{wrong}");
    }
}
