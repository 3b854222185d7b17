//! `headgate endpoint`: endpoints that all gateways on a cluster share. It reads the file and the secrets that it names;
//! whether they make an endpoint is for the gateway to say.

use std::io::{Write as _, stderr, stdout};

use serde_json::{Value, json};

use crate::admin_client::{AdminClient, segment};
use crate::cli::{EndpointArgs, EndpointCommand};
use crate::config::Env;
use crate::control;
use crate::exit::{Exit, Failure};
use crate::output;

const PATH: &str = "/v1/shared-endpoints";
/// The columns of a list.
const LIST: [&str; 4] = ["name", "active_on", "gateways", "fault"];

/// Lists, adds or removes.
pub(super) async fn run(args: EndpointArgs, env: &Env) -> Result<Exit, Failure> {
    let (server, answer) = match args.command {
        EndpointCommand::List { server } => {
            let answer = AdminClient::of(&server, env)?.get(PATH).await?;
            return list(&answer, server.json);
        }
        EndpointCommand::Add { file, server } => {
            let shared =
                control::from_file(&file, env).map_err(|problem| Failure::new(Exit::Configuration, problem))?;
            let answer = AdminClient::of(&server, env)?.post_json(PATH, &json!(shared)).await?;
            (server, answer)
        }
        EndpointCommand::Remove { name, server } => {
            let answer = AdminClient::of(&server, env)?.delete(&format!("{PATH}/{}", segment(&name))).await?;
            (server, answer)
        }
    };
    if server.json {
        super::print_json(&mut stdout(), &answer)?;
    } else {
        writeln!(stdout(), "{}", sentence(&answer))?;
    }
    let everywhere = if answer["removed"] == json!(true) { &json!(0) } else { &answer["gateways"] };
    Ok(if answer["active_on"] == *everywhere { Exit::Ok } else { Exit::Partial })
}

fn list(answer: &Value, json: bool) -> Result<Exit, Failure> {
    let mut out = stdout().lock();
    match super::record::list(answer, "endpoints") {
        _ if json => super::print_json(&mut out, answer)?,
        Some(all) if !all.is_empty() => output::objects(&mut out, &LIST, all)?,
        _ => writeln!(stderr(), "no endpoint was added to those of the files")?,
    }
    Ok(Exit::Ok)
}

fn sentence(answer: &Value) -> String {
    let name = answer["name"].as_str().unwrap_or_default();
    if answer["removed"] == json!(true) {
        return format!("{name}: removed; still active on {} of {} gateways", answer["active_on"], answer["gateways"]);
    }
    format!("{name}: active on {} of {} gateways", answer["active_on"], answer["gateways"])
}
