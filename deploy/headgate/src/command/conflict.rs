//! `headgate conflict`: what only a person may decide, asked from a running server; the choice is the server's work.
//! Values of fields are what this command is about, so they are printed; they are never logged.

use std::io::{Write as _, stderr, stdout};

use serde_json::{Value, json};

use super::record::list;
use crate::admin_client::{AdminClient, segment};
use crate::cli::{ConflictArgs, ConflictCommand, ListConflicts, ResolveConflict};
use crate::config::Env;
use crate::exit::{Exit, Failure};
use crate::output;

/// The columns of a list; the rest is shown with `show`.
const LIST: [&str; 9] = ["id", "state", "since", "link", "records", "field", "cause", "value", "candidates"];
/// What matters of one, and of the lists in it, in reading order.
const SHOW: [&str; 32] = [
    "id",
    "state",
    "since",
    "tenant",
    "link",
    "object",
    "entity",
    "records",
    "others",
    "kind",
    "field",
    "cause",
    "edition",
    "n",
    "member",
    "value",
    "at",
    "rule",
    "ruling",
    "edit",
    "in_force",
    "writes",
    "author",
    "change",
    "ended_at",
    "resolved_by",
    "choice",
    "give",
    "does",
    "candidates",
    "choices",
    "decisions",
];

/// Lists, shows or resolves.
pub(super) async fn run(args: ConflictArgs, env: &Env) -> Result<Exit, Failure> {
    let (server, answer) = match args.command {
        ConflictCommand::List(args) => {
            let answer = AdminClient::of(&args.server, env)?.get(&query(&args)).await?;
            (args.server, answer)
        }
        ConflictCommand::Show { id, server } => {
            let answer = AdminClient::of(&server, env)?.get(&format!("/v1/conflicts/{id}")).await?;
            (server, answer)
        }
        ConflictCommand::Resolve(args) => {
            let path = format!("/v1/conflicts/{}/resolve", args.id);
            let answer = AdminClient::of(&args.server, env)?.post_json(&path, &choice(&args, env)).await?;
            (args.server, answer)
        }
    };
    let mut out = stdout().lock();
    match list(&answer, "conflicts") {
        _ if server.json => super::print_json(&mut out, &answer)?,
        Some(conflicts) if conflicts.is_empty() => writeln!(stderr(), "no conflict waits for a person")?,
        Some(conflicts) => {
            let rows: Vec<Value> = conflicts.iter().cloned().map(row).collect();
            output::objects(&mut out, &LIST, &rows)?;
            if let Some(next) = answer.get("next") {
                writeln!(stderr(), "there are more: --after {next}")?;
            }
        }
        None if answer.is_null() => {}
        None => output::object(&mut out, &SHOW, &readable(answer))?,
    }
    Ok(Exit::Ok)
}

fn query(args: &ListConflicts) -> String {
    let mut path = format!("/v1/conflicts?limit={}&after={}&all={}", args.limit, args.after, args.all);
    for (name, value) in [("link", &args.link), ("field", &args.field), ("kind", &args.kind)] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", segment(value)));
        }
    }
    path
}

fn choice(args: &ResolveConflict, env: &Env) -> Value {
    let user = env.get("USER").filter(|user| !user.is_empty());
    let by = args.by.as_ref().or(user).map_or("command line", String::as_str);
    let mut body = json!({ "by": by });
    if let Some(edition) = args.edition {
        body["edition"] = edition.into();
    }
    for (name, text) in [("member", &args.member), ("value", &args.value), ("record", &args.record)] {
        if let Some(text) = text {
            body[name] = text.as_str().into();
        }
    }
    let flags = [("keep", args.keep), ("link", args.link), ("separate", args.separate), ("delete", args.delete)];
    for (name, _) in flags.into_iter().filter(|(_, is_given)| *is_given) {
        body[name] = true.into();
    }
    body
}

/// One conflict in one line.
fn row(mut conflict: Value) -> Value {
    let said = |candidate: &Value| format!("{}: {}", text(&candidate["member"]), text(&candidate["value"]));
    let candidates = conflict["candidates"].as_array().into_iter().flatten().map(said).collect::<Vec<_>>().join(" | ");
    if let Some(conflict) = conflict.as_object_mut() {
        conflict.insert("candidates".to_owned(), candidates.into());
        conflict.retain(|name, _| LIST.contains(&name.as_str()));
    }
    records(&mut conflict, "records");
    conflict
}

/// One conflict with its candidates and decisions as tables of plain cells.
fn readable(mut conflict: Value) -> Value {
    records(&mut conflict, "records");
    records(&mut conflict, "others");
    for choice in each(&mut conflict, "choices") {
        *choice = json!({ "give": flag(&choice["answer"]), "does": choice["does"] });
    }
    for candidate in each(&mut conflict, "candidates") {
        let writes = candidate["writes"].as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join(" ");
        candidate["writes"] = if writes.is_empty() { Value::Null } else { writes.into() };
    }
    for decision in each(&mut conflict, "decisions").filter_map(Value::as_object_mut) {
        for side in ["edit", "in_force"] {
            let said = decision.get(side).map(|s| format!("{}: {}", text(&s["member"]), text(&s["value"])));
            decision.insert(side.to_owned(), said.into());
        }
        decision.retain(|name, _| !matches!(name.as_str(), "entity" | "field"));
    }
    if let Some(conflict) = conflict.as_object_mut() {
        conflict.retain(|_, value| value.as_array().is_none_or(|list| !list.is_empty()));
    }
    conflict
}

/// What stands in a list, if there is one.
fn each<'v>(conflict: &'v mut Value, list: &str) -> impl Iterator<Item = &'v mut Value> {
    conflict.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten()
}

/// An answer of the API as `conflict resolve` takes it.
pub(super) fn flag(answer: &Value) -> String {
    let given = answer.as_object().and_then(|answer| answer.iter().next());
    given.map_or_else(String::new, |(name, value)| match value {
        Value::Bool(_) => format!("--{name}"),
        Value::Null => format!("--{name} \"\""),
        value => format!("--{name} {}", text(value)),
    })
}

/// `connection/id` of a list of records as one text.
fn records(conflict: &mut Value, name: &str) {
    let Some(Value::Array(records)) = conflict.get(name) else { return };
    let records: Vec<String> = records.iter().map(|r| format!("{}/{}", text(&r[0]), text(&r[1]))).collect();
    conflict[name] = if records.is_empty() { Value::Null } else { records.join(", ").into() };
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflict_is_one_line() {
        let candidates = json!([{"member": "hub", "value": "a"}, {"member": "org", "value": null}]);
        let conflict =
            json!({"id": 4, "records": [["hub", "501"], ["org", "003"]], "candidates": candidates, "tenant": "acme"});
        assert_eq!(row(conflict), json!({"id": 4, "records": "hub/501, org/003", "candidates": "hub: a | org: -"}));
    }

    #[test]
    fn decisions_become_plain_cells() {
        let side = |member: &str| json!({"member": member, "value": 5, "from": "x"});
        let decisions = json!([{"n": 1, "entity": 2, "field": "f", "edit": side("a"), "in_force": side("b")}]);
        let shown = readable(json!({"candidates": [{"writes": ["a", "b"]}, {"writes": []}], "decisions": decisions}));
        assert_eq!(
            shown,
            json!({"candidates": [{"writes": "a b"}, {"writes": null}], "decisions": [{"n": 1, "edit": "a: 5", "in_force": "b: 5"}]})
        );
    }
    #[test]
    fn choices_are_shown_as_they_are_given() {
        let choice = |answer: Value| json!({"answer": answer, "does": "x"});
        let choices = [json!({"link": true}), json!({"record": "003"}), json!({"value": null})].map(choice);
        let shown = readable(json!({"others": [["hub", "501"]], "choices": choices}));
        let given: Vec<_> = ["--link", "--record 003", "--value \"\""].map(|g| json!({"give": g, "does": "x"})).into();
        assert_eq!(shown, json!({"others": "hub/501", "choices": given}));
    }
}
