//! `headgate subscription`: how a running server's subscriptions are; to send again, to go on, to register, to renew
//! a secret and to take away are the server's work.
//!
//! The surprising thing is who makes a new secret: this command, so that an answer that is lost on its way loses nothing.

use std::io::{Write as _, stderr, stdout};
use std::time::Duration;

use headgate_relay::subscription::sign::Key;
use headgate_schemas::filter::FilterText;
use serde_json::{Value, json};

use crate::admin_client::{AdminClient, AdminError, segment};
use crate::cli::{AddSubscription, SubscriptionArgs, SubscriptionCommand};
use crate::config::Env;
use crate::exit::{Exit, Failure};
use crate::output;

/// What matters of one, in reading order.
const SHOW: [&str; 13] = [
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
    "replaced",
    "tenant",
    "url",
];
/// The columns of a list; the rest is shown with `show`.
const LIST: [&str; 7] = ["name", "tenant", "state", "waiting", "delivered", "reason", "url"];

/// Times that an order is given again whose outcome is not known.
const AGAIN: u32 = 5;
/// Before each of them.
const PAUSE: Duration = Duration::from_millis(500);

/// What a list says that is empty.
const NONE: &str =
    "there are no subscriptions; make one with: headgate subscription add, or a [[subscription]] of the file";

/// What matters of a new one.
const REGISTERED: [&str; 6] = ["name", "secret", "earlier_secrets_until", "tenant", "url", "state"];

/// Lists, shows, sends again, goes on, registers or takes away.
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
        SubscriptionCommand::Add(add) => {
            let body = registration(&add)?;
            let answer = AdminClient::of(&add.server, env)?.post_json("/v1/subscriptions", &body).await?;
            (add.server, answer)
        }
        SubscriptionCommand::Secret { name, at_once, server } => {
            let answer = renew(&AdminClient::of(&server, env)?, &path(&name, "/secret"), at_once).await?;
            (server, answer)
        }
        SubscriptionCommand::Remove(one) => {
            let answer = AdminClient::of(&one.server, env)?.delete(&path(&one.name, "")).await?;
            (one.server, answer)
        }
    };
    let mut out = stdout().lock();
    match super::record::list(&answer, "subscriptions") {
        _ if server.json => super::print_json(&mut out, &answer)?,
        Some(all) if all.is_empty() => writeln!(stderr(), "{NONE}")?,
        Some(all) => {
            let rows: Vec<Value> = all.iter().cloned().map(brief).collect();
            output::objects(&mut out, &LIST, &rows)?;
        }
        None if answer.is_null() => {}
        None if answer["secret"].is_string() => output::object(&mut out, &REGISTERED, &flat(answer))?,
        None => output::object(&mut out, &SHOW, &answer)?,
    }
    Ok(Exit::Ok)
}

/// Puts a new secret in the place of one. While it is not known whether that was done, the same is asked again: a secret
/// that signs already changes nothing.
async fn renew(client: &AdminClient, path: &str, at_once: bool) -> Result<Value, Failure> {
    let secret = Key::secret().ok_or_else(|| Failure::failed("this machine gives no random numbers for a secret"))?;
    let body = json!({ "secret": secret, "at_once": at_once });
    let mut is_open = false;
    for _ in 0..AGAIN {
        match client.post_json(path, &body).await {
            Err(error) if error.leaves_open() || error.code() == Some("subscription_busy") => is_open = true,
            // It may be on its way back.
            Err(AdminError::Unreachable { .. }) if is_open => {}
            answered => return Ok(answered?),
        }
        tokio::time::sleep(PAUSE).await;
    }
    client.post_json(path, &body).await.map_err(|error| {
        let Failure { exit, message } = error.into();
        Failure::new(exit, format!("{message}\nIt is not known whether a new secret signs; ask for another one."))
    })
}

/// What is asked of the server.
fn registration(add: &AddSubscription) -> Result<Value, Failure> {
    let mut filter: FilterText = add.filter.text();
    let Some(tenant) = filter.tenant.take() else {
        return Err(Failure::new(Exit::Usage, "name the tenant whose changes it gets, with --tenant"));
    };
    Ok(json!({ "name": add.name, "tenant": tenant, "url": add.url, "from": add.from, "filter": filter }))
}

/// A new subscription and its secret as one object.
fn flat(mut registered: Value) -> Value {
    let secret = registered["secret"].take();
    let mut subscription = registered["subscription"].take();
    subscription["secret"] = secret;
    subscription
}

/// Without what a list has no room for.
fn brief(mut subscription: Value) -> Value {
    if let Some(subscription) = subscription.as_object_mut() {
        subscription.retain(|name, _| LIST.contains(&name.as_str()));
    }
    subscription
}
