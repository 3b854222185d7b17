//! `headgate record`: what the relay knows about records, asked from a running server.

use std::io::stdout;

use serde_json::Value;

use crate::admin_client::{AdminClient, segment};
use crate::cli::{RecordArgs, RecordCommand};
use crate::config::Env;
use crate::exit::{Exit, Failure};
use crate::output;

/// The columns that matter, in reading order.
const COLUMNS: [&str; 9] =
    ["entity", "tenant", "object", "system", "connection", "id", "state", "changed_at", "members"];

/// Shows or lists.
pub(super) async fn run(args: RecordArgs, env: &Env) -> Result<Exit, Failure> {
    let (path, server) = match args.command {
        RecordCommand::Show { system, object, id, server } => {
            (format!("/v1/records/{system}/{}/{}", segment(&object), segment(&id)), server)
        }
        RecordCommand::List { limit, server } => (format!("/v1/records?limit={limit}"), server),
    };
    let answer = AdminClient::of(&server, env)?.get(&path).await?;
    let mut out = stdout().lock();
    match list(&answer, "records") {
        _ if server.json => super::print_json(&mut out, &answer)?,
        Some(records) => output::objects(&mut out, &COLUMNS, records)?,
        None => output::object(&mut out, &COLUMNS, &answer)?,
    }
    Ok(Exit::Ok)
}

/// The list under `name`, or the answer itself if it is one.
pub(super) fn list<'v>(answer: &'v Value, name: &str) -> Option<&'v Vec<Value>> {
    answer.as_array().or_else(|| answer.get(name).and_then(Value::as_array))
}
