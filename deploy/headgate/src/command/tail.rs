//! `headgate tail`: changes of a running server, one line each, until it is interrupted or its reader goes away. The
//! short form shows names of fields and no values; `--json` passes the server's lines through.

use std::io::{ErrorKind, Write, stdout};

use headgate_schemas::filter::FilterText;
use serde_json::Value;

use crate::admin_client::{AdminClient, segment};
use crate::cli::{FilterArgs, TailArgs};
use crate::config::Env;
use crate::exit::{Exit, Failure};
use crate::output::printable;

/// Follows the stream.
pub(super) async fn run(args: &TailArgs, env: &Env) -> Result<Exit, Failure> {
    let client = AdminClient::of(&args.server, env)?;
    let (mut failed, mut problem) = (None, None);
    let mut path = format!("/v1/changes?from={}", segment(&args.from));
    for (name, text) in args.filter.text().parts() {
        path.push_str(&format!("&{name}={}", segment(text)));
    }
    client
        .lines(&path, |line| {
            problem = last_words(line);
            let shown = match problem {
                Some(_) if !args.server.json => Ok(()),
                _ => write(&mut stdout().lock(), args.server.json, line),
            };
            match shown {
                Ok(()) => problem.is_none(),
                Err(error) => {
                    failed = Some(error);
                    false
                }
            }
        })
        .await?;
    if let Some(problem) = problem {
        return Err(Failure::failed(format!("the server sends no more: {problem}")));
    }
    match failed {
        // The reader has seen enough, as `head` has.
        Some(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Exit::Ok),
        Some(error) => Err(error.into()),
        None => Ok(Exit::Ok),
    }
}

impl FilterArgs {
    /// As the server takes it, which also says what is wrong with it.
    pub(crate) fn text(&self) -> FilterText {
        let Self { tenant, system, account, object, kind, record, filter } = self.clone();
        let mut text = FilterText { tenant, system, account, object, kind, record };
        for (key, names) in filter {
            let part = match key.as_str() {
                "tenant" => &mut text.tenant,
                "system" => &mut text.system,
                "account" => &mut text.account,
                "object" => &mut text.object,
                "kind" => &mut text.kind,
                _ => &mut text.record,
            };
            *part = Some(names);
        }
        text
    }
}

/// What the server says before it ends the stream by itself.
fn last_words(line: &[u8]) -> Option<String> {
    if !line.starts_with(b"{\"problem\":") {
        return None;
    }
    let told: Value = serde_json::from_slice(line).ok()?;
    Some(printable(told.pointer("/problem/detail")?.as_str()?))
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

/// One change in one line: its place (where to read on), when it came, the record, the kind, names of the fields.
fn short(event: &Value) -> String {
    let text = |pointer: &str| match event.pointer(pointer) {
        Some(Value::String(text)) => printable(text),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => other.to_string(),
    };
    let fields = event.pointer("/data/fields").and_then(Value::as_object);
    let names: Vec<String> = fields.into_iter().flatten().map(|(name, _)| printable(name)).collect();
    let record = format!("{}/{}", text("/system"), text("/subject"));
    // Where one number says all, a line can be read again from its offset; elsewhere what comes after it can.
    let place = if text("/position").contains('.') { text("/position") } else { text("/offset") };
    let (came, kind) = (text("/receivedtime"), text("/data/change"));
    format!("{place}  {came}  {record}  {kind}  {}", names.join(",")).trim_end().to_owned()
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
    fn the_last_words_are_a_failure_and_no_change() {
        let told = last_words(br#"{"problem":{"title":"Gone","status":410,"code":"x","detail":"position 3 is gone"}}"#);
        assert_eq!(told.as_deref(), Some("position 3 is gone"));
        assert_eq!(last_words(br#"{"data":{"problem":{"detail":"none"}}}"#), None);
    }

    #[test]
    fn json_is_passed_through() {
        let mut out = Vec::new();
        write(&mut out, true, b"{\"a\": 1}").unwrap();
        assert_eq!(out, b"{\"a\": 1}\n");
    }
}
