//! `headgate tail`: changes of a running server, one line each, until it is interrupted or its reader goes away. The
//! short form shows names of fields and no values; `--json` passes the server's lines through.

use std::io::{ErrorKind, Write, stdout};

use serde_json::Value;

use crate::admin_client::{AdminClient, segment};
use crate::cli::TailArgs;
use crate::config::Env;
use crate::exit::{Exit, Failure};
use crate::output::printable;

/// Follows the stream.
pub(super) async fn run(args: &TailArgs, env: &Env) -> Result<Exit, Failure> {
    let client = AdminClient::of(&args.server, env)?;
    let mut failed = None;
    let path = format!("/v1/changes?from={}", segment(&args.from));
    client
        .lines(&path, |line| match write(&mut stdout().lock(), args.server.json, line) {
            Ok(()) => true,
            Err(error) => {
                failed = Some(error);
                false
            }
        })
        .await?;
    match failed {
        // The reader has seen enough, as `head` has.
        Some(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Exit::Ok),
        Some(error) => Err(error.into()),
        None => Ok(Exit::Ok),
    }
}

/// Writes one line and sends it off at once: whoever follows a stream does not want it in blocks.
fn write(out: &mut impl Write, json: bool, line: &[u8]) -> std::io::Result<()> {
    match serde_json::from_slice::<Value>(line) {
        Ok(change) if !json => writeln!(out, "{}", short(&change))?,
        _ => {
            out.write_all(line)?;
            out.write_all(b"\n")?;
        }
    }
    out.flush()
}

/// One change in one line: its offset (where to read on), when it came, the record, the kind, names of the fields.
fn short(event: &Value) -> String {
    let text = |pointer: &str| match event.pointer(pointer) {
        Some(Value::String(text)) => printable(text),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => other.to_string(),
    };
    let fields = event.pointer("/data/fields").and_then(Value::as_object);
    let names: Vec<String> = fields.into_iter().flatten().map(|(name, _)| printable(name)).collect();
    let record = format!("{}/{}", text("/system"), text("/subject"));
    let (offset, came, kind) = (text("/offset"), text("/receivedtime"), text("/data/change"));
    format!("{offset}  {came}  {record}  {kind}  {}", names.join(",")).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_in_one_line_without_values() {
        let line = br#"{"partition":3,"offset":17,"receivedtime":"2026-01-01T00:00:00.000000Z","system":"hubspot",
            "subject":"contact/501","data":{"change":"updated",
            "fields":{"email":{"value":"x@example.com"},"phone":{"value":"1"}}}}"#;
        let mut out = Vec::new();
        write(&mut out, false, line).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "17  2026-01-01T00:00:00.000000Z  hubspot/contact/501  updated  email,phone\n"
        );
    }

    #[test]
    fn json_is_passed_through() {
        let mut out = Vec::new();
        write(&mut out, true, b"{\"a\": 1}").unwrap();
        assert_eq!(out, b"{\"a\": 1}\n");
    }
}
