//! `headgate replay`: what a replay would do, and then the job: followed until it ends, stopped with Ctrl-C. The work is the
//! server's, so a terminal that goes away stops nothing.

use std::io::{self, Write, stderr, stdout};
use std::time::Duration;

use serde_json::{Value, json};

use crate::admin_client::AdminClient;
use crate::cli::ReplayArgs;
use crate::config::Env;
use crate::exit::{Exit, Failure};
use crate::output;

/// What matters of an estimate, in reading order.
const ESTIMATE: [&str; 10] = [
    "changes",
    "records",
    "bytes",
    "seconds",
    "complete",
    "connection",
    "records_at_most",
    "writes_at_most",
    "calls_at_most",
    "fits",
];
/// What matters of a job.
const JOB: [&str; 8] = ["id", "state", "reason", "replayed", "read", "position", "started", "ended"];
/// Between two looks at a job.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// Estimates, and replays unless it is a dry run.
pub(super) async fn run(args: &ReplayArgs, env: &Env) -> Result<Exit, Failure> {
    let client = AdminClient::of(&args.server, env)?;
    if let Some(id) = args.stop {
        let job = client.post(&format!("/v1/replays/{id}/stop")).await?;
        return show(args, &JOB, &job);
    }
    let wish = json!({ "from": args.from, "rate": args.rate, "filter": args.filter.text() });
    let estimate = client.post_json("/v1/replays/estimate", &wish).await?;
    if args.dry_run {
        return show(args, &ESTIMATE, &estimate);
    }
    announce(&mut stderr(), &estimate, args.rate)?;
    let job = client.post_json("/v1/replays", &wish).await?;
    let id = job["id"].as_u64().unwrap_or(0);
    follow(args, &client, id).await
}

/// Says what is about to be done, and what of it does not fit.
fn announce(out: &mut impl Write, estimate: &Value, rate: u32) -> io::Result<()> {
    let counted = |name: &str| {
        let n = estimate[name].as_u64().unwrap_or(0);
        let least = if estimate["complete"] == false { "at least " } else { "" };
        format!("{least}{n} {}", if n == 1 { name.trim_end_matches('s') } else { name })
    };
    let (changes, records, seconds) = (counted("changes"), counted("records"), counted("seconds"));
    writeln!(out, "{changes} of {records}, {seconds} at {rate} a second")?;
    for target in estimate["targets"].as_array().into_iter().flatten().filter(|target| target["fits"] == false) {
        writeln!(out, "{}: {}", target["connection"].as_str().unwrap_or(""), target["note"].as_str().unwrap_or(""))?;
    }
    Ok(())
}

/// Looks at the job until it ends; Ctrl-C stops it first.
async fn follow(args: &ReplayArgs, client: &AdminClient, id: u64) -> Result<Exit, Failure> {
    let path = format!("/v1/replays/{id}");
    writeln!(stderr(), "replay {id} runs; Ctrl-C stops it, and so does: headgate replay --stop {id}")?;
    loop {
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => {
                interrupted.map_err(|error| Failure::failed(format!("Ctrl-C cannot be waited for: {error}")))?;
                client.post(&format!("{path}/stop")).await?;
            }
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        // A server that is started again goes on with it by itself; whoever follows is told where to look.
        let job = match client.get(&path).await {
            Ok(job) => job,
            Err(error) => {
                writeln!(stderr(), "the server went away; replay {id} goes on when it is back: GET {path}")?;
                return Err(error.into());
            }
        };
        if job["state"] != "running" {
            show(args, &JOB, &job)?;
            return Ok(if job["state"] == "done" { Exit::Ok } else { Exit::Failed });
        }
    }
}

fn show(args: &ReplayArgs, first: &[&str], value: &Value) -> Result<Exit, Failure> {
    let mut out = stdout().lock();
    if args.server.json {
        super::print_json(&mut out, value)?;
    } else {
        output::object(&mut out, first, value)?;
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announced(estimate: &Value) -> String {
        let mut out = Vec::new();
        announce(&mut out, estimate, 50).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn one_is_not_many_and_what_does_not_fit_is_said_before() {
        let one = json!({ "changes": 1, "records": 1, "seconds": 1, "complete": true, "targets": [] });
        assert_eq!(announced(&one), "1 change of 1 record, 1 second at 50 a second\n");
        let target =
            |fits| json!({ "connection": "hubspot-main", "fits": fits, "note": "does not fit: up to 9 calls" });
        let targets = [target(json!(false)), target(json!(true)), target(Value::Null)];
        let many = json!({ "changes": 70, "records": 9, "seconds": 2, "complete": false, "targets": targets });
        let expected = "at least 70 changes of at least 9 records, at least 2 seconds at 50 a second\n\
                        hubspot-main: does not fit: up to 9 calls\n";
        assert_eq!(announced(&many), expected);
    }
}
