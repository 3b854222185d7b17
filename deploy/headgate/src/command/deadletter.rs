//! `headgate deadletter`: what a CRM rejected, asked from a running server; to retry and to skip are the server's work.

use std::io::stdout;

use crate::admin_client::{AdminClient, segment};
use crate::cli::{DeadletterArgs, DeadletterCommand};
use crate::config::Env;
use crate::exit::{Exit, Failure};
use crate::output;

/// The columns that matter, in reading order.
const COLUMNS: [&str; 9] = ["id", "at", "kind", "connection", "object", "record", "cause", "next_step", "state"];

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
        Some(letters) => output::objects(&mut out, &COLUMNS, letters)?,
        None if answer.is_null() => {}
        None => output::object(&mut out, &COLUMNS, &answer)?,
    }
    Ok(Exit::Ok)
}
