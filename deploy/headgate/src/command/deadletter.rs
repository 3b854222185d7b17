//! `headgate deadletter`: what a CRM rejected, asked from a running server; to retry and to skip are the server's work.

use std::io::{Write as _, stderr, stdout};

use serde_json::Value;

use crate::admin_client::{AdminClient, segment};
use crate::cli::{DeadletterArgs, DeadletterCommand};
use crate::config::Env;
use crate::exit::{Exit, Failure};
use crate::output;

/// What matters of one, in reading order.
const SHOW: [&str; 13] = [
    "id",
    "state",
    "at",
    "kind",
    "target",
    "object",
    "records",
    "code",
    "fields",
    "reason",
    "next_step",
    "entity",
    "external_id",
];
/// The columns of a list; the rest is shown with `show`.
const LIST: [&str; 9] = ["id", "state", "at", "target", "object", "records", "code", "fields", "reason"];

/// Lists, shows, retries or skips.
pub(super) async fn run(args: DeadletterArgs, env: &Env) -> Result<Exit, Failure> {
    let one = |id: &str, verb: &str| format!("/v1/deadletters/{}{verb}", segment(id));
    let (server, answer) = match args.command {
        DeadletterCommand::List { server } => {
            let answer = AdminClient::of(&server, env)?.get("/v1/deadletters").await?;
            (server, answer)
        }
        DeadletterCommand::Show(args) => {
            let answer = AdminClient::of(&args.server, env)?.get(&one(&args.id, "")).await?;
            (args.server, answer)
        }
        DeadletterCommand::Retry(args) => {
            let answer = AdminClient::of(&args.server, env)?.post(&one(&args.id, "/retry")).await?;
            (args.server, answer)
        }
        DeadletterCommand::Skip(args) => {
            let answer = AdminClient::of(&args.server, env)?.post(&one(&args.id, "/skip")).await?;
            (args.server, answer)
        }
    };
    let mut out = stdout().lock();
    match super::record::list(&answer, "deadletters") {
        _ if server.json => super::print_json(&mut out, &answer)?,
        Some(letters) if letters.is_empty() => writeln!(stderr(), "there are no open dead letters")?,
        Some(letters) => {
            let rows: Vec<Value> = letters.iter().cloned().map(readable).map(brief).collect();
            output::objects(&mut out, &LIST, &rows)?;
        }
        None if answer.is_null() => {}
        None => output::object(&mut out, &SHOW, &readable(answer))?,
    }
    Ok(Exit::Ok)
}

/// Lists in it as one text each: `connection/id` of the records, names of the fields.
fn readable(mut letter: Value) -> Value {
    for (name, between) in [("records", "/"), ("fields", " ")] {
        let Some(value @ Value::Array(_)) = letter.get_mut(name) else { continue };
        let parts: Vec<String> = value.as_array().into_iter().flatten().map(|part| text(part, between)).collect();
        *value = if parts.is_empty() { Value::Null } else { parts.join(", ").into() };
    }
    letter
}

fn text(part: &Value, between: &str) -> String {
    match part {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(|part| text(part, between)).collect::<Vec<_>>().join(between),
        other => other.to_string(),
    }
}

/// Without what a list has no room for.
fn brief(mut letter: Value) -> Value {
    if let Some(letter) = letter.as_object_mut() {
        letter.retain(|name, _| LIST.contains(&name.as_str()));
    }
    letter
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lists_become_text() {
        let letter = readable(json!({"records": [["hub", "501"], ["org", "003"]], "fields": ["email", "city"]}));
        assert_eq!(letter, json!({"records": "hub/501, org/003", "fields": "email, city"}));
        assert_eq!(readable(json!({"id": 7, "fields": []})), json!({"id": 7, "fields": null}));
    }
}
