//! `headgate subscription`: how a running server's subscriptions are; to send again and to go on are the server's work.

use std::io::{Write as _, stderr, stdout};

use serde_json::{Value, json};

use crate::admin_client::{AdminClient, segment};
use crate::cli::{SubscriptionArgs, SubscriptionCommand};
use crate::config::Env;
use crate::exit::{Exit, Failure};
use crate::output;

/// What matters of one, in reading order.
const SHOW: [&str; 12] = [
    "name",
    "state",
    "reason",
    "since",
    "next",
    "waiting",
    "open",
    "delivered",
    "position",
    "overtaken",
    "tenant",
    "url",
];
/// The columns of a list; the rest is shown with `show`.
const LIST: [&str; 7] = ["name", "tenant", "state", "waiting", "delivered", "reason", "url"];

/// Lists, shows, sends again or goes on.
pub(super) async fn run(args: SubscriptionArgs, env: &Env) -> Result<Exit, Failure> {
    let path = |name: &str, verb: &str| format!("/v1/subscriptions/{}{verb}", segment(name));
    let (server, answer) = match args.command {
        SubscriptionCommand::List { server } => {
            let answer = AdminClient::of(&server, env)?.get("/v1/subscriptions").await?;
            (server, answer)
        }
        SubscriptionCommand::Show(one) => {
            let answer = AdminClient::of(&one.server, env)?.get(&path(&one.name, "")).await?;
            (one.server, answer)
        }
        SubscriptionCommand::Replay { name, from, server } => {
            let body = json!({ "from": from });
            let answer = AdminClient::of(&server, env)?.post_json(&path(&name, "/replay"), &body).await?;
            (server, answer)
        }
        SubscriptionCommand::Enable(one) => {
            let answer = AdminClient::of(&one.server, env)?.post(&path(&one.name, "/enable")).await?;
            (one.server, answer)
        }
    };
    let mut out = stdout().lock();
    match super::record::list(&answer, "subscriptions") {
        _ if server.json => super::print_json(&mut out, &answer)?,
        Some(all) if all.is_empty() => writeln!(stderr(), "there are no subscriptions; add a [[subscription]]")?,
        Some(all) => {
            let rows: Vec<Value> = all.iter().cloned().map(brief).collect();
            output::objects(&mut out, &LIST, &rows)?;
        }
        None if answer.is_null() => {}
        None => output::object(&mut out, &SHOW, &answer)?,
    }
    Ok(Exit::Ok)
}

/// Without what a list has no room for.
fn brief(mut subscription: Value) -> Value {
    if let Some(subscription) = subscription.as_object_mut() {
        subscription.retain(|name, _| LIST.contains(&name.as_str()));
    }
    subscription
}
